"""Real processes, killed at any line or racing for the last unit of a budget; see the driver."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).parent / "ledger_driver.py"
KILLS, RACES = 60, 20


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    ran = subprocess.run(
        [sys.executable, str(DRIVER), str(folder), str(KILLS), str(RACES), "1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture(scope="module")
def killed(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [case for case in cases if "ended" in case]


def test_processes_were_killed_all_along_the_way(killed: list[dict[str, Any]]) -> None:
    assert len(killed) == KILLS
    assert {case["ended"] for case in killed} == {-signal.SIGKILL}
    assert {len(case["told"]) for case in killed} >= {0, 1, 2, 3, 4, 5, 6, 7}
    assert any(case["left"] is None for case in killed)


def test_nothing_that_was_acknowledged_is_lost(killed: list[dict[str, Any]]) -> None:
    """Before the fact: whatever a process was told stands in what it left."""
    for case in killed:
        if case["left"] is None:
            assert case["told"] == [], case
            continue
        told = [word for word in case["told"] if " " in word]
        entries = case["left"][1:-1]
        assert entries[: len(told)] == told, case
        assert len(entries) <= len(told) + 1, case  # the one that it was killed over


def test_nothing_counts_twice(killed: list[dict[str, Any]]) -> None:
    """What went on after a kill pays again for at most the one round whose reservation was open."""
    for case in killed:
        *before, _ = case["left"] or ["genesis", "0"]
        *entries, spent = case["after"]
        assert entries[: len(before)] == before, case
        reserved = [entry for entry in entries if entry.startswith("reserve")]
        ended = sorted(int(entry.split()[1]) for entry in entries if entry.split()[0] in ("commit", "burn"))
        assert ended == [int(entry.split()[1]) for entry in reserved], case
        assert float(spent) == 0.5 * len(reserved), case
        was_open = len([e for e in before if e.startswith("reserve")]) > len(
            [e for e in before if e[:2] in ("co", "bu")]
        )
        assert len(reserved) == 3 + was_open, case
        assert case["problems"] == [], case


def test_of_two_processes_one_gets_the_last_unit(cases: list[dict[str, Any]]) -> None:
    races = [case for case in cases if "race" in case]
    assert len(races) == RACES
    for case in races:
        assert case["race"] == ["lost", "won"], case
        assert case["left"][-1] == "1.000000000000000000", case
