"""The vault: everything personal on a device, sealed on disk.

::

    key source (keyring, passphrase) -> KEK -> wraps one fresh DEK per write -> AES-256-GCM chunks -> SQLite

>>> import tempfile
>>> from pathlib import Path
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder) / "vault.sqlite"
...     with Vault.create(path, GivenKey(bytes(32)), Identity(user="ann", device="phone")) as vault:
...         vault.write("preferences", b"green tea")
...     with Vault.open(path, GivenKey(bytes(32)), Identity(user="ann", device="phone")) as vault:
...         vault.read("preferences"), vault.version, b"green tea" in path.read_bytes()
(b'green tea', 2, False)
"""

from homespun.client.vault.keys import GivenKey, Kek, KeyringKey, KeySource, Passphrase, system_keyring
from homespun.client.vault.seal import Core, Sealed, open_sealed, rewrap, seal
from homespun.client.vault.store import Identity, Vault

__all__ = [
    "Core",
    "GivenKey",
    "Identity",
    "Kek",
    "KeySource",
    "KeyringKey",
    "Passphrase",
    "Sealed",
    "Vault",
    "open_sealed",
    "rewrap",
    "seal",
    "system_keyring",
]
