from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.privacy import (
    LatticeOverflow,
    Participation,
    Plan,
    PrivacySpec,
    Release,
    ReleasePlan,
    Trust,
    canonical_json,
    compose,
    plan_events,
    release_event,
)
from homespun.privacy.accountant import event_rdp, to_epsilon
from homespun.privacy.gaussian_table import LARGEST_TABLE, tail

Make = Callable[..., PrivacySpec]
ONE = Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=8)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), -math.inf])
def test_epsilon_out_of_range_says_what_to_write(make_spec: Make, epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"Expected epsilon=.* write inf for no noise"):
        make_spec(epsilon=epsilon)


@pytest.mark.parametrize("delta", [0.0, -1e-9, 1e-3, 0.5, float("nan")])
def test_delta_must_stay_below_one_over_the_population(make_spec: Make, delta: float) -> None:
    with pytest.raises(ValueError, match="Expected delta="):
        make_spec(delta=delta)


def test_weak_delta_is_advised_against(make_spec: Make) -> None:
    assert make_spec(delta=1e-4).advice == ()
    assert "1/(10 N)" in make_spec(delta=5e-4).advice[0]


def test_poisson_needs_a_trusted_server(make_spec: Make) -> None:
    with pytest.raises(
        ValueError, match="share cannot be sized .* amplification by sampling cannot hold against a server"
    ):
        make_spec(participation=Participation.poisson(0.1))
    assert (
        make_spec(participation=Participation.poisson(0.1), trust=Trust.CENTRAL).participation.sampling_probability
        == 0.1
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"population": 0}, "population=0"),
        ({"min_survivors": 0}, "min_survivors=0"),
        ({"min_survivors": 1001}, "min_survivors=1001"),
        ({"colluding": -1}, "colluding=-1 in \\[0, 200\\]"),
        ({"colluding": 201}, "colluding=201 in \\[0, 200\\]"),
        ({"colluding": 1, "trust": Trust.CENTRAL}, "colluding=1 in \\[0, 0\\]"),
        ({"releases": ()}, "at least one release"),
        ({"releases": (ONE, ONE)}, "distinct names"),
        ({"releases": (Release(name="a", rounds=1, share=0.9, clip_norm=1.0, dimension=1),)}, "sum to 1"),
        ({"unit": "device"}, "as a Unit"),
        ({"trust": "central"}, "as a Trust"),
        ({"relation": None}, "as a Relation"),
        ({"participation": "full"}, "as a Participation"),
    ],
)
def test_bad_fields_are_refused(make_spec: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_spec(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Bad name"},
        {"rounds": 0},
        {"share": 0.0},
        {"share": 1.1},
        {"clip_norm": 0.0},
        {"clip_norm": math.inf},
        {"clip_norm": 1e-31},
        {"dimension": 0},
    ],
)
def test_bad_release_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected "):
        Release(**{"name": "a", "rounds": 1, "share": 1.0, "clip_norm": 1.0, "dimension": 1, **changes})


def test_nothing_about_privacy_has_a_default(make_spec: Make) -> None:
    for field in PrivacySpec.__dataclass_fields__.keys() - {"colluding"}:
        fields = {name: getattr(make_spec(), name) for name in PrivacySpec.__dataclass_fields__ if name != field}
        with pytest.raises(TypeError, match=field):
            PrivacySpec(**fields)


@pytest.mark.parametrize("text", ["full", "poisson:0.1", "poisson:1e-05"])
def test_participation_text_round_trip(text: str) -> None:
    assert str(Participation.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "poisson", "poisson:0", "poisson:1", "poisson:nan", "poisson:x", "half", "full:1"]
)
def test_bad_participation_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'full' or 'poisson:Q'"):
        Participation.parse(text)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 8.0, 30.0])
@pytest.mark.parametrize("central", [False, True])
def test_plan_keeps_the_promise_and_wastes_nothing(make_spec: Make, epsilon: float, central: bool) -> None:
    spec = make_spec(epsilon=epsilon, trust=Trust.CENTRAL if central else Trust.DISTRIBUTED)
    plan = spec.build()
    assert plan.claim.epsilon is not None
    assert plan.claim.crosscheck_epsilon is not None
    assert epsilon - 1e-3 <= plan.claim.epsilon <= epsilon
    assert 0.85 * epsilon <= plan.claim.crosscheck_epsilon <= plan.claim.epsilon
    assert compose(plan_events(plan.releases), delta=spec.delta).epsilon <= plan.claim.epsilon  # delta less the slack


