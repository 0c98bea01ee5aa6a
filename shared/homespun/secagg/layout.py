"""How a message is read and checked: every count against the bytes that are there, every list in one spelling."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from homespun.secagg.errors import Fault, Refused
from homespun.secagg.shape import MAX_PARTIES

__all__ = [
    "COUNT",
    "PAIR",
    "check_bytes",
    "check_index",
    "check_rising",
    "check_rows",
    "counted",
    "malformed",
    "take_rows",
    "the_bytes",
]

PAIR = struct.Struct("<II")
COUNT = struct.Struct("<I")


def take_rows(data: bytes, row: struct.Struct) -> tuple[list[tuple[Any, ...]], bytes]:
    """Rows of a part ``count ‖ row*``, and what comes after it."""
    if len(the_bytes(data)) < COUNT.size:
        raise malformed("a number of rows")
    (count,) = COUNT.unpack_from(data)
    end = COUNT.size + row.size * count
    if count > MAX_PARTIES or len(data) < end:
        raise malformed("as many rows as announced")
    return list(row.iter_unpack(data[COUNT.size : end])), data[end:]


def counted(data: bytes, row: struct.Struct) -> tuple[int, bytes]:
    """Party and rows of a message ``party ‖ count ‖ row*``."""
    if len(the_bytes(data)) < PAIR.size:
        raise malformed("a party and a number of rows")
    party, count = PAIR.unpack_from(data)
    if count > MAX_PARTIES or len(data) != PAIR.size + count * row.size:
        raise malformed("as many rows as announced")
    return party, data[PAIR.size :]


def check_index(value: object) -> None:
    """Refuse what is no index of a party."""
    if type(value) is not int or not 0 <= value < MAX_PARTIES:
        raise malformed(f"an index in [0, {MAX_PARTIES})")


def check_rising(indices: Iterable[int]) -> None:
    """Refuse indices that do not rise strictly."""
    last = -1
    for index in indices:
        if type(index) is not int or not last < index < MAX_PARTIES:
            raise malformed(f"indices in [0, {MAX_PARTIES}), rising, none twice")
        last = index


def check_rows(rows: object, kind: type) -> None:
    """Refuse what is not a tuple of one type."""
    if type(rows) is not tuple or len(rows) > MAX_PARTIES or not all(type(row) is kind for row in rows):
        raise malformed(f"a tuple of at most {MAX_PARTIES} rows of one type")


def check_bytes(value: object, size: int) -> None:
    """Refuse what is not so many bytes."""
    if type(value) is not bytes or len(value) != size:
        raise malformed(f"{size} bytes")


def the_bytes(data: object) -> bytes:
    """Return the data if it is bytes: a buffer that somebody may still change is none."""
    if type(data) is not bytes:
        raise malformed("bytes")
    return data


def malformed(rule: str) -> Refused:
    """Return the error for a rule that was broken."""
    return Refused(Fault.MALFORMED, f"Expected {rule}.")
