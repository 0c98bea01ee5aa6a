"""Bug 21: two rounds look at the budget at once, both find it sufficient, and both spend it.

Published: check-then-act in every accountant whose check and write are two calls.

Seen to fail: the same race against an accountant that reads a file and then writes it.
"""

import multiprocessing
import runpy
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from homespun.client.errors import DeviceBusy
from homespun.privacy import PrivacyBudgetExhausted, Relation, Unit, release_event
from homespun.privacy.ledger import Genesis, Ledger, SigningKey, event_cost

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
KEY = SigningKey.from_bytes("tests", bytes(range(32)))
EVENT = release_event(path.HOSTED["nudge"], count=1)
RACES = 8
Spend = Callable[[Path, int, Any], bool]


def _racer(spend: Spend, file: Path, place: int, barrier: Any, won: Any) -> None:
    won.put((place, spend(file, place, barrier)))


def race(spend: Spend, file: Path, *, racers: int = 3) -> int:
    """How many of some processes got the last unit."""
    context = multiprocessing.get_context("fork")
    barrier, won = context.Barrier(racers), context.SimpleQueue()
    processes = [context.Process(target=_racer, args=(spend, file, n, barrier, won)) for n in range(racers)]
    for process in processes:
        process.start()
    results = [won.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(got for _, got in results)


def reserves(file: Path, place: int, barrier: Any) -> bool:
    """The ledger, opened before the race."""
    with Ledger.open(file, KEY) as ledger:
        barrier.wait()
        try:
            ledger.reserve("device", EVENT, {"run": place, "round": 0})
        except PrivacyBudgetExhausted:
            return False
        return True


def check(spend: Spend, file: Callable[[int], Path]) -> None:
    for number in range(RACES):
        assert race(spend, file(number)) == 1


def one_left(folder: Path) -> Callable[[int], Path]:
    """A ledger in which one unit is left."""

    def made(number: int) -> Path:
        file = folder / f"{number}.sqlite"
        genesis = Genesis(
            origin="tests/device", guarantee="backbone", holder="device", unit=Unit.DEVICE,
            relation=Relation.ADD_OR_REMOVE, delta=1e-6, cap=2 * event_cost(EVENT, None),
        )  # fmt: skip
        with Ledger.create(file, KEY, genesis) as ledger:
            ledger.reserve("device", EVENT, {"run": 99, "round": 0})
        return file

    return made


def test_of_several_processes_one_gets_the_last_unit(tmp_path: Path) -> None:
    check(reserves, one_left(tmp_path))
    for file in tmp_path.glob("*.sqlite"):
        with Ledger.open(file, None) as ledger:
            assert ledger.spent("device") == ledger.genesis.cap
            assert len(ledger.events("device")) == 2


def reads_then_writes(file: Path, place: int, barrier: Any) -> bool:
    left = Decimal(file.read_text())
    barrier.wait()
    if left < 1:
        return False
    file.write_text(str(left - 1))
    return True


def test_the_bug_is_seen(tmp_path: Path) -> None:
    def made(number: int) -> Path:
        file = tmp_path / str(number)
        file.write_text("1")
        return file

    with pytest.raises(AssertionError):
        check(reads_then_writes, made)


def test_the_same_round_is_paid_once_by_several_processes(tmp_path: Path) -> None:
    """A second process that asks for the same round finds it taken, not free."""

    def same(file: Path, place: int, barrier: Any) -> bool:
        with Ledger.open(file, KEY) as ledger:
            barrier.wait()
            try:
                ledger.reserve("device", EVENT, {"run": 0, "round": 0})
            except Exception:  # noqa: BLE001  (whichever comes first: the place or the cap)
                return False
            return True

    check(same, one_left(tmp_path))


def test_a_device_is_open_in_one_process(tmp_path: Path) -> None:
    home = tmp_path / "device"
    with path.device(home), pytest.raises(DeviceBusy):
        path.device(home)
    path.device(home).close()
