"""What one neighbour says to another by way of the server: beside a masked vector, and again in a request to reveal."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from homespun.secagg.layout import malformed, the_bytes
from homespun.secagg.shape import MAX_PARTIES

__all__ = ["ACK", "TAG_BYTES", "Ack", "read_acks", "write_acks"]

TAG_BYTES = 16
ACK = struct.Struct("<I16s")


class Ack(NamedTuple):
    """One neighbour's word to another that it masked with all who shared; ``party`` is the other one of the two."""

    party: int
    tag: bytes


def write_acks(rows: Iterable[Ack]) -> bytes:
    """Return 20 bytes a row."""
    return b"".join([ACK.pack(*row) for row in rows])


def read_acks(data: bytes) -> tuple[Ack, ...]:
    """Inverse of `write_acks`; `Refused` if it is no list of acks."""
    if len(the_bytes(data)) % ACK.size or len(data) > ACK.size * MAX_PARTIES:
        raise malformed(f"{ACK.size} bytes an ack")
    return tuple([Ack(*row) for row in ACK.iter_unpack(data)])
