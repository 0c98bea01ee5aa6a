"""Secret coins, and the commitment that keeps an auditor from choosing them afterwards.

>>> coins = throw(8)
>>> coins.commitment == commitment(coins.text, coins.salt), len(coins.text)
(True, 8)
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Coins", "commitment", "throw"]

SALT_BYTES = 32  # so that coins cannot be found by trying, however few there are


@dataclass(frozen=True, kw_only=True)
class Coins:
    """Thrown coins. ``repr`` shows the commitment alone: until the end nothing that scores may know them."""

    values: NDArray[np.bool_] = field(repr=False)
    """bool, shape ``(canaries,)``; True is in."""
    salt: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """A 0 or 1 a canary."""
        return "".join("1" if value else "0" for value in self.values)

    @property
    def commitment(self) -> str:
        """See `commitment`."""
        return commitment(self.text, self.salt)


def throw(canaries: int) -> Coins:
    """Throw fair coins with the operating system's randomness."""
    if canaries < 4:
        raise ValueError(f"Expected canaries={canaries} in [4, inf).")
    bits = np.unpackbits(np.frombuffer(secrets.token_bytes(-(-canaries // 8)), dtype=np.uint8), count=canaries)
    return Coins(values=bits.astype(np.bool_), salt=secrets.token_bytes(SALT_BYTES))


def commitment(text: str, salt: bytes) -> str:
    """SHA-256 of coins as 0 and 1 in ASCII and 32 bytes of salt, in hexadecimal."""
    return hashlib.sha256(text.encode("ascii") + salt).hexdigest()
