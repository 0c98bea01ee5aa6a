"""Bug 1: the average (or the batch) is clipped instead of each person; or nothing is, because an option is ignored.

Published: opacus#664 (ghost clipping ignored ``max_grad_norm``), #751 (biases left out); arXiv:2202.12219 found an
implementation whose sensitivity lacked the batch size: epsilon above 2.79 where 0.21 was claimed.

Seen to fail: each mutant below takes the place of the real step, and the same check that passes without it fails.
"""

import math
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from homespun.privacy import open_sum, private_sum

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))


def check(*, population: int = 50) -> None:
    """Among others at their bound, one person with a huge row moves the sum by at most C, the mean by C / N."""
    release = path.one_release(population=population, min_survivors=population)
    others = torch.zeros(population - 1, 64)
    others[:, 0] = -1e3  # all pull the other way: a clipped average could flip from -C to C
    for size in (1e-3, 1.0, 1e30):
        huge = torch.zeros(1, 64)
        huge[0, 0] = size
        base = path.integers(others, release)
        moved = path.integers(torch.cat([others, huge]), release) - base
        assert path.squares(moved) <= release.clip_units**2
        assert path.squares(moved) >= (min(size, 1.0) * release.clip_units * 0.9) ** 2  # and is not lost either
    ring = private_sum.contribute(torch.cat([others, huge]), release, devices=population, noise=path.silence)
    alone = private_sum.contribute(others, release, devices=population, noise=path.silence)
    means = [open_sum([vector], release, devices=population)[0] for vector in (ring, alone)]
    influence = float((means[0] - means[1]).norm())
    assert influence <= release.clip_norm / population * (1 + 1e-9)
    assert release.noise_std / influence >= release.noise_multiplier * (1 - 1e-9)  # what the accountant was told


@pytest.mark.parametrize("population", [3, 50, 500])
def test_one_person_moves_the_sum_by_at_most_the_clip_norm(population: int) -> None:
    check(population=population)


def averaged(rows: Tensor, *, clip_norm: float) -> Tensor:
    mean = rows.double().mean(0, keepdim=True)
    return (mean * min(1.0, clip_norm / float(mean.norm())) * len(rows)).float()


def by_batch(rows: Tensor, *, clip_norm: float) -> Tensor:
    total = rows.double().sum(0, keepdim=True)
    return (total * min(1.0, clip_norm / float(total.norm()))).float()


def half_the_row(rows: Tensor, *, clip_norm: float) -> Tensor:
    """The biases, or whatever else a hook does not see."""
    norms = rows[:, 32:].norm(dim=1, keepdim=True)
    return rows * (clip_norm / norms).clamp(max=1.0)


def ignored(rows: Tensor, *, clip_norm: float) -> Tensor:
    return rows


MUTANTS: list[Callable[..., Tensor]] = [averaged, by_batch, half_the_row, ignored]


def unguarded(rows: Tensor, *, clip_norm: float, clip_units: int) -> np.ndarray:
    return np.trunc(rows.double().numpy() * (clip_units / clip_norm)).clip(-(2.0**60), 2.0**60).astype(np.int64)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_bug_is_seen(mutant: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_sum, "clip_users", mutant)
    monkeypatch.setattr(private_sum, "encode", unguarded)  # the lattice would hold the bound on its own
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("step", ["clip_users", "encode"])
def test_either_of_two_steps_holds_the_bound_alone(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clipping in floats and the check in whole numbers: one may break without anybody being exposed."""
    release = path.one_release()
    rows = torch.full((1, 64), 1e9)
    monkeypatch.setattr(private_sum, step, {"clip_users": ignored, "encode": unguarded}[step])
    assert math.isqrt(path.squares(path.integers(rows, release))) <= release.clip_units
