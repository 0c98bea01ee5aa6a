"""Two copies of one device both go on, to spend one budget twice: the witness lets one of them."""

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homespun.client import Device, FileAnchor
from homespun.privacy import HeadRefused

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_device.py"))


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """A device that took part once, and its copy on another machine."""
    with lab["create"](tmp_path) as device:
        device.contribute(lab["request"](0))
    lab["copy"](tmp_path / "device", tmp_path / "twin")
    return tmp_path


def on_another_machine(folder: Path) -> Device:
    """The copy has the witness in common with the first, and nothing else."""
    device: Device = lab["reopen"](folder, "twin", anchor=FileAnchor(folder / "another anchor"))
    return device


@pytest.mark.parametrize("first", ["device", "twin"])
def test_whoever_comes_second_is_blocked(twins: Path, first: str) -> None:
    asked = lab["request"](1)
    with lab["reopen"](twins) as device, on_another_machine(twins) as twin:
        order = [device, twin] if first == "device" else [twin, device]
        assert lab["reason"](order[0], asked) == "answered"
        assert lab["reason"](order[1], asked) == "ledger-forked"
        assert order[1].forked
        assert order[1].spent < order[0].spent
        assert lab["reason"](order[0], lab["request"](2)) == "answered"
    with lab["reopen"](twins) as device, on_another_machine(twins) as twin:
        assert [device.forked, twin.forked] == [first == "twin", first == "device"]


class Late:
    """A witness that answers what it remembers as it was a while ago: both copies have asked before either one spends."""

    def __init__(self, witness: Any) -> None:
        self.witness, self.seen, self.public = witness, {}, witness.public

    def enroll(self, origin: str, key: Any) -> None:
        self.witness.enroll(origin, key)

    def latest(self, origin: str) -> Any:
        return self.seen.setdefault(origin, self.witness.latest(origin))

    def countersign(self, checkpoint: bytes, proof: Any) -> bytes:
        receipt: bytes = self.witness.countersign(checkpoint, proof)
        return receipt


def test_in_a_race_the_second_is_stopped_before_its_data_is_touched(twins: Path) -> None:
    late = Late(lab["witness"](twins))
    twin = lab["reopen"](twins, "twin", anchor=None, witness=late)
    with lab["reopen"](twins) as device, twin:
        device.contribute(lab["request"](1))
        touched: list[str] = []
        read = twin._vault.read
        twin._vault.read = lambda name, **named: touched.append(name) or read(name, **named)
        assert lab["reason"](twin, lab["request"](1)) == "head-refused"
        assert "evidence" not in touched
        assert not twin.ledger.open_reservations()
        assert [entry.body["reason"] for entry in twin.ledger.entries() if entry.kind == "burn"] == ["head-refused"]
        assert twin.forked


def test_a_copy_that_acknowledges_has_no_budget_left(twins: Path) -> None:
    with lab["reopen"](twins) as device:
        device.contribute(lab["request"](1))
    with on_another_machine(twins) as twin:
        assert twin.acknowledge() == twin.ledger.cap
        assert lab["reason"](twin, lab["request"](2)) == "budget-exhausted"


def test_a_copy_on_the_same_machine_is_found_by_the_anchor(twins: Path) -> None:
    with lab["reopen"](twins, witness=None) as device:
        device.set_policy(replace(lab["POLICY"], witness_required=False))
        device.contribute(lab["request"](1))
    with lab["reopen"](twins, "twin", witness=None) as twin:
        assert lab["reason"](twin, lab["request"](1)) == "ledger-forked"


def test_a_witness_that_is_not_there_stops_the_device(twins: Path) -> None:
    class Gone(Late):
        def latest(self, origin: str) -> Any:
            raise ConnectionError("nobody there")

    class Silent(Late):
        def countersign(self, checkpoint: bytes, proof: Any) -> bytes:
            raise ConnectionError("nobody there")

    with lab["reopen"](twins, witness=Gone(lab["witness"](twins))) as device:
        before = device.spent
        assert lab["reason"](device, lab["request"](1)) == "witness-unavailable"
        assert device.spent == before  # nothing was paid
    with lab["reopen"](twins, witness=Silent(lab["witness"](twins))) as device:
        assert lab["reason"](device, lab["request"](1)) == "witness-unavailable"
        assert device.spent > before  # paid, then burned
    with lab["reopen"](twins) as device:
        assert not device.forked
        assert lab["reason"](device, lab["request"](1)) == "answered"  # after a burn it is paid anew


def test_a_receipt_that_says_something_else_does_not_count(twins: Path) -> None:
    class Forger(Late):
        def countersign(self, checkpoint: bytes, proof: Any) -> bytes:
            from homespun.privacy.ledger import KeyRole, SigningKey, countersign

            self.witness.countersign(checkpoint, proof)
            other = SigningKey.from_bytes("w", b"x" * 32, role=KeyRole.COSIGNER)
            return countersign(other, checkpoint, time=0)

    with lab["reopen"](twins, witness=Forger(lab["witness"](twins))) as device:
        assert lab["reason"](device, lab["request"](1)) == "witness-unavailable"


def test_a_witness_that_refuses_everything_stops_the_device(twins: Path) -> None:
    class Hostile(Late):
        def countersign(self, checkpoint: bytes, proof: Any) -> bytes:
            raise HeadRefused("no")

    with lab["reopen"](twins, witness=Hostile(lab["witness"](twins))) as device:
        assert lab["reason"](device, lab["request"](1)) == "head-refused"
        assert lab["reason"](device, lab["request"](2)) == "ledger-forked"
