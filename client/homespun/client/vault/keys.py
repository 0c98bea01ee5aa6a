"""Where the key of a vault comes from: the system's keyring, a passphrase, or bytes that the caller holds.

The key-encrypting key (KEK) wraps the keys of the sealed items and is on disk nowhere. What is needed to find it again
(the keyring's item, or the salt and the costs of the passphrase) is public and stands beside each wrapped key.

Python cannot wipe memory: while a vault is open its key can be in a crash dump or a swap file of the system.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from homespun.client.errors import KeyringUnusable, VaultError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

__all__ = ["CANNOT_OPEN", "GivenKey", "Kek", "KeySource", "KeyringKey", "Passphrase", "system_keyring"]

CANNOT_OPEN = "The vault cannot be opened: the key is wrong, or the file was changed."
KEY_BYTES = 32
SALT_BYTES = 16  # RFC 9106, section 3.1
ITERATIONS, LANES, MEMORY_KIB = 3, 4, 64 * 1024  # RFC 9106, section 4, second choice: 64 MiB, about 0.14 s
MOST_MEMORY_KIB, MOST_ITERATIONS = 1024 * 1024, 16  # a changed header must not take the machine

Parameters = Mapping[str, str | int]


@final
@dataclass(frozen=True, kw_only=True)
class Kek:
    """A key-encrypting key and the public words that find it again."""

    key: bytes = field(repr=False)
    """32 bytes."""
    parameters: Parameters

    @property
    def id(self) -> str:
        """16 hexadecimal digits that tell keys apart and nothing about them."""
        return hashlib.sha256(b"homespun kek id 1\n" + self.key).hexdigest()[:16]


class KeySource(Protocol):
    """Whoever can make, find and forget a vault's key."""

    def fresh(self) -> Kek:
        """A new key, for a new vault or a rotation."""

    def again(self, parameters: Parameters) -> Kek:
        """The key that a vault was made with; raise :class:`VaultError` where it cannot be found."""

    def forget(self, parameters: Parameters) -> None:
        """Delete whatever finds the key again, where this source keeps anything."""


@final
@dataclass(frozen=True)
class GivenKey:
    """Bytes that the caller holds: for simulations, whose keys come from the seed.

    Raises:
        ValueError: They are not 32.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a key of another size."""
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"Expected a key of {KEY_BYTES} bytes, not {len(self.key)}.")

    def fresh(self) -> Kek:
        """The key; the caller sees to it that it is new."""
        return Kek(key=self.key, parameters={"kind": "given"})

    def again(self, parameters: Parameters) -> Kek:
        """The key, whatever the vault says of its own."""
        return Kek(key=self.key, parameters=dict(parameters))

    def forget(self, parameters: Parameters) -> None:
        """Nothing is kept here."""


@final
@dataclass(frozen=True)
class Passphrase:
    """A passphrase that the owner remembers; Argon2id (RFC 9106) makes the key of it.

    Guarantees:
        * one way to fail: a wrong passphrase and a changed header cost the same and raise the same error, later, when
          the first wrapped key does not open.
    """

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse an empty passphrase."""
        if not self.text:
            raise ValueError("Expected a passphrase of at least one character.")

    def fresh(self) -> Kek:
        """A key under a new salt."""
        parameters: dict[str, str | int] = {
            "kind": "argon2id",
            "salt": os.urandom(SALT_BYTES).hex(),
            "iterations": ITERATIONS,
            "lanes": LANES,
            "memory_kib": MEMORY_KIB,
        }
        return self.again(parameters)

    def again(self, parameters: Parameters) -> Kek:
        """The key under the salt and costs that the vault names; out of range, those of a fresh vault stand in."""
        iterations = _within(parameters.get("iterations"), 1, MOST_ITERATIONS, ITERATIONS)
        lanes = _within(parameters.get("lanes"), 1, 16, LANES)
        memory = _within(parameters.get("memory_kib"), 8 * lanes, MOST_MEMORY_KIB, MEMORY_KIB)
        try:
            salt = bytes.fromhex(str(parameters.get("salt")))
        except ValueError:
            salt = b""
        salt = salt if 8 <= len(salt) <= 64 else bytes(SALT_BYTES)
        derivation = Argon2id(salt=salt, length=KEY_BYTES, iterations=iterations, lanes=lanes, memory_cost=memory)
        return Kek(key=derivation.derive(self.text.encode("utf-8")), parameters=dict(parameters))

    def forget(self, parameters: Parameters) -> None:
        """Nothing is kept here: without the salt and the wrapped keys, which the vault deletes, the words open nothing."""


@final
@dataclass(frozen=True)
class KeyringKey:
    """A random key in the keyring of the system (macOS Keychain, Secret Service, Windows Credential Locker).

    On macOS every script that the same Python runs can read the item. A keyring that keeps secrets readable, or none,
    is refused.
    """

    service: str = "homespun"

    def fresh(self) -> Kek:
        """A random key under a new name in the keyring.

        Raises:
            KeyringUnusable: There is no keyring that keeps a secret.
        """
        item = f"vault-{os.urandom(8).hex()}"
        kek = Kek(key=os.urandom(KEY_BYTES), parameters={"kind": "keyring", "item": item})
        system_keyring().set_password(self.service, item, kek.key.hex())
        return kek

    def again(self, parameters: Parameters) -> Kek:
        """The key under the name that the vault gives."""
        found = system_keyring().get_password(self.service, str(parameters.get("item")))
        try:
            key = bytes.fromhex(found or "")
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise VaultError(CANNOT_OPEN)
        return Kek(key=key, parameters=dict(parameters))

    def forget(self, parameters: Parameters) -> None:
        """Delete the key from the keyring; without it nothing opens."""
        ring, item = system_keyring(), str(parameters.get("item"))
        if ring.get_password(self.service, item) is not None:
            ring.delete_password(self.service, item)


def system_keyring() -> "KeyringBackend":
    """The keyring of the system.

    Raises:
        KeyringUnusable: There is none, it keeps nothing, or it keeps secrets in a readable file.
    """
    import keyring  # here: it looks for backends while it is imported
    from keyring.backends import chainer

    backend = keyring.get_keyring()
    used = list(backend.backends) if isinstance(backend, chainer.ChainerBackend) else [backend]
    for part in used:
        module = type(part).__module__
        if module.startswith(("keyring.backends.fail", "keyring.backends.null", "keyrings.alt")):
            used = []
            break
    if not used:
        raise KeyringUnusable(
            "Expected a keyring of the system that keeps secrets (Keychain, Secret Service, Credential Locker). "
            "Use a passphrase instead."
        )
    return backend


def _within(value: object, low: int, high: int, otherwise: int) -> int:
    return value if type(value) is int and low <= value <= high else otherwise
