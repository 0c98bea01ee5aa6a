"""Bug 26: noise is added in floating point, and which values can come out depends on the data.

Published: Mironov 2012 (last bits of Laplace noise), arXiv:2112.05307 (up to 92.6 % success against DP-SGD's Gaussian),
2207.13793 and 2207.10635 (rounding in sums that is larger than the sensitivity).

Seen to fail: the same path with float noise, whose outputs are off the lattice, and one whose lattice follows the data.
"""

import math
import runpy
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from homespun.privacy import NoiseStream, Release, ReleasePlan, Trust, lattice, open_sum, private_sum

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE = 20


def released(release: ReleasePlan, rows: torch.Tensor, *, seed: int) -> torch.Tensor:
    with NoiseStream.seeded(seed) as stream:
        vector = private_sum.contribute(rows, release, devices=PEOPLE, noise=stream)
        noise = stream if release.trust is Trust.CENTRAL else None
        return open_sum([vector], release, devices=PEOPLE, noise=noise)[0]


def check(trust: Trust) -> None:
    """Neighbours share the support: whole steps over a public number, with no bit below."""
    release = path.one_release(trust=trust, population=PEOPLE, min_survivors=PEOPLE, clip_norm=0.1)
    step = Fraction(release.clip_norm) / release.clip_units
    assert math.log2(release.clip_units).is_integer()  # so a step is a float, exactly
    rows = path.some_rows(PEOPLE) * 0.01
    for people in (rows, rows[:-1], rows[:0], rows * 1e-7, rows * 1e7):
        for seed in range(3):
            mean = released(release, people, seed=seed)
            assert mean.dtype == torch.float64
            whole = np.rint(mean.numpy() * release.divisor / release.step)
            exact = torch.from_numpy(whole * float(step) / release.divisor)
            assert torch.equal(mean, exact)
            assert np.abs(whole).max() < 2**31


@pytest.mark.parametrize("trust", list(Trust))
def test_what_is_released_lies_on_a_public_lattice(trust: Trust) -> None:
    check(trust)


@pytest.mark.parametrize("trust", list(Trust))
@pytest.mark.parametrize("bug", ["noise in floats", "a step that follows the data"])
def test_the_bug_is_seen(bug: str, trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    real = private_sum.decode

    def decode(total: Any, *, step: float) -> Any:
        values = real(total, step=step)
        if bug == "noise in floats":
            return values + np.random.default_rng(0).normal(0, step, len(values))
        return values * (1 + 1e-9 * float(np.abs(values).max()))

    monkeypatch.setattr(private_sum, "decode", decode)
    with pytest.raises(AssertionError):
        check(trust)


def test_every_value_near_one_can_come_from_either_neighbour() -> None:
    """Both neighbours reach the same whole numbers: no residue, no parity, no gap tells them apart."""
    release = path.one_release(population=2, min_survivors=1, dimension=20_000, epsilon=8.0, delta=1e-3)
    one = torch.zeros(1, 20_000)
    one[0] = release.clip_norm / 20_000**0.5
    sets = []
    for rows in (one, one[:0]):
        with NoiseStream.seeded(5) as stream:
            vector = private_sum.contribute(rows, release, devices=1, noise=stream)
        sets.append(lattice.from_ring(vector))
    for modulus in (2, 3, 4, 16):
        counts = [np.bincount(values % modulus, minlength=modulus) for values in sets]
        assert min(counts[0].min(), counts[1].min()) > 0.8 * 20_000 / modulus


def test_rounding_in_the_sum_is_no_side_channel() -> None:
    """Sums of a thousand people in any order and grouping are equal to the last bit; float sums are not."""
    plan = path.plan_of(
        Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=64), population=1000, min_survivors=1000
    )
    rows = path.some_rows(1000)
    exact = path.integers(rows, plan["one"])
    assert np.array_equal(path.integers(rows.flip(0), plan["one"]), exact)
    assert np.array_equal(sum(path.integers(part, plan["one"]) for part in rows.split(7)), exact)
    assert not torch.equal(rows.sum(0), torch.stack([part.sum(0) for part in rows.split(7)]).sum(0))  # the bug
