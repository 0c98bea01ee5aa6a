from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from homespun.audit.bounds import epsilon_of
from homespun.audit.evidence import Audit, problems
from homespun.audit.game import commitment, throw
from homespun.audit.path import Path, audit_path, claimed_mu, observe
from homespun.audit.through_masks import through_masks
from homespun.privacy import (
    Noise,
    Participation,
    Plan,
    PrivacySpec,
    Relation,
    Release,
    ReleasePlan,
    Trust,
    Unit,
    continuous_equivalent,
    open_sum,
    plan_events,
    ring_sum,
)

RELEASES = (
    Release(name="mean", rounds=1, share=0.3, clip_norm=0.1, dimension=4),
    Release(name="basis", rounds=2, share=0.7, clip_norm=2.0, dimension=7),
)


@pytest.fixture(scope="module")
def make() -> Callable[..., Plan]:
    def build(**changes: Any) -> Plan:
        fields: dict[str, Any] = {
            "epsilon": 4.0,
            "delta": 1e-4,
            "unit": Unit.DEVICE,
            "relation": Relation.ADD_OR_REMOVE,
            "trust": Trust.DISTRIBUTED,
            "participation": Participation.full(),
            "population": 500,
            "min_survivors": 400,
            "releases": RELEASES,
        }
        return PrivacySpec(**{**fields, **changes}).build()

    return build


def silence(release: str, round: int, part: int) -> Noise:
    return lambda variance, size: np.zeros(size, dtype=np.int64)


def test_canary_without_noise_is_exactly_one_clip_norm(make: Callable[..., Plan]) -> None:
    """The row is a thousand times too loud; what arrives is at most the clip bound, in the canary's coordinate alone."""
    inside = np.arange(300) % 3 == 0
    for seen in observe(make(), inside, Path(noise=silence)):
        assert seen.values[~inside] == pytest.approx(0.0, abs=0.0)
        assert (seen.values[inside] <= 1.0).all()
        assert seen.values[inside] == pytest.approx(1.0, abs=2 / seen.clip_units)


def test_every_release_and_round_is_observed(make: Callable[..., Plan]) -> None:
    names = [seen.name for seen in observe(make(), throw(50).values, Path())]
    assert names == ["mean 0", "basis 0", "basis 1"]


def test_noise_is_that_of_the_fewest_devices(make: Callable[..., Plan]) -> None:
    plan = make()
    for seen in observe(plan, throw(4000).values, Path()):
        assert seen.stated_sigma == pytest.approx(seen.sigma, rel=0.01)
        assert seen.noise.std() == pytest.approx(1.0, abs=0.06)


def test_more_canaries_than_devices_are_spread_over_sums(make: Callable[..., Plan]) -> None:
    plan = make(population=60, min_survivors=48, delta=1e-3)
    audit = audit_path(plan, canaries=500)
    assert audit.canaries == 500
    assert not audit.beaten


def test_colluders_noise_is_taken_away_before_the_noise_is_measured(make: Callable[..., Plan]) -> None:
    """A hundred more devices are in the sum, and what is said of the noise counts them; what is measured does not."""
    plan = make(colluding=100)
    for seen in observe(plan, throw(4000).values, Path()):
        assert seen.stated_sigma == pytest.approx(seen.sigma * math.sqrt(500 / 400), rel=1e-3)
        assert seen.noise.std() == pytest.approx(1.0, abs=0.06)


def test_what_the_server_unmasked_is_looked_at_where_it_is_not_what_was_released(make: Callable[..., Plan]) -> None:
    def more(vectors: Any, release: ReleasePlan, *, devices: int, noise: Any) -> Any:
        mean, std = open_sum(vectors, release, devices=devices, noise=noise)
        return mean + 3 * std * torch.randn(mean.shape, dtype=torch.float64), std

    released, unmasked, *_ = observe(make(), throw(400).values, Path(open_sum=more))
    assert released.name == unmasked.name == "mean 0"
    assert released.noise.std() == pytest.approx(math.sqrt(10), rel=0.15)
    assert unmasked.noise.std() == pytest.approx(1.0, abs=0.15)
    assert len(list(observe(make(trust=Trust.CENTRAL), throw(400).values, Path(open_sum=more)))) == 3


def test_masks_change_nothing_and_lost_vectors_are_lost() -> None:
    rng = np.random.default_rng(5)
    for number in (1, 2, 8, 17):
        vectors = [rng.integers(0, 2**32, 33, dtype=np.uint32) for _ in range(number)]
        assert through_masks(vectors).tolist() == ring_sum(vectors, dimension=33).tolist()


