from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from homespun.privacy import (
    CohortTooSmall,
    LatticeOverflow,
    NoiseStream,
    Participation,
    PrivacySpec,
    Release,
    ReleasePlan,
    Trust,
    contribute,
    from_ring,
    open_sum,
    ring_sum,
    to_ring,
)

Make = Callable[..., PrivacySpec]


def silence(variance: int, size: int) -> np.ndarray:
    return np.zeros(size, dtype=np.int64)


@pytest.fixture
def release(make_spec: Make) -> ReleasePlan:
    return make_spec(population=50, min_survivors=40, delta=1e-4).build()["basis"]


def rows(users: int, dimension: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(users, dimension, generator=torch.Generator().manual_seed(seed))


def integers(statistic: torch.Tensor, release: ReleasePlan) -> np.ndarray:
    return from_ring(contribute(statistic, release, devices=max(1, len(statistic)), noise=silence))


def test_bounded_contribution(release: ReleasePlan) -> None:
    """Bugs 1, 3, 14: adding one device moves the integer sum by at most Delta, exactly, whatever it sends."""
    base = integers(rows(20), release)
    for value in (0.0, 1e-40, 0.01, 5.0, 3e38, float("inf"), float("nan")):
        for one in (torch.full((1, 64), value), torch.cat([torch.full((1, 1), value), torch.zeros(1, 63)], dim=1)):
            moved = integers(torch.cat([rows(20), one]), release) - base
            assert sum(int(v) ** 2 for v in moved) <= release.clip_units**2


def test_replacing_costs_at_most_twice(release: ReleasePlan) -> None:
    """Bug 3: swapping one device moves by up to 2 Delta, which is why the relation is written in the claim."""
    plus, minus = torch.zeros(1, 64), torch.zeros(1, 64)
    plus[0, 0], minus[0, 0] = 1e9, -1e9
    assert abs(integers(plus, release) - integers(minus, release)).sum() == 2 * release.clip_units


def test_no_silence(release: ReleasePlan) -> None:
    """Bugs 13, 14: rows of NaN, rows of zeros and no rows at all all give a vector of the same kind."""
    for statistic in (torch.full((3, 64), float("nan")), torch.zeros(3, 64), torch.empty(0, 64)):
        vector = contribute(statistic, release, devices=3, noise=NoiseStream())
        assert vector.dtype == np.uint32
        assert vector.shape == (64,)
        assert not integers(statistic, release).any()


def test_chunk_independence(release: ReleasePlan) -> None:
    """Bug 11."""
    statistic = rows(30) * 3
    whole = contribute(statistic, release, devices=30, noise=silence)
    for size in (1, 7, 29):
        chunks = [contribute(part, release, devices=len(part), noise=silence) for part in statistic.split(size)]
        assert np.array_equal(ring_sum(chunks, dimension=64), whole)


def test_every_coordinate_noisy(make_spec: Make) -> None:
    """Bugs 7 and 9: with a statistic of zeros, each of the coordinates has the promised standard deviation."""
    plan = make_spec(population=50, min_survivors=40, delta=1e-4).build()
    for release in plan.releases:
        stream = NoiseStream.seeded(1, release.name)
        zeros = torch.zeros(50, release.dimension)
        draws = np.stack(
            [
                open_sum([contribute(zeros, release, devices=50, noise=stream)], release, devices=50)[0].numpy()
                for _ in range(2000)
            ]
        )
        expected = release.noise_std * (50 / 40) ** 0.5
        assert draws.std(axis=0) == pytest.approx(expected, rel=0.08)  # each coordinate
        assert draws.std() == pytest.approx(expected, rel=0.01)


def test_central_noise(make_spec: Make) -> None:
    release = make_spec(trust=Trust.CENTRAL).build()["basis"]
    stream = NoiseStream.seeded(2)
    vector = contribute(rows(900), release, devices=900, noise=stream)
    assert np.array_equal(vector, contribute(rows(900), release, devices=900, noise=silence))  # devices add nothing
    exact = open_sum([vector], release, devices=900, noise=silence)[0]
    draws = np.stack([(open_sum([vector], release, devices=900, noise=stream)[0] - exact).numpy() for _ in range(1000)])
    assert draws.std() == pytest.approx(release.noise_std, rel=0.02)
    assert draws.std(axis=0).min() > 0.8 * release.noise_std


@pytest.mark.parametrize("survivors", [40, 45, 50])
def test_noise_floor(release: ReleasePlan, survivors: int) -> None:
    """Bug 6: with any allowed number of dropouts the noise is at least what is claimed, and what is told."""
    stream = NoiseStream.seeded(3, survivors)
    draws, told = [], set()
    for _ in range(120):
        vectors = [contribute(torch.zeros(1, 64), release, devices=1, noise=stream) for _ in range(survivors)]
        mean, std = open_sum(vectors, release, devices=survivors)
        draws.append(mean.numpy())
        told.add(std)
    (std,) = told
    assert std >= release.noise_std * (1 - 1e-12)
    assert np.stack(draws).std() == pytest.approx(std, rel=0.035)


def test_too_few_survivors_are_not_opened(release: ReleasePlan) -> None:
    with pytest.raises(CohortTooSmall, match="devices=39"):
        open_sum([], release, devices=39)
    with pytest.raises(LatticeOverflow, match="devices=51"):
        open_sum([], release, devices=51)


def test_colluders_take_their_noise_away_and_the_promise_is_left(make_spec: Make) -> None:
    """What somebody knows who has the shares of ``colluding`` devices is the sum less those shares."""
    plan = make_spec(population=50, min_survivors=30, colluding=10, delta=1e-4).build()
    release, left = plan["basis"], []
    for number in range(150):
        honest, others = NoiseStream.seeded(31, number), NoiseStream.seeded(32, number)
        mine = [contribute(torch.zeros(1, 64), release, devices=1, noise=honest) for _ in range(30)]
        known = contribute(torch.zeros(0, 64), release, devices=10, noise=others)
        total = ring_sum([*mine, known], dimension=64)
        _, told = open_sum([total], release, devices=40)
        left.append(from_ring(total - known) * release.step / release.divisor)
    assert told == pytest.approx(release.noise_std * math.sqrt(40 / 30))
    assert np.stack(left).std() == pytest.approx(release.noise_std, rel=0.03)  # 9,600 draws: 0.7 % is one sigma
    with pytest.raises(CohortTooSmall, match=r"devices=39 in \[min_survivors=30 \+ colluding=10, inf\)"):
        open_sum([total], release, devices=39)


def test_public_divisor(release: ReleasePlan) -> None:
    """Bugs 4 and 5: one device less, same noise: the difference is that device's row over N, nothing is rescaled."""
    statistic = rows(50) * 0.01
    draws = []
    for users in (50, 49):
        stream = NoiseStream.seeded(9)
        vector = contribute(statistic[:users], release, devices=50, noise=stream)
        draws.append(open_sum([vector], release, devices=50)[0].numpy())
    lone = integers(statistic[49:], release) * release.step / 50
    assert np.allclose(draws[0] - draws[1], lone, rtol=0, atol=1e-15)
    assert release.divisor == 50.0


def test_an_empty_poisson_cohort_still_releases_noise(make_spec: Make) -> None:
    """Bugs 4 and 13: divisor q N whatever the size of the sample, and no abort that would reveal it."""
    release = make_spec(trust=Trust.CENTRAL, participation=Participation.poisson(0.1)).build()["basis"]
    mean, std = open_sum([], release, devices=0, noise=NoiseStream())
    assert (mean != 0).all()
    assert std == release.noise_std == pytest.approx(release.step * release.integer_std / 100.0)


def test_public_lattice(release: ReleasePlan) -> None:
    """Bug 26: what is released is a whole number of public steps, noise included; neighbours share the support."""
    for users in (50, 49):
        vector = contribute(rows(users), release, devices=50, noise=NoiseStream())
        mean, _ = open_sum([vector], release, devices=50)
        whole = mean.numpy() * release.divisor / release.step
        assert np.abs(whole - np.rint(whole)).max() < 1e-6


def test_extreme_sum_does_not_wrap(make_spec: Make) -> None:
    """Bug 28: every device at its bound in the same coordinate, every share at the end of its table."""
    from homespun.privacy.gaussian_table import tail

    one = Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=2)
    release = make_spec(population=60_000, min_survivors=30_000, delta=1e-7, releases=(one,)).build()["one"]
    worst = tail(release.share_variance)
    for sign in (1, -1):
        row = torch.tensor([[sign * 1e9, 0.0]])
        device = contribute(row, release, devices=1, noise=lambda v, size, end=sign * worst: np.full(size, end))
        total = ring_sum([device] * 60_000, dimension=2)
        assert from_ring(total).tolist() == [sign * 60_000 * (release.clip_units + worst), sign * 60_000 * worst]


