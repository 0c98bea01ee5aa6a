"""The same audit through the whole engine: coordinator, Flower, cells of people, and the engine's own noise streams.

`homespun.audit.path` audits the private sum; this audits what the engine makes of it. Were the noise of two rounds or of
two cells the same, or a cell's share too small, the sum would be as it should be and the run would not.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context
from torch import Tensor

from homespun.audit.checks import Observation
from homespun.audit.evidence import Audit, assess
from homespun.audit.game import throw
from homespun.audit.path import LOUDNESS, claimed_mu, likelihood_ratio
from homespun.client.app import Contributor
from homespun.personal import Backbone, Pairs, average_user, make_pairs
from homespun.privacy import Noise, NoiseStream, Participation, Plan, PrivacySpec, Relation, Release, Trust, Unit
from homespun.privacy.ledger import SigningKey
from homespun.server.coordinator import Training
from homespun.server.run_ledger import OPERATOR, open_run_ledger, run_genesis
from homespun.simulations.cell import Cell
from homespun.simulations.engine import contributors, members, train

CANARIES = 600
CELL = 250


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """A phase to which everybody sends a loud entry in the coordinate of their own, or nothing."""

    name: str
    rounds: int
    sign: float
    means: list[Tensor] = field(default_factory=list)
    dimension: int = CANARIES
    clip_norm: float = 0.5

    def statistic(self, backbone: Backbone, data: Pairs, round: int) -> Tensor:
        rows = torch.zeros(data.users, self.dimension)
        loud = self.sign * (-1) ** round * LOUDNESS * data.weight[:, 0]
        return rows.scatter_(1, data.chosen[:, :1].long(), loud.unsqueeze(1))

    def update(self, backbone: Backbone, mean: Tensor, noise_std: float, round: int) -> Backbone:
        self.means.append(mean)
        return replace(backbone, version=backbone.version + 1)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return PrivacySpec(
        epsilon=4.0,
        delta=1e-5,
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        trust=Trust.DISTRIBUTED,
        participation=Participation.full(),
        population=CANARIES,
        min_survivors=CANARIES,
        releases=(
            Release(name="first", rounds=2, share=0.5, clip_norm=0.5, dimension=CANARIES),
            Release(name="second", rounds=1, share=0.5, clip_norm=0.5, dimension=CANARIES),
        ),
    ).build()


def play(
    plan: Plan, folder: Path, at: Callable[[Callable[[Context], Contributor]], Callable[[Context], Contributor]]
) -> Audit:
    """Train canaries and nothing else; score what the coordinator handed to the learner."""
    coins = throw(CANARIES)
    everybody = torch.arange(CANARIES).unsqueeze(1)
    pairs = make_pairs(
        torch.zeros(CANARIES, 1),
        chosen=everybody,
        rejected=everybody,
        weight=torch.from_numpy(coins.values).float().unsqueeze(1),
        half=torch.zeros(CANARIES, 1, 1),
        tier=torch.ones(CANARIES, 1),
    )
    first, second = Canaries(name="first", rounds=2, sign=1.0), Canaries(name="second", rounds=1, sign=1.0)
    phases = {"first": first, "second": second}
    training = Training(
        plan=plan,
        phases=(first, second),
        initial=average_user(1, 1, projection="none"),
        members=members("vectorised", CANARIES, CELL),
        noise=lambda run, round: NoiseStream(),
    )
    found = contributors(pairs, phases, cell_size=CELL, seed=secrets.randbits(64))
    key = SigningKey.generate(OPERATOR)
    with open_run_ledger(folder, key, run_genesis(plan, origin="test/engine-audit")) as ledger:
        train(training, at(found), ledger, folder / "checkpoints", engine="vectorised", observe=lambda _: None)
    seen = [
        Observation(
            name=f"{phase.name} {round}",
            values=phase.sign * (-1) ** round * mean.numpy() * release.divisor / release.clip_norm,
            inside=coins.values,
            sigma=release.noise_multiplier,
            stated_sigma=release.noise_multiplier,
            clip_units=release.clip_units,
            rate=None,
        )
        for phase, release in zip((first, second), plan.releases, strict=True)
        for round, mean in enumerate(phase.means)
    ]
    epsilon = plan.claim.epsilon
    assert epsilon is not None
    return assess(
        kind="engine",
        title="Canaries through the engine",
        claim_epsilon=epsilon,
        claim_mu=claimed_mu(plan),
        delta=plan.claim.delta,
        confidence=0.975,
        guesses=120,
        coins=coins,
        scores=likelihood_ratio(seen),
        control=np.random.default_rng().normal(size=CANARIES),
        observations=seen,
    )


def as_it_is(found: Callable[[Context], Contributor]) -> Callable[[Context], Contributor]:
    return found


def with_noise(noise: Callable[[int, int, int], Noise]) -> Callable[..., Callable[[Context], Contributor]]:
    """Puts streams of another kind into every cell, by run, round and place."""

    def at(found: Callable[[Context], Contributor]) -> Callable[[Context], Contributor]:
        def broken(context: Context) -> Contributor:
            cell, place = found(context), int(context.node_config["partition-id"])
            assert isinstance(cell, Cell)
            return replace(cell, noise=lambda run, round: noise(run, round, place))

        return broken

    return at


def test_engine_passes(plan: Plan, tmp_path: Path) -> None:
    audits = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        audits.append(play(plan, tmp_path / str(number), as_it_is))
    assert not any(audit.beaten for audit in audits)
    assert sum(bool(audit.failed) for audit in audits) <= 1


@pytest.mark.parametrize(
    ("noise", "by"),
    [
        (lambda run, round, place: NoiseStream.seeded(1, place), "repeated-noise"),
        (lambda run, round, place: NoiseStream.seeded(1, round), "noise-scale"),
        (lambda run, round, place: lambda variance, size: np.zeros(size, dtype=np.int64), "fdp"),
    ],
)
def test_broken_wiring_is_caught(plan: Plan, tmp_path: Path, noise: Callable[[int, int, int], Noise], by: str) -> None:
    assert by in play(plan, tmp_path, with_noise(noise)).failed
