"""Check an exported ledger: no private key, no database and no trust in the machine that it came from.

Signatures, then chain, then rules, then the checkpoint over all lines, then heads that somebody remembers. A verifier
does not stop at the first thing that is wrong: it says where each one is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from homespun.privacy.errors import LedgerDamaged, PrivacyError
from homespun.privacy.ledger.chain import follows
from homespun.privacy.ledger.entries import Entry, Kind
from homespun.privacy.ledger.envelope import open_line, take_apart
from homespun.privacy.ledger.genesis import Genesis
from homespun.privacy.ledger.keys import PublicKey
from homespun.privacy.ledger.note import Head, read_checkpoint, read_receipt
from homespun.privacy.ledger.rules import Account, State
from homespun.privacy.ledger.tree import Tree, leaf_hash

__all__ = ["Checked", "Problem", "check"]

MOST_PROBLEMS = 100  # what is reported; more of them say no more


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One rule that does not hold."""

    where: str
    """``line 12`` (from 1), ``checkpoint``, ``remembered 1`` (from 1) or ``ledger``."""
    rule: str
    """What was expected, in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What an export says, and everything that is wrong with it."""

    genesis: Genesis | None
    """None where there is no readable one."""
    key: PublicKey | None
    """Key of the genesis: who signed."""
    entries: tuple[Entry, ...] = field(repr=False)
    """Entries whose signature and rules hold; problems with their places stand in ``problems``."""
    head: Head
    """Size and root of the lines as they are."""
    accounts: Mapping[str, Account] = field(repr=False)
    """What each account paid, by the entries that hold."""
    problems: tuple[Problem, ...]
    """None of them: everything holds."""


def check(
    lines: bytes, checkpoint: bytes, *, keys: Sequence[PublicKey] | None = None, remembered: Sequence[Head | bytes] = ()
) -> Checked:
    """Check an export; never raises for what is in it.

    Args:
        lines: ``ledger.jsonl``.
        checkpoint: ``checkpoint.txt``.
        keys: Keys of whom the ledger may be; the genesis must name one of them. None believes the genesis.
        remembered: Heads, or checkpoints of this ledger, that somebody kept from before: they must be in it.
    """
    reader = _Reader(keys)
    rows = lines.split(b"\n")
    if rows.pop() != b"":
        reader.add("ledger", "Expected the ledger to end in a complete line.")
    for number, row in enumerate(rows, start=1):
        reader.read(number, row)
    reader.check_checkpoint(checkpoint)
    for number, memory in enumerate(remembered, start=1):
        reader.attempt(f"remembered {number}", lambda memory=memory: reader.check_remembered(memory))  # type: ignore[misc]
    return reader.result()


class _Reader:
    """Where a check stands: the next place in the chain, and the state by the entries that hold."""

    def __init__(self, keys: Sequence[PublicKey] | None) -> None:
        self._trusted = keys
        self._state: State | None = None
        self._key: PublicKey | None = None
        self._tree = Tree()
        self._seq = 0
        self._prev = "0" * 64
        self._entries: list[Entry] = []
        self._problems: list[Problem] = []

    def add(self, where: str, rule: str) -> None:
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(Problem(where=where, rule=rule))

    def attempt(self, where: str, step: Callable[[], None]) -> None:
        try:
            step()
        except (PrivacyError, ValueError) as error:
            self.add(where, str(error))

    def read(self, number: int, row: bytes) -> None:
        """One line; whatever is wrong with it, the next one is held against what stands here."""
        self.attempt(f"line {number}", lambda: self._read(number, row))
        self._tree.append(leaf_hash(row))
        self._prev = hashlib.sha256(row).hexdigest()
        self._seq += 1

    def _read(self, number: int, row: bytes) -> None:
        if self._state is None:
            if self._tree.size == 0:
                self._begin(row)
            return
        keys = self._state.keys
        entry = Entry.from_dict(open_line(row, {keys[-1].id: keys[-1]}))
        expected, self._seq = self._seq, entry.seq  # after a gap, the next entry is held against this one
        try:
            follows(entry, origin=self._state.genesis.origin, seq=expected, prev=self._prev)
        except LedgerDamaged as error:  # its content is the signer's all the same, and what follows rests on it
            self.add(f"line {number}", str(error))
        self._state.admit(entry)
        if entry.kind is Kind.WITNESS:
            self._check_receipt(entry)
        self._state.take(entry)
        self._entries.append(entry)

    def _begin(self, row: bytes) -> None:
        sealed = take_apart(row)
        # the key is in what it signs: it is read for its name, and nothing else is believed before it is verified
        claimed = Entry.from_dict(sealed.read())
        state = State(claimed)
        sealed.verify(state.keys[0])
        if self._trusted is not None and state.keys[0] not in self._trusted:
            raise ValueError(f"Expected the ledger of one of the given keys, not of {state.keys[0].text}.")
        self._state, self._key = state, state.keys[0]
        self._entries.append(claimed)

    def _check_receipt(self, entry: Entry) -> None:
        """A receipt in the ledger is of this ledger, as it was before."""
        assert self._state is not None
        key = PublicKey.parse(entry.body["witness"])
        origin, head, _ = read_receipt(entry.body["receipt"].encode("utf-8"), key)
        self._require_head(origin, head)

    def check_checkpoint(self, note: bytes) -> None:
        """The checkpoint covers all lines, no more and no fewer."""
        self.attempt("checkpoint", lambda: self._check_checkpoint(note))

    def _check_checkpoint(self, note: bytes) -> None:
        if self._state is None:
            raise ValueError("Expected a ledger with a genesis under the checkpoint.")
        # an older key may have signed it, where the lines after it are missing from it
        origin, head = read_checkpoint(note, self._state.keys)
        size = self._tree.size
        if head.size < size:
            self.add("checkpoint", f"Expected no unsigned tail: lines {head.size + 1} to {size} are not covered.")
        self._require_head(origin, head)

    def check_remembered(self, memory: Head | bytes) -> None:
        """What somebody kept from before is in the ledger."""
        if self._state is None:
            return
        if isinstance(memory, Head):
            self._require_head(self._state.genesis.origin, memory)
        else:
            self._require_head(*read_checkpoint(memory, self._state.keys))

    def _require_head(self, origin: str, head: Head) -> None:
        assert self._state is not None
        if origin != self._state.genesis.origin:
            raise ValueError(
                f"Expected origin={self._state.genesis.origin!r}, got {origin!r}: a head of another ledger."
            )
        if head.size > self._tree.size:
            raise ValueError(
                f"Expected size={head.size} in [0, {self._tree.size}]: lines were cut off, or an old copy was put back."
            )
        if self._tree.root(head.size).hex() != head.root:
            raise ValueError(
                f"Expected the root over the first {head.size} lines to be the signed one: the lines differ."
            )

    def result(self) -> Checked:
        state = self._state
        return Checked(
            genesis=None if state is None else state.genesis,
            key=self._key,
            entries=tuple(self._entries),
            head=Head(size=self._tree.size, root=self._tree.root().hex()),
            accounts={} if state is None else state.accounts,
            problems=tuple(self._problems),
        )
