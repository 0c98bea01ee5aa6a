"""The ledger's benchmark runs from end to end on few entries; how fast is for `homespun bench ledger` itself to say."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from homespun.audit import find_sources
from homespun.cli.bench import _ledger_lines
from homespun.privacy.ledger import Kind
from homespun.simulations import bench_ledger

NAMES = ["sync", "append", "append, last", "open", "check", "report", "verify", "levels", "levels, Poisson"]


class Silent:
    def stage(self, name: str, total: int | None = None) -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return bench_ledger.ledger({"entries": 60}, Silent())


def test_every_row_is_there_and_positive(result: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == NAMES
    for row in rows.values():
        assert row["status"] == "measured"
        assert row["seconds"] > 0 and math.isfinite(row["seconds"])
        assert row["cpu_seconds"] >= 0
        assert row["us_per_entry"] == pytest.approx(1e6 * row["seconds"] / row["entries"])
    for name in ("sync", "append", "append, last"):
        assert rows[name]["p99_seconds"] >= rows[name]["seconds"]
    assert rows["append"]["repeats"] == 60
    assert rows["sync"]["over_sync"] == 1
    assert result["append_ms"] == 1e3 * rows["append"]["seconds"]
    assert [rows[name]["entries"] for name in ("open", "check", "report", "verify", "levels")] == [61] * 4 + [401]


def test_json_and_the_table_hold_every_row_and_say_that_times_are_noisy(result: dict[str, Any]) -> None:
    again = json.loads(json.dumps(result, allow_nan=False))
    lines = list(_ledger_lines(again))
    assert all(any(line.startswith(name) for line in lines) for name in NAMES)
    assert bench_ledger.NOISY in lines
    assert again["settings"]["entries"] == 60 and again["machine"]["cores"] >= 1
    assert max(map(len, lines)) <= 140


def test_it_times_whole_rounds_and_bare_writes_that_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    events = [bench_ledger._event(20, shares=1000)] * 21
    appended, bare = bench_ledger._write(tmp_path / "ledger.sqlite", events)
    assert (len(appended), len(bare)) == (42, 3)
    assert synced.count((tmp_path / "bare").stat().st_ino) == 3
    entries = find_sources(tmp_path).ledgers[0].checked.entries
    assert [entry.kind for entry in entries] == [Kind.GENESIS, *[Kind.RESERVE, Kind.COMMIT] * 21]


def test_the_hard_cases_have_as_many_kinds_of_events_as_rounds() -> None:
    for q, shares in ((None, bench_ledger.SHARES), (bench_ledger.SAMPLED, 1)):
        events = {bench_ledger._event((3 + n / 100) ** 2, shares=shares, q=q) for n in range(bench_ledger.LEVELS)}
        assert len(events) == bench_ledger.LEVELS == 200


def test_a_fault_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="^Expected a ledger without problems"):
        bench_ledger._sound(["line 3"])


def test_unknown_and_impossible_options_are_refused() -> None:
    for given in ({"entires": 3}, {"entries": 1}):
        with pytest.raises(ValueError, match="^Expected"):
            bench_ledger.ledger(given, Silent())
