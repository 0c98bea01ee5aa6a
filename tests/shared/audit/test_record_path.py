from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from homespun.audit.evidence import problems
from homespun.audit.record_path import ReleaseBlock, audit_blocks
from homespun.personal.private import BlockSum, RecordRows, release_block
from homespun.privacy import NoiseStream, discrete_gaussian
from homespun.privacy.record_plan import RecordPlan, build_record_plan


@pytest.fixture(scope="module")
def plan() -> RecordPlan:
    return build_record_plan(4.0, 1e-5, dimension=25)


class Draws:
    """Stands in for a stream and changes what it draws."""

    def __init__(self, change: Callable[[int], int], seed: int | None = None) -> None:
        self.change = change
        self.stream = NoiseStream() if seed is None else NoiseStream.seeded(seed)

    def discrete_gaussian(self, variance: int, size: int) -> NDArray[np.int64]:
        return discrete_gaussian(self.change(variance), size, stream=self.stream)


def unclipped(rows: RecordRows, plan: RecordPlan, *, block: int, noise: NoiseStream) -> BlockSum:
    silent = release_block(replace(rows, values=torch.zeros_like(rows.values)), plan, block=block, noise=noise)
    return replace(silent, total=silent.total + rows.values.double().sum(dim=1))


def clipped_together(rows: RecordRows, plan: RecordPlan, *, block: int, noise: NoiseStream) -> BlockSum:
    """Bounds the sum of a block and not each record."""
    mean = rows.values.sum(dim=1, keepdim=True)
    alone = torch.zeros_like(rows.values)
    alone[:, :1] = mean
    return release_block(replace(rows, values=alone), plan, block=block, noise=noise)


def mean_instead_of_sum(rows: RecordRows, plan: RecordPlan, *, block: int, noise: NoiseStream) -> BlockSum:
    """Divides by how many places are not blank."""
    found = release_block(rows, plan, block=block, noise=noise)
    return replace(found, total=found.total / (rows.values != 0).any(dim=2).sum(dim=1).clamp(min=1).unsqueeze(1))


def test_correct_build_passes(plan: RecordPlan) -> None:
    failed = [audit_blocks(plan, canaries=1000).failed for _ in range(10)]
    assert sum(bool(names) for names in failed) <= 2
    assert not any({"snj", "fdp"} & set(names) for names in failed)


def test_estimate_meets_the_plan(plan: RecordPlan) -> None:
    audit = audit_blocks(plan, canaries=4000)
    assert audit.estimate.low < plan.epsilon
    assert audit.estimate.value == pytest.approx(3.7, abs=0.5)  # of the exact Gaussian; the claim is the Renyi bound
    assert problems(audit.to_dict()) == ()


@pytest.mark.parametrize(
    ("release", "by"),
    [
        (unclipped, {"fdp", "snj"}),
        (clipped_together, {"canaries-heard"}),
        (mean_instead_of_sum, {"noise-scale", "public-lattice"}),
    ],
)
def test_broken_release_is_caught(plan: RecordPlan, release: ReleaseBlock, by: set[str]) -> None:
    assert by <= set(audit_blocks(plan, canaries=1000, release=release).failed)


@pytest.mark.parametrize(
    ("change", "seed", "by"),
    [
        (lambda variance: variance // 4, None, {"gauss", "noise-scale"}),
        (lambda variance: 0, None, {"fdp", "snj", "silent-coordinates"}),
        (lambda variance: variance, 1, {"repeated-noise"}),
    ],
)
def test_broken_noise_is_caught(plan: RecordPlan, change: Callable[[int], int], seed: int | None, by: set[str]) -> None:
    audit = audit_blocks(plan, canaries=1000, noise=lambda: Draws(change, seed))  # type: ignore[arg-type,return-value]
    assert by <= set(audit.failed)


def test_odd_numbers_are_refused(plan: RecordPlan) -> None:
    with pytest.raises(ValueError, match="canaries=7"):
        audit_blocks(plan, canaries=7)