def test_a_sum_goes_through_masks_where_devices_add_the_noise(make: Callable[..., Plan]) -> None:
    seen: list[int] = []

    def count(vectors: list[Any]) -> Any:
        seen.append(len(vectors))
        return through_masks(vectors)

    for trust, most in ((Trust.DISTRIBUTED, 3), (Trust.CENTRAL, 0)):
        seen.clear()
        list(observe(make(trust=trust), throw(200).values, Path(aggregate=count)))
        assert len(seen) == most


def test_claimed_mu_is_the_second_accountants(make: Callable[..., Plan]) -> None:
    plan = make()
    mu = claimed_mu(plan)
    assert mu is not None
    epsilon, _ = continuous_equivalent(plan_events(plan.releases), delta=plan.claim.delta)
    assert epsilon_of(mu, delta=plan.claim.delta) == pytest.approx(epsilon, rel=1e-6)


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_correct_build_stays_under_its_claim(make: Callable[..., Plan], epsilon: float) -> None:
    audit = audit_path(make(epsilon=epsilon), canaries=1000)
    assert not audit.beaten
    assert 0.0 <= audit.bounds.snj < epsilon
    assert 0.0 <= audit.bounds.fdp < epsilon
    assert audit.control.snj == audit.control.fdp == 0.0


def test_estimate_meets_the_plan(make: Callable[..., Plan]) -> None:
    """Near tight: the audit would see it if canaries reached the sum only in part."""
    plan = make(epsilon=8.0)
    audit = audit_path(plan, canaries=4000)
    exact, _ = continuous_equivalent(plan_events(plan.releases), delta=plan.claim.delta)
    assert audit.estimate.low <= exact <= audit.estimate.high
    assert audit.estimate.value == pytest.approx(exact, rel=0.15)


@pytest.mark.parametrize("participation", [Participation.full(), Participation.poisson(0.3)])
def test_central_noise_and_poisson_samples(make: Callable[..., Plan], participation: Participation) -> None:
    plan = make(trust=Trust.CENTRAL, participation=participation)
    audit = audit_path(plan, canaries=1000)
    assert not audit.beaten
    assert (audit.claim_mu is None) == (participation.sampling_probability is not None)


def test_commitment_is_announced_before_the_first_sum(make: Callable[..., Plan]) -> None:
    order: list[str] = []

    def noise(release: str, round: int, part: int) -> Noise:
        order.append("noise")
        return silence(release, round, part)

    audit = audit_path(make(), canaries=20, path=Path(noise=noise), announce=order.append)
    assert order[0] == audit.coins.commitment
    assert order.count(order[0]) == 1
    assert commitment(audit.coins.text, audit.coins.salt) == order[0]


def test_progress_is_told_of_every_sum(make: Callable[..., Plan]) -> None:
    told: list[int] = []
    audit_path(make(), canaries=20, progress=lambda: told.append(1))
    assert len(told) == 2 * 3


def test_coins_are_fair_and_hidden() -> None:
    coins = throw(10_000)
    assert 4700 < coins.values.sum() < 5300
    assert coins.text not in repr(coins)
    assert coins.salt.hex() not in repr(coins)
    with pytest.raises(ValueError, match="canaries=3"):
        throw(3)


def test_plan_without_noise_is_refused(make: Callable[..., Plan]) -> None:
    with pytest.raises(ValueError, match="nothing is claimed"):
        audit_path(make(epsilon=math.inf), canaries=20)


def test_evidence_is_computed_again_from_coins_and_scores(make: Callable[..., Plan]) -> None:
    content = json.loads(json.dumps(audit_path(make(), canaries=200).to_dict(), allow_nan=False))
    assert problems(content) == ()
    again = Audit.from_dict(content)
    assert again.to_dict() == content


@pytest.mark.parametrize(
    "forge",
    [
        lambda content: content["bounds"].update(snj=content["bounds"]["snj"] + 0.001),
        lambda content: content.update(coins=content["coins"][1:] + content["coins"][0]),
        lambda content: content.update(guesses=content["guesses"] + 1),
        lambda content: content.update(scores=sorted(content["scores"])),
        lambda content: content.update(beaten=["snj"]),
        lambda content: content.pop("salt"),
        lambda content: content.update(extra=1),
        lambda content: content.update(delta="0.1"),
        lambda content: content.update(claim_epsilon=None),
        lambda content: content.update(guesses=2.5),
        lambda content: content.update(coins=7),
        lambda content: content.update(checks=[1]),
        lambda content: content["scores"].append(0.0),
        lambda content: content.update(confidence=1.0),
    ],
)
def test_forged_evidence_is_seen(make: Callable[..., Plan], forge: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(json.dumps(audit_path(make(), canaries=500).to_dict()))
    forge(content)
    assert problems(content)
