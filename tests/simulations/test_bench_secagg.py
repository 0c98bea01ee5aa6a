"""The benchmark of masked sums runs from end to end on few parties, Flower's SecAgg+ included; figures are for itself to say."""

import json
import math
from typing import Any

import numpy as np
import pytest

from homespun.cli.app import run
from homespun.cli.bench import _secagg_lines
from homespun.cli.errors import ExitCode
from homespun.simulations import bench_secagg
from homespun.simulations.peers import flower_secagg
from homespun.simulations.peers.flower_secagg import OverLimit, SecAggPlusRun, secagg_plus

FIGURES = ("client_ms", "client_ms_max", "server_seconds", "total_seconds", "up_bytes", "down_bytes")


class Silent:
    def stage(self, name: str, total: int | None = None) -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return bench_secagg.secagg({"parties": (3, 10), "dimension": (200, 2000)}, Silent())


def test_every_pair_is_measured_on_both_sides(result: dict[str, Any]) -> None:
    assert [row["name"] for row in result["rows"]] == ["n=3, d=200", "n=3, d=2000", "n=10, d=200", "n=10, d=2000"]
    for row in result["rows"]:
        for side in (row["ours"], row["peer"]):
            assert side["status"] == "measured"
            assert all(side[name] > 0 and math.isfinite(side[name]) for name in FIGURES)
            assert side["client_ms_max"] >= side["client_ms"]
            whole = (row["parties"] - row["dropped"]) * side["client_ms"] / 1e3 + side["server_seconds"]
            assert side["total_seconds"] == pytest.approx(whole)
        assert row["peer"]["over_ours"] == pytest.approx(row["peer"]["total_seconds"] / row["ours"]["total_seconds"])
    assert [row["dropped"] for row in result["rows"]] == [0, 0, 1, 1]


def test_both_did_the_same_work(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        assert row["peer"]["shares"] == row["degree"] + 1 == row["parties"] and row["complete"]
        assert row["peer"]["largest_error"] < 0.01  # the average of those that stayed, up to its rounding
        assert 4 * row["dimension"] < row["ours"]["up_bytes"] < 4 * row["dimension"] + 200 * row["parties"]
        assert row["peer"]["up_bytes"] > 8 * row["dimension"]


def test_json_and_the_table_hold_every_row_and_say_what_differs(result: dict[str, Any]) -> None:
    again = json.loads(json.dumps(result, allow_nan=False))
    lines = list(_secagg_lines(again))
    assert (
        sum(line.startswith("  homespun") for line in lines) == sum(line.startswith("  SecAgg+") for line in lines) == 4
    )
    assert "10 parties, 2,000 coordinates, 1 of at most 1 dropped: all, t=6, m=10, q=6; leak 0, abort 0" in lines
    assert set(bench_secagg.NOTES) <= set(lines)
    assert any("32 bits" in line and "not signed" in line for line in lines)
    assert max(map(len, lines)) <= 140


def test_a_peer_over_its_limit_says_so_and_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def slow(**given: Any) -> SecAggPlusRun:
        asked.append(given["dimension"])
        raise OverLimit

    monkeypatch.setattr(bench_secagg, "secagg_plus", slow)
    result = bench_secagg.secagg({"parties": (5,), "dimension": (10, 20), "dropout": 0.0}, Silent())
    first, second = (row["peer"] for row in result["rows"])
    assert asked == [10]
    assert first["status"] == second["status"] == "over limit" and first["total_seconds"] is first["over_ours"] is None
    assert [line for line in _secagg_lines(result) if line.startswith("  SecAgg+")] == [
        "  SecAgg+ > 300 s",
        "  SecAgg+ > 300 s with fewer coordinates; not run",
    ]


def test_the_limit_is_looked_at_before_every_message() -> None:
    with pytest.raises(OverLimit):
        secagg_plus(parties=5, dimension=10, dropped=0, shares=5, threshold=3, limit_seconds=1e-9)


def test_sums_that_flower_cannot_open_are_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="SecAgg\\+ gave none"):
        secagg_plus(parties=5, dimension=10, dropped=3, shares=5, threshold=4, limit_seconds=60)


def test_flower_on_a_ring_averages_those_that_stay() -> None:
    done = secagg_plus(parties=9, dimension=50, dropped=1, shares=5, threshold=3, limit_seconds=60)
    assert done.error < 0.01
    assert len(done.client_seconds) == len(done.up_bytes) == 9
    assert done.up_bytes[0] < done.up_bytes[1]  # who dropped out sent no vector


def test_a_wrong_sum_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bench_secagg.rehearse

    def wrong(*args: Any, **given: Any) -> Any:
        outcome = right(*args, **given)
        outcome.total[0] += np.uint32(1)
        return outcome

    monkeypatch.setattr(bench_secagg, "rehearse", wrong)
    with pytest.raises(RuntimeError, match="^Expected the sum of the survivors"):
        bench_secagg.secagg({"parties": (3,), "dimension": (5,), "peers": False}, Silent())


def test_the_command_reads_lists_and_leaves_the_peer_out(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "bench",
        "secagg",
        "--parties",
        "3,4",
        "--dimension",
        "7",
        "--dropout",
        "0",
        "--colluding",
        "0",
        "--no-peers",
    ]
    assert run([*words, "--json"]) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert [(row["parties"], row["dimension"], row["peer"]) for row in document["rows"]] == [(3, 7, None), (4, 7, None)]
    assert document["settings"]["peer"] is None and not any("SecAgg+" in note for note in document["notes"])


@pytest.mark.parametrize(
    "given",
    [{"partys": (3,)}, {"parties": (2,)}, {"parties": ()}, {"dimension": (0,)}, {"dropout": 0.34}, {"max_dropout": 0.05}, {"colluding": -0.1},
     {"peer_seconds": 0}, {"parties": (10,), "dropout": 0.24, "max_dropout": 0.48}],
)  # fmt: skip
def test_unknown_and_impossible_options_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="^Expected"):
        bench_secagg.secagg(given, Silent())


def test_a_list_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "secagg", "--parties", "ten"]) != ExitCode.OK
    assert "expected parties=ten as whole numbers" in capsys.readouterr().err


def test_flower_keeps_what_the_benchmark_uses() -> None:
    """Legacy parts of flwr 1.41: the day they go, this says so."""
    assert flower_secagg.secaggplus_mod.__module__.startswith("flwr.client.mod.secure_aggregation")
    assert flower_secagg.SecAggPlusWorkflow.__module__.startswith("flwr.server.workflow.secure_aggregation")
