"""The lines of a ledger, read one after the other: chain, tree and rules, without signatures."""

from __future__ import annotations

import hashlib
from typing import final

from homespun.privacy.errors import LedgerDamaged, LedgerError
from homespun.privacy.ledger.entries import Entry
from homespun.privacy.ledger.note import Head
from homespun.privacy.ledger.rules import State
from homespun.privacy.ledger.tree import Tree, leaf_hash

__all__ = ["Chain", "follows"]


def follows(entry: Entry, *, origin: str, seq: int, prev: str) -> None:
    """Return if the entry stands where it says.

    Raises:
        LedgerDamaged: it belongs to another ledger, or to another place.
    """
    if entry.origin != origin:
        raise LedgerDamaged(f"Expected origin={origin!r}, got {entry.origin[:64]!r}: an entry of another ledger.")
    if entry.seq != seq:
        raise LedgerDamaged(f"Expected seq={seq}, got {entry.seq}: an entry is missing, repeated or moved.")
    if entry.prev != prev:
        raise LedgerDamaged("Expected prev to be the SHA-256 of the line before.")


@final
class Chain:
    """A ledger as far as it was read. It is a class because state, tree and last line must move together."""

    def __init__(self, entry: Entry, line: bytes) -> None:
        """Begin with a genesis."""
        self.state = State(entry)
        self.tree = Tree()
        self.prev = "0" * 64
        self._advance(line)

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.tree.size

    @property
    def head(self) -> Head:
        """Size and root."""
        return Head(size=self.tree.size, root=self.tree.root().hex())

    def admit(self, entry: Entry) -> None:
        """Return if the entry may come next; raises a `PrivacyError` or a ``ValueError`` otherwise."""
        follows(entry, origin=self.state.genesis.origin, seq=self.size, prev=self.prev)
        self.state.admit(entry)

    def take(self, entry: Entry, line: bytes) -> None:
        """Take in an entry that `admit` let pass, and its line."""
        self.state.take(entry)
        self._advance(line)

    def head_with(self, line: bytes) -> Head:
        """Head after one more line."""
        return Head(size=self.size + 1, root=self.tree.root_with(leaf_hash(line)).hex())

    def _advance(self, line: bytes) -> None:
        self.tree.append(leaf_hash(line))
        self.prev = hashlib.sha256(line).hexdigest()


def damaged(number: int, error: Exception) -> LedgerDamaged:
    """Say where a ledger is damaged; ``number`` counts lines from 1."""
    text = str(error) if isinstance(error, LedgerError | ValueError) else "Expected an entry that may follow."
    return LedgerDamaged(f"Expected line {number} of the ledger to follow from the lines before it. {text}")
