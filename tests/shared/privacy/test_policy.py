"""The owner's policy holds against any request, and its file says what it means."""

import dataclasses
import math
import runpy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun.privacy import NoiseStream, Participation, ReleasePlan, Trust, compose
from homespun.privacy.accountant import orders_for, to_epsilon
from homespun.privacy.ledger import event_cost
from homespun.privacy.policy import Policy, rho_cap
from homespun.privacy.policy_check import Reason, check, contribution_event, local_epsilon

toy = runpy.run_path(str(Path(__file__).parents[2] / "toy.py"))
PLAN = toy["toy_plan"](1000, min_survivors=800)
RELEASE: ReleasePlan = PLAN["nudge"]
OPEN = Policy()


def decide(
    policy: Policy = OPEN, release: ReleasePlan = RELEASE, *, spent: str = "0", rounds: int = 0
) -> Reason | None:
    return check(policy, release, installed={"nudge", "spread"}, spent=Decimal(spent), rounds=rounds)


def with_(**changes: Any) -> ReleasePlan:
    return dataclasses.replace(RELEASE, **changes)


def test_a_person_who_changes_nothing_takes_part_in_a_usual_plan() -> None:
    assert [decide(release=release) for release in PLAN.releases] == [None, None]


POLICIES: dict[str, tuple[Policy, Reason]] = {
    "paused": (Policy(paused=True), Reason.PAUSED),
    "a phase that is not allowed": (Policy(phases=("spread",)), Reason.PHASE_NOT_ALLOWED),
    "another trust": (Policy(trust=(Trust.CENTRAL,)), Reason.TRUST_NOT_ALLOWED),
    "a higher floor": (Policy(min_noise_multiplier=RELEASE.noise_multiplier * 1.001), Reason.NOISE_BELOW_FLOOR),
    "a larger cohort": (Policy(min_cohort=801), Reason.COHORT_BELOW_FLOOR),
    "alone": (Policy(max_local_epsilon=1.0), Reason.LOCAL_EPSILON_ABOVE_CAP),
    "no round": (Policy(max_rounds=1), Reason.ROUNDS_EXHAUSTED),
    "no budget": (Policy(max_epsilon=0.1), Reason.BUDGET_EXHAUSTED),
}


@pytest.mark.parametrize("what", POLICIES)
def test_each_rule_declines_with_its_reason(what: str) -> None:
    policy, reason = POLICIES[what]
    assert decide(policy, rounds=1) is reason


@pytest.mark.parametrize(
    ("policy", "rounds"),
    [
        (Policy(min_noise_multiplier=RELEASE.noise_multiplier), 0),
        (Policy(min_cohort=800), 0),
        (Policy(max_local_epsilon=local_epsilon(RELEASE, 1e-6)), 0),
        (Policy(max_rounds=2), 1),
        (Policy(phases=("nudge",)), 0),
    ],
)
def test_rules_are_inclusive(policy: Policy, rounds: int) -> None:
    assert decide(policy, rounds=rounds) is None


