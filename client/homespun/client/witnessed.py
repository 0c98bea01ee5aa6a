"""Whether a device's ledger is the newest one: the head that it has against the heads that others remember."""

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from homespun.client.anchor import Mark
from homespun.privacy.ledger import Head, Ledger, PublicKey

__all__ = [
    "EMPTY",
    "DeviceWitness",
    "commitment",
    "continues",
    "epoch",
    "heads_of",
    "origin_of",
    "place_of",
    "remembers",
]

EMPTY = Head(size=0, root=hashlib.sha256(b"").hexdigest())


class DeviceWitness(Protocol):
    """A witness as devices see it (see :class:`~homespun.privacy.ledger.Witness`): it also enrolls new ledgers."""

    @property
    def public(self) -> PublicKey:
        """The key that receipts are checked with."""

    def enroll(self, origin: str, key: PublicKey) -> None:
        """Register the key of a ledger; raise ``HeadRefused`` where another one is registered."""

    def latest(self, origin: str) -> Head | None:
        """The newest head that was countersigned; None for a ledger that is not enrolled."""

    def countersign(self, checkpoint: bytes, proof: Sequence[bytes]) -> bytes:
        """Remember a head and return the receipt for it, or raise ``HeadRefused``."""


def origin_of(device: str, number: int) -> str:
    """Name of a device's ledger; the number rises when a fork is acknowledged.

    >>> origin_of("1f", 2), epoch(origin_of("1f", 2))
    ('homespun/device/1f/2', 2)
    """
    return f"homespun/device/{device}/{number}"


def epoch(origin: str) -> int:
    """The number in the name of a device's ledger."""
    return int(origin.rsplit("/", 1)[1])


def continues(ledger: Ledger, head: Head) -> bool:
    """Whether a ledger begins with the entries that somebody remembers."""
    return head.size <= ledger.head.size and ledger.root_at(head.size) == head.root


def heads_of(path: Path) -> Iterator[Head]:
    """Every head that the ledger in a file has had, the newest first; the empty one last, or alone where there is none."""
    if path.is_file():
        with Ledger.open(path, None) as ledger:
            newest = ledger.head.size
            yield from (Head(size=n, root=ledger.root_at(n)) for n in range(newest, 0, -1))
    yield EMPTY


def remembers(ledger: Ledger, mark: Mark) -> bool:
    """Whether a ledger is at least as new as the mark that was kept of it."""
    own, marked = epoch(ledger.genesis.origin), epoch(mark.origin)
    return own > marked or (own == marked and continues(ledger, mark.head))


def commitment(secret: bytes, place: str, head: Head) -> str:
    """What a spend of guarantee A says of the ledger of guarantee B: a salted hash of its head.

    Nobody can tell from it how long that ledger is, and its owner can tell later that it was not rolled back. The salt
    is a keyed hash of the place of the spend, so that it needs no storing.
    """
    salt = hmac.new(secret, place.encode("utf-8"), hashlib.sha256).digest()
    return hashlib.sha256(salt + f"{head.size}\n{head.root}".encode("ascii")).hexdigest()


def place_of(subject: Mapping[str, Any]) -> str:
    """The round that a spend was for."""
    return "\n".join(str(subject[name]) for name in ("project", "run", "round", "request_sha256"))
