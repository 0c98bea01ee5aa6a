"""Bug 20: a backup of the device is put back, or it is cloned, and the budget is there again.

Published: any accountant whose state is a file beside the data; a phone restored from its cloud backup.

Seen to fail: a device that nobody remembers for answers again (so the memory is what catches it), and a witness that
countersigns whatever it is shown.
"""

import runpy
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from homespun.client.anchor import FileAnchor
from homespun.client.errors import Declined
from homespun.privacy import HeadRefused
from homespun.privacy.ledger import KeyRole, Ledger, SigningKey
from homespun.server import witness as witnesses
from homespun.server.witness import WitnessBook

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
FORKED = "ledger-forked"


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[WitnessBook]:
    with WitnessBook(tmp_path / "witness.sqlite", SigningKey.generate("witness", role=KeyRole.COSIGNER)) as book:
        yield book


def spend(home: Path, runs: range, **around: Any) -> Decimal:
    with path.device(home, **around) as device:
        for run in runs:
            device.contribute(path.request(0, run=run))
        return Decimal(device.spent)


def check(home: Path, tmp_path: Path, **around: Any) -> None:
    """A copy from before is put back: nothing is answered, nothing is spent, and the owner is told why."""
    spend(home, range(1), **around)
    shutil.copytree(home, tmp_path / "backup")
    newest = spend(home, range(1, 3), **around)
    shutil.rmtree(home)
    (tmp_path / "backup").rename(home)
    with path.device(home, **around) as device:
        assert device.spent < newest  # the file itself says less
        assert device.forked
        for run in (1, 7):  # neither again nor anew
            with pytest.raises(Declined) as declined:
                device.contribute(path.request(0, run=run))
            assert declined.value.reason.value == FORKED
        refused = [entry for entry in device.ledger.entries() if entry.kind == "refuse"]
        assert [entry.body["reason"] for entry in refused] == [FORKED, FORKED]
        spent = device.acknowledge()
        assert spent >= newest
        assert device.spent == spent


def test_a_restored_copy_is_known_to_the_witness(tmp_path: Path, witness: WitnessBook) -> None:
    check(tmp_path / "device", tmp_path, witness=witness)


def test_a_restored_copy_is_known_to_the_anchor(tmp_path: Path) -> None:
    check(tmp_path / "device", tmp_path, anchor=FileAnchor(tmp_path / "anchor"))


def test_a_copy_that_nobody_remembers_is_the_bug(tmp_path: Path) -> None:
    """Signatures alone do not help: with no memory outside the folder the same round is answered again."""
    with pytest.raises(AssertionError):
        check(tmp_path / "device", tmp_path)


def test_of_two_clones_one_goes_on(tmp_path: Path, witness: WitnessBook) -> None:
    home, clone = tmp_path / "device", tmp_path / "clone"
    spend(home, range(1), witness=witness)
    shutil.copytree(home, clone)
    spend(home, range(1, 2), witness=witness)
    with path.device(clone, witness=witness) as device:
        assert device.forked
        with pytest.raises(Declined):
            device.contribute(path.request(0, run=5))
    spend(home, range(2, 3), witness=witness)  # and the other is not disturbed by it


def heads(tmp_path: Path, book: WitnessBook) -> tuple[Ledger, Ledger]:
    """A ledger that the witness knows, and a copy of it that went another way, signed by the same key."""
    home = tmp_path / "device"
    spend(home, range(2))
    shutil.copytree(home, tmp_path / "copy")
    spend(home, range(2, 4))
    spend(tmp_path / "copy", range(4, 7))
    key = SigningKey.from_bytes("x", bytes(32))
    ledgers = [Ledger.open(folder / "ledger-1.sqlite", None) for folder in (home, tmp_path / "copy")]
    book.enroll(ledgers[0].genesis.origin, ledgers[0].key)
    book.countersign(ledgers[0].checkpoint, ())
    assert key.public != ledgers[0].key
    return ledgers[0], ledgers[1]


def refuses_another_history(tmp_path: Path, book: WitnessBook) -> None:
    """A head that does not continue the remembered one gets no receipt, whatever proof comes with it."""
    ours, other = heads(tmp_path, book)
    try:
        known = book.latest(ours.genesis.origin)
        assert known == ours.head
        assert other.head.size > known.size
        for proof in ((), other.prove(known.size), ours.prove(2), tuple(bytes(32) for _ in range(4))):
            with pytest.raises(HeadRefused):
                book.countersign(other.checkpoint, proof)
        assert book.latest(ours.genesis.origin) == known
        book.countersign(ours.checkpoint, ours.prove(known.size))  # the same head again is no other history
    finally:
        ours.close()
        other.close()


def test_a_witness_refuses_another_history(tmp_path: Path, witness: WitnessBook) -> None:
    refuses_another_history(tmp_path, witness)


def test_a_witness_that_believes_everything_is_seen(
    tmp_path: Path, witness: WitnessBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "verify_consistency", lambda *_: True)
    with pytest.raises(pytest.fail.Exception):
        refuses_another_history(tmp_path, witness)
