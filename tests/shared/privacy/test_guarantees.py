"""Guarantees A, B and C: known answers, properties, and the bounds that no test may beat."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homespun.privacy
from homespun.privacy.accountant import GaussianEvent, compose, orders_for
from homespun.privacy.crosscheck import continuous_curve, gaussian_epsilon, snap
from homespun.privacy.curves import epsilon_over_time, merge, renyi_curve
from homespun.privacy.guarantees import (
    PUBLIC_DELTAS,
    Guarantee,
    adapter,
    backbone,
    figures,
    group,
    joint,
    stand_alone,
)
from homespun.privacy.terms import Relation, Unit
from homespun.privacy.tradeoff import RenyiCurve, gaussian_advantage, gaussian_power, posterior

UNITS = 4096


def event(sigma: float, count: int = 1, q: float | None = None, **more: int) -> GaussianEvent:
    return GaussianEvent(
        clip_units=UNITS,
        variance=round((sigma * UNITS) ** 2),
        count=count,
        dimension=16,
        sampling_probability=q,
        **more,
    )


@pytest.mark.parametrize(
    ("sigma", "q", "count", "delta", "proven", "second"),
    [
        (2.0, None, 10, 1e-5, 8.0794, 7.5113),
        (1.0, None, 1, 1e-5, 4.7285, 4.3772),
        (10.0, None, 500, 1e-6, 13.3764, 12.5952),
        (1.0, 0.01, 1000, 1e-5, 2.1014, 1.8282),
        (4.0, 0.1, 1000, 1e-5, 3.7362, 3.4443),
    ],
)
def test_both_accountants_give_the_known_answers(
    sigma: float, q: float | None, count: int, delta: float, proven: float, second: float
) -> None:
    point = figures(backbone([event(sigma, count, q)], delta=delta)).points[0]
    assert point.epsilon == pytest.approx(proven, abs=1e-2)  # other grids of orders
    assert point.second == pytest.approx(second, abs=1e-3)
    assert point.discrepancy == pytest.approx(point.epsilon - point.second)


def test_one_gaussian_release_has_the_figures_of_the_textbook() -> None:
    found = figures(backbone([event(1.0)], delta=1e-5))
    assert found.mu == 1.0
    assert str(found.rho) == "0.500000000000000000"
    assert dict(found.renyi)[8.0] == pytest.approx(4.0)
    continuous = [0.0033, 0.0183, 0.0924, 0.3891]
    assert [value for _, value in found.power_continuous] == pytest.approx(continuous, abs=1e-4)
    assert found.advantage_continuous == pytest.approx(0.3829, abs=1e-4)
    assert [point.delta for point in found.points] == list(PUBLIC_DELTAS)


def test_c_counts_the_backbone_at_twice_its_clip_bound() -> None:
    """mu^2 adds up, and an exchanged vector moves the sum by 2C: 4 times its part."""
    c = figures(joint([event(2.0, 3)], [event(1.5)], delta=1e-6))
    assert c.mu is not None
    assert c.mu**2 == pytest.approx(4 * 3 / 2.0**2 + 1 / 1.5**2)
    doubled = replace(event(2.0, 3), clip_units=2 * UNITS)
    assert c.points[0].epsilon == pytest.approx(compose([doubled, event(1.5)], delta=1e-6).epsilon)
    assert c.rho is not None
    assert float(c.rho) == pytest.approx(c.mu**2 / 2)


@given(
    sigma=st.floats(0.8, 20.0), own=st.floats(0.8, 20.0), count=st.integers(1, 20), q=st.sampled_from([None, 0.05, 0.5])
)
@settings(max_examples=20, deadline=None)
def test_c_is_never_below_a_or_b(sigma: float, own: float, count: int, q: float | None) -> None:
    shared, record = event(sigma, count, q), event(own)
    a = figures(backbone([shared], delta=1e-6), second=False).points[0].epsilon
    b = figures(adapter([record], delta=1e-6), second=False).points[0].epsilon
    c = figures(joint([shared], [record], delta=1e-6), second=False).points[0].epsilon
    assert a is not None
    assert b is not None
    assert c is None or c >= max(a, b) - 1e-9


@pytest.mark.parametrize("q", [0.02, 0.1, 0.5])
def test_an_exchanged_vector_in_a_sample_costs_at_least_what_the_second_accountant_says(q: float) -> None:
    """The pair of mixtures that the bound is about, by a privacy loss distribution: dp-accounting, replace-one."""
    shared = event(3.0, 20, q)
    proven = renyi_curve((), [shared]).epsilon(1e-6)
    (second,), method = continuous_curve((), replaced=[shared], deltas=(1e-6,))
    assert proven is not None
    assert "replace-one" in method
    assert second <= proven.epsilon
    unsampled = renyi_curve((), [replace(shared, sampling_probability=None)]).epsilon(1e-6)
    assert unsampled is not None
    assert proven.epsilon <= unsampled.epsilon + 0.2  # other grid of orders


def test_an_exchanged_vector_in_a_sample_is_bounded_by_what_integration_finds() -> None:
    """D_a of the two mixtures on a line, summed up, for every order that the bound speaks of."""
    q, sigma = 0.2, 1.5
    x = np.arange(-30, 30, 0.001)

    def log_mixture(mean: float) -> np.ndarray:
        normals = [-((x - at) ** 2) / (2 * sigma**2) - math.log(sigma * math.sqrt(2 * math.pi)) for at in (0.0, mean)]
        return np.logaddexp(math.log(1 - q) + normals[0], math.log(q) + normals[1])

    p, other = log_mixture(1.0), log_mixture(-1.0)
    curve = renyi_curve((), [event(sigma, 1, q)])
    for order in (2, 3, 5, 8, 20):
        exact = math.log(float(np.exp(order * p + (1 - order) * other).sum() * 0.001)) / (order - 1)
        assert exact <= float(curve.values[curve.orders == order][0]) * (1 + 1e-9)


def test_several_devices_of_one_person_move_a_sum_by_as_many_bounds() -> None:
    a = backbone([event(4.0, 5)], delta=1e-6)
    for devices in (2, 3):
        together = figures(group(a, devices=devices))
        assert together.mu == pytest.approx(devices * math.sqrt(5) / 4)
    alone, two, three = (figures(group(a, devices=devices), second=False).points[0].epsilon for devices in (1, 2, 3))
    assert alone == pytest.approx(figures(a, second=False).points[0].epsilon)
    assert alone is not None and two is not None and three is not None
    assert 2 * alone <= two + 1e-9 < three


def test_a_group_in_a_sample_is_there_as_soon_as_one_of_it_is() -> None:
    (one,) = group(backbone([event(4.0, 5, 0.1)], delta=1e-6), devices=2).events
    assert one.sampling_probability == pytest.approx(1 - 0.9**2)
    assert one.clip_units == 2 * UNITS


def test_group_refuses_what_is_not_about_presence() -> None:
    with pytest.raises(ValueError, match="device level"):
        group(adapter([event(1.0)], delta=1e-6), devices=2)
    with pytest.raises(ValueError, match="devices=0"):
        group(backbone([event(1.0)], delta=1e-6), devices=0)


def test_a_message_alone_has_its_own_share_of_the_noise() -> None:
    shares = GaussianEvent(
        clip_units=1024, variance=100 * 2**20, count=1, dimension=8, shares=100, share_variance=2**20
    )
    alone = figures(stand_alone(backbone([shares], delta=1e-5)), second=False)
    assert alone.mu == 1.0
    assert alone.points[0].epsilon == pytest.approx(4.7285, abs=1e-3)


def test_a_round_without_noise_bounds_nothing() -> None:
    found = figures(joint([event(1.0), None], [event(1.0)], delta=1e-6))
    assert found.reason == "a round ran without noise"
    assert {point.epsilon for point in found.points} == {None}


def test_a_spend_beyond_the_tables_of_the_noise_bounds_nothing() -> None:
    assert "tables" in figures(backbone([event(0.05)], delta=1e-6)).reason


def test_nothing_costs_nothing() -> None:
    found = figures(backbone([], delta=1e-6))
    assert found.points[0].epsilon == 0.0
    assert found.points[0].second == 0.0


@given(sigma=st.floats(0.5, 30.0), times=st.integers(1, 50), q=st.sampled_from([None, 0.01, 0.3]))
@settings(max_examples=25, deadline=None)
def test_identical_events_are_their_composition(sigma: float, times: int, q: float | None) -> None:
    apart = renyi_curve([event(sigma, 1, q)] * times)
    together = renyi_curve([event(sigma, times, q)])
    assert np.allclose(apart.values, together.values, rtol=1e-12)
    assert merge([event(sigma, 1, q)] * times) == (event(sigma, times, q),)


def test_order_of_events_does_not_matter() -> None:
    one, other = event(1.0, 2, 0.1), event(3.0, 5)
    first, second = (figures(backbone(events, delta=1e-6)) for events in ([one, other], [other, one]))
    assert first.points[0].epsilon == pytest.approx(second.points[0].epsilon, rel=1e-12)


@given(sigma=st.floats(0.6, 20.0), alarms=st.floats(1e-4, 0.5))
@settings(max_examples=50, deadline=None)
def test_the_proven_power_lies_above_what_the_gaussian_reaches(sigma: float, alarms: float) -> None:
    curve = renyi_curve([event(sigma)])
    mu = UNITS / math.sqrt(event(sigma).variance)
    assert alarms <= gaussian_power(mu, false_alarms=alarms) <= curve.power(alarms) + 1e-12
    assert gaussian_advantage(mu) <= curve.advantage + 1e-12
    assert gaussian_epsilon(mu, delta=1e-6) <= curve.epsilon(1e-6).epsilon  # type: ignore[union-attr]


def test_the_loss_stays_below_its_bound_as_often_as_is_said() -> None:
    """For one Gaussian the loss is normal with mean mu^2/2 and variance mu^2."""
    curve, mu = renyi_curve([event(1.0)]), 1.0
    for delta in (1e-2, 1e-4, 1e-6):
        beyond = 0.5 * math.erfc((curve.loss(delta) - mu**2 / 2) / (mu * math.sqrt(2)))
        assert beyond <= delta


def test_a_posterior_is_bayes_rule() -> None:
    assert posterior(0.5, loss=0.0) == 0.5
    assert posterior(0.5, loss=math.log(3)) == pytest.approx(0.75)
    assert posterior(0.01, loss=math.log(99)) == pytest.approx(0.5)


def test_what_is_not_a_number_is_refused() -> None:
    orders = orders_for(())
    for bad in (math.nan, math.inf, -1.0):
        with pytest.raises(ValueError, match="finite"):
            RenyiCurve(orders=orders, values=np.where(orders > 2, bad, 0.0))
    with pytest.raises(ValueError, match="above 1"):
        RenyiCurve(orders=np.array([1.0]), values=np.array([0.0]))
    with pytest.raises(ValueError, match="delta"):
        Guarantee(unit=Unit.DEVICE, relation=Relation.ADD_OR_REMOVE, delta=math.nan)
    with pytest.raises(ValueError, match="GaussianEvent"):
        backbone(["an event"], delta=1e-6)  # type: ignore[list-item]
    for bad in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="prior"):
            posterior(bad, loss=1.0)
    with pytest.raises(ValueError, match="loss"):
        posterior(0.5, loss=math.inf)


def test_snapping_never_makes_a_figure_better() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        one = event(float(rng.uniform(0.3, 30)), 1, float(rng.uniform(0.001, 0.9)))
        put = snap(one)
        assert put.variance <= one.variance
        assert put.sampling_probability >= one.sampling_probability  # type: ignore[operator]
        assert put.noise_multiplier > 0.989 * one.noise_multiplier
        assert snap(put).noise_multiplier > 0.989 * put.noise_multiplier


def test_epsilon_over_time_never_falls_and_ends_at_the_whole() -> None:
    events = [event(4.0 + (index % 3)) for index in range(450)]
    told = epsilon_over_time(events, delta=1e-6)
    values = [epsilon for _, epsilon in told if epsilon is not None]
    assert len(told) <= 200
    assert told[-1][0] == 450
    assert values == sorted(values)
    assert values[-1] == pytest.approx(compose(events, delta=1e-6).epsilon, rel=1e-9)


def test_two_hundred_noise_levels_take_less_than_three_seconds() -> None:
    import dp_accounting.pld.pld_privacy_accountant  # noqa: F401  (importing it is no part of the report)

    events = [event(3.0 + 0.01 * index, 1, 0.1) for index in range(200)]
    start = time.process_time()
    a = backbone(events, delta=1e-6)
    found = figures(a)
    for devices in (2, 3):
        figures(group(a, devices=devices), second=False)
    took = time.process_time() - start
    assert found.snapped
    assert all(point.discrepancy is not None and point.discrepancy > -1e-3 for point in found.points)
    assert took < 3.0


def test_the_accountant_that_under_reports_is_used_nowhere() -> None:
    for source in Path(homespun.privacy.__path__[0]).parents[1].rglob("*.py"):
        text = source.read_text(encoding="utf-8")
        assert "GaussianAccountant" not in text
        assert "import opacus" not in text
