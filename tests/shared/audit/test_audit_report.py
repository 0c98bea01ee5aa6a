"""The report: what it says, that it follows from ledgers alone, and what it costs to make."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from homespun.audit.masking import Masking
from homespun.audit.report import build_report, to_bytes
from homespun.audit.rounding import of_100, one_in, short, times, up
from homespun.audit.sentences import adversary, limits
from homespun.audit.sources import find_sources
from homespun.audit.verify import verify_report
from homespun.audit.writing import write_report
from homespun.privacy import (
    GaussianEvent,
    LedgerDamaged,
    LedgerError,
    Participation,
    Plan,
    Relation,
    Trust,
    Unit,
    release_event,
)
from homespun.privacy.accountant import compose
from homespun.privacy.ledger import Genesis, Ledger, SigningKey
from homespun.privacy.record_plan import build_record_plan


def test_a_run_s_report_says_what_its_plan_promised(run_folder: Path) -> None:
    report = build_report(find_sources(run_folder))
    a = report["guarantees"]["A"]
    assert set(report["guarantees"]) == {"A"}
    assert 1.99 < a["epsilon"] <= a["claimed"]["epsilon"] <= 2.0
    assert (a["privacy_unit"], a["neighboring_relation"], a["delta"]) == ("device", "add-or-remove", 1e-6)
    assert a["claim"].startswith(
        "Against anyone who sees every released backbone, and against the server as long as it sees sums alone, over all 3 "
    )
    assert "all 3 releases of one training" in a["claim"]
    assert "at most 7.4 times as likely" in a["odds"]
    assert "1 false alarm in 100" in a["test"]
    assert a["together"]["accounts"] == 2
    assert a["together"]["epsilon"] > a["epsilon"]
    assert any("adapters" in line for line in report["not_claimed"])


@pytest.mark.parametrize(
    ("participation", "sees"),
    [
        (Participation.full(), "every released backbone, the server being trusted with each clipped vector"),
        (
            Participation.poisson(0.5),
            "every released backbone, but not who was drawn, the server being trusted with that and with each clipped vector",
        ),
    ],
)
def test_where_the_server_adds_the_noise_the_claim_says_that_it_is_trusted(
    make_run: Callable[..., Path], make_plan: Callable[..., Plan], participation: Participation, sees: str
) -> None:
    plan = make_plan(trust=Trust.CENTRAL, participation=participation)
    run = make_run("run", folds=1, plan=plan, records=build_record_plan(2.0, 1e-6, dimension=8))
    report = write_report(find_sources(run), run / "audit")
    a, b, c = (report["guarantees"][name] for name in "ABC")
    assert a["claim"].startswith(f"Against those who see {sees}, over all 3 releases")
    assert a["adversary"] == f"those who see {sees}"
    assert c["adversary"] == a["adversary"].replace("backbone,", "backbone and the adapter, or whatever it ranks,", 1)
    assert "server" not in b["claim"]
    assert a["assumed"] == report["trust"]["assumed"]
    assert b["assumed"] == ["The device adds the noise itself before anything is shown."]
    page = (run / "audit" / "report.html").read_text(encoding="utf-8")
    assert "sees sums alone" not in page
    assert a["claim"] in page
    for name in ("registry-backbone.yaml", "registry-adapter.yaml"):
        record = yaml.safe_load((run / "audit" / name).read_text(encoding="utf-8"))["deployment"]
        one = a if name == "registry-backbone.yaml" else b
        assert record["privacy_loss"]["privacy_parameters_details"].startswith(one["claim"])
        assert record["deployment_model"]["actors"].startswith(f"Claimed against {one['adversary']}.")
        assert record["deployment_model"]["trust_assumptions"] == " ".join(one["assumed"])


def test_no_sentence_promises_anything_against_a_server_without_its_condition() -> None:
    """Without masks in every round, that the server sees sums alone is a condition; and devices must add all the noise."""
    partly = Masking(holder="server", rounds=3, masked=2, opened=2, lost=0, fewest=400, colluding=0)
    never = replace(partly, masked=0, opened=0, fewest=None)
    nothing = replace(never, rounds=0)
    for name, masks in itertools.product(("A", "C"), (None, partly, never, nothing)):
        assert adversary(name, trust={"distributed"}, sampled=False, masks=masks).endswith(
            "and against the server as long as it sees sums alone"
        )
        for trust in ({"central"}, {"central", "distributed"}):
            for sampled in (False, True):
                told = adversary(name, trust=trust, sampled=sampled, masks=masks)
                assert "server being trusted" in told
                assert "against the server" not in told
        assert "so not against the server" in adversary(name, trust={"distributed"}, sampled=True, masks=masks)
        told = limits({"A"}, trust={"distributed"}, sampled=False, masks=masks, declared={})
        assert any("not every round of the ledger was masked" in line and "stand-alone" in line for line in told)


def test_a_run_without_masks_says_that_its_cells_stand_for_them(run_folder: Path) -> None:
    report = build_report(find_sources(run_folder))
    (assumed,) = report["trust"]["assumed"]
    assert "That the server sees sums alone is assumed: no round was masked." in assumed
    assert "cells stand for secure aggregation" in assumed
    assert report["trust"]["masks"] == {
        "rounds": 6, "masked": 0, "opened": 0, "lost": 0, "fewest": None, "colluding": 0,
    }  # fmt: skip
    assert "kept" not in report["guarantees"]["A"]


def test_where_every_round_was_masked_the_claim_holds_against_the_server(
    make_run: Callable[..., Path], make_plan: Callable[..., Plan]
) -> None:
    run = make_run("run", plan=make_plan(colluding=50), opens=lambda fold, round: 1)
    report = write_report(find_sources(run), run / "audit")
    a = report["guarantees"]["A"]
    assert a["claim"].startswith(
        "Against anyone who sees every released backbone, and against the server (computationally, as long as at most 50 "
        "devices of a round collude with it and the roster holds keys of devices alone), over all 3 releases"
    )
    assert report["trust"]["masks"] == {
        "rounds": 6, "masked": 6, "opened": 6, "lost": 0, "fewest": 478, "colluding": 50,
    }  # fmt: skip
    (assumed,) = a["assumed"]
    assert "sums alone, from at least 478 devices each" in assumed
    assert "stands for" not in assumed
    assert "kept" not in a
    assert a["stand_alone"]["epsilon"] is None and "more than" in a["stand_alone"]["epsilon_reason"]
    (line,) = [line for line in report["not_claimed"] if "stand-alone" in line]
    assert "more than 50 of a round's devices collude" in line
    page = (run / "audit" / "report.html").read_text(encoding="utf-8")
    assert a["claim"] in page
    assert "6 of 6 rounds masked; 6 sums unmasked, 0 of them lost" in page
    record = yaml.safe_load((run / "audit" / "registry-backbone.yaml").read_text(encoding="utf-8"))["deployment"]
    assert (
        "6 of 6 rounds were unmasked as sums (secure aggregation)" in record["deployment_model"]["model_name_details"]
    )
    assert "(computationally, as long as at most 50" in record["deployment_model"]["actors"]
    assert verify_report(run / "audit").findings == ()


@pytest.mark.parametrize("missing", [(0, 0), (1, 2)])
def test_one_round_without_a_mask_takes_the_claim_back(make_run: Callable[..., Path], missing: tuple[int, int]) -> None:
    run = make_run("run", opens=lambda fold, round: int((fold, round) != missing))
    report = build_report(find_sources(run))
    assert "and against the server as long as it sees sums alone" in report["guarantees"]["A"]["claim"]
    assert "5 of 6 rounds were masked" in report["trust"]["assumed"][0]


def test_sums_that_were_opened_and_lost_are_counted(make_run: Callable[..., Path]) -> None:
    """A server that was killed between opening and committing may have kept the sum; the retry is another release."""
    run = make_run("run", opens=lambda fold, round: 3 if (fold, round) == (1, 0) else 1)
    report = write_report(find_sources(run), run / "audit")
    a = report["guarantees"]["A"]
    plan = find_sources(run).ledgers[0].checked.genesis.plan  # type: ignore[union-attr]
    assert plan is not None
    paid = [release_event(release, count=release.rounds) for release in plan.releases]
    known = compose([*paid, release_event(plan["mean"], count=2)], delta=1e-6).epsilon
    assert (a["kept"]["sums"], a["kept"]["epsilon"]) == (2, up(known))
    assert a["kept"]["epsilon"] > a["epsilon"] == up(compose(paid, delta=1e-6).epsilon)
    assert "and it kept none of the 2 sums that were opened and lost" in a["claim"]
    assert a["kept"]["sentence"].startswith(
        "For 6 rounds, 8 sums were unmasked. Against a server that kept the 2 sums that were opened and lost, over the same"
    )
    both = compose([*paid, *paid, release_event(plan["mean"], count=2)], delta=1e-6).epsilon
    assert a["together"]["epsilon"] == up(both)
    page = (run / "audit" / "report.html").read_text(encoding="utf-8")
    assert a["kept"]["sentence"] in page
    assert "with 2 sums opened and lost" in page
    assert verify_report(run / "audit").findings == ()
    written = (run / "audit" / "report.json").read_text(encoding="utf-8")
    (run / "audit" / "report.json").write_text(written.replace('"lost": 2', '"lost": 1'), encoding="utf-8")
    assert verify_report(run / "audit").findings != ()


def test_a_device_says_under_which_condition_it_was_masked(
    device_folder: Path, make_device: Callable[..., Path], tmp_path: Path
) -> None:
    """A device opens no sum; one that lets masked vectors alone leave says of each request who may collude."""
    told = build_report(find_sources(device_folder))["guarantees"]["A"]["adversary"]
    assert "against the server as long as it sees sums alone" in told and "computationally" not in told
    told = build_report(find_sources(make_device(tmp_path / "told", colluding=7)))["guarantees"]["A"]["adversary"]
    assert "(computationally, as long as at most 7 devices of a round collude with it" in told


def test_a_device_s_report_holds_a_b_and_c(device_folder: Path) -> None:
    report = build_report(find_sources(device_folder))
    a, b, c = (report["guarantees"][name] for name in "ABC")
    assert (b["privacy_unit"], b["neighboring_relation"]) == ("record", "zero-out")
    assert b["epsilon"] <= 2.0
    assert c["mu"] ** 2 == pytest.approx(4 * a["mu"] ** 2 + b["mu"] ** 2, rel=1e-5)
    assert report["budgets"]["backbone"]["refused"] == {"cap": 1, "cohort": 2}
    assert report["budgets"]["backbone"]["burned"] == {"crash": 1}
    assert sum(row["accounts"] for row in report["budgets"]["adapter"]["histogram"]) == 3
    assert report["composition"]["releases"] == {"backbone": 5, "adapter": 3}


def test_epsilon_can_be_counted_from_the_report_s_own_events(device_folder: Path) -> None:
    report = build_report(find_sources(device_folder))
    for role, name in (("backbone", "A"), ("adapter", "B")):
        table = report["events"][role]
        kinds = {}
        for row in table["kinds"]:
            fields = {key: value for key, value in row.items() if key not in ("kind", "type", "cost")}
            kinds[row["kind"]] = GaussianEvent(**fields)
        worst = max(
            compose([kinds[part["kind"]] for part in row["releases"] for _ in range(part["count"])], delta=1e-6).epsilon
            for row in table["accounts"]
        )
        assert report["guarantees"][name]["epsilon"] == up(worst)


def test_a_burned_round_stays_spent(device_folder: Path) -> None:
    report = build_report(find_sources(device_folder))
    assert report["over_time"]["backbone"][-1]["releases"] == 5
    values = [row["epsilon"] for row in report["over_time"]["backbone"]]
    assert values == sorted(values)
    assert values[-1] == report["guarantees"]["A"]["epsilon"]


def test_tuning_runs_that_are_named_are_charged(make_run: Callable[..., Path]) -> None:
    run, tuning = make_run("run", folds=1), make_run("tuning", folds=2)
    alone = build_report(find_sources(run))["guarantees"]["A"]
    assert "together" not in alone
    charged = build_report(find_sources(run, [tuning]))["guarantees"]["A"]
    assert charged["together"]["accounts"] == 3
    assert charged["together"]["ledgers"] == 2
    assert charged["together"]["epsilon"] > 1.5 * alone["epsilon"]
    with pytest.raises(LedgerError, match="named twice"):
        find_sources(run, [run])


def test_an_acknowledged_spend_counts_although_nobody_can_show_its_events(tmp_path: Path) -> None:
    genesis = Genesis(
        origin="device/a", guarantee="backbone", holder="device", unit=Unit.DEVICE, relation=Relation.ADD_OR_REMOVE,
        delta=1e-6, cap=Decimal("1.0"),
    )  # fmt: skip
    event = GaussianEvent(clip_units=1024, variance=1024**2 * 4, count=1, dimension=4)
    with Ledger.create(tmp_path / "ledger.sqlite", SigningKey.generate("device"), genesis) as ledger:
        ledger.commit(ledger.reserve("device", event, {"round": 0}), "00" * 32)
        ledger.record("acknowledge", {"incident": "fork", "spent_after": {"device": "0.625000000000000000"}})
    a = build_report(find_sources(tmp_path))["guarantees"]["A"]
    assert float(a["rho"]) == pytest.approx(0.625)
    assert float(a["rho"]) >= 0.625


def test_a_ledger_without_promise_claims_nothing(tmp_path: Path) -> None:
    genesis = Genesis(
        origin="server/a", guarantee="backbone", holder="server", unit=Unit.DEVICE, relation=Relation.ADD_OR_REMOVE,
        delta=1e-6, cap=None,
    )  # fmt: skip
    with Ledger.create(tmp_path / "ledger.sqlite", SigningKey.generate("server"), genesis) as ledger:
        ledger.commit(ledger.reserve("run-0", None, {"round": 0}), "00" * 32)
    report = build_report(find_sources(tmp_path))
    write_report(find_sources(tmp_path), tmp_path / "audit")
    a = report["guarantees"]["A"]
    assert a["epsilon"] is None
    assert a["epsilon_reason"] == "a round ran without noise"
    assert not (tmp_path / "audit" / "registry-backbone.yaml").exists()


def test_a_report_is_a_function_of_bytes_alone(run_folder: Path, tmp_path: Path) -> None:
    """From the store, from its export, and from another folder: the same bytes."""
    written = (run_folder / "audit" / "report.json").read_bytes()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("ledger.jsonl", "checkpoint.txt", "evidence.json"):
        shutil.copy(run_folder / "audit" / name, moved / name)
    assert to_bytes(build_report(find_sources(moved))) == written
    assert to_bytes(build_report(find_sources(moved / "ledger.jsonl"))) == written
    assert to_bytes(build_report(find_sources(run_folder))) == written
    assert str(tmp_path).encode() not in written


def test_every_epsilon_stands_in_company(run_folder: Path, device_folder: Path) -> None:
    beside = {"delta", "privacy_unit", "neighboring_relation", "accountant"}
    bare = {"points", "over_time", "curves"}  # inside a guarantee that names them once

    def walk(part: object, inside: str) -> None:
        if isinstance(part, dict):
            if "epsilon" in part and inside not in bare:
                assert beside <= part.keys(), inside
                assert part["epsilon"] is not None or part["epsilon_reason"]
            for name, value in part.items():
                walk(value, inside if inside in bare else name)
        elif isinstance(part, list):
            for value in part:
                walk(value, inside)

    for folder in (run_folder, device_folder):
        walk(json.loads((folder / "audit" / "report.json").read_text()), "")


def test_what_was_not_declared_is_said(run_folder: Path) -> None:
    declared = build_report(find_sources(run_folder))["declared"]
    assert declared["texts"]["region"] == "Nowhere"
    assert "retention" in declared["not_declared"]
    assert "region" not in declared["not_declared"]


def test_a_damaged_ledger_makes_no_report(run_folder: Path, tmp_path: Path) -> None:
    lines = (run_folder / "audit" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(lines[:2] + lines[3:]))
    shutil.copy(run_folder / "audit" / "checkpoint.txt", tmp_path)
    with pytest.raises(LedgerDamaged, match="line 3"):
        find_sources(tmp_path)


def test_of_a_device_s_numbered_ledgers_the_newest_counts(device_folder: Path, tmp_path: Path) -> None:
    """The older one was taken over by it, with everything that was spent; a vault is no ledger."""
    device = Path(shutil.copytree(device_folder, tmp_path / "device"))
    (device / "vault.sqlite").write_bytes(b"sealed")
    (device / "ledger.sqlite").rename(device / "ledger-10.sqlite")
    shutil.copy(device / "adapter.sqlite", device / "ledger-9.sqlite")
    assert [source.role for source in find_sources(device).ledgers] == ["backbone", "adapter"]
    shutil.copy(device / "ledger-10.sqlite", device / "another.sqlite")
    with pytest.raises(LedgerError, match="one backbone ledger"):
        find_sources(device)


def test_a_folder_without_a_ledger_says_so(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="Expected a ledger"):
        find_sources(tmp_path)
    (tmp_path / "ledger.jsonl").write_bytes(b"")
    with pytest.raises(LedgerError, match=r"checkpoint\.txt"):
        find_sources(tmp_path)


def test_figures_are_rounded_up_and_sentences_never_down() -> None:
    assert up(2.0000001) == 2.000001
    assert up(up(1 / 3)) == up(1 / 3)
    assert up(None) is None
    with pytest.raises(ValueError, match="inf"):
        up(float("inf"))
    assert (times(0.0), times(0.0954), times(2.3)) == ("1.0", "1.2", "10")
    assert of_100(0.0924) == 10
    assert of_100(1.0) == 100
    assert one_in(2e-6) == "1 in 500,000"
    assert (short(2.58428), short(1e-10)) == ("2.585", "1e-10")
