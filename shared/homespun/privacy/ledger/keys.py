"""Ed25519 keys of a ledger, in the text form of C2SP signed notes.

>>> key = SigningKey.from_bytes("example.org/log", bytes(32))
>>> key
SigningKey(name='example.org/log')
>>> PublicKey.parse(key.public.text) == key.public
True
>>> key.public.verify(key.sign(b"a"), b"a")

A public key is written ``<name>+<8 hex digits>+<base64(type || 32 bytes)>``; the digits are the key's id, the first four
bytes of ``SHA-256(name || 0x0A || type || 32 bytes)`` (https://c2sp.org/signed-note). Type 1 signs notes and entries, type
4 only countersigns (https://c2sp.org/tlog-cosignature); one key must not do both, because a countersignature does not name
who gave it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from homespun.privacy.errors import LedgerError, SignatureRefused
from homespun.privacy.ledger.files import create_once

__all__ = ["KeyRole", "PublicKey", "SigningKey", "decode_base64"]

_NAME = re.compile(r"[!-*,-~]{1,200}\Z")  # printable ASCII without blank and plus
_PRIME = 2**255 - 19
_FIFTH = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7  # y of the points of order 8
# The order divides 8 for these y, whatever the sign of x: a signature under such a key holds for many messages.
_SMALL_ORDER = frozenset({0, 1, _PRIME - 1, _FIFTH, _PRIME - _FIFTH})


class KeyRole(Enum):
    """What a key may sign; the value is the type byte of the text form."""

    LOG = 1
    """Entries and checkpoints of a ledger."""

    COSIGNER = 4
    """Countersignatures on checkpoints of others."""


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """A key that signatures are checked with.

    Args:
        name: Printable ASCII without blank and plus, at most 200 characters.
        raw: 32 bytes, a canonical encoding (RFC 8032) of a point whose order does not divide 8.
        role: What the key may sign.
    """

    name: str
    raw: bytes
    role: KeyRole = KeyRole.LOG

    def __post_init__(self) -> None:
        """Refuse names that break a note, and keys under which anybody can sign."""
        _check_name(self.name)
        if len(self.raw) != 32:
            raise ValueError(f"Expected a public key of 32 bytes, not {len(self.raw)}.")
        y = int.from_bytes(self.raw, "little") & (2**255 - 1)
        if y >= _PRIME:
            raise ValueError(f"Expected the public key {self.name!r} in its canonical encoding.")
        if y in _SMALL_ORDER:
            raise ValueError(f"Expected the public key {self.name!r} of large order: anybody could sign under it.")

    @cached_property
    def id(self) -> bytes:
        """First four bytes of ``SHA-256(name || 0x0A || type || raw)``."""
        content = self.name.encode("ascii") + b"\n" + bytes([self.role.value]) + self.raw
        return hashlib.sha256(content).digest()[:4]

    @property
    def text(self) -> str:
        """The C2SP verifier key, one line of ASCII."""
        encoded = base64.b64encode(bytes([self.role.value]) + self.raw).decode("ascii")
        return f"{self.name}+{self.id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Inverse of `text`.

        Raises:
            ValueError: ``text`` is not a verifier key, or its id is not that of its key.
        """
        parts = text.split("+", 2)
        try:
            name, key_id, encoded = parts
            content = decode_base64(encoded)
            key = cls(name=name, raw=content[1:], role=KeyRole(content[0]))
        except (ValueError, IndexError) as error:
            raise ValueError(f"Expected a verifier key <name>+<id>+<base64>, got {text[:64]!r}.") from error
        if key.text != text:
            raise ValueError(f"Expected the id {key.id.hex()} in the verifier key {name!r}, got {key_id[:16]!r}.")
        return key

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if ``signature``, 64 bytes, is this key's on ``message``.

        Raises:
            SignatureRefused: it is not.
        """
        try:
            self._point.verify(signature, message)
        except (InvalidSignature, ValueError):
            raise SignatureRefused(f"Expected a signature by {self.name!r} ({self.id.hex()}).") from None

    @cached_property
    def _point(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)


@final
class SigningKey:
    """A private key. It is a class so that nothing prints it: the key is in no repr, error or traceback of ours.

    Guarantees:
        * unprintable: ``repr`` and ``str`` name the key and nothing else.
        * no file for others: a key file is made with mode 0600, whole or not at all, and one that others may read is
          refused.
    """

    __slots__ = ("_key", "name", "public")

    def __init__(self, name: str, key: Ed25519PrivateKey, *, role: KeyRole = KeyRole.LOG) -> None:
        """Wrap a key; `generate`, `from_bytes` and `load_or_create` make one."""
        self.name = name
        self._key = key
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = PublicKey(name=name, raw=raw, role=role)

    @classmethod
    def generate(cls, name: str, *, role: KeyRole = KeyRole.LOG) -> SigningKey:
        """Make a fresh key from the system's randomness."""
        return cls(name, Ed25519PrivateKey.generate(), role=role)

    @classmethod
    def from_bytes(cls, name: str, secret: bytes, *, role: KeyRole = KeyRole.LOG) -> SigningKey:
        """Key with the given 32 secret bytes (the seed of RFC 8032); the inverse of `to_bytes`."""
        if len(secret) != 32:
            raise ValueError(f"Expected 32 secret bytes, not {len(secret)}.")
        return cls(name, Ed25519PrivateKey.from_private_bytes(secret), role=role)

    def to_bytes(self) -> bytes:
        """Return the 32 secret bytes, for a store that seals them."""
        return self._key.private_bytes_raw()

    @classmethod
    def load_or_create(cls, path: Path, name: str, *, role: KeyRole = KeyRole.LOG) -> SigningKey:
        """Read a key file, or make one; of several processes that make one, the first wins.

        Args:
            path: PKCS #8 in PEM, not encrypted, mode 0600. Missing folders are made with mode 0700.
            name: Name of the key; it is not in the file.
            role: What the key may sign.
        Raises:
            LedgerError: others may read the file, or it is no Ed25519 key.
        """
        path = Path(path)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = Ed25519PrivateKey.generate()
            create_once(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cls(name, _load(path), role=role)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature on ``message``."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        """Name the key and nothing else."""
        return f"SigningKey(name={self.name!r})"


def decode_base64(text: str) -> bytes:
    """Decode standard base64 that is spelt in the one right way.

    Raises:
        ValueError: another alphabet, missing padding, or bits that do not count and are not zero.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("Expected standard base64.") from None
    if base64.b64encode(content).decode("ascii") != text:
        raise ValueError("Expected base64 in its one minimal spelling.")
    return content


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise ValueError(f"Expected a key name={name[:64]!r} of printable ASCII without blank and plus.")


def _load(path: Path) -> Ed25519PrivateKey:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise LedgerError(
                f"Expected {path} with mode 0600, others may read it: run `chmod 600 {path}`, or make a new key."
            )
        content = stream.read(4096)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise LedgerError(f"Expected an Ed25519 key in {path} (PKCS #8, PEM, not encrypted).") from None
    return key
