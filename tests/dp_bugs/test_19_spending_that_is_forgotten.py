"""Bug 19: the accountant counts one too few, keeps its sum in memory, or begins anew with a run, an app or a model.

Published: Flower's accountant lives in the strategy object, composes after the noise and is never saved; frameworks that
count optimiser steps of the current process.

Seen to fail: reserving after the work instead of before, and an accountant that keeps a sum beside its rows. Killed with
SIGKILL at every line of the ledger's reserve and commit, and at lines all over a device's round: real processes, real disk.
"""

import contextlib
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from homespun.client.errors import Declined
from homespun.privacy import PrivacyBudgetExhausted, release_event
from homespun.privacy.ledger import CHECKPOINT_NAME, Ledger, SigningKey, check, event_cost
from homespun.server.run_ledger import account_of, run_genesis

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
KEY = SigningKey.from_bytes("tests", bytes(range(32)))
PLAN = path.HOSTED
EVENT = release_event(PLAN["nudge"], count=1)


Work = Callable[[Callable[[bytes], None], Callable[[], None]], None]
"""Some work that tells what it did, and says when it may be killed from."""


def dies_at(number: int, where: str, work: Work) -> tuple[bytes, bool]:
    """Do some work in a forked process that is killed before its so-manieth new line in the files named ``where``.

    Returns:
        What the work told before it died, and whether it came to its end.
    """
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            seen: set[tuple[str, int]] = set()

            def trace(frame: FrameType, event: str, arg: Any) -> Any:
                name = frame.f_code.co_filename
                if where not in name:
                    return None
                if event == "line":
                    seen.add((name, frame.f_lineno))
                    if len(seen) > number:
                        os.kill(os.getpid(), signal.SIGKILL)
                return trace

            work(lambda word: os.write(into, word) and None, lambda: sys.settrace(trace))
            sys.settrace(None)
            os._exit(0)
        os._exit(1)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        told = pipe.read()
    status = os.waitpid(pid, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or os.waitstatus_to_exitcode(status) == 0, "the work failed by itself"
    return told, not killed


def until_it_survives(step: int, attempt: Callable[[int], bool]) -> int:
    """Kill at every ``step``-th line until one attempt comes to its end."""
    for number in range(0, 100_000, step):
        if attempt(number):
            return number
    raise AssertionError("it never ends")


def test_killed_at_every_line_of_reserve_and_commit(tmp_path: Path) -> None:
    """What was acknowledged is there, what is there is paid once, the sum never falls and never passes the cap."""
    file = tmp_path / "ledger.sqlite"
    genesis = run_genesis(PLAN, origin="tests/run")
    before = Decimal(0)

    def attempt(number: int) -> bool:
        nonlocal before
        run = number // 2  # two deaths a run: the second finds what the first left
        if number % 40 == 0:
            for part in tmp_path.iterdir():
                part.unlink()
            Ledger.create(file, KEY, genesis).close()

        def work(tell: Callable[[bytes], None], begin: Callable[[], None]) -> None:
            with Ledger.open(file, KEY) as ledger:
                found = [paid for paid in ledger.open_reservations() if paid.account == account_of(run)]
                begin()
                subject = {"run": run, "round": number % 2, "phase": "nudge"}
                paid = found[0] if found else ledger.reserve(account_of(run), EVENT, subject)
                tell(b"r")
                ledger.commit(paid, "0" * 64)
                tell(b"c")

        told, ended = dies_at(number, "homespun/privacy/ledger/", work)
        with Ledger.open(file, KEY) as ledger:
            spent = ledger.spent(account_of(run))
            reserved = len(ledger.events(account_of(run)))
            left = [paid for paid in ledger.open_reservations() if paid.account == account_of(run)]
            assert spent == event_cost(EVENT, None) * reserved <= ledger.genesis.cap
            assert reserved >= len(left) + (b"c" in told)
            if b"r" in told:
                assert reserved >= 1
            if number % 2:
                assert spent >= before
            before = spent
            if number % 16 == 0:
                ledger.export(tmp_path)
                checked = check((tmp_path / "ledger.jsonl").read_bytes(), (tmp_path / CHECKPOINT_NAME).read_bytes())
                assert checked.problems == ()
        return ended

    assert until_it_survives(1, attempt) > 100  # lines


def test_killed_all_over_a_devices_round(tmp_path: Path) -> None:
    """Whatever the kill interrupts: what left was paid for, nothing is paid twice for one answer, nothing is refunded."""
    home = tmp_path / "device"
    policy = path.policy(max_epsilon=64.0, max_rounds=10**6)
    path.device(home, allows=policy).close()
    known: dict[str, Any] = {"spent": Decimal(0), "answers": 0}

    def attempt(number: int) -> bool:
        def work(tell: Callable[[bytes], None], begin: Callable[[], None]) -> None:
            begin()
            with path.device(home) as device:
                device.contribute(path.request(0, run=number))
                tell(b"a")

        told, ended = dies_at(number, "/homespun/client/", work)
        with path.device(home) as device:
            assert device.ledger.open_reservations() == ()
            events = len(device.ledger.events("device"))
            assert device.spent == event_cost(device.ledger.events("device")[0], None) * events if events else True
            assert known["spent"] <= device.spent <= (policy.cap or 0)
            known["answers"] += told == b"a"
            assert events >= known["answers"]
            known["spent"] = device.spent
        return ended

    assert until_it_survives(7, attempt) > 150


@contextlib.contextmanager
def reopened(home: Path, **around: Any) -> Iterator[Any]:
    with path.device(home, **around) as device:
        yield device


def test_the_sum_outlives_process_run_project_learner_and_model(tmp_path: Path) -> None:
    """One account for everything: what is new is not new to the budget."""
    one = event_cost(EVENT, None)
    home = tmp_path / "device"
    path.device(home).close()
    expected = Decimal(0)
    changed = {name: value + 0.01 for name, value in path.request(0).backbone.items()}
    for around, asked in (
        ({}, path.request(0)),
        ({}, path.request(0, run=1)),
        ({"project": "another"}, path.request(0)),
        ({"phases": {"nudge": path.toy["Nudge"]()}}, path.request(0, run=2)),
        ({}, path.request(0, run=3, backbone=changed, version=9)),
    ):
        with reopened(home, **around) as device:
            assert device.spent == expected
            device.contribute(asked)
            expected += one
            assert device.spent == expected
    with reopened(home) as device:
        assert device.spent == expected == 5 * one


def test_a_cap_of_three_rounds_is_three_rounds(tmp_path: Path) -> None:
    """Not two, not four; and the fourth is declined for good, in whatever process."""
    one = event_cost(EVENT, None)
    epsilon = next(e / 100 for e in range(1, 2000) if (path.policy(max_epsilon=e / 100).cap or 0) >= 3 * one)
    home = tmp_path / "device"
    path.device(home, allows=path.policy(max_epsilon=epsilon)).close()
    answered = []
    for run in range(6):
        with reopened(home) as device:
            try:
                device.contribute(path.request(0, run=run))
                answered.append(run)
            except Declined as declined:
                assert declined.reason.value == "budget-exhausted"
    assert answered == [0, 1, 2]


def test_a_run_has_its_plans_rounds_and_not_one_more(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "l.sqlite", KEY, run_genesis(PLAN, origin="tests/run")) as ledger:
        for number, name in enumerate(path.ROUNDS):
            event = release_event(PLAN[name], count=1)
            ledger.commit(ledger.reserve("run-0", event, {"run": 0, "round": number, "phase": name}), "0" * 64)
        assert ledger.spent("run-0") == ledger.genesis.cap
        for name in path.ROUNDS:
            with pytest.raises(PrivacyBudgetExhausted):
                ledger.reserve("run-0", release_event(PLAN[name], count=1), {"run": 0, "round": 9, "phase": name})


def test_the_bug_is_seen(tmp_path: Path) -> None:
    """An accountant that writes after the work: a kill in between leaves an answer that nobody paid for."""
    spent = tmp_path / "spent"

    def work(tell: Callable[[bytes], None], begin: Callable[[], None]) -> None:
        frame = sys._getframe()
        begin()
        frame.f_trace = sys.gettrace()  # this very function's lines, too
        tell(b"a")
        spent.write_text("1")

    answered_unpaid = []
    for number in range(8):
        spent.unlink(missing_ok=True)
        told, _ = dies_at(number, "test_19_spending", work)
        answered_unpaid.append(told == b"a" and not spent.exists())
    assert any(answered_unpaid)
