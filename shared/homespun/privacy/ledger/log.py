"""The ledger: reserve before data is touched, then commit or burn; every step signed, on disk, and never undone.

>>> import tempfile
>>> key = SigningKey.generate("example.org/device")
>>> genesis = Genesis(origin="example.org/device/1", guarantee="backbone", holder="device", unit=Unit.DEVICE,
...     relation=Relation.ADD_OR_REMOVE, delta=1e-5, cap=Decimal("0.75"))
>>> event = GaussianEvent(clip_units=1024, variance=1024**2, count=1, dimension=16)
>>> with tempfile.TemporaryDirectory() as folder, Ledger.create(Path(folder) / "ledger.sqlite", key, genesis) as ledger:
...     paid = ledger.reserve("device", event, {"run": 0, "round": 0})
...     ledger.commit(paid, "0" * 64)
...     str(ledger.spent("device")), ledger.head.size
...     ledger.reserve("device", event, {"run": 0, "round": 1})
Traceback (most recent call last):
    ...
homespun.privacy.errors.PrivacyBudgetExhausted: Expected spent=1.000000000000000000 in [0, 0.750000000000000000] (rho) \
in account device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, final

from homespun.privacy.accountant import GaussianEvent
from homespun.privacy.cost import cost_text
from homespun.privacy.errors import LedgerDamaged, LedgerError, PrivacyError
from homespun.privacy.ledger.chain import Chain, damaged
from homespun.privacy.ledger.entries import Entry, Kind
from homespun.privacy.ledger.envelope import seal, take_apart
from homespun.privacy.ledger.files import write_atomically
from homespun.privacy.ledger.genesis import Genesis
from homespun.privacy.ledger.keys import PublicKey, SigningKey
from homespun.privacy.ledger.note import Head, read_checkpoint, sign_checkpoint
from homespun.privacy.ledger.rules import Reservation, State
from homespun.privacy.ledger.store import CHECKPOINT_NAME, Store
from homespun.privacy.terms import Relation, Unit  # noqa: F401  (used by the example above)

__all__ = ["Ledger"]

_RECORDED = frozenset({Kind.POLICY, Kind.WITNESS, Kind.EXPORT, Kind.ERASE, Kind.AUDIT, Kind.DECLARE, Kind.ACKNOWLEDGE})


@final
class Ledger:
    """A signed, append-only account of privacy.

    It is a class because it owns a file and a key. `create` and `open` make one; opening checks chain, rules and the
    checkpoint over all lines, and leaves the signatures of single lines to `homespun.privacy.ledger.check`.

    Guarantees:
        * before the fact: when `reserve` returns, the spend is on disk, whatever happens next.
        * never above the cap: sums are compared in whole numbers, by the process that holds the right to write.
        * never falls: there are no refunds.
        * one at a time: processes may share a file; each sees what the others wrote before it decides.
        * kill at any line: the file stays readable, and holds every entry that was acknowledged, once.
    """

    def __init__(self, store: Store, key: SigningKey | None) -> None:
        """Read an open store; use `create` or `open`."""
        self._store = store
        self._key = key
        self._lock = threading.RLock()
        self._chain: Chain | None = None
        self._note = b""
        with self._lock, store.reading():
            self._catch_up()
        if key is not None and key.public != self.key:
            other = LedgerError(f"Expected the key that signs {store.path} ({self.key.text}), not {key.public.text}.")
            other.add_note("go on where the ledger was begun: the key that signs it is there")
            raise other

    @classmethod
    def create(cls, path: Path, key: SigningKey, genesis: Genesis) -> Ledger:
        """Begin a ledger.

        Raises:
            LedgerError: there is a file already; it is left alone.
            ValueError: a part of the genesis cannot stand in an entry.
        """
        entry = Entry(
            v=1, origin=genesis.origin, seq=0, prev="0" * 64, kind=Kind.GENESIS, time=_now(),
            body=genesis.to_body(key.public),
        )  # fmt: skip
        line = seal(key, entry.to_dict())
        head = Chain(Entry.from_dict(entry.to_dict()), line).head
        return cls._of(Store.create(path, line, sign_checkpoint(key, genesis.origin, head)), key)

    @classmethod
    def open(cls, path: Path, key: SigningKey | None) -> Ledger:
        """Open a ledger; without a key it can only be read.

        Raises:
            LedgerDamaged: an entry was edited, dropped or moved, or the checkpoint is not theirs.
            LedgerError: there is no ledger, or it is signed by another key.
        """
        return cls._of(Store(path), key)

    @classmethod
    def _of(cls, store: Store, key: SigningKey | None) -> Ledger:
        try:
            return cls(store, key)
        except BaseException:
            store.close()
            raise

    @property
    def genesis(self) -> Genesis:
        """What the ledger says of itself."""
        return self._known.state.genesis

    @property
    def key(self) -> PublicKey:
        """Key that signs now."""
        return self._known.state.keys[-1]

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @property
    def head(self) -> Head:
        """Size and root now: remember it elsewhere to notice that entries were cut off."""
        with self._current() as chain:
            return chain.head

    @property
    def checkpoint(self) -> bytes:
        """The signed head."""
        with self._current():
            return self._note

    def prove(self, old_size: int, new_size: int | None = None) -> tuple[bytes, ...]:
        """Proof that the ledger of ``new_size`` entries (all by default) begins with that of ``old_size``.

        Raises:
            ValueError: there are not so many entries.
        """
        with self._current() as chain:
            return chain.tree.prove(old_size, new_size)

    def root_at(self, size: int) -> str:
        """Root over the first ``size`` entries, 64 hexadecimal digits; ``ValueError`` where there are not so many."""
        with self._current() as chain:
            return chain.tree.root(size).hex()

    def spent(self, account: str) -> Decimal:
        """What an account has spent, rho."""
        with self._current() as chain:
            return Decimal(cost_text(chain.state.spent(account)))

    @property
    def cap(self) -> Decimal | None:
        """Most that each account may spend now, rho; None where nothing is promised."""
        with self._current() as chain:
            return None if chain.state.cap is None else Decimal(cost_text(chain.state.cap))

    def events(self, account: str) -> tuple[GaussianEvent, ...]:
        """What an account has paid for, for `homespun.privacy.accountant.compose`."""
        with self._current() as chain:
            found = chain.state.accounts.get(account)
            return tuple(found.events) if found else ()

    def open_reservations(self) -> tuple[Reservation, ...]:
        """Reservations that were neither committed nor burned, the oldest first."""
        with self._current() as chain:
            return tuple(chain.state.open.values())

    def entries(self, first: int = 0) -> Iterator[Entry]:
        """The entries from a place on."""
        for line in self._store.lines(first):
            yield _entry(line)

    def reserve(self, account: str, event: GaussianEvent | None, subject: Mapping[str, str | int]) -> Reservation:
        """Pay for one release, before its data is touched. The cost is computed here.

        Args:
            account: Who pays, a lower-case word.
            event: What will be released; None without noise, which only a ledger without a cap takes.
            subject: What it is about; see `homespun.privacy.ledger.SUBJECTS`.
        Raises:
            PrivacyBudgetExhausted: the account would spend more than the cap; nothing is written.
            ReservationError: the place is taken, or the event is not the plan's; nothing is written.
            LedgerBusy: another process held the ledger for too long; nothing is written.
            ValueError: a name or a value that cannot stand in an entry.
        """
        entry = self._append(Kind.RESERVE, lambda state: state.reserve(account, event, subject))
        return self._known.state.open[entry.seq]

    def commit(self, reservation: Reservation, artifact: str, facts: Mapping[str, int] | None = None) -> None:
        """End a reservation: its result is safely stored.

        Args:
            reservation: An open one.
            artifact: SHA-256 of what was released, 64 hexadecimal digits.
            facts: Public counts; see `homespun.privacy.ledger.FACTS`.
        Raises:
            ReservationError: it is not open.
        """
        body = {"reservation": reservation.seq, "artifact_sha256": artifact, "facts": dict(facts or {})}
        self._append(Kind.COMMIT, lambda _: body)

    def burn(self, reservation: Reservation, reason: str) -> None:
        """End a reservation that led to nothing that is known of; it stays spent.

        Raises:
            ReservationError: it is not open.
        """
        body = {"reservation": reservation.seq, "reason": reason}
        self._append(Kind.BURN, lambda _: body)

    def opened(self, reservation: Reservation, *, attempt: int, survivors: int, transcript: bytes) -> None:
        """Record that a masked sum is about to be opened; a sum that is lost afterwards is counted all the same.

        Args:
            reservation: An open one, of a server's ledger.
            attempt: Number of the attempt, above those opened before for this reservation.
            survivors: Number of devices whose vectors are in the sum.
            transcript: SHA-256 of what the devices agreed on, 32 bytes.
        Raises:
            ReservationError: it is not open, the attempt was opened before, or the plan wants more devices.
        """
        body = {
            "reservation": reservation.seq,
            "attempt": attempt,
            "survivors": survivors,
            "transcript_sha256": transcript.hex(),
        }
        self._append(Kind.OPEN, lambda _: body)

    def refuse(self, reason: str, subject: Mapping[str, str | int]) -> None:
        """Record that a request was refused; nothing is spent. ``reason`` is a lower-case word."""
        body = {"reason": reason, "subject": dict(subject)}
        self._append(Kind.REFUSE, lambda _: body)

    def record(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Record something that spends nothing: policy, witness, export, erase, audit, declare or acknowledge.

        Raises:
            ValueError: another kind, or a body that is not of the kind.
            ReservationError: an acknowledgement that lowers a spend, or a policy in a server's ledger.
        """
        if kind not in _RECORDED:
            raise ValueError(f"Expected kind={kind[:32]!r} among {sorted(_RECORDED)}.")
        return self._append(Kind(kind), lambda _: dict(body))

    def rotate(self, key: SigningKey) -> None:
        """Go on with another key: the old one signs the change, the new one everything after it.

        Raises:
            ReservationError: the key signed this ledger before.
        """
        self._append(Kind.KEY_ROTATE, lambda _: {"key": key.public.text}, successor=key)

    def export(self, folder: Path, name: str = "ledger.jsonl") -> None:
        """Write the lines and ``checkpoint.txt`` for `homespun.privacy.ledger.check`, each whole or not at all."""
        with self._lock, self._store.reading():
            lines = b"".join(line + b"\n" for line in self._store.lines())
            note = self._store.note()
        write_atomically(Path(folder) / name, lines)
        write_atomically(Path(folder) / CHECKPOINT_NAME, note)

    def close(self) -> None:
        """Close the file and forget the key."""
        self._store.close()
        self._key = None

    def __enter__(self) -> Self:
        """Return the ledger; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the ledger."""
        self.close()

    def __repr__(self) -> str:
        """Name the file and nothing else."""
        return f"Ledger(path={str(self._store.path)!r})"

    @property
    def _known(self) -> Chain:
        if self._chain is None:
            raise LedgerError(f"Expected an open ledger at {self._store.path}.")
        return self._chain

    @contextmanager
    def _current(self) -> Iterator[Chain]:
        """The chain with everything that other processes wrote."""
        with self._lock, self._store.reading():
            self._catch_up()
            yield self._known

    def _append(
        self, kind: Kind, body: Callable[[State], dict[str, Any]], successor: SigningKey | None = None
    ) -> Entry:
        with self._lock:
            if self._key is None:
                raise LedgerError(f"Expected the key of {self._store.path}: without it, a ledger can only be read.")
            with self._store.writing():
                self._catch_up()
                chain = self._known
                if self._key.public != self.key:
                    raise LedgerError(f"Expected the key that signs {self._store.path} now: {self.key.text}.")
                content = Entry(
                    v=1, origin=self.genesis.origin, seq=chain.size, prev=chain.prev, kind=kind, time=_now(),
                    body=body(chain.state),
                ).to_dict()  # fmt: skip
                entry = Entry.from_dict(content)  # what a reader will see, checked as a reader checks it
                chain.admit(entry)
                line = seal(self._key, content)
                signer = successor or self._key
                note = sign_checkpoint(signer, self.genesis.origin, chain.head_with(line))
                self._store.append(entry.seq, line, note)
            # The entry counts from here on. Should anything cut in now, the next look at the file reads it again.
            self._chain = None
            chain.take(entry, line)
            self._note, self._key, self._chain = note, signer, chain
            return entry

    def _catch_up(self) -> None:
        """Read what is new in the file, within a transaction."""
        chain, self._chain = self._chain, None
        note = self._store.note()
        if chain is not None and note == self._note:
            self._chain = chain
            return
        known = 0 if chain is None else chain.size
        for number, line in enumerate(self._store.lines(known), start=known + 1):
            try:
                entry = _entry(line)
                if chain is None:
                    chain = Chain(entry, line)
                else:
                    chain.admit(entry)
                    chain.take(entry, line)
            except (PrivacyError, ValueError) as error:
                raise damaged(number, error) from error
        if chain is None:
            raise LedgerDamaged(f"Expected a genesis in {self._store.path}; it is empty.")
        self._require_covered(chain, note)
        self._chain, self._note = chain, note

    def _require_covered(self, chain: Chain, note: bytes) -> None:
        try:
            found = read_checkpoint(note, chain.state.keys[-1:])
        except (PrivacyError, ValueError) as error:
            raise LedgerDamaged(f"Expected a signed checkpoint in {self._store.path}. {error}") from error
        if found != (chain.state.genesis.origin, chain.head):
            raise LedgerDamaged(
                f"Expected the checkpoint in {self._store.path} (size {found[1].size}) to be that of its "
                f"{chain.size} lines: lines were added, changed or cut off."
            )


def _entry(line: bytes) -> Entry:
    return Entry.from_dict(take_apart(line).read())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
