"""Who remembers a head: a ledger alone cannot show that its end was cut off, or that an old copy was put back.

A witness keeps the newest head that it saw of each ledger, countersigns a newer one that continues it, and refuses
everything else. Device and server meet here and nowhere else: heads and proofs are hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from homespun.privacy.ledger.note import Head
from homespun.privacy.ledger.tree import verify_consistency as _verify

__all__ = ["Witness", "verify_consistency"]


class Witness(Protocol):
    """Somebody who remembers heads and outlives the machine that a ledger lies on."""

    def latest(self, origin: str) -> Head | None:
        """The newest head that was countersigned, where the proof for the next one must begin; None for a new ledger."""

    def countersign(self, checkpoint: bytes, proof: Sequence[bytes]) -> bytes:
        """Return the receipt of a checkpoint (see `homespun.privacy.ledger.countersign`).

        Raises:
            HeadRefused: the head is older than the one that is remembered, or does not continue it.
        """


def verify_consistency(old: Head | None, new: Head, proof: Sequence[bytes]) -> bool:
    """Whether ``new`` continues ``old``; every head continues None, that of a ledger that nobody saw before.

    Args:
        old: The head that is remembered.
        new: A head that is at least as long, or the answer is no: the ledger was rolled back.
        proof: `Ledger.prove` from the size of ``old`` to that of ``new``.
    """
    return old is None or _verify(old.size, bytes.fromhex(old.root), new.size, bytes.fromhex(new.root), proof)
