"""Attacks on small runs: what they find where there is something to find, and that they find nothing where there is not."""

import hashlib
import json
import math
import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from homespun.audit.evidence import Attack, problems
from homespun.audit.game import commitment
from homespun.cli import attack as attack_command
from homespun.cli.app import run as command_line
from homespun.cli.errors import ExitCode
from homespun.privacy import LedgerError
from homespun.privacy.ledger import CHECKPOINT_NAME, EXPORT_NAME, LEDGER_NAME, Kind, Ledger, check
from homespun.simulations import commands, world
from homespun.simulations.attacks import (
    Target,
    attack_run,
    infer_attributes,
    infer_membership,
    load_target,
    reconstruct,
)
from homespun.simulations.attacks.reconstruction import local_epsilon
from homespun.simulations.attacks.shadows import joined, shadows

toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
SMALL = {"users": 120, "dim": 8, "rank": 2, "shots": (0, 20), "seed": 3}


class Silent:
    """Hears everything and says nothing."""

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, n: int = 1) -> None: ...

    def round(self, status: Any) -> None: ...

    def note(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Runs without encoder, baselines and figures, each made once."""
    base, made = tmp_path_factory.mktemp("attacks"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOMESPUN_HOME", str(base / "home"))
        patch.setattr(world, "load", toy["stand_in_encoder"])
        patch.setattr(world, "embed", toy["stand_in_embed"])
        patch.setattr(commands, "reference_methods", lambda *_: ({}, {}))
        patch.setattr(commands, "render", lambda _: None)

        def simulate(**given: Any) -> Path:
            key = repr(sorted(given.items()))
            if key not in made:
                summary = commands.simulate({**SMALL, "out": str(base / "runs"), **given}, None, Silent())
                made[key] = Path(summary["run"])
            return made[key]

        yield simulate


@pytest.fixture(scope="module")
def target(make: Callable[..., Path]) -> Target:
    return load_target(make(epsilon=2.0))


@pytest.fixture(scope="module")
def bare_target(make: Callable[..., Path]) -> Target:
    """Without any noise."""
    return load_target(make(epsilon=math.inf))


def named(attacks: list[Attack]) -> dict[str, Attack]:
    return {attack.name: attack for attack in attacks}


def test_target_is_what_was_released(make: Callable[..., Path], target: Target) -> None:
    states = sorted(make(epsilon=2.0).glob("checkpoints/fold-0/round-*/state.json"))
    assert target.backbone.digest == json.loads(states[-1].read_text())["state_digest"]
    assert target.backbone.dim == target.fold.seen.dim


def test_unfinished_run_is_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.toml"):
        load_target(tmp_path)
    (tmp_path / "config.toml").write_bytes((make(epsilon=2.0) / "config.toml").read_bytes())
    with pytest.raises(ValueError, match="--resume"):
        load_target(tmp_path)


def test_membership_stays_below_what_the_claim_allows(target: Target) -> None:
    found = named(infer_membership(target, count=6))
    assert found.keys() == {f"membership-{by}-{what}" for by in ("loss", "likelihood-ratio") for what in ("auc", "tpr")}
    area, hits = found["membership-likelihood-ratio-auc"], found["membership-likelihood-ratio-tpr"]
    assert area.bound == pytest.approx(0.629, abs=1e-3)  # Phi(mu / sqrt 2) at mu = .465
    assert area.figure.low <= area.bound
    assert hits.bound is not None
    assert hits.figure.low <= hits.bound < 0.2  # 24 people stayed away: no rate below 4 % can be told
    assert "under the claim" in area.sentence


def test_likelihood_ratio_finds_members_without_noise(bare_target: Target) -> None:
    """An attack that never finds anything would be no evidence: of 96 people without noise it does."""
    found = named(infer_membership(bare_target, count=16))
    area = found["membership-likelihood-ratio-auc"]
    assert area.bound is None
    assert area.figure.low > 0.5
    assert area.figure.value > area.control.value + 0.1
    assert "no claim" in area.sentence


def test_shadows_leave_everybody_out_about_equally_often(target: Target) -> None:
    people = joined(target.fold.seen, target.fold.evidence.shots[20])
    made = list(shadows(target.course, people, members=target.fold.seen.users, count=10, seed=0))
    assert all(int(shadow.members.sum()) == target.fold.seen.users for shadow in made)
    left_out = torch.stack([~shadow.members for shadow in made]).sum(0)
    assert int(left_out.max() - left_out.min()) <= 2
    assert len({shadow.backbone.digest for shadow in made}) == 10


def test_joined_people_keep_their_statistics(target: Target) -> None:
    first, second = target.fold.seen, target.fold.evidence.shots[20]
    both = joined(first, second)
    assert both.users == first.users + second.users
    phase = next(iter(target.course.phases.values()))
    for part, rows in ((first, slice(0, first.users)), (second, slice(first.users, None))):
        alone = phase.statistic(target.backbone, part, 0)
        assert torch.allclose(phase.statistic(target.backbone, both.select(rows), 0), alone, atol=1e-5)


def test_adapters_tell_the_planted_group_and_somebody_elses_do_not(make: Callable[..., Path]) -> None:
    found = named(infer_attributes(load_target(make(epsilon=math.inf, users=400))))
    exact, private = found["attribute-adapter-exact"], found["attribute-adapter-private-1"]
    assert exact.figure.value > exact.control.value + 0.1
    assert exact.figure.value > private.figure.value - 0.1
    assert exact.bound is None
    backbone = found["attribute-backbone"]
    assert abs(backbone.figure.value - backbone.control.value) < 0.1


def test_backbone_bound_is_the_control_and_the_largest_advantage(target: Target) -> None:
    found = named(infer_attributes(target))["attribute-backbone"]
    assert found.bound is not None
    assert found.figure.value < found.bound
    assert found.bound - found.control.value == pytest.approx(0.18, abs=0.02)  # 2 Phi(mu/2) - 1 at mu = .465


def test_other_data_is_attacked_for_a_held_out_label(target: Target) -> None:
    found = named(infer_attributes(replace(target, world=replace(target.world, truth=None))))
    assert found["attribute-adapter-exact"].metric == "share of held-out labels guessed"
    assert 0.4 < found["attribute-adapter-exact"].figure.value < 1.0


def test_a_share_of_the_noise_hides_little(target: Target, bare_target: Target) -> None:
    noisy, bare = named(reconstruct(target)), named(reconstruct(bare_target))
    for name, attack in noisy.items():
        assert attack.control.value < attack.figure.value
        assert bare[name].figure.value > 0.99
        assert attack.figure.value < bare[name].figure.value
        assert "by itself" in attack.sentence
        assert "no noise" in bare[name].sentence


def test_local_epsilon_is_of_one_share(target: Target, bare_target: Target) -> None:
    for release in target.course.plan.releases:
        whole = local_epsilon(replace(release, share_variance=release.variance), delta=1e-5)
        assert local_epsilon(release, delta=1e-5) > 5 * whole
    assert local_epsilon(bare_target.course.plan.releases[0], delta=1e-5) == math.inf


def test_run_is_attacked_and_the_ledger_knows(make: Callable[..., Path]) -> None:
    run = make(epsilon=2.0)
    found = attack_run(run, Silent(), canaries=400, shadows=3)
    assert not found["beaten"]
    text = (run / "audit" / "evidence.json").read_bytes()
    content = json.loads(text)
    assert [audit["kind"] for audit in content["audits"]] == ["path", "block"]
    assert all(problems(audit) == () for audit in content["audits"])
    assert all({"name", "title", "figure", "control", "bound", "sentence"} <= set(row) for row in content["attacks"])
    with Ledger.open(run / LEDGER_NAME, None) as ledger:
        bodies = [entry.body for entry in ledger.entries() if entry.kind is Kind.AUDIT][-3:]
    assert bodies[-1]["evidence_sha256"] == hashlib.sha256(text).hexdigest()
    for body, audit in zip(bodies[:-1], content["audits"], strict=True):
        assert body["commitment"] == commitment(audit["coins"], bytes.fromhex(audit["salt"])) == audit["commitment"]
    assert check((run / EXPORT_NAME).read_bytes(), (run / CHECKPOINT_NAME).read_bytes()).problems == ()


def test_run_without_any_claim_is_attacked_too(make: Callable[..., Path]) -> None:
    run = make(epsilon=math.inf, adapter_privacy="exact")
    found = attack_run(run, Silent(), canaries=400, shadows=3)
    assert found["audits"] == []
    assert found["beaten"] == found["failed"] == []
    assert all(row["bound"] is None for row in found["attacks"] if row["name"].startswith("membership"))


def test_run_of_another_operator_is_refused(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOMESPUN_HOME", str(tmp_path))
    with pytest.raises(LedgerError, match="where the run was made"):
        attack_run(make(epsilon=2.0), Silent(), canaries=400, shadows=2)


def test_command_line(make: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["audit", "attack", str(make(epsilon=2.0)), "--canaries", "400", "--json"]) in (0, 1)
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["message_type"] == "attack"
    assert "scores" not in document["audits"][0]


@pytest.mark.parametrize(
    ("beaten", "failed", "code", "word"),
    [
        ([], [], ExitCode.OK, "proves no safety"),
        (["path:fdp"], ["path:fdp"], ExitCode.ATTACK_BEAT_BOUND, "broke its promise"),
        ([], ["path:noise-scale"], ExitCode.FAILED, "twice is a bug"),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    beaten: list[str],
    failed: list[str],
    code: ExitCode,
    word: str,
) -> None:
    content = {"audits": [], "attacks": [], "evidence": "e.json", "beaten": beaten, "failed": failed}

    class Work:
        @staticmethod
        def attack_run(*_: Any, **__: Any) -> dict[str, Any]:
            return content

    monkeypatch.setattr(attack_command.importlib, "import_module", lambda name: Work)
    assert command_line(["audit", "attack", "RUN", "--quiet"]) == code
    assert word in capsys.readouterr().out
