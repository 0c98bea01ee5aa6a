"""What the server sends to parties: what all of them sent, put together."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

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
from homespun.secagg.messages.acks import ACK, TAG_BYTES, Ack, write_acks
from homespun.secagg.messages.from_party import ADVERT, BOX_BYTES, CONSENT, Advert, Consent
from homespun.secagg.shape import MAX_PARTIES

__all__ = ["Adverts", "Inbox", "Note", "RevealRequest", "Survivors"]

_INDEX = struct.Struct("<I")
_NOTE = struct.Struct("<I80s")


class Note(NamedTuple):
    """A pair of shares as a neighbour gets it."""

    sender: int
    box: bytes


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
        count, rest = divmod(len(the_bytes(data)), ADVERT.size)
        if rest or count > MAX_PARTIES:
            raise malformed(f"{ADVERT.size} bytes an advert, and at most {MAX_PARTIES} adverts")
        starts = range(0, len(data), ADVERT.size)
        return cls(adverts=tuple([Advert.decode(data[start : start + ADVERT.size]) for start in starts]))


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
        consents, rest = take_rows(rest, CONSENT)
        dropped, rest = take_rows(rest, _INDEX)
        acks, rest = take_rows(rest, ACK)
        if rest:
            raise malformed("nothing after the acks")
        return cls(
            survivors=Survivors(indices=tuple([row[0] for row in survivors])),
            consents=tuple([Consent(sender=row[0], signature=row[1]) for row in consents]),
            dropped=tuple([row[0] for row in dropped]),
            acks=tuple([Ack(*row) for row in acks]),
        )
