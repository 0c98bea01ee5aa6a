"""Bug 30: the report says something else than the ledger: a figure from a log, a cache, another run, or an edited file.

Published: papers whose epsilon was computed from intended parameters; dashboards that keep the first figure; arXiv:2411.10614
found guarantees off by up to ten times because batches were not what was accounted.

Seen to fail: a writer that halves an epsilon, and every figure of a report changed in its last digit, one at a time. The
figures are also computed here once more from the bytes of the ledger, by nothing that the project has.
"""

import base64
import copy
import json
import math
import runpy
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from homespun.audit import writing
from homespun.audit.sources import find_sources
from homespun.audit.verify import verify_report
from homespun.audit.writing import write_report
from homespun.privacy.ledger import LEDGER_NAME

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
Json = Any


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that really ran, of 120 people in three rounds."""
    folder: Path = tmp_path_factory.mktemp("runs") / "run"
    phases = list(path.toy["toy_phases"]().values())
    path.walk(path.FEDERATION, phases, path.toy["toy_pairs"](120), folder, members=(120,))
    return folder


@pytest.fixture
def report(run: Path, tmp_path: Path) -> Path:
    write_report(find_sources(run / LEDGER_NAME), tmp_path / "audit")
    return tmp_path / "audit"


def entries(lines: bytes) -> list[Json]:
    """The payloads, with nothing of ours."""
    return [json.loads(base64.b64decode(json.loads(line)["payload"])) for line in lines.splitlines()]


def delta_of(mu: float, epsilon: float) -> float:
    start = epsilon / mu + mu / 2

    def excess(x: float) -> float:
        return math.exp(stats.norm.logpdf(x, mu)) - math.exp(epsilon + stats.norm.logpdf(x))

    return float(integrate.quad(excess, start, start + 40, epsabs=1e-16, epsrel=1e-10, limit=400)[0])


def test_the_figures_are_those_of_the_ledgers_bytes(report: Path) -> None:
    body = json.loads((report / "report.json").read_text())
    paid = [entry["body"] for entry in entries((report / "ledger.jsonl").read_bytes()) if entry["kind"] == "reserve"]
    assert len(paid) == 3
    rho = sum(Fraction(row["event"]["clip_units"] ** 2, 2 * row["event"]["variance"]) for row in paid)
    claim = body["guarantees"]["A"]
    assert Fraction(Decimal(claim["rho"])) >= rho  # rounded up
    assert Fraction(Decimal(claim["rho"])) - rho < Fraction(1, 10**15)
    assert sum(Decimal(row["rho"]) for row in paid) == Decimal(paid[-1]["spent_after"])
    mu = math.sqrt(2 * rho)
    assert claim["mu"] == pytest.approx(mu, abs=1e-6)
    exact = optimize.brentq(lambda e: math.log(max(delta_of(mu, e), 1e-300) / claim["delta"]), 0.1, 50, xtol=1e-9)
    assert claim["points"][0]["second_epsilon"] == pytest.approx(exact, abs=1e-5)
    orders = np.linspace(1.05, 60, 200_000)
    renyi = float(rho) * orders + np.log1p(-1 / orders) - (np.log(claim["delta"]) + np.log(orders)) / (orders - 1)
    assert renyi.min() - 1e-6 <= claim["epsilon"] <= renyi.min() + 1e-3
    assert exact < claim["epsilon"] <= path.FEDERATION.spec.epsilon
    for row in claim["trade_off"]:  # nobody finds more than the continuous Gaussian's best test, rounded up
        best = stats.norm.cdf(stats.norm.ppf(row["false_alarms"]) + mu)
        assert row["continuous"] == pytest.approx(best, abs=2e-6)
        assert row["found_at_most"] >= best
    assert (claim["privacy_unit"], claim["neighboring_relation"]) == ("device", "add-or-remove")


def check(folder: Path) -> None:
    verdict = verify_report(folder)
    assert verdict.findings == ()


def test_an_honest_report_holds(report: Path) -> None:
    check(report)


def test_a_writer_that_halves_an_epsilon_is_seen(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = writing.build_report

    def halving(sources: Any) -> Json:
        body = copy.deepcopy(real(sources))
        body["guarantees"]["A"]["epsilon"] = round(body["guarantees"]["A"]["epsilon"] / 2, 6)
        return body

    monkeypatch.setattr(writing, "build_report", halving)
    write_report(find_sources(run / LEDGER_NAME), tmp_path / "audit")
    with pytest.raises(AssertionError):
        check(tmp_path / "audit")


def leaves(value: Json, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Places of everything in a report that is no container."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in inner:
            yield from leaves(part, (*place, name))
    else:
        yield place


def nudged(value: Json) -> Json:
    """The same with another last digit, or another word."""
    if isinstance(value, bool) or value is None:
        return 1
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return float(np.nextafter(value, math.inf))
    return value[:-1] + ("0" if value[-1:] != "0" else "1")


def changed(body: Json, place: tuple[str | int, ...]) -> Json:
    body = copy.deepcopy(body)
    holder = body
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = nudged(holder[place[-1]])
    return body


def test_every_figure_and_word_is_held_against_the_ledger(report: Path) -> None:
    text = (report / "report.json").read_bytes()
    body = json.loads(text)
    places = list(leaves(body))
    assert len(places) > 150
    for place in places[::4]:
        (report / "report.json").write_text(json.dumps(changed(body, place), indent=1), encoding="utf-8")
        found = verify_report(report).findings
        assert found, place
        named = ".".join(str(name) for name in place if not isinstance(name, int))
        assert any(str(place[-1]) in finding.where or named in finding.where for finding in found), (place, found)
    (report / "report.json").write_bytes(text)
    check(report)


@pytest.mark.parametrize(
    "name", ["ledger.jsonl", "checkpoint.txt", "report.json", "report.html", "registry-backbone.yaml"]
)
def test_a_flipped_bit_anywhere_is_found(name: str, report: Path) -> None:
    file = report / name
    whole = file.read_bytes()
    rng = np.random.default_rng(len(whole))
    for at in rng.integers(0, len(whole), 20).tolist():
        bits = bytearray(whole)
        bits[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(bits))
        assert verify_report(report).findings, (name, at)
    file.write_bytes(whole)
    check(report)


def test_lines_that_are_dropped_swapped_repeated_or_cut_off_are_found(report: Path) -> None:
    file = report / "ledger.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    edits = [lines[:-1], lines[:3] + lines[4:], lines[:2] + lines[1:], lines[:1] + lines[2:3] + lines[1:2] + lines[3:]]
    for edit in [*edits, lines[:-1] + [lines[-1][:-5]], lines * 2, []]:
        file.write_bytes(b"".join(edit))
        assert verify_report(report).findings
    file.write_bytes(b"".join(lines))
    check(report)


def test_another_relation_or_an_old_head_is_found(run: Path, report: Path, tmp_path: Path) -> None:
    text = (report / "report.json").read_text()
    for word, other in (("add-or-remove", "replace-one"), ('"device"', '"record"')):
        (report / "report.json").write_text(text.replace(word, other))
        assert verify_report(report).findings
    (report / "report.json").write_text(text)
    newer = (report / "checkpoint.txt").read_bytes()
    (tmp_path / "older").mkdir()
    with path.run_ledger(run, path.FEDERATION) as ledger:
        size = ledger.head.size
        assert size == len((report / "ledger.jsonl").read_bytes().splitlines())
    lines = (report / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "older" / "ledger.jsonl").write_bytes(b"".join(lines[:-2]))
    for name in ("report.json", "report.html", "registry-backbone.yaml", "checkpoint.txt"):
        (tmp_path / "older" / name).write_bytes((report / name).read_bytes())
    assert verify_report(tmp_path / "older", remembered=[newer]).findings
    assert verify_report(report, remembered=[newer]).findings == ()
