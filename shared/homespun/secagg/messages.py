"""What parties and server say to each other: fixed layouts, read in one way only.

Every class is sound by construction: making or decoding one that is not raises `Refused` with `Fault.MALFORMED`. Whole
numbers are 32-bit, keys and field elements 32 bytes, all little-endian. Lists of parties rise strictly, so that a list has
one spelling. Nothing is said about who may send what: that is for `Client` and `Server`.

=================  =====================================================================================  =========
message            layout                                                                                 to
=================  =====================================================================================  =========
`Advert`           index ‖ mask key ‖ seal key ‖ commitment ‖ signature (64)                              server
`Adverts`          adverts, one after the other                                                           parties
`SealedShares`     sender ‖ count ‖ (to ‖ box (80) ‖ check of mask share (16) ‖ check of self share (16))*  server
`Inbox`            to ‖ count ‖ (sender ‖ box (80))*                                                      party
`MaskedVector`     travels as an array of uint32, and acks: (to ‖ tag (16))*                               server
`Survivors`        count ‖ index*                                                                         committee
`Consent`          sender ‖ signature (64)                                                                server
`RevealRequest`    survivors ‖ count ‖ consent* ‖ dropped ‖ count ‖ (sender ‖ tag (16))*                   survivors
`Revealed`         sender ‖ count ‖ (dealer ‖ kind (1) ‖ share)*                                          server
=================  =====================================================================================  =========

>>> Survivors(indices=(0, 2, 3)).encode().hex()
'03000000000000000200000003000000'
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from homespun.secagg.errors import Fault, Refused
from homespun.secagg.layout import (
    COUNT,
    PAIR,
    check_bytes,
    check_index,
    check_rising,
    check_rows,
    counted,
    malformed,
    take_rows,
    the_bytes,
)
from homespun.secagg.shape import MAX_PARTIES

__all__ = [
    "BOX_BYTES",
    "CHECK_BYTES",
    "MAX_PARTIES",
    "Ack",
    "Advert",
    "Adverts",
    "Consent",
    "Inbox",
    "Kind",
    "MaskedVector",
    "Message",
    "Note",
    "RevealRequest",
    "Revealed",
    "Sealed",
    "SealedShares",
    "Share",
    "Survivors",
    "read_acks",
    "write_acks",
]

KEY_BYTES = 32
SIGNATURE_BYTES = 64
BOX_BYTES = 80  # two shares and the tag of Poly1305
CHECK_BYTES = 16
TAG_BYTES = 16

_INDEX = struct.Struct("<I")
_ADVERT = struct.Struct("<I32s32s32s64s")
_ADVERT_TYPES = (bytes, bytes, bytes, bytes)
_ADVERT_SIZES = (KEY_BYTES, KEY_BYTES, KEY_BYTES, SIGNATURE_BYTES)
_SEALED = struct.Struct("<I80s16s16s")
_NOTE = struct.Struct("<I80s")
_CONSENT = struct.Struct("<I64s")
_SHARE = struct.Struct("<IB32s")
_ACK = struct.Struct("<I16s")


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


class Note(NamedTuple):
    """A pair of shares as a neighbour gets it."""

    sender: int
    box: bytes


class Ack(NamedTuple):
    """One neighbour's word to another that it masked with all who shared; ``party`` is the other one of the two."""

    party: int
    tag: bytes


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
        return _ADVERT.pack(self.index, self.mask_key, self.seal_key, self.commitment, self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Advert:
        """Inverse of `encode`; `Refused` if it is not one advert."""
        check_bytes(data, _ADVERT.size)
        return _advert(*_ADVERT.unpack(data))


@dataclass(frozen=True, kw_only=True)
class Adverts:
    """All adverts of a session, indices rising: with the terms they make its transcript."""

    adverts: tuple[Advert, ...]

    def __post_init__(self) -> None:
        """Refuse what is not a rising tuple of adverts."""
        check_rows(self.adverts, Advert)
        check_rising(advert.index for advert in self.adverts)

    def encode(self) -> bytes:
        """Return 164 bytes an advert."""
        return b"".join(advert.encode() for advert in self.adverts)

    @classmethod
    def decode(cls, data: bytes) -> Adverts:
        """Inverse of `encode`; `Refused` if it is no list of adverts."""
        count, rest = divmod(len(the_bytes(data)), _ADVERT.size)
        if rest or count > MAX_PARTIES:
            raise malformed(f"{_ADVERT.size} bytes an advert, and at most {MAX_PARTIES} adverts")
        return cls(adverts=tuple([_advert(*fields) for fields in _ADVERT.iter_unpack(data)]))


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


@dataclass(frozen=True, kw_only=True)
class Inbox:
    """The shares that a party's neighbours sealed to it, senders rising. Who is missing did not share."""

    to: int
    rows: tuple[Note, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse other types, lengths and orders."""
        check_index(self.to)
        check_rows(self.rows, Note)
        check_rising(row.sender for row in self.rows)
        for row in self.rows:
            check_bytes(row.box, BOX_BYTES)

    def encode(self) -> bytes:
        """Return 8 bytes, and 84 a row."""
        return PAIR.pack(self.to, len(self.rows)) + b"".join([_NOTE.pack(*row) for row in self.rows])

    @classmethod
    def decode(cls, data: bytes) -> Inbox:
        """Inverse of `encode`; `Refused` if it is no such message."""
        to, rows = counted(data, _NOTE)
        return cls(to=to, rows=tuple([Note(*row) for row in _NOTE.iter_unpack(rows)]))


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
        check_rising(row[0] for row in _ack_rows(self.acks))


def write_acks(rows: Iterable[Ack]) -> bytes:
    """Return 20 bytes a row."""
    return b"".join([_ACK.pack(*row) for row in rows])


def read_acks(data: bytes) -> tuple[Ack, ...]:
    """Inverse of `write_acks`; `Refused` if it is no list of acks."""
    return tuple([Ack(*row) for row in _ack_rows(data)])


@dataclass(frozen=True, kw_only=True)
class Survivors:
    """Who sent a masked vector in time, indices rising."""

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what is not a rising tuple of indices."""
        check_rows(self.indices, int)
        check_rising(self.indices)

    def encode(self) -> bytes:
        """Return 4 bytes, and 4 a survivor."""
        return struct.pack(f"<I{len(self.indices)}I", len(self.indices), *self.indices)

    @classmethod
    def decode(cls, data: bytes) -> Survivors:
        """Inverse of `encode`; `Refused` if it is no such message."""
        rows, rest = take_rows(data, _INDEX)
        if rest:
            raise malformed("nothing after the survivors")
        return cls(indices=tuple([row[0] for row in rows]))


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
        return _CONSENT.pack(self.sender, self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Consent:
        """Inverse of `encode`; `Refused` if it is no such message."""
        check_bytes(data, _CONSENT.size)
        sender, signature = _CONSENT.unpack(data)
        return cls(sender=sender, signature=signature)


@dataclass(frozen=True, kw_only=True)
class RevealRequest:
    """A list of survivors and who of the committee signed it; where the graph is sparse, what the neighbours said too.

    Args:
        survivors: Whose vectors are summed.
        consents: Signatures on that list, senders rising.
        dropped: Who shared and did not survive, indices rising; empty where the graph is complete.
        acks: The neighbours' acks for the party that is asked, senders rising; empty where the graph is complete.
    """

    survivors: Survivors
    consents: tuple[Consent, ...] = field(repr=False)
    dropped: tuple[int, ...] = ()
    acks: tuple[Ack, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Refuse other types and orders."""
        if not isinstance(self.survivors, Survivors):
            raise malformed("survivors")
        check_rows(self.consents, Consent)
        check_rising(consent.sender for consent in self.consents)
        check_rows(self.dropped, int)
        check_rising(self.dropped)
        if not set(self.dropped).isdisjoint(self.survivors.indices):
            raise malformed("nobody to survive and to have dropped")
        check_rows(self.acks, Ack)
        check_rising(ack.party for ack in self.acks)
        for ack in self.acks:
            check_bytes(ack.tag, TAG_BYTES)

    def encode(self) -> bytes:
        """Return 12 bytes, 4 a survivor, 68 a consent, 4 a dropped party and 20 an ack, and 4 more."""
        return b"".join(
            [
                self.survivors.encode(),
                COUNT.pack(len(self.consents)),
                *[consent.encode() for consent in self.consents],
                struct.pack(f"<I{len(self.dropped)}I", len(self.dropped), *self.dropped),
                COUNT.pack(len(self.acks)),
                write_acks(self.acks),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> RevealRequest:
        """Inverse of `encode`; `Refused` if it is no such message."""
        survivors, rest = take_rows(data, _INDEX)
        consents, rest = take_rows(rest, _CONSENT)
        dropped, rest = take_rows(rest, _INDEX)
        acks, rest = take_rows(rest, _ACK)
        if rest:
            raise malformed("nothing after the acks")
        return cls(
            survivors=Survivors(indices=tuple([row[0] for row in survivors])),
            consents=tuple([Consent(sender=row[0], signature=row[1]) for row in consents]),
            dropped=tuple([row[0] for row in dropped]),
            acks=tuple([Ack(*row) for row in acks]),
        )


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


def _advert(index: int, mask_key: bytes, seal_key: bytes, commitment: bytes, signature: bytes) -> Advert:
    return Advert(index=index, mask_key=mask_key, seal_key=seal_key, commitment=commitment, signature=signature)


def _ack_rows(data: bytes) -> list[tuple[Any, ...]]:
    if len(the_bytes(data)) % _ACK.size or len(data) > _ACK.size * MAX_PARTIES:
        raise malformed(f"{_ACK.size} bytes an ack")
    return list(_ACK.iter_unpack(data))
