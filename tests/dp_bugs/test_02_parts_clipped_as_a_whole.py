"""Bug 2: every layer is clipped to C, and the whole is accounted as if it had been.

Published: the flat and the per-layer norm are both called ``max_grad_norm``; with k layers the sensitivity is C sqrt(k).

Seen to fail: the mutant clips the parts of a shipped phase's row one by one, and the check finds sqrt(k) C.
"""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from homespun.personal import Pairs
from homespun.privacy import Phase, private_sum

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PAIRS: Pairs = path.people(30)


def parts(phase: Phase[object, Pairs]) -> list[Tensor]:
    """Random subsets of a row: the columns of a matrix, the gradient of an item, anything that could be a layer."""
    draw = torch.Generator().manual_seed(0)
    places = torch.randperm(phase.dimension, generator=draw)
    return [part for part in places.tensor_split(min(4, phase.dimension)) if len(part)]


def check(phase: Phase[object, Pairs]) -> None:
    release = path.one_release(dimension=phase.dimension, clip_norm=phase.clip_norm)
    statistic = phase.statistic(path.taught(), PAIRS, 0)
    loud = torch.zeros(len(PAIRS.chosen), phase.dimension)
    for part in parts(phase):  # every part at least at the bound, whatever it was
        loud[:, part] = statistic[:, part] + 10 * phase.clip_norm
    for rows in (statistic, loud):
        for row in rows:
            assert path.squares(path.integers(row[None], release)) <= release.clip_units**2


@pytest.mark.parametrize("name", ["mean", "basis", "spread", "refine"])
def test_the_clip_norm_bounds_the_whole_row(name: str) -> None:
    check(next(phase for phase in path.shipped(PAIRS) if phase.name == name))


@pytest.mark.parametrize("name", ["mean", "basis", "spread", "refine"])
def test_the_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    phase = next(phase for phase in path.shipped(PAIRS) if phase.name == name)

    def by_layer(rows: Tensor, *, clip_norm: float) -> Tensor:
        clipped = rows.clone()
        for part in parts(phase):
            norm = rows[:, part].norm(dim=1, keepdim=True)
            clipped[:, part] = rows[:, part] * (clip_norm / norm).clamp(max=1.0)
        return clipped

    monkeypatch.setattr(private_sum, "clip_users", by_layer)
    monkeypatch.setattr(
        private_sum,
        "encode",
        lambda rows, *, clip_norm, clip_units: np.trunc(rows.numpy() * (clip_units / clip_norm)).astype(np.int64),
    )
    with pytest.raises(AssertionError):
        check(phase)
