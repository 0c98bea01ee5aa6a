"""Bug 29: sampler, clipper, noise, accountant and report each have their own idea of unit, relation, sigma or q.

Published: the retired one-line accountants (Poisson assumed, shuffled batches run); WeightedRandomSampler beside a rate of
one over the number of batches; noise for the mean beside an accountant for the sum.

Here one frozen spec makes one frozen plan, and everything else reads it. Property: whatever a spec says, plan, event,
ledger, claim and words say the same. Seen to fail: any single field of a plan changed on its way.
"""

import dataclasses
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.privacy import (
    Participation,
    Plan,
    PrivacySpec,
    Relation,
    Release,
    ReservationError,
    Trust,
    Unit,
    compose,
    plan_events,
    release_event,
)
from homespun.privacy.ledger import Ledger, SigningKey
from homespun.server.run_ledger import account_of, run_genesis

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
KEY = SigningKey.from_bytes("tests", bytes(range(32)))


@st.composite
def specs(draw: st.DrawFn) -> PrivacySpec:
    rate = draw(st.sampled_from([None, 0.05, 0.4]))
    population = draw(st.integers(20, 5000))
    share = draw(st.floats(0.2, 0.8))
    trust = Trust.CENTRAL if rate is not None else draw(st.sampled_from(list(Trust)))
    honest = draw(st.integers(max(1, population // 2), population))
    return PrivacySpec(
        epsilon=draw(st.floats(0.5, 8.0)),
        delta=draw(st.sampled_from([1e-5, 1e-6])),
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        trust=trust,
        participation=Participation(sampling_probability=rate),
        population=population,
        min_survivors=honest,
        colluding=draw(st.integers(0, population - honest)) if trust is Trust.DISTRIBUTED else 0,
        releases=(
            Release(name="a", rounds=draw(st.integers(1, 4)), share=share, clip_norm=draw(st.floats(1e-3, 9.0)), dimension=5),
            Release(name="b", rounds=1, share=1 - share, clip_norm=1.0, dimension=draw(st.integers(1, 500))),
        ),
    )  # fmt: skip


def check(spec: PrivacySpec, plan: Plan, folder: Path) -> None:
    assert plan.spec == spec
    for asked, made in zip(spec.releases, plan.releases, strict=True):
        assert (made.name, made.rounds, made.dimension, made.clip_norm) == (
            asked.name, asked.rounds, asked.dimension, asked.clip_norm,
        )  # fmt: skip
        same = (made.trust, made.participation, made.population, made.min_survivors, made.colluding)
        assert same == (spec.trust, spec.participation, spec.population, spec.min_survivors, spec.colluding)
        assert made.min_survivors <= made.fewest <= made.population
        event = release_event(made, count=1)
        assert (event.clip_units, event.variance, event.dimension) == (made.clip_units, made.variance, made.dimension)
        assert event.sampling_probability == spec.participation.sampling_probability
        if spec.trust is Trust.DISTRIBUTED:
            assert (event.share_variance, event.shares) == (made.share_variance, spec.population)
            assert made.variance == made.share_variance * spec.min_survivors
        assert made.divisor == (spec.participation.sampling_probability or 1.0) * spec.population
        assert made.noise_std == pytest.approx(made.noise_multiplier * made.clip_norm / made.divisor, rel=1e-12)
    claim = plan.claim
    words = (claim.unit, claim.relation, claim.trust, claim.participation, claim.delta)
    assert words == (spec.unit, spec.relation, spec.trust, spec.participation, spec.delta)
    assert claim.epsilon is not None
    assert claim.epsilon <= spec.epsilon
    genesis = run_genesis(plan, origin="tests/run")
    with Ledger.create(folder / "l.sqlite", KEY, genesis) as ledger:
        number = 0
        for made in plan.releases:
            for _ in range(made.rounds):
                subject = {"run": 0, "round": number, "phase": made.name}
                paid = ledger.reserve(account_of(0), release_event(made, count=1), subject)
                ledger.commit(paid, "0" * 64)
                number += 1
        events = ledger.events(account_of(0))
        entries = [entry.body for entry in ledger.entries() if entry.kind == "reserve"]
        assert ledger.spent(account_of(0)) == ledger.genesis.cap
    assert compose(events, delta=spec.delta).epsilon == pytest.approx(claim.epsilon, rel=1e-9)
    assert compose(plan_events(plan.releases), delta=spec.delta).epsilon == pytest.approx(claim.epsilon, rel=1e-9)
    for body in entries:
        assert (body["event"]["unit"], body["event"]["relation"]) == (spec.unit.value, spec.relation.value)


@settings(max_examples=6, deadline=None)
@given(specs())
def test_plan_event_ledger_and_claim_say_what_the_spec_says(spec: PrivacySpec) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        check(spec, spec.build(), Path(folder))


CHANGES: dict[str, Any] = {
    "clip_norm": 2.0,
    "clip_units": 2**13,
    "variance": 12345,
    "share_variance": 999,
    "dimension": 63,
    "rounds": 2,
    "population": 51,
    "min_survivors": 39,
    "colluding": 1,
    "trust": Trust.CENTRAL,
    "participation": Participation.poisson(0.5),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_bug_is_seen(name: str, tmp_path: Path) -> None:
    plan = path.plan_of(Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=64))
    check(plan.spec, plan, tmp_path)
    changed = dataclasses.replace(plan["one"], **{name: CHANGES[name]})
    (tmp_path / "again").mkdir()
    with pytest.raises((AssertionError, ValueError)):
        check(plan.spec, dataclasses.replace(plan, releases=(changed,)), tmp_path / "again")


def test_a_ledger_takes_the_events_of_its_plan_alone(tmp_path: Path) -> None:
    plan = path.plan_of(Release(name="one", rounds=2, share=1.0, clip_norm=1.0, dimension=64))
    with Ledger.create(tmp_path / "l.sqlite", KEY, run_genesis(plan, origin="tests/run")) as ledger:
        louder = dataclasses.replace(release_event(plan["one"], count=1), variance=4 * plan["one"].variance)
        with pytest.raises(ReservationError, match="as the plan has it"):
            ledger.reserve(account_of(0), louder, {"run": 0, "round": 0, "phase": "one"})


def test_nothing_in_a_spec_or_a_plan_can_be_changed_afterwards() -> None:
    plan = path.plan_of(Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=4))
    for part in (plan, plan.spec, plan.claim, plan["one"], plan.spec.releases[0], plan.spec.participation):
        for field in dataclasses.fields(part):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field.name, None)
