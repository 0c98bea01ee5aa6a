"""What a party sends to the server, one message a step, and the rows that these are made of."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from homespun.secagg.errors import Fault, Refused
from homespun.secagg.layout import PAIR, check_bytes, check_index, check_rising, check_rows, counted, malformed
from homespun.secagg.messages.acks import read_acks

__all__ = [
    "ADVERT",
    "BOX_BYTES",
    "CHECK_BYTES",
    "CONSENT",
    "Advert",
    "Consent",
    "Kind",
    "MaskedVector",
    "Message",
    "Revealed",
    "Sealed",
    "SealedShares",
    "Share",
]

KEY_BYTES = 32
SIGNATURE_BYTES = 64
BOX_BYTES = 80  # two shares and the tag of Poly1305
CHECK_BYTES = 16

ADVERT = struct.Struct("<I32s32s32s64s")
CONSENT = struct.Struct("<I64s")
_SEALED = struct.Struct("<I80s16s16s")
_SHARE = struct.Struct("<IB32s")
_ADVERT_TYPES = (bytes, bytes, bytes, bytes)
_ADVERT_SIZES = (KEY_BYTES, KEY_BYTES, KEY_BYTES, SIGNATURE_BYTES)


class Kind(IntEnum):
    """Which of a party's two secrets a share belongs to. Nobody may learn both."""

    MASK = 0
    """Secret behind the pair masks: revealed if the party dropped."""

    SELF = 1
    """Secret behind its self mask: revealed if it survived."""


class Sealed(NamedTuple):
    """A pair of shares on its way to a neighbour, with what the server needs to recognise them later."""

    to: int
    box: bytes
    mask_check: bytes
    self_check: bytes


class Share(NamedTuple):
    """A share of a dealer's secret; the value is a field element, 32 bytes little-endian."""

    dealer: int
    kind: int
    value: bytes

    def __repr__(self) -> str:
        """Say whose share it is, not the share."""
        return f"Share(dealer={self.dealer}, kind={self.kind})"


@dataclass(frozen=True, kw_only=True)
class Advert:
    """A party's public keys of one session, signed by its identity.

    Args:
        index: Place on the roster.
        mask_key: X25519 public key of the pair masks, 32 bytes.
        seal_key: X25519 public key under which shares are sealed to it, 32 bytes.
        commitment: Digest of its self-mask secret, 32 bytes.
        signature: Ed25519, 64 bytes, over a domain tag, the digest of the terms and the fields before.
    """

    index: int
    mask_key: bytes
    seal_key: bytes
    commitment: bytes
    signature: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse other types and lengths."""
        parts = (self.mask_key, self.seal_key, self.commitment, self.signature)
        check_index(self.index)
        # a client reads a thousand adverts: one look at all parts, not one call each
        if tuple(map(type, parts)) != _ADVERT_TYPES or tuple(map(len, parts)) != _ADVERT_SIZES:
            raise malformed("keys, commitment and signature of an advert as bytes of their lengths")

    def encode(self) -> bytes:
        """Return the 164 bytes."""
        return ADVERT.pack(self.index, self.mask_key, self.seal_key, self.commitment, self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Advert:
        """Inverse of `encode`; `Refused` if it is not one advert."""
        check_bytes(data, ADVERT.size)
        index, mask_key, seal_key, commitment, signature = ADVERT.unpack(data)
        return cls(index=index, mask_key=mask_key, seal_key=seal_key, commitment=commitment, signature=signature)


@dataclass(frozen=True, kw_only=True)
class SealedShares:
    """A party's shares, one row a neighbour, rows rising."""

    sender: int
    rows: tuple[Sealed, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse other types, lengths and orders."""
        check_index(self.sender)
        check_rows(self.rows, Sealed)
        check_rising(row.to for row in self.rows)
        for row in self.rows:
            check_bytes(row.box, BOX_BYTES)
            check_bytes(row.mask_check, CHECK_BYTES)
            check_bytes(row.self_check, CHECK_BYTES)

    def encode(self) -> bytes:
        """Return 8 bytes, and 116 a row."""
        return PAIR.pack(self.sender, len(self.rows)) + b"".join([_SEALED.pack(*row) for row in self.rows])

    @classmethod
    def decode(cls, data: bytes) -> SealedShares:
        """Inverse of `encode`; `Refused` if it is no such message."""
        sender, rows = counted(data, _SEALED)
        return cls(sender=sender, rows=tuple([Sealed(*row) for row in _SEALED.iter_unpack(rows)]))


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedVector:
    """A party's vector under its masks: uniform to whoever lacks one of them. uint32, shape ``(dimension,)``.

    ``acks`` is empty where the graph is complete, and travels beside the array where it is not: `read_acks`.
    """

    sender: int
    vector: NDArray[np.uint32] = field(repr=False)
    acks: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        """Refuse other types; whether the length is right is known to the server."""
        check_index(self.sender)
        if not isinstance(self.vector, np.ndarray) or self.vector.dtype != np.uint32 or self.vector.ndim != 1:
            raise Refused(Fault.OUT_OF_RANGE, "Expected a masked vector of uint32 in one dimension.")
        check_rising(ack.party for ack in read_acks(self.acks))


@dataclass(frozen=True, kw_only=True)
class Consent:
    """A committee member's signature on a domain tag, the transcript and one list of survivors."""

    sender: int
    signature: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse other types and lengths."""
        check_index(self.sender)
        check_bytes(self.signature, SIGNATURE_BYTES)

    def encode(self) -> bytes:
        """Return the 68 bytes."""
        return CONSENT.pack(self.sender, self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Consent:
        """Inverse of `encode`; `Refused` if it is no such message."""
        check_bytes(data, CONSENT.size)
        sender, signature = CONSENT.unpack(data)
        return cls(sender=sender, signature=signature)


@dataclass(frozen=True, kw_only=True)
class Revealed:
    """What a survivor hands over: of each neighbour that shared one share, of one kind; dealers rising."""

    sender: int
    rows: tuple[Share, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse other types, lengths and orders: two shares of one dealer have no spelling."""
        check_index(self.sender)
        check_rows(self.rows, Share)
        check_rising(row.dealer for row in self.rows)
        for row in self.rows:
            if type(row.kind) not in (int, Kind) or row.kind not in (Kind.MASK, Kind.SELF):
                raise malformed("kind=0 or kind=1 of a share")
            check_bytes(row.value, KEY_BYTES)

    def encode(self) -> bytes:
        """Return 8 bytes, and 37 a row."""
        return PAIR.pack(self.sender, len(self.rows)) + b"".join([_SHARE.pack(*row) for row in self.rows])

    @classmethod
    def decode(cls, data: bytes) -> Revealed:
        """Inverse of `encode`; `Refused` if it is no such message."""
        sender, rows = counted(data, _SHARE)
        return cls(sender=sender, rows=tuple([Share(*row) for row in _SHARE.iter_unpack(rows)]))


Message = Advert | SealedShares | MaskedVector | Consent | Revealed
"""What a party sends to the server."""
