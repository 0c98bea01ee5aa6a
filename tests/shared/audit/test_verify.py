"""A check of a report catches every edit, says where, and needs nobody's key."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from homespun.audit.claims import AuditedClaim, block_claim, path_claim
from homespun.audit.evidence_check import check_evidence
from homespun.audit.sources import find_sources, read_kept
from homespun.audit.verify import Verdict, verify_report
from homespun.audit.writing import write_report
from homespun.privacy import GaussianEvent, Participation, Plan, Trust
from homespun.privacy.ledger import Ledger, SigningKey
from homespun.privacy.record_plan import build_record_plan

FILES = (
    "report.json",
    "ledger.jsonl",
    "checkpoint.txt",
    "evidence.json",
    "registry-backbone.yaml",
    "report.html",
)


@pytest.fixture
def copied(run_folder: Path, tmp_path: Path) -> Path:
    """The report in another directory, as a stranger gets it."""
    return Path(shutil.copytree(run_folder / "audit", tmp_path / "elsewhere" / "copy"))


@pytest.fixture
def device(device_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(device_folder / "audit", tmp_path / "elsewhere" / "device"))


def wheres(verdict: Verdict) -> str:
    return " | ".join(finding.where for finding in verdict.findings)


def test_an_honest_report_holds_without_any_key(copied: Path, device: Path) -> None:
    for folder in (copied, device):
        verdict = verify_report(folder)
        assert verdict.findings == ()
        assert any("nobody vouches for it" in note for note in verdict.notes)
        assert "report.json" in verdict.checked
        assert verdict.report is not None


def test_the_keeper_s_key_may_be_given(copied: Path, operator: SigningKey) -> None:
    verdict = verify_report(copied, keys=[operator.public])
    assert verdict.findings == ()
    assert not any("vouches" in note for note in verdict.notes)
    other = SigningKey.generate("example.org/operator").public
    assert "line 1" in wheres(verify_report(copied, keys=[other]))


def test_a_wrong_figure_is_named_by_its_path(copied: Path) -> None:
    report = json.loads((copied / "report.json").read_text())
    report["guarantees"]["A"]["points"][1]["epsilon"] -= 1e-6
    (copied / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    (finding,) = verify_report(copied).findings
    assert finding.where == "report.json: $.guarantees.A.points[1].epsilon"
    assert float(finding.expected) == pytest.approx(float(finding.found) + 1e-6)


def test_the_last_digit_of_every_figure_counts(copied: Path) -> None:
    text = (copied / "report.json").read_text()
    figures = list(re.finditer(r'(?<=": )-?\d+\.\d+(e-?\d+)?', text))
    assert len(figures) > 60
    for place in random.Random(7).sample(figures, 12):
        digit = text[place.end() - 1]
        changed = text[: place.end() - 1] + str((int(digit) + 1) % 10) + text[place.end() :]
        (copied / "report.json").write_text(changed)
        assert "report.json" in wheres(verify_report(copied)), place[0]


@pytest.mark.parametrize(
    "words", [("add-or-remove", "replace-one"), ("add-or-remove", "zero-out"), ("device", "record")]
)
def test_a_claim_under_other_words_is_caught(copied: Path, words: tuple[str, str]) -> None:
    text = (copied / "report.json").read_text()
    (copied / "report.json").write_text(text.replace(f'"{words[0]}"', f'"{words[1]}"', 1))
    assert "report.json: $" in wheres(verify_report(copied))


def test_other_spelling_of_the_same_values_is_caught(copied: Path) -> None:
    report = json.loads((copied / "report.json").read_text())
    (copied / "report.json").write_text(json.dumps(report))
    (finding,) = verify_report(copied).findings
    assert "other bytes" in finding.rule


def test_a_field_twice_is_no_document(copied: Path) -> None:
    text = (copied / "report.json").read_text()
    (copied / "report.json").write_text(text.replace("{", '{"schema_version": 1,', 1))
    assert "every field once" in verify_report(copied).findings[0].rule


def edit_lines(folder: Path, edit: Callable[[list[bytes]], list[bytes]]) -> Verdict:
    ledger = folder / "ledger.jsonl"
    ledger.write_bytes(b"".join(edit(ledger.read_bytes().splitlines(keepends=True))))
    return verify_report(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: lines[:4] + lines[5:],
        lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
        lambda lines: [*lines[:5], lines[4], *lines[5:]],
        lambda lines: lines[:-1],
        lambda lines: [*lines[:-1], lines[-1][:-1]],
        lambda lines: [*lines, b"{}\n"],
        lambda lines: [],
    ],
    ids=["dropped", "swapped", "repeated", "truncated", "cut-newline", "appended", "emptied"],
)
def test_an_edited_ledger_is_caught(copied: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    assert "ledger.jsonl: " in wheres(edit_lines(copied, edit))


def test_an_edited_ledger_is_named_by_its_line(copied: Path) -> None:
    verdict = edit_lines(copied, lambda lines: [*lines[:4], lines[4].replace(b"A", b"B", 1), *lines[5:]])
    assert "ledger.jsonl: line 5" in wheres(verdict)


def test_an_old_copy_is_caught_by_a_remembered_head(
    copied: Path, run_folder: Path, operator: SigningKey, tmp_path: Path
) -> None:
    """The whole folder is put back, consistent in itself; only who remembers a newer head can tell."""
    grown = Path(shutil.copytree(run_folder, tmp_path / "grown"))
    with Ledger.open(grown / "privacy_ledger.sqlite", operator) as ledger:
        ledger.record("declare", {"name": "retention", "text": "one year"})
        newer = ledger.checkpoint
    assert verify_report(copied).findings == ()
    verdict = verify_report(copied, remembered=[newer])
    assert "remembered 1" in wheres(verdict)
    assert "old copy" in verdict.findings[0].rule
    older = (copied / "checkpoint.txt").read_bytes()
    write_report(find_sources(grown), grown / "audit")
    assert verify_report(grown / "audit", remembered=[older, newer]).findings == ()


def test_a_head_of_another_ledger_is_refused(copied: Path, device: Path) -> None:
    verdict = verify_report(copied, remembered=[(device / "checkpoint.txt").read_bytes(), b"no note"])
    assert [finding.where for finding in verdict.findings] == ["remembered 2", "remembered 1"]


def test_a_fork_is_caught_by_a_remembered_head(
    copied: Path, run_folder: Path, operator: SigningKey, tmp_path: Path
) -> None:
    """Two ledgers of one key that part after the same entry: each is consistent, one of them is a lie."""
    heads = []
    for name in ("one", "two"):
        fork = Path(shutil.copytree(run_folder, tmp_path / name))
        with Ledger.open(fork / "privacy_ledger.sqlite", operator) as ledger:
            ledger.record("declare", {"name": "branch", "text": name})
            heads.append(ledger.checkpoint)
        write_report(find_sources(fork), fork / "audit")
    assert verify_report(tmp_path / "one" / "audit", remembered=[heads[0]]).findings == ()
    assert "remembered 1" in wheres(verify_report(tmp_path / "one" / "audit", remembered=[heads[1]]))


def test_evidence_that_was_not_signed_is_caught(copied: Path) -> None:
    content = json.loads((copied / "evidence.json").read_text())
    content["audits"][0]["bounds"]["snj"] = 0.001
    (copied / "evidence.json").write_text(json.dumps(content))
    verdict = verify_report(copied)
    assert any("bounds" in finding.rule for finding in verdict.findings)
    assert any("it is not the evidence that was signed" in finding.rule for finding in verdict.findings)


def test_coins_that_nobody_committed_to_prove_nothing(copied: Path) -> None:
    content = json.loads((copied / "evidence.json").read_text())
    content["audits"][0]["commitment"] = "00" * 32
    (copied / "evidence.json").write_text(json.dumps(content))
    assert any("chosen later" in finding.rule for finding in verify_report(copied).findings)


@pytest.fixture
def audited(
    make_run: Callable[..., Path], sign_evidence: Callable[..., None], operator: SigningKey
) -> Callable[..., Verdict]:
    """A keeper who signs evidence of his own making: coins, digest and report are in order, whatever it states."""

    def make(
        name: str, claim: AuditedClaim | None = None, *, run: dict[str, object] | None = None, **stated: object
    ) -> Verdict:
        folder = make_run(name, key=operator, folds=1, **(run or {}))
        sign_evidence(folder, operator, claim, **stated)
        write_report(find_sources(folder), folder / "audit")
        return verify_report(folder / "audit")

    return make


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("claim_epsilon", 20.0),
        ("claim_epsilon", True),
        ("claim_mu", 5.0),
        ("claim_mu", None),
        ("delta", 1e-2),
        ("title", "Something else"),
    ],
)
def test_signed_evidence_of_another_claim_is_caught(
    audited: Callable[..., Verdict], make_plan: Callable[..., Plan], name: str, stated: object
) -> None:
    """The run claims epsilon 2: an audit against 20 is beaten by nothing, and would look like a clean one."""
    (finding,) = audited("run", **{name: stated}).findings
    assert finding.where == f"evidence.json: $.audits[0].{name}"
    assert finding.expected == json.dumps(getattr(path_claim(make_plan()), name))
    assert finding.found == json.dumps(stated)


def test_an_audit_of_records_is_held_against_the_record_plan(audited: Callable[..., Verdict]) -> None:
    records = build_record_plan(2.0, 1e-6, dimension=8)
    run: dict[str, object] = {"records": records}
    assert audited("honest", block_claim(records), run=run).findings == ()
    (finding,) = audited("weaker", block_claim(records), run=run, claim_epsilon=8.0).findings
    assert (finding.where, finding.expected, finding.found) == (
        "evidence.json: $.audits[0].claim_epsilon",
        "2.0",
        "8.0",
    )
    found = audited("relabelled", block_claim(records), run=run, kind="path").findings
    assert {finding.where.rpartition(".")[2] for finding in found} == {"title", "claim_epsilon", "claim_mu"}


def test_an_audit_of_what_nobody_claimed_is_caught(audited: Callable[..., Verdict]) -> None:
    """Adapters of this run are exact: there is no record plan that an audit of records could be of."""
    claim = block_claim(build_record_plan(2.0, 1e-6, dimension=8))
    (finding,) = audited("exact", claim).findings
    assert (finding.where, finding.expected, finding.found) == ("evidence.json: $.audits[0].kind", "path", '"block"')
    (finding,) = audited("other", kind="engine").findings
    assert finding.found == '"engine"'


def test_a_sampled_plan_has_no_mu_to_state(audited: Callable[..., Verdict], make_plan: Callable[..., Plan]) -> None:
    plan = make_plan(trust=Trust.CENTRAL, participation=Participation.poisson(0.5))
    run: dict[str, object] = {"plan": plan}
    assert audited("honest", path_claim(plan), run=run).findings == ()
    (finding,) = audited("with-mu", path_claim(plan), run=run, claim_mu=0.4).findings
    assert (finding.where.rpartition(".")[2], finding.expected) == ("claim_mu", "null")


def test_a_claim_of_any_kind_is_read(copied: Path) -> None:
    """A stranger may have put anything in any place: that is a finding, and never an exception."""
    sources = read_kept(copied)
    for name in ("claim_epsilon", "claim_mu", "delta", "kind", "title"):
        for value in (None, [], {}, "2", True, 10**400):
            content = json.loads((copied / "evidence.json").read_text())
            content["audits"][0][name] = value
            found = check_evidence(replace(sources, evidence=json.dumps(content).encode()))
            assert f"evidence.json: $.audits[0].{name}" in [finding.where for finding in found]


def test_a_record_that_the_report_does_not_support_is_caught(copied: Path) -> None:
    shutil.copy(copied / "registry-backbone.yaml", copied / "registry-adapter.yaml")
    assert wheres(verify_report(copied)) == "registry-adapter.yaml"


def test_both_ledgers_of_a_device_are_checked(device: Path) -> None:
    lines = (device / "adapter" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (device / "adapter" / "ledger.jsonl").write_bytes(b"".join([*lines[:2], *lines[3:]]))
    assert "adapter/ledger.jsonl: line 3" in wheres(verify_report(device))


def test_a_ledger_that_is_taken_away_is_caught(device: Path) -> None:
    shutil.rmtree(device / "adapter")
    assert "$.guarantees.B" in wheres(verify_report(device))


def test_a_forger_with_a_key_of_his_own_is_caught_by_the_keeper_s(
    make_run: Callable[..., Path], operator: SigningKey
) -> None:
    """Everything made anew and consistent, under the same name: only the key can tell."""
    forged = make_run("20260314T091500Z-planted", folds=1)
    write_report(find_sources(forged), forged / "audit")
    assert verify_report(forged / "audit").findings == ()
    assert "line 1" in wheres(verify_report(forged / "audit", keys=[operator.public]))


def edits(rng: random.Random, files: dict[str, bytes]) -> tuple[str, bytes]:
    """One edit of one file that leaves it another one."""
    name = rng.choice(list(files))
    content = files[name]
    kind = rng.choice(["bit", "bit", "byte", "digit", "cut", "swap", "repeat", "drop"])
    lines = content.splitlines(keepends=True)
    if kind == "digit":
        places = [place for place, byte in enumerate(content) if 48 <= byte <= 57]
        place = rng.choice(places)
        changed = (
            content[:place] + bytes([48 + (content[place] - 48 + rng.randrange(1, 10)) % 10]) + content[place + 1 :]
        )
    elif kind == "cut":
        changed = content[: rng.randrange(len(content))]
    elif kind == "swap" and len(lines) > 1:
        one, other = sorted(rng.sample(range(len(lines)), 2))
        lines[one], lines[other] = lines[other], lines[one]
        changed = b"".join(lines)
    elif kind == "repeat":
        place = rng.randrange(len(lines))
        changed = b"".join([*lines[:place], lines[place], *lines[place:]])
    elif kind == "drop":
        place = rng.randrange(len(lines))
        changed = b"".join([*lines[:place], *lines[place + 1 :]])
    else:
        place = rng.randrange(len(content))
        flip = 1 << rng.randrange(8) if kind == "bit" else rng.randrange(1, 256)
        changed = content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
    return name, changed


def catch_edits(folder: Path, count: int, seed: int) -> list[str]:
    """Make ``count`` random edits, one at a time; return what was not caught."""
    rng = random.Random(seed)
    files = {name: (folder / name).read_bytes() for name in FILES}
    missed, tried = [], 0
    while tried < count:
        name, changed = edits(rng, files)
        if changed == files[name]:
            continue  # two equal lines swapped: nothing was edited
        tried += 1
        (folder / name).write_bytes(changed)
        if not verify_report(folder).findings:
            missed.append(f"{name}, edit {tried}")
        (folder / name).write_bytes(files[name])
    assert verify_report(folder).findings == ()
    return missed


def test_random_edits_are_caught(copied: Path) -> None:
    assert catch_edits(copied, 150, seed=1) == []


@pytest.mark.study
def test_a_thousand_random_edits_are_caught(copied: Path) -> None:
    assert catch_edits(copied, 1000, seed=2) == []


def test_a_ledger_elsewhere_may_be_named(copied: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("ledger.jsonl", "checkpoint.txt"):
        (copied / name).rename(kept / name)
    verdict = verify_report(copied, ledger=kept / "ledger.jsonl", checkpoint=kept / "checkpoint.txt")
    assert verdict.findings == ()


def test_two_accountants_that_disagree_are_a_finding(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second accountant above the proven figure means a bug, whoever has it."""
    from homespun.privacy import guarantees

    def wrong(
        events: tuple[GaussianEvent, ...], *, deltas: tuple[float, ...], replaced: object
    ) -> tuple[tuple[float, ...], str]:
        return tuple(9.0 for _ in deltas), "broken"

    monkeypatch.setattr(guarantees, "continuous_curve", wrong)
    assert any("second accountant" in finding.rule for finding in verify_report(copied).findings)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"colluding": 101}, "at least 501 devices"),
        ({"share_variance": 1000}, "with a variance of 400000"),
        ({"min_survivors": 399}, "at least 399 devices"),
    ],
)
def test_a_plan_whose_honest_shares_are_too_few_is_a_finding(
    make_run: Callable[..., Path], make_plan: Callable[..., Plan], changes: dict[str, int], found: str
) -> None:
    """It is signed, and every figure follows from it; only its numbers do not hold together."""
    plan = make_plan()
    poor = replace(plan, releases=(replace(plan["mean"], **changes), plan["directions"]))  # type: ignore[arg-type]
    run = make_run("poor", folds=1, plan=poor)
    write_report(find_sources(run), run / "audit")
    findings = verify_report(run / "audit").findings
    (finding,) = [one for one in findings if "release mean" in one.where]
    assert finding.rule.startswith("Expected enough devices in every sum")
    assert found in finding.found
