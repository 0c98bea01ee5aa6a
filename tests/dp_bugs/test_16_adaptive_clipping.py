"""Bug 16: the clip norm follows the data, and the count behind it has no noise or no share of the budget.

Published: adaptive clipping whose quantile count is released as it is; configurations that accept zero noise for it.

There is no adaptive clipping here: every clip norm is a constant of the plan, fixed before any label is read. So the bug
to look for is that one becomes adaptive by accident. Seen to fail: a phase whose norm is the median of its rows.
"""

import dataclasses
import math
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from homespun.personal import Backbone, Pairs, preference_learner
from homespun.privacy import NoiseStream, PrivacySpec, Release, private_sum
from homespun.simulations.workload import geometry_of

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE = 12


def norms(pairs: Pairs, *, epsilon: float = 2.0) -> list[float]:
    """What the shipped learner clips to, for a population in which only labels differ."""
    public = geometry_of(path.people(PEOPLE), seed=0)
    learner = preference_learner(public, rank=3, epsilon=epsilon, delta=1e-5)
    backbone = path.taught()
    for phase in learner.phases:
        rows = phase.statistic(backbone, pairs, 0)
        backbone = phase.update(backbone, rows.double().mean(0), 1e-3, 0)
    return [phase.clip_norm for phase in learner.phases]


def test_clip_norms_are_the_same_whatever_people_prefer() -> None:
    populations = [path.people(PEOPLE, seed=seed) for seed in (0, 1)]
    loud = dataclasses.replace(populations[0], weight=populations[0].weight * 1e6)
    found = {tuple(norms(pairs)) for pairs in (*populations, loud)}
    assert len(found) == 1
    (once,) = found
    again = [release.clip_norm for release in path.plan_of(
        *(Release(name=f"r{i}", rounds=1, share=1 / 3, clip_norm=norm, dimension=3) for i, norm in enumerate(once))
    ).releases]  # fmt: skip
    assert again == list(once)


@dataclasses.dataclass
class Median:
    """Clips to the median of what it has seen."""

    seen: list[float] = dataclasses.field(default_factory=lambda: [1.0])
    name: str = "one"
    rounds: int = 3
    dimension: int = 64

    @property
    def clip_norm(self) -> float:
        return sorted(self.seen)[len(self.seen) // 2]

    def statistic(self, backbone: Backbone, data: Pairs, round: int) -> torch.Tensor:
        rows = torch.full((data.users, 64), 5.0)
        self.seen += rows.norm(dim=1).tolist()
        return rows

    def update(self, backbone: Backbone, mean: torch.Tensor, noise_std: float, round: int) -> Backbone:
        return dataclasses.replace(backbone, version=backbone.version + 1)


def test_a_phase_whose_norm_moves_is_declined_by_every_device(tmp_path: Path) -> None:
    """What bounds a row is the plan's number; a device whose phase has another one by now answers nothing."""
    phase = Median()
    release = Release(name="one", rounds=3, share=1.0, clip_norm=phase.clip_norm, dimension=64)
    plan = path.plan_of(release, population=PEOPLE, min_survivors=PEOPLE)
    with pytest.raises(Exception, match=f"Expected devices=[0-9] in .min_survivors={PEOPLE}"):
        path.walk(plan, [phase], path.people(PEOPLE), tmp_path)


def test_the_bound_is_the_plans_whatever_the_phase_says() -> None:
    release = path.one_release(clip_norm=0.25)
    row = torch.zeros(1, 64)
    row[0, 0] = 9.0
    assert path.integers(row, release)[0] * release.step == 0.25


def test_a_plan_without_noise_claims_nothing() -> None:
    plan = path.plan_of(Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=4), epsilon=math.inf)
    assert plan.claim.epsilon is None
    assert "nothing is claimed" in plan.claim.reason
    with NoiseStream.seeded(1) as stream:
        vector = private_sum.contribute(torch.zeros(1, 4), plan["one"], devices=1, noise=stream)
    assert not vector.any()


def test_there_is_no_field_for_a_quantile() -> None:
    """Nothing that could be adapted: a release has a norm, not a way of finding one."""
    fields: set[Any] = {field.name for kind in (Release, PrivacySpec) for field in dataclasses.fields(kind)}
    assert "clip_norm" in fields
    assert not [name for name in fields if "quantile" in name or "adaptive" in name or "target" in name]
