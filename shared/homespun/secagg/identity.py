"""Who a party is: a long-term Ed25519 key that signs adverts and consents, each under its own domain tag.

Sources: Ed25519 RFC 8032.
"""

from __future__ import annotations

from typing import NoReturn, SupportsIndex, final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from homespun.secagg.crypto import Tag

__all__ = ["Identity", "Unique", "is_weak_identity", "verify"]

_PRIME = 2**255 - 19


class Unique:
    """Base of what must not exist twice: a copy could answer a second time, or outlive the secrets."""

    __slots__ = ()

    def __copy__(self) -> NoReturn:
        """Refuse."""
        raise TypeError(f"Expected one {type(self).__name__}: it holds keys and is not copied.")

    def __deepcopy__(self, memo: object) -> NoReturn:
        """Refuse."""
        self.__copy__()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse."""
        raise TypeError(f"Expected {type(self).__name__} to stay in its process: it holds keys and is not pickled.")


@final
class Identity(Unique):
    """A party's long-term Ed25519 key, which signs its adverts and consents, and nothing else.

    Guarantees:
        * unprintable: ``repr`` shows the public key.
        * not copied, not pickled: `TypeError`.
    """

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Wrap a key; `generate` and `from_bytes` make one."""
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Identity:
        """Make a fresh key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> Identity:
        """Key with the given 32 secret bytes (the seed of RFC 8032); the inverse of `to_bytes`."""
        if len(secret) != 32:
            raise ValueError(f"Expected 32 secret bytes, not {len(secret)}.")
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    def to_bytes(self) -> bytes:
        """Return the 32 secret bytes, for a store that seals them."""
        return self._key.private_bytes_raw()

    def sign(self, tag: Tag, message: bytes) -> bytes:
        """Return the 64-byte signature on ``tag ‖ message``."""
        return self._key.sign(tag.value + message)

    def __repr__(self) -> str:
        """Show the public half."""
        return f"Identity(public={self.public.hex()})"


def verify(public: bytes, signature: bytes, tag: Tag, message: bytes) -> bool:
    """Say whether ``signature`` is that of the Ed25519 key ``public`` on ``tag ‖ message``."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, tag.value + message)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_weak_identity(public: bytes) -> bool:
    """Say whether these 32 bytes are an Ed25519 key under which anybody can sign, or a second spelling of a key."""
    y = int.from_bytes(public, "little") & (2**255 - 1)
    return y >= _PRIME or y in _WEAK_ED25519


_FIFTH = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7  # y of the points of order 8
# The order divides 8 for these y, whatever the sign of x.
_WEAK_ED25519 = frozenset({0, 1, _PRIME - 1, _FIFTH, _PRIME - _FIFTH})
