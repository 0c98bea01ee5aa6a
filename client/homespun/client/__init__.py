"""A person's device: preferences sealed, one bounded noisy vector out, every spend signed; and the ClientApp around it."""

from homespun.client.anchor import Anchor, FileAnchor, KeyringAnchor, Mark, MemoryAnchor
from homespun.client.app import Contributor, Party, client_app
from homespun.client.device import Device
from homespun.client.errors import Declined, DeviceBusy, DeviceError, KeyringUnusable, VaultError, VaultOlder
from homespun.client.installation import Installation
from homespun.client.masked_round import Sessions

__all__ = [
    "Anchor",
    "Contributor",
    "Declined",
    "Device",
    "DeviceBusy",
    "DeviceError",
    "FileAnchor",
    "Installation",
    "KeyringAnchor",
    "KeyringUnusable",
    "Mark",
    "MemoryAnchor",
    "Party",
    "Sessions",
    "VaultError",
    "VaultOlder",
    "client_app",
]