def test_shares_split_one_budget_exactly(make_spec: Make) -> None:
    plan = make_spec().build()
    cost = {r.name: r.rounds / r.noise_multiplier**2 for r in plan.releases}
    assert cost["mean"] / sum(cost.values()) == pytest.approx(0.25, rel=1e-5)
    assert plan["basis"].noise_multiplier == pytest.approx(plan["mean"].noise_multiplier, rel=1e-5)  # 3/.75 == 1/.25


def test_shares_of_noise_reach_the_total_at_the_fewest_survivors(make_spec: Make) -> None:
    """Bug 6, on paper: survivors times share is never below what is promised."""
    for survivors in (1, 7, 333, 1000):
        for release in make_spec(min_survivors=survivors, population=1000).build().releases:
            assert survivors * release.share_variance == release.variance
            assert release.share_variance >= 16
    central = make_spec(trust=Trust.CENTRAL).build()
    assert all(release.share_variance == 0 and release.variance > 0 for release in central.releases)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_who_colludes_changes_the_fewest_and_not_the_noise(make_spec: Make, data: st.DataObject) -> None:
    """Shares are sized for the honest; whoever sides with the reader must come on top of them."""
    population = data.draw(st.integers(2, 2000))
    honest = data.draw(st.integers(1, population))
    colluding = data.draw(st.integers(0, population - honest))
    changes = {"population": population, "min_survivors": honest, "delta": 1e-5}
    plan, alone = make_spec(**changes, colluding=colluding).build(), make_spec(**changes).build()
    assert plan.claim == alone.claim
    for release, other in zip(plan.releases, alone.releases, strict=True):
        assert release.fewest == honest + colluding <= population
        assert (release.fewest - release.colluding) * release.share_variance == release.variance
        assert dataclasses.replace(release, colluding=0) == other
        assert ReleasePlan.from_dict(json.loads(json.dumps(release.to_dict()))) == release
    with pytest.raises(ValueError, match="colluding="):
        make_spec(**changes, colluding=population - honest + 1)


@pytest.mark.parametrize(
    ("population", "epsilon"), [(2, 1.0), (1000, 0.1), (1000, 8.0), (16_384, 4.0), (100_000, 2.0), (1_000_000, 1.0)]
)
def test_largest_sum_cannot_wrap(make_spec: Make, population: int, epsilon: float) -> None:
    """Bug 28, by construction: every device at its bound and at the end of its noise table."""
    plan = make_spec(population=population, min_survivors=max(1, population // 2), epsilon=epsilon, delta=1e-8).build()
    for release in plan.releases:
        assert population * (release.clip_units + tail(release.share_variance)) < 2**31
        assert tail(release.share_variance) <= LARGEST_TABLE
        if release.clip_units > 2**10:  # the shares of a full cell in a few pieces
            assert tail(population * release.share_variance) <= LARGEST_TABLE
        assert release.clip_units >= 2**10
        assert release.clip_units & (release.clip_units - 1) == 0


def test_population_too_large_for_the_ring_is_refused(make_spec: Make) -> None:
    with pytest.raises(LatticeOverflow, match="2\\^31"):
        make_spec(population=3_000_000, min_survivors=1_000_000, delta=1e-9).build()
    with pytest.raises(LatticeOverflow, match="table above"):
        make_spec(epsilon=0.01, trust=Trust.CENTRAL).build()
    with pytest.raises(LatticeOverflow, match="below 16"):
        make_spec(population=1_900_000, min_survivors=1_900_000, epsilon=20.0, delta=1e-9, releases=(ONE,)).build()


def test_epsilon_beyond_the_tables_is_refused(make_spec: Make) -> None:
    with pytest.raises(ValueError, match="128-bit noise tables"):
        make_spec(epsilon=60.0).build()
    with pytest.raises(ValueError, match="128-bit noise tables"):
        make_spec(epsilon=5000.0).build()


def test_infinite_epsilon_adds_no_noise_and_claims_nothing(quiet_spec: PrivacySpec) -> None:
    plan = quiet_spec.build()
    assert plan.claim.epsilon is None
    assert "no noise" in plan.claim.reason
    assert all(release.variance == release.share_variance == 0 for release in plan.releases)
    assert any("nothing is claimed" in note for note in quiet_spec.advice)


def test_no_amplification_with_full_participation(make_spec: Make) -> None:
    full = make_spec(trust=Trust.CENTRAL).build()
    sampled = make_spec(trust=Trust.CENTRAL, participation=Participation.poisson(0.1)).build()
    assert sampled["mean"].noise_multiplier < 0.5 * full["mean"].noise_multiplier
    assert sampled["mean"].divisor == pytest.approx(100.0)
    assert full["mean"].divisor == 1000.0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epsilon": math.inf},
        {"trust": Trust.CENTRAL, "participation": Participation.poisson(1 / 3)},
        {"delta": 1e-7 / 3},
        {"colluding": 200},
    ],
)
def test_plan_round_trip(make_spec: Make, changes: dict[str, Any]) -> None:
    plan = make_spec(**changes).build()
    text = json.dumps(plan.to_dict())
    again = Plan.from_dict(json.loads(text))
    assert again == plan
    assert again.digest == plan.digest
    assert PrivacySpec.from_dict(json.loads(json.dumps(plan.spec.to_dict()))) == plan.spec
    assert make_spec(**changes).build() == plan  # a verifier builds the same


