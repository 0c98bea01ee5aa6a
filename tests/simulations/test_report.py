import json
import math
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from homespun.simulations import words
from homespun.simulations.report import render

made_up = runpy.run_path(str(Path(__file__).parent / "made_up_run.py"))
write_run = made_up["write_run"]


class Page(HTMLParser):
    """The text of a page, its elements, and everything it would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if (
                name in {"src", "href", "xlink:href", "srcset", "action", "poster", "data"}
                and value
                and value[0] != "#"
            ):
                self.fetched.append(value)
            assert not name.startswith("on")

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def page(run: Path, **changes: Any) -> tuple[Page, dict[str, Any]]:
    summary = write_run(run, **changes)
    return Page(render(run).read_text(encoding="utf-8")), summary


def test_tells_the_numbers(tmp_path: Path) -> None:
    report, s = page(tmp_path / "run", compare=True)
    for shots, cell in s["accuracy"].items():
        for method in cell:
            if method != "users":
                assert f"{100 * cell[method]['mean']:.1f}" in report.text
                assert f"{100 * cell[method]['low']:.1f} to {100 * cell[method]['high']:.1f}" in report.text
        for part in ("harmed", "improved"):
            assert f"{100 * s['harm'][shots]['gated'][part]:.1f}" in report.text
        assert f"{100 * s['gain'][shots]['personal']['mean']:+.1f}".replace("-", "−") in report.text
        assert f"{100 * s['gate_open_share'][shots]:.1f}" in report.text
    for phase in s["phases"]:
        assert f"{phase['noise_multiplier']:.3g}" in report.text
        assert f"{phase['signal_to_noise']:.3g}" in report.text
    for told in (
        "3,000 people",
        "4,096 texts",
        "360,000 labels",
        s["encoder"]["digest"],
        s["sampling"],
        s["held_out"],
        s["accountant"],
        "2,400",
        "fewer than 2,300",
        "0.97",
        "0.021",
        "0.655",
        "21.5 degrees",
        "41.7 µs",
        "312 seconds",
        "homespun simulate --epsilon 1 --seed 7",
        "flwr 1.41.0",
        s["data"]["attribution"],
        s["warnings"][0],
        "DP-FedAvg on the shared head",
    ):
        assert told in report.text, told


def test_headline_is_of_100(tmp_path: Path) -> None:
    report, s = page(tmp_path / "run")
    cell = s["accuracy"]["20"]
    assert f"{100 * cell['personal']['mean']:.0f} of 100 choices" in report.text
    assert f"in {100 * cell['global']['mean']:.0f} of 100." in report.text
    assert f"about {100 * s['harm']['20']['personal']['improved']:.0f} are clearly better" in report.text


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(0.01, 0.03, "a gain of"), (-0.01, 0.01, "cannot be told from none"), (-0.03, -0.01, "a loss")],
)
def test_headline_does_not_oversell(low: float, high: float, told: str) -> None:
    cell = {"mean": 0.6, "low": 0.5, "high": 0.7}
    summary = {
        "epsilon": 1.0,
        "accuracy": {"20": {"personal": cell, "global": cell}},
        "gain": {"20": {"personal": {"mean": (low + high) / 2, "low": low, "high": high}}},
    }
    assert told in " ".join(words.headline(summary))


def test_claim_names_everything(tmp_path: Path) -> None:
    claim = words.claim(write_run(tmp_path / "run"))
    assert claim.count(". ") == 0  # one sentence
    for told in (
        "the server and anyone",
        "over all 5 rounds",
        "one device",
        "epsilon = 1",
        "delta = 1e-5",
        "add-or-remove",
        "sampling: ",
    ):
        assert told in claim


def test_central_noise_does_not_claim_against_the_server(tmp_path: Path) -> None:
    claim = words.claim(write_run(tmp_path / "run", trust="central"))
    assert "anyone other than the server" in claim
    assert "the server is trusted" in claim


@pytest.mark.parametrize(
    ("changes", "told", "untold"),
    [
        ({"engine": "faithful"}, "masks its vector", "stand for"),
        ({"engine": "vectorised"}, "cells of simulated people stand for the secure aggregation", "masks its vector"),
        ({"engine": "ray"}, "cells of simulated people stand for the secure aggregation", "masks its vector"),
        ({"engine": "faithful", "trust": "central"}, "the server is trusted", "masks"),
        ({"colluding": 0}, "it assumes that no device colludes", "at most 0"),
        ({"colluding": 240}, "at most 240 of 2400 devices collude", "no device colludes"),
        ({"trust": "central", "colluding": 0}, "the server is trusted", "collude"),
    ],
)
def test_what_kept_vectors_from_the_server(changes: dict[str, Any], told: str, untold: str, tmp_path: Path) -> None:
    report, summary = page(tmp_path / "run", **changes)
    claim = words.claim(summary)
    assert told in claim
    assert untold not in claim
    assert "is assumed" not in report.text
    assert ("sums alone were opened" in report.text) == (changes.get("engine") == "faithful" and "trust" not in changes)


def test_who_was_in_the_sums(tmp_path: Path) -> None:
    report, summary = page(tmp_path / "run", colluding=40)
    told = words.cohorts(summary)
    for part in ("2,400", "fewer than 2,340 people", "2,371 were in a sum on average", "2,359 in the smallest"):
        assert part in told
    assert told in report.text
    assert "again" not in told
    assert "falls silent in 2.0 % of its rounds" in report.text
    summary["survivors"]["attempts"] = 17
    assert "2 attempts failed" in words.cohorts(summary)
    drawn = {**summary, "sampling": "Each device is drawn (Poisson).", "survivors": None}
    assert "is a secret" in words.cohorts(drawn)
    quiet, _ = page(tmp_path / "quiet", dropout=0.0)
    assert "falls silent" not in quiet.text


def test_what_left_masked_devices_is_told_by_step(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, engine="faithful")
    fields = ["keys", "sealed shares", "masked vector", "signature", "shares"]
    steps = {"advertise": 1100, "share": 1090, "mask": 1080, "consent": 1070, "reveal": 1060}
    lines = [json.loads(line) for line in (run / "sent.jsonl").read_text().splitlines()]
    rows = [{**line, "from": "device", "fields": fields, "steps": steps} for line in lines]
    (run / "sent.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = Page(render(run).read_text(encoding="utf-8"))
    assert (
        "keys (3,300), sealed shares (3,270), masked vector (3,240), signature (3,210), shares (3,180)" in report.text
    )
    assert "how many devices sent it" in report.text


def test_sampling_is_not_claimed_against_the_server(tmp_path: Path) -> None:
    claim = words.claim(write_run(tmp_path / "run", sampling="Each device is drawn with probability 0.1 (Poisson)."))
    assert claim.startswith("Against anyone other than the server")


def test_epsilon_is_never_bare(tmp_path: Path) -> None:
    report, _ = page(tmp_path / "run", compare=True)
    prose = report.text.replace("homespun simulate --epsilon 1", "")  # the command, as it was typed
    found = list(re.finditer(r"(?:epsilon|ε)\s*=?\s*\d[\d.]*", prose))
    assert len(found) >= 3
    for match in found:
        around = prose[match.start() : match.end() + 120]
        assert "delta" in around or "δ" in around, around
        assert "device" in around or "record" in around or "same delta, unit and relation" in around, around
    assert "anonym" not in report.text.lower()


def test_no_privacy_is_said(tmp_path: Path) -> None:
    report, _ = page(tmp_path / "run", epsilon=None)
    assert "no privacy (epsilon = infinity)" in report.text
    assert "claims no privacy" in report.text
    assert "In odds" not in report.text
    assert "None" not in report.text and "null" not in report.text.replace("log_loss", "")


def test_odds_follow_the_trade_off_curve(tmp_path: Path) -> None:
    """The reference table of mu = 1: 9.24 of 100 at 1 false alarm in 100, so at most 10."""
    assert math.isclose(words.trade_off(mu=1.0, false_alarms=0.01), 0.0924, abs_tol=5e-5)
    assert math.isclose(words.trade_off(mu=1.0, false_alarms=0.1), 0.3891, abs_tol=5e-5)
    phases = [{"rounds": 2, "noise_multiplier": 2.0}, {"rounds": 1, "noise_multiplier": math.sqrt(2.0)}]
    assert math.isclose(words.composed_mu(phases) or 0.0, 1.0)
    told = words.odds({"epsilon": 4.38, "phases": phases, "privacy_unit": "device"})
    assert told is not None and "at most 10 of 100" in told
    assert words.composed_mu([{"rounds": 1, "noise_multiplier": 0.0}]) is None


def test_adapters_have_a_claim_of_their_own(tmp_path: Path) -> None:
    report, s = page(tmp_path / "run")
    told = words.adapter_claim(s)
    assert told is not None and told in report.text
    for part in ("epsilon = 1.99", "delta = 1e-5", "zero-out of one record", "never added to that of the backbone"):
        assert part in told
    assert f"{100 * s['accuracy']['20']['private_2']['mean']:.0f} of 100" in words.headline(s)[2]
    assert "86" in report.text and "81.0 to 90.0" in report.text  # share kept with 80 labels
    assert "Adapters are exact in this run" not in report.text


def test_exact_adapters_claim_nothing(tmp_path: Path) -> None:
    report, s = page(tmp_path / "run", adapter_privacy=made_up["EXACT"])
    assert words.adapter_claim(s) is None
    assert "a claim of their own" not in report.text
    assert "Adapters are exact in this run" in report.text


def test_says_what_is_not_claimed(tmp_path: Path) -> None:
    report, _ = page(tmp_path / "run", adapter_privacy=made_up["EXACT"])
    for told in (
        "Adapters are exact in this run",
        "took part is not hidden",
        "labels of simulated people",
        "simulation only",
    ):
        assert told in report.text


def test_hostile_text_is_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}$\\frac{1}{2}$"
    data = {
        "name": hostile,
        "source": hostile,
        "attribution": hostile,
        "people": 1,
        "items": 1,
        "labels": 1,
        "planted": False,
    }
    report, _ = page(tmp_path / "run", data=data, name=hostile, warnings=[hostile], held_out=hostile, sampling=hostile)
    assert not {"script", "img", "iframe", "object", "link"} & report.tags
    assert hostile in report.text.replace("&amp;", "&")


def test_fetches_nothing(tmp_path: Path) -> None:
    report, _ = page(tmp_path / "run", compare=True)
    html = (tmp_path / "run" / "report.html").read_text()
    assert report.fetched == []
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names of namespaces
    assert "default-src 'none'" in html
    assert len(html) < 400_000


def test_small_for_many_people(tmp_path: Path) -> None:
    write_run(tmp_path / "run", people=5000, compare=True)
    assert render(tmp_path / "run").stat().st_size < 400_000


def test_a_sparse_folder_still_renders(tmp_path: Path) -> None:
    """What a run lacks is left out; the report of a thin summary is thin, not broken."""
    (tmp_path / "summary.json").write_text(json.dumps({"run": "x", "epsilon": None, "data": {"name": "d"}}))
    assert "This run measured no accuracy." in Page(render(tmp_path).read_text()).text


def test_damage_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write("{torn\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 16"):
        render(tmp_path / "run")
    with pytest.raises(OSError, match=r"summary.json"):
        render(tmp_path)


def test_written_whole(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    render(tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.part"))
    first = (tmp_path / "run" / "report.html").read_bytes()
    assert render(tmp_path / "run").read_bytes() == first


def test_every_method_has_its_words_and_its_line() -> None:
    from homespun.cli.tables import METHODS
    from homespun.simulations.canvas import STYLES
    from homespun.simulations.report import _EXPLAINED

    assert set(METHODS) == set(STYLES) == set(_EXPLAINED)
    assert {"ditto", "ditto_private", "fedrep", "lore", "lore_repaired", "local_only", "pooled"} <= set(METHODS)
