"""Bug 18: the optimiser's state, a running average or a cached gradient is made of exact sums and leaves with the model.

Published: Adam moments computed before the noise and saved in the checkpoint; opacus#688 (different samples a round
behind one accountant).

Here nothing lives on the server but the backbone, and `update` is told the noisy mean, its noise and the round. The test
replays: the same vectors, without any of the people behind them, must give the same state to the last bit.

Seen to fail: a phase that remembers its exact rows (a moment of an optimiser), and one that looks at the data again.
"""

import dataclasses
import inspect
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from homespun.personal import Backbone, Pairs
from homespun.privacy import Phase, Plan, Release, to_ring
from homespun.wire import Contribution, RoundRequest, UnknownPhase

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE = 8
MEMORY: list[Tensor] = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replayed:
    """Answers what was recorded; has nobody's preferences."""

    pairs: Pairs
    phases: Any
    noise: Any
    recorded: dict[int, list[np.ndarray]]

    def contribute(self, request: RoundRequest) -> Contribution:
        if not self.recorded.get(request.round):
            raise UnknownPhase("nothing was recorded")
        return Contribution(vector=to_ring(self.recorded[request.round].pop(0)), devices=1)


def planned(phases: list[Phase[Backbone, Pairs]]) -> Plan:
    releases = [
        Release(name=p.name, rounds=p.rounds, share=1 / len(phases), clip_norm=p.clip_norm, dimension=p.dimension)
        for p in phases
    ]
    plan: Plan = path.plan_of(*releases, population=PEOPLE, min_survivors=PEOPLE)
    return plan


def check(phases: list[Phase[Backbone, Pairs]], folder: Path) -> None:
    pairs = path.people(PEOPLE)
    first = path.walk(planned(phases), phases, pairs, folder / "first")
    recorded: dict[int, list[np.ndarray]] = {}
    for number, vector in enumerate(first.vectors):
        recorded.setdefault(number // PEOPLE, []).append(vector)
    nobody = dataclasses.replace(pairs, weight=torch.zeros_like(pairs.weight), features=pairs.features * 0)
    MEMORY.clear()
    again = path.walk(
        planned(phases), phases, nobody, folder / "again",
        contributor=lambda **fields: Replayed(**fields, recorded=recorded),
    )  # fmt: skip
    assert [report.state.digest for report in again.reports] == [report.state.digest for report in first.reports]
    for a, b in zip(
        *(sorted((folder / name).rglob("backbone.safetensors")) for name in ("first", "again")), strict=True
    ):
        assert a.read_bytes() == b.read_bytes()


def test_the_state_is_made_of_noisy_sums_alone(tmp_path: Path) -> None:
    check(path.shipped(path.people(PEOPLE)), tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Momentum:
    """Remembers the exact gradient for its next step, as an optimiser does."""

    inner: Phase[Backbone, Pairs]

    name = property(lambda self: self.inner.name)
    rounds = property(lambda self: self.inner.rounds)
    clip_norm = property(lambda self: self.inner.clip_norm)
    dimension = property(lambda self: self.inner.dimension)

    def statistic(self, backbone: Backbone, data: Pairs, round: int) -> Tensor:
        rows = self.inner.statistic(backbone, data, round)
        MEMORY.append(rows.mean(0))
        return rows

    def update(self, backbone: Backbone, mean: Tensor, noise_std: float, round: int) -> Backbone:
        moment = 0.9 * (MEMORY[-1].double() if MEMORY else 0.0) + 0.1 * mean
        return self.inner.update(backbone, moment, noise_std, round)


def test_the_bug_is_seen(tmp_path: Path) -> None:
    phases = path.shipped(path.people(PEOPLE))
    with pytest.raises(AssertionError):
        check([Momentum(inner=phases[0]), *phases[1:]], tmp_path)


@pytest.mark.parametrize("phase", path.shipped(path.people(PEOPLE)), ids=lambda phase: phase.name)
def test_an_update_is_told_the_noisy_mean_and_public_numbers(phase: Phase[Backbone, Pairs]) -> None:
    assert list(inspect.signature(type(phase).update).parameters) == ["self", "backbone", "mean", "noise_std", "round"]
    assert type(phase).__dataclass_params__.frozen  # and can remember nothing
    kept = {field.name: getattr(phase, field.name) for field in dataclasses.fields(phase)}
    assert not [name for name, value in kept.items() if isinstance(value, Pairs | list | dict)]
