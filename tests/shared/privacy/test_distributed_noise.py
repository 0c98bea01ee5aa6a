"""Shares of noise through the real protocol: what is left of them in a sum, whoever drops out and whoever colludes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from homespun.privacy import (
    CohortTooSmall,
    NoiseStream,
    PrivacySpec,
    Release,
    ReleasePlan,
    contribute,
    decode,
    from_ring,
    open_sum,
    to_ring,
)
from homespun.privacy.gaussian_table import tail
from homespun.secagg import Stage, rehearse

Make = Callable[..., PrivacySpec]
Vector = NDArray[np.uint32]
DIMENSION = 400_000  # a measured variance then strays by 0.22 %


def plan_of(make_spec: Make, *, population: int, honest: int, colluding: int, dimension: int) -> ReleasePlan:
    one = Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=dimension)
    changes = {"population": population, "min_survivors": honest, "colluding": colluding, "delta": 1e-6}
    return make_spec(**changes, releases=(one,)).build()["one"]


def silence(release: ReleasePlan, devices: int, seed: int) -> list[Vector]:
    """What devices without data send: a share of noise each."""
    nothing = torch.zeros(0, release.dimension)
    return [
        contribute(nothing, release, devices=1, noise=NoiseStream.seeded(seed, device)) for device in range(devices)
    ]


def through(release: ReleasePlan, vectors: list[Vector], *, gone: Iterable[int] = ()) -> Vector:
    """The sum that the server unmasks if some vanish before their masked vectors left."""
    drops = dict.fromkeys(gone, Stage.MASK)
    found = rehearse(vectors, min_survivors=release.fewest, colluding=release.colluding, drops=drops)
    assert sorted(found.survivors) == [index for index in range(len(vectors)) if index not in drops]
    return np.asarray(found.total)


def variance_of(total: Vector) -> float:
    return float((from_ring(total).astype(np.float64) ** 2).mean())


def test_without_dropouts_the_noise_of_the_sum_is_the_claim_s_within_one_percent(make_spec: Make) -> None:
    release = plan_of(make_spec, population=8, honest=8, colluding=0, dimension=DIMENSION)
    total = through(release, silence(release, 8, seed=41))
    assert variance_of(total) == pytest.approx(release.variance, rel=0.01)
    mean, told = open_sum([total], release, devices=8)
    assert told == pytest.approx(release.noise_std, rel=1e-12)
    assert float(mean.std()) == pytest.approx(release.noise_std, rel=0.005)


@pytest.mark.parametrize("gone", [(), (3,), (0, 3, 9)])
def test_the_noise_is_never_below_the_claim_s_without_the_colluders_share(
    make_spec: Make, gone: tuple[int, ...]
) -> None:
    """At the worst set that is allowed exactly the claim's is left, and above it with everybody who is there besides."""
    release = plan_of(make_spec, population=11, honest=6, colluding=2, dimension=DIMENSION)
    vectors = silence(release, 11, seed=43)
    total = through(release, vectors, gone=gone)
    left = total - vectors[1] - vectors[2]  # what two colluders sent is known, and leaves the sum as it came
    honest = 11 - len(gone) - 2
    assert variance_of(left) == pytest.approx(honest * release.share_variance, rel=0.01)
    assert variance_of(left) >= release.variance * (1 - 4 * math.sqrt(2 / DIMENSION))
    assert open_sum([total], release, devices=11 - len(gone))[1] >= release.noise_std


def test_a_sum_of_the_honest_alone_is_not_opened(make_spec: Make) -> None:
    """Six would make the noise if nobody colluded; nobody can know that."""
    release = plan_of(make_spec, population=11, honest=6, colluding=2, dimension=16)
    total = through(release, silence(release, 11, seed=44), gone=(0, 3, 9))
    open_sum([total], release, devices=8)
    with pytest.raises(CohortTooSmall, match=r"devices=7 in \[min_survivors=6 \+ colluding=2, inf\)"):
        open_sum([total], release, devices=7)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("population", [9, 20_000])
def test_the_largest_and_the_smallest_sum_come_through_the_masks_exactly(
    make_spec: Make, population: int, sign: int
) -> None:
    """Bug 28: everybody at the bound and every draw at the end of its table. Nine parties stand for all devices."""
    release = plan_of(make_spec, population=population, honest=population // 2, colluding=2, dimension=64)
    each = sign * (release.clip_units + tail(release.share_variance))
    sizes = [len(part) for part in np.array_split(np.arange(population), 9)]
    vectors = [to_ring(np.full(64, size * each, dtype=np.int64)) for size in sizes]
    total = np.asarray(rehearse(vectors, min_survivors=8, colluding=1).total)
    assert from_ring(total).tolist() == [population * each] * 64
    assert abs(population * each) < 2**31
    assert decode(total, step=release.step)[0] == population * each * release.step


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_whoever_drops_out_and_whoever_colludes_enough_shares_are_left(make_spec: Make, data: st.DataObject) -> None:
    """Counted, not measured: a noise source that always draws its variance shows how much of it is in a sum."""
    population = data.draw(st.integers(3, 40))
    honest = data.draw(st.integers(1, population))
    colluding = data.draw(st.integers(0, population - honest))
    release = plan_of(make_spec, population=population, honest=honest, colluding=colluding, dimension=2)
    survivors = data.draw(st.sets(st.integers(0, population - 1), min_size=1))
    if len(survivors) < release.fewest:
        with pytest.raises(CohortTooSmall):
            open_sum([], release, devices=len(survivors))
        return
    drawn: list[int] = []

    def draw(variance: int, size: int) -> NDArray[np.int64]:
        drawn.append(variance)
        return np.zeros(size, dtype=np.int64)

    vectors = [contribute(torch.zeros(1, 2), release, devices=1, noise=draw) for _ in survivors]
    _, told = open_sum(vectors, release, devices=len(survivors))
    assert told == pytest.approx(release.step * math.sqrt(sum(drawn)) / release.divisor)
    assert sum(drawn[colluding:]) >= release.variance
    assert told >= release.noise_std * (1 - 1e-12)