def test_digest_depends_on_every_field(make_spec: Make) -> None:
    plans = [
        make_spec(),
        make_spec(delta=1.1e-5),
        make_spec(epsilon=2.1),
        make_spec(min_survivors=801),
        make_spec(colluding=1),
        make_spec(trust=Trust.CENTRAL),
    ]
    assert len({spec.build().digest for spec in plans}) == len(plans)


@pytest.mark.parametrize("damage", ["missing", "extra", "version"])
def test_damaged_plan_is_refused(make_spec: Make, damage: str) -> None:
    content = make_spec().build().to_dict()
    if damage == "missing":
        del content["claim"]["delta"]
    elif damage == "extra":
        content["releases"][0]["weight"] = 2
    else:
        content["version"] = 1
    with pytest.raises(ValueError, match="Expected the fields"):
        Plan.from_dict(content)


def test_canonical_json_refuses_floats() -> None:
    assert canonical_json({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"\\u00e9"]}'
    with pytest.raises(ValueError, match="decimal string"):
        canonical_json({"a": [{"b": 0.5}]})


def test_release_by_name(make_spec: Make) -> None:
    plan = make_spec().build()
    assert plan["basis"].dimension == 64
    assert plan["basis"].step == 2.0 / plan["basis"].clip_units
    with pytest.raises(KeyError):
        plan["other"]


@pytest.mark.parametrize("central", [False, True])
def test_rho_of_a_round_is_never_below_the_exact_one(make_spec: Make, central: bool) -> None:
    for release in make_spec(trust=Trust.CENTRAL if central else Trust.DISTRIBUTED).build().releases:
        exact = Fraction(release.clip_units**2, 2 * release.variance)
        assert exact <= Fraction(release.rho) <= exact + Fraction(2, 10**18)


def test_rho_of_a_sampled_round_is_its_rdp_at_the_claims_order(make_spec: Make) -> None:
    plan = make_spec(trust=Trust.CENTRAL, participation=Participation.poisson(0.1)).build()
    assert plan.claim.order is not None
    for release in plan.releases:
        rdp = event_rdp(release_event(release, count=1), np.array([plan.claim.order]))[0]
        assert 0 <= float(release.rho) * plan.claim.order - rdp < 1e-13
    total = sum(release.rounds * float(release.rho) for release in plan.releases) * plan.claim.order
    order = np.array([plan.claim.order])
    assert to_epsilon(order, np.array([total]), delta=plan.spec.delta).epsilon == pytest.approx(plan.claim.epsilon)
