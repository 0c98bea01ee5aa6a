"""A device that is killed at any line of its code: spent never falls, and every reservation ends exactly once."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).parent / "device_kill_driver.py"


def killed(folder: Path, kills: int, seed: int, trust: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(DRIVER), str(folder), str(kills), str(seed), trust]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1800)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def hold(cases: list[dict[str, Any]], trust: str) -> None:
    burned = 0
    for case in cases:
        assert case["ended"] == -signal.SIGKILL, case
        assert not case["forked"], case
        before, opened, after, cap = map(Decimal, case["spent"])
        assert 0 < before == opened <= after <= cap, case
        assert case["sizes"][0] <= case["sizes"][1], case
        assert sorted(case["reserved"]) == sorted(case["ends"]), case  # each ended, and once
        assert set(case["left"].values()) <= set(case["artifacts"]), case  # what left was committed
        (repeated if trust == "central" else paid_anew)(case)
        assert case["burned"] <= 1, case
        burned += case["burned"]
    assert 0 < burned < len(cases)  # some were killed between reservation and commit, some were not


def repeated(case: dict[str, Any]) -> None:
    """What left before the kill is what a repeated request gets; of the rounds before the last one, nothing is kept."""
    last = str(len(case["again"]))
    assert len(case["again"][last]) == 64, case
    for number, digest in case["left"].items():
        assert case["again"][number] == digest or (number < last and case["again"][number] == "round-replayed"), case
    assert len(case["reserved"]) == 3 + case["burned"], case


def paid_anew(case: dict[str, Any]) -> None:
    """Nothing that left masked leaves again: the next attempt has other masks, and a reservation of its own."""
    again = case["again"]
    assert len(again["2, again"]) == 64, case
    for number in case["left"]:
        assert again[number] == "round-replayed", case
    answered = [digest for digest in again.values() if len(digest) == 64]
    assert len({*answered, *case["left"].values()}) == len(answered) + len(case["left"]), case
    assert len(case["artifacts"]) == len(case["reserved"]) - case["burned"], case
    assert set(answered) <= set(case["artifacts"]), case


@pytest.mark.parametrize("trust", ["central", "distributed"])
def test_killed_at_forty_lines(tmp_path: Path, trust: str) -> None:
    cases = killed(tmp_path, 40, 20260314, trust)
    assert len({case["at"] for case in cases}) > 35
    hold(cases, trust)


@pytest.mark.study
@pytest.mark.parametrize("trust", ["central", "distributed"])
def test_killed_at_five_hundred_lines(tmp_path: Path, trust: str) -> None:
    cases = killed(tmp_path, 500, time.time_ns() % 2**32, trust)
    print(f"lines of the work: {cases[0]['total']}, burned: {sum(case['burned'] for case in cases)}")
    hold(cases, trust)


RACE = """
import runpy, sys, time
from pathlib import Path
driver = runpy.run_path(sys.argv[1])
from homespun.client import Declined, Device, DeviceBusy
folder, number = Path(sys.argv[2]), int(sys.argv[3])
around = driver["around"](folder)
print("ready", flush=True)
sys.stdin.readline()
while True:
    try:
        with Device.open(folder / "device", driver["KEY"], around) as device:
            try:
                driver[sys.argv[4]](device, 0, 0, run=number)
                print("won")
            except Declined as error:
                print(error.reason.value)
        break
    except DeviceBusy:
        time.sleep(0.001)
"""


@pytest.mark.parametrize("ask", ["plain", "masked"])
def test_two_processes_race_for_the_last_budget(tmp_path: Path, ask: str) -> None:
    """Each asks for a run of its own, so that whoever is second is not merely late; the budget is for one more."""
    import runpy

    driver = runpy.run_path(str(DRIVER))
    driver["begin"](tmp_path / "x", driver[ask])
    with driver["Device"].open(tmp_path / "x" / "device", driver["KEY"], driver["around"](tmp_path / "x")) as device:
        device.set_policy(replace(device.policy, max_epsilon=epsilon_of(2 * device.spent)))
        paid, cap = device.spent, device.ledger.cap
        assert 2 * paid <= cap < 3 * paid
    racers = []
    for number in (1, 2):
        command = [sys.executable, "-c", RACE, str(DRIVER), str(tmp_path / "x"), str(number), ask]
        racers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    results = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        results.append(racer.communicate(timeout=60)[0].strip())
    assert sorted(results) == ["budget-exhausted", "won"]


def epsilon_of(rho: Decimal) -> float:
    from homespun.privacy.accountant import orders_for, to_epsilon

    orders = orders_for(())
    return to_epsilon(orders, orders * float(rho), delta=1e-6).epsilon + 1e-9
