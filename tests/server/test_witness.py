"""A witness countersigns what continues the head that it remembers, and nothing else."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homespun.privacy import GaussianEvent, HeadRefused, Relation, Unit
from homespun.privacy.ledger import Genesis, Head, KeyRole, Ledger, SigningKey, Witness, read_receipt
from homespun.server.witness import WitnessBook

ORIGIN = "example.org/device/1"
KEY = SigningKey.from_bytes("example.org/device", b"d" * 32)
COSIGNER = SigningKey.from_bytes("example.org/witness", b"w" * 32, role=KeyRole.COSIGNER)
EVENT = GaussianEvent(clip_units=1024, variance=1024**2, count=1, dimension=4)


def ledger(path: Path, *, origin: str = ORIGIN, key: SigningKey = KEY) -> Ledger:
    genesis = Genesis(
        origin=origin, guarantee="backbone", holder="device", unit=Unit.DEVICE, relation=Relation.ADD_OR_REMOVE,
        delta=1e-6, cap=None,
    )  # fmt: skip
    return Ledger.create(path, key, genesis)


def grow(book: Ledger, entries: int, mark: str = "x") -> None:
    for n in range(entries):
        book.refuse("paused", {"project": mark, "round": n})


@pytest.fixture
def book(tmp_path: Path) -> Iterator[WitnessBook]:
    with WitnessBook(tmp_path / "witness.sqlite", COSIGNER, clock=lambda: 1_700_000_000.9) as book:
        yield book


@pytest.fixture
def shown(tmp_path: Path, book: WitnessBook) -> Iterator[Ledger]:
    """A ledger of six entries that was shown."""
    with ledger(tmp_path / "ledger.sqlite") as own:
        grow(own, 5)
        book.enroll(ORIGIN, KEY.public)
        book.countersign(own.checkpoint, own.prove(0))
        yield own


def show(book: Witness, own: Ledger) -> bytes:
    known = book.latest(own.genesis.origin)
    assert known is not None
    return book.countersign(own.checkpoint, own.prove(known.size))


def test_a_receipt_says_what_was_seen_and_when(book: WitnessBook, shown: Ledger) -> None:
    grow(shown, 3)
    assert read_receipt(show(book, shown), book.public) == (ORIGIN, shown.head, 1_700_000_000)
    assert book.latest(ORIGIN) == shown.head == Head(size=9, root=shown.root_at(9))
    show(book, shown)  # the same head again


def test_it_outlives_its_process(tmp_path: Path, book: WitnessBook, shown: Ledger) -> None:
    book.close()
    with WitnessBook(tmp_path / "witness.sqlite", COSIGNER) as again:
        assert again.latest(ORIGIN) == shown.head
        assert again.latest("example.org/device/2") is None


def refused(book: WitnessBook, checkpoint: bytes, proof: Any) -> None:
    before = book.latest(ORIGIN)
    with pytest.raises(HeadRefused):
        book.countersign(checkpoint, proof)
    assert book.latest(ORIGIN) == before


def test_a_shorter_ledger_is_refused(tmp_path: Path, book: WitnessBook, shown: Ledger) -> None:
    with ledger(tmp_path / "short.sqlite") as short:
        grow(short, 2)
        refused(book, short.checkpoint, ())


def test_another_history_is_refused(tmp_path: Path, book: WitnessBook, shown: Ledger) -> None:
    with ledger(tmp_path / "fork.sqlite") as fork:
        grow(fork, 5, "y")
        refused(book, fork.checkpoint, ())  # as long
        grow(fork, 5)
        refused(book, fork.checkpoint, fork.prove(6))  # longer


def test_a_proof_that_does_not_fit_is_refused(book: WitnessBook, shown: Ledger) -> None:
    grow(shown, 3)
    proof = shown.prove(6)
    for false in ((), proof[:-1], (*proof, bytes(32)), tuple(reversed(proof)), tuple(bytes(32) for _ in proof)):
        refused(book, shown.checkpoint, false)
    refused(book, shown.checkpoint, shown.prove(5))
    show(book, shown)


def test_another_key_is_refused(tmp_path: Path, book: WitnessBook, shown: Ledger) -> None:
    stranger = SigningKey.from_bytes("example.org/device", b"s" * 32)
    with pytest.raises(HeadRefused, match="enrolled with"):
        book.enroll(ORIGIN, stranger.public)
    book.enroll(ORIGIN, KEY.public)
    with ledger(tmp_path / "theirs.sqlite", key=stranger) as theirs:
        grow(theirs, 9)
        refused(book, theirs.checkpoint, theirs.prove(6))


def test_what_was_not_enrolled_is_refused(tmp_path: Path, book: WitnessBook) -> None:
    with ledger(tmp_path / "new.sqlite", origin="example.org/device/7") as new, pytest.raises(HeadRefused):
        book.countersign(new.checkpoint, ())


@pytest.mark.parametrize("place", range(0, 150, 7))
def test_a_changed_checkpoint_is_refused(book: WitnessBook, shown: Ledger, place: int) -> None:
    grow(shown, 2)
    changed = bytearray(shown.checkpoint)
    changed[place % len(changed)] ^= 1
    refused(book, bytes(changed), shown.prove(6))


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 70_000, b"a\n1\nAAAA\n\n", bytes(200)])
def test_what_is_no_checkpoint_is_refused(book: WitnessBook, shown: Ledger, content: bytes) -> None:
    refused(book, content, ())


def test_two_copies_that_race_leave_one(tmp_path: Path, book: WitnessBook, shown: Ledger) -> None:
    """Many connections, each with a head of its own that continues the remembered one."""
    shown.close()
    source = sqlite3.connect(tmp_path / "ledger.sqlite")
    results: list[bool] = []
    copies = []
    for n in range(6):
        target = sqlite3.connect(tmp_path / f"copy-{n}.sqlite")
        source.backup(target)
        target.close()
        copy = Ledger.open(tmp_path / f"copy-{n}.sqlite", KEY)
        grow(copy, 1, f"copy {n}")
        copies.append(copy)
    source.close()

    def race(copy: Ledger) -> None:
        with WitnessBook(tmp_path / "witness.sqlite", COSIGNER) as own:
            try:
                own.countersign(copy.checkpoint, copy.prove(6))
                results.append(True)
            except HeadRefused:
                results.append(False)

    threads = [threading.Thread(target=race, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 5 + [True]
    latest = book.latest(ORIGIN)
    assert latest is not None
    assert latest.size == 7
    for copy in copies:
        copy.close()