def test_cell_equals_its_devices(release: ReleasePlan) -> None:
    """The same rows in one cell or one device each, with noise that adds up: the same sum to the last bit."""
    statistic = rows(13) * 2

    def linear(variance: int, size: int) -> np.ndarray:
        return np.full(size, variance, dtype=np.int64)

    cell = contribute(statistic, release, devices=13, noise=linear)
    alone = [contribute(statistic[u : u + 1], release, devices=1, noise=linear) for u in range(13)]
    assert np.array_equal(ring_sum(alone, dimension=64), cell)


def test_mean_is_the_mean_without_noise(quiet_spec: PrivacySpec) -> None:
    release = quiet_spec.build()["basis"]
    statistic = rows(900) * 0.05
    mean, std = open_sum([contribute(statistic, release, devices=900, noise=NoiseStream())], release, devices=900)
    assert mean.dtype == torch.float64
    assert std == 0.0
    assert torch.allclose(mean, statistic.double().sum(0) / 1000, atol=release.step)


def test_a_row_never_goes_without_its_share(release: ReleasePlan) -> None:
    for users, devices in ((3, 2), (0, 0), (51, 51)):
        with pytest.raises(ValueError, match="Expected devices="):
            contribute(torch.zeros(users, 64), release, devices=devices, noise=silence)
    for statistic in (torch.zeros(1, 63), torch.zeros(64)):
        with pytest.raises(ValueError, match="Expected statistic of shape"):
            contribute(statistic, release, devices=1, noise=silence)


