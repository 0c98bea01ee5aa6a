"""What can go wrong on a device, and nothing else.

::

    DeviceError
    |-- Declined            a request was not answered; its `reason` stays on the device
    |-- DeviceBusy          another process has this device open
    |-- KeyringUnusable     the system has no keyring that keeps a secret
    `-- VaultError          sealed data could not be opened, or is not what was asked for
        `-- VaultOlder      sealed data is older than somebody remembers

>>> try:
...     raise VaultOlder("Expected version=3 in [4, inf).")
... except DeviceError as error:
...     print(error)
Expected version=3 in [4, inf).
"""

from homespun.privacy.policy_check import Reason

__all__ = ["Declined", "DeviceBusy", "DeviceError", "KeyringUnusable", "VaultError", "VaultOlder"]


class DeviceError(Exception):
    """Base of every error of a device that is not a bad argument."""


class Declined(DeviceError):
    """A request was not answered. Why is the owner's to know: it is in the ledger, and never in a reply."""

    def __init__(self, reason: Reason) -> None:
        """Keep the reason; the text names nothing else."""
        super().__init__(f"Expected a request that this device answers; reason: {reason.value}.")
        self.reason = reason


class DeviceBusy(DeviceError):
    """A device was not opened because another process has it open."""


class KeyringUnusable(DeviceError):
    """No key was stored because the system's keyring is missing, or would keep it readable."""


class VaultError(DeviceError):
    """Sealed data was not opened: a wrong key and a changed byte look the same."""


class VaultOlder(VaultError):
    """Sealed data was not used: a newer version of it was written, so this one was put back."""
