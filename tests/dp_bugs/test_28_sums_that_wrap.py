"""Bug 28: a modular sum wraps, mixes signed and unsigned, or leans to one side.

Published: secure sums whose modulus is chosen for the mean and not for the worst case; ``v % m`` of a generator's output,
which favours small residues; int32 read as uint32.

Seen to fail: a ring of 16 bits, a decoder that forgets the sign, a plan for a tenth of the people, and a share drawn as
``v % m``.
"""

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from homespun.privacy import LatticeOverflow, ReleasePlan, Trust, lattice, open_sum, private_sum
from homespun.privacy.gaussian_table import tail

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))


def plans() -> list[ReleasePlan]:
    """Small and large, loud and quiet, with shares and without."""
    return [
        path.one_release(population=10, min_survivors=5),
        path.one_release(population=2000, min_survivors=100, epsilon=0.5, delta=1e-6),
        path.one_release(population=60_000, min_survivors=30_000, delta=1e-7),
        path.one_release(population=5000, min_survivors=1, trust=Trust.CENTRAL, epsilon=0.3, delta=1e-6),
        path.one_release(population=5000, min_survivors=1, epsilon=float("inf"), delta=1e-6),
    ]


def check(release: ReleasePlan) -> None:
    """Everybody at the bound in one coordinate and every draw at the end of its table: the ring sum is the plain sum."""
    for sign in (1, -1):
        end = sign * tail(release.share_variance or release.variance)

        def worst(variance: int, size: int, sign: int = sign) -> NDArray[np.int64]:
            return np.full(size, sign * tail(variance), np.int64)

        row = torch.zeros(1, release.dimension)
        row[0, 0] = sign * 1e9
        one = private_sum.contribute(row, release, devices=1, noise=worst)
        per_device = sign * release.clip_units + (end if release.share_variance else 0)
        plain = release.population * per_device
        central = release.trust is Trust.CENTRAL and release.variance > 0
        many = [private_sum.to_ring(np.array([per_device] + [0] * (release.dimension - 1)) * release.population)]
        some = min(500, release.population)
        total = private_sum.ring_sum([one] * some, dimension=release.dimension)
        assert lattice.from_ring(total)[0] == some * per_device
        mean, _ = open_sum(many, release, devices=release.population, noise=worst if central else None)
        expected = (plain + (sign * tail(release.variance) if central else 0)) * release.step / release.divisor
        assert float(mean[0]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("release", plans(), ids=lambda plan: f"{plan.population} people, {plan.trust.value}")
def test_the_largest_sum_of_a_plan_is_the_plain_sum(release: ReleasePlan) -> None:
    check(release)


def narrow(integers: NDArray[np.int64]) -> NDArray[np.uint32]:
    return (integers & 0xFFFF).astype(np.uint32)


def unsigned(residues: NDArray[np.uint32]) -> NDArray[np.int64]:
    return residues.astype(np.int64)


def halved(residues: NDArray[np.uint32]) -> NDArray[np.int64]:
    return (residues.view(np.int32) // 2 * 2).astype(np.int64)


@pytest.mark.parametrize(
    ("module", "name", "bug"),
    [(private_sum, "to_ring", narrow), (lattice, "from_ring", unsigned), (lattice, "from_ring", halved)],
)
def test_the_bug_is_seen(module: Any, name: str, bug: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, bug)
    with pytest.raises(AssertionError):
        for release in plans():
            check(release)


def test_a_plan_for_fewer_people_is_seen() -> None:
    """The sum of ten times as many as planned is not opened: it could wrap, and nobody would know."""
    release = plans()[0]
    crowd = dataclasses.replace(release, population=10 * release.population)
    with pytest.raises(LatticeOverflow):
        open_sum([], release, devices=crowd.population)


def test_residues_do_not_lean() -> None:
    """A ring element of noise is uniform in its last digits; ``v % m`` for an odd m would not be."""
    release = path.one_release(dimension=60_000, population=4, min_survivors=4)
    with path.NoiseStream.seeded(3) as stream:
        vector = private_sum.contribute(torch.zeros(1, 60_000), release, devices=1, noise=stream)
    digits = np.bincount(vector % 16, minlength=16)
    assert digits.min() > 0.9 * 60_000 / 16
    leaning = np.bincount((vector % 1_000_003) % 16, minlength=16)  # what is looked for
    assert not np.array_equal(leaning, digits)