def test_noise_source_of_the_wrong_kind_is_refused(release: ReleasePlan) -> None:
    for wrong in (lambda v, size: np.zeros(size), lambda v, size: np.zeros(1, dtype=np.int64)):
        with pytest.raises(ValueError, match="int64 draws"):
            contribute(torch.zeros(1, 64), release, devices=1, noise=wrong)


def test_noise_is_where_the_trust_model_says(make_spec: Make, release: ReleasePlan) -> None:
    central = make_spec(trust=Trust.CENTRAL).build()["basis"]
    with pytest.raises(ValueError, match="Expected noise with trust='central'"):
        open_sum([], central, devices=900)
    with pytest.raises(ValueError, match="Expected noise=None"):
        open_sum([], release, devices=45, noise=silence)


def test_speed(make_spec: Make) -> None:
    """Generous limits: 4 ms a cell of 1000 and 150 us a device are what a quiet core does."""
    import timeit

    one = Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=432)
    release = make_spec(releases=(one,)).build()["one"]
    stream = NoiseStream()
    for users, limit in ((1000, 0.04), (1, 0.0015)):
        statistic = rows(users, 432)
        contribute(statistic, release, devices=users, noise=stream)  # builds the tables
        taken = (
            min(
                timeit.repeat(
                    lambda s=statistic, u=users: contribute(s, release, devices=u, noise=stream), number=3, repeat=4
                )
            )
            / 3
        )
        assert taken < limit


def test_to_ring_of_a_replaced_plan_is_still_exact(release: ReleasePlan) -> None:
    """Another lattice gives another integer sum of the same real one."""
    coarse = replace(release, clip_units=1024, share_variance=0, variance=0)
    statistic = rows(10) * 0.1
    fine_sum, coarse_sum = integers(statistic, release) * release.step, integers(statistic, coarse) * coarse.step
    assert np.abs(fine_sum - coarse_sum).max() <= 10 * coarse.step
    assert to_ring(np.array([-1])).tolist() == [2**32 - 1]