HOSTILE: dict[str, tuple[ReleasePlan, Reason]] = {
    "no noise": (with_(share_variance=0, variance=0, rho="0"), Reason.NOISE_BELOW_FLOOR),
    "no noise, and the variance is claimed": (with_(share_variance=0), Reason.INCONSISTENT),
    "less noise than the sum claims": (with_(share_variance=RELEASE.share_variance // 100), Reason.INCONSISTENT),
    "more sensitivity": (with_(clip_units=RELEASE.clip_units * 1024), Reason.INCONSISTENT),
    "a bound that is no power of two": (with_(clip_units=16383), Reason.INCONSISTENT),
    "cheaper than its noise": (with_(rho="0.000000000000000001"), Reason.INCONSISTENT),
    "negative cost": (with_(rho="-1"), Reason.INCONSISTENT),
    "cost that is no number": (with_(rho="NaN"), Reason.INCONSISTENT),
    "infinite cost": (with_(rho="Infinity"), Reason.INCONSISTENT),
    "fewer in all than are left": (with_(population=799), Reason.INCONSISTENT),
    "fewer in all than are opened": (with_(colluding=201), Reason.INCONSISTENT),
    "fewer who collude than nobody": (with_(colluding=-1), Reason.INCONSISTENT),
    "a server's noise that others take away": (
        with_(trust=Trust.CENTRAL, share_variance=0, colluding=1),
        Reason.INCONSISTENT,
    ),
    "one device": (
        with_(min_survivors=1, population=1, share_variance=10**9, variance=10**9, rho="0.2"),
        Reason.COHORT_BELOW_FLOOR,
    ),
    "a table that fills the memory": (
        with_(share_variance=10**12, variance=800 * 10**12),
        Reason.INCONSISTENT,
    ),
    "a sum that wraps": (with_(population=2**30), Reason.INCONSISTENT),
    "noise too coarse for the proof": (with_(share_variance=15, variance=15 * 800), Reason.INCONSISTENT),
    "the server's noise, and a share": (with_(trust=Trust.CENTRAL), Reason.INCONSISTENT),
    "shares in a random cohort": (with_(participation=Participation.poisson(0.5)), Reason.INCONSISTENT),
    "a phase of another device": (with_(name="peek"), Reason.UNKNOWN_PHASE),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_release_that_contradicts_itself_or_gives_too_little_is_declined(what: str) -> None:
    release, reason = HOSTILE[what]
    assert decide(release=release) is reason


def test_whoever_colludes_is_not_counted_among_those_who_hide_somebody() -> None:
    """The floor is on honest devices; a plan that says how many collude is no worse for it, and no better."""
    assert decide(Policy(min_cohort=800), with_(colluding=200)) is None
    assert decide(Policy(min_cohort=801), with_(colluding=200)) is Reason.COHORT_BELOW_FLOOR


def test_without_any_promise_a_release_without_noise_is_the_owner_s_choice() -> None:
    release = toy["toy_plan"](1000, epsilon=math.inf)["nudge"]
    assert decide(release=release) is Reason.NOISE_BELOW_FLOOR
    assert decide(Policy(min_noise_multiplier=0.0), release) is Reason.NOISE_BELOW_FLOOR  # there is a cap to keep
    assert decide(Policy(min_noise_multiplier=0.0, max_epsilon=math.inf), release) is None


def test_a_sampled_round_is_charged_as_if_everybody_took_part() -> None:
    """The server draws the cohort: against it, sampling amplifies nothing."""
    release = toy["toy_plan"](1000, participation="poisson:0.1")["nudge"]
    event = contribution_event(release)
    assert event is not None
    cost = event_cost(event, None)
    assert cost > 5 * Decimal(release.rho)
    policy = Policy(trust=(Trust.CENTRAL,), min_noise_multiplier=0.0)
    assert policy.cap is not None
    assert decide(policy, release, spent=str(policy.cap - cost)) is None
    assert decide(policy, release, spent=str(policy.cap - cost + Decimal("1e-18"))) is Reason.BUDGET_EXHAUSTED


def test_the_noise_that_counts_is_the_noise_that_is_made() -> None:
    event = contribution_event(RELEASE)
    assert event is not None
    assert event.noise_multiplier == pytest.approx(RELEASE.noise_multiplier)
    with NoiseStream.seeded(0) as stream:
        alone = stream.discrete_gaussian(RELEASE.share_variance, 20_000)
    made = alone.std() * math.sqrt(RELEASE.min_survivors) / RELEASE.clip_units
    assert made == pytest.approx(event.noise_multiplier, rel=0.03)


def test_alone_is_what_one_share_hides() -> None:
    together = contribution_event(RELEASE)
    assert together is not None
    assert local_epsilon(RELEASE, 1e-6) > 20 * compose([together], delta=1e-6).epsilon
    assert local_epsilon(with_(trust=Trust.CENTRAL, share_variance=0), 1e-6) == math.inf


@given(st.floats(0.01, 40.0), st.sampled_from([1e-5, 1e-6, 1e-9]))
def test_the_cap_is_the_last_cost_within_epsilon(epsilon: float, delta: float) -> None:
    orders, cap = orders_for(()), rho_cap(epsilon, delta)
    assert to_epsilon(orders, orders * float(cap), delta=delta).epsilon <= epsilon
    above = cap + max(Decimal("1e-18"), cap * Decimal("1e-15"))  # a float knows no closer neighbour
    assert to_epsilon(orders, orders * float(above), delta=delta).epsilon > epsilon - 1e-12
    assert cap == cap.quantize(Decimal("1e-18"))


def test_the_cap_of_the_default_policy_is_known() -> None:
    """Golden: zCDP rho of (8, 1e-6); the textbook bound rho + 2 sqrt(rho ln(1/delta)) would allow 0.91."""
    assert OPEN.cap == Decimal("1.052357629878249434")
    textbook = (math.sqrt(math.log(1e6) + 8) - math.sqrt(math.log(1e6))) ** 2
    assert 0.9 < textbook < float(OPEN.cap)


FILE = """\
paused = false
phases = ["mean", "basis"]
trust = ["distributed", "central"]
min-noise-multiplier = 2
min-cohort = 500
max-epsilon = inf
delta = 1e-7
max-local-epsilon = 300.0
max-rounds = 12
witness-required = false
adapter = "exact"
"""


def test_the_owner_s_file() -> None:
    policy = Policy.from_toml(FILE)
    assert policy == Policy(
        phases=("mean", "basis"), trust=(Trust.DISTRIBUTED, Trust.CENTRAL), min_noise_multiplier=2.0, min_cohort=500,
        max_epsilon=math.inf, delta=1e-7, max_local_epsilon=300.0, max_rounds=12, witness_required=False,
        adapter="exact",
    )  # fmt: skip
    assert Policy.from_toml("") == OPEN
    assert (policy.cap, policy.adapter_epsilon, OPEN.adapter_epsilon) == (None, None, 2.0)


@pytest.mark.parametrize("policy", [OPEN, Policy.from_toml(FILE), Policy(max_epsilon=0.1 + 0.2)])
def test_what_is_written_reads_back(policy: Policy) -> None:
    assert Policy.from_toml(policy.to_toml()) == policy
    assert Policy.from_dict(policy.to_dict()) == policy


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("min-cohorts = 5", "min-cohorts"),
        ("min_cohort = 5", "min_cohort"),
        ("min-cohort = true", "min-cohort=True"),
        ("min-cohort = 0", r"min-cohort=0 in \[1"),
        ("max-epsilon = -1", "max-epsilon=-1"),
        ("max-epsilon = nan", "max-epsilon=nan"),
        ("max-epsilon = 'a lot'", "max-epsilon='a lot'"),
        ("delta = 0", "delta=0"),
        ("delta = 1.0", "delta=1.0"),
        ("paused = 1", "paused=1"),
        ("trust = []", "trust="),
        ("trust = ['me']", "'me'"),
        ("trust = 'central'", "trust='central'"),
        ("phases = [1]", "phases="),
        ("adapter = 'record'", "adapter='record'"),
        ("adapter = 'record:0'", "adapter='record:0'"),
        ("adapter = 'record:inf'", "adapter='record:inf'"),
        ("adapter = 3", "adapter=3"),
        ("min-noise-multiplier = inf", "min-noise-multiplier"),
    ],
)
def test_what_cannot_be_held_is_refused(line: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Policy.from_toml(line)


def test_a_damaged_dictionary_is_refused() -> None:
    content = OPEN.to_dict()
    del content["paused"]
    with pytest.raises(ValueError, match="paused"):
        Policy.from_dict(content)


def test_reasons_are_words_that_a_ledger_takes() -> None:
    from homespun.privacy.ledger.fields import WORD

    assert all(WORD.match(reason.value) for reason in Reason)
