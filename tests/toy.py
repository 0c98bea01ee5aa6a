"""A learner of two small phases, some people and a plan for them; loaded by path, as tests are no package.

The learner that ships is tuned elsewhere. What is tested with this one holds for any.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from homespun.encoder import SentenceEncoder
from homespun.personal import Backbone, Learner, Pairs, average_user, make_pairs
from homespun.privacy import NoiseStream, Participation, Plan, PrivacySpec, Relation, Release, Trust, Unit
from homespun.privacy.ledger import Ledger, SigningKey
from homespun.server.coordinator import Training
from homespun.server.run_ledger import open_run_ledger, run_genesis
from homespun.wire import RoundRequest

DIM = 6


@dataclass(frozen=True, kw_only=True)
class Nudge:
    """Moves the shared direction towards what people preferred, twice."""

    dimension: int = DIM
    name: str = "nudge"
    rounds: int = 2
    clip_norm: float = 0.5

    def statistic(self, backbone: Backbone, data: Pairs, round: int) -> Tensor:
        margin = data.project(backbone.w.unsqueeze(1)).squeeze(-1)
        return data.moment(data.weight * torch.sigmoid(-margin) / data.weight.sum(1, keepdim=True).clamp(min=1))

    def update(self, backbone: Backbone, mean: Tensor, noise_std: float, round: int) -> Backbone:
        return replace(backbone, w=backbone.w + 4 * mean.float(), version=backbone.version + 1)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Sets how far people spread along each feature."""

    dimension: int = DIM
    name: str = "spread"
    rounds: int = 1
    clip_norm: float = 0.2

    def statistic(self, backbone: Backbone, data: Pairs, round: int) -> Tensor:
        return data.moment(data.weight / data.weight.sum(1, keepdim=True).clamp(min=1)).square()

    def update(self, backbone: Backbone, mean: Tensor, noise_std: float, round: int) -> Backbone:
        prior = (20 * mean.float()).clamp(min=0) + 0.4
        return replace(backbone, prior=prior, basis=torch.eye(self.dimension), version=backbone.version + 1)


def toy_learner(geometry: Any, **_: Any) -> Learner:
    """Stands in for ``preference_learner``, whatever it is told."""
    return Learner(phases=(Nudge(dimension=geometry.dim), Spread(dimension=geometry.dim)), shares=(0.6, 0.4))


def toy_pairs(users: int, *, labels: int = 8, items: int = 30, dim: int = DIM, seed: int = 0) -> Pairs:
    """People who prefer at random, with some padding and one person without a label."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(items, dim, generator=generator) / 3
    chosen = torch.randint(items, (users, labels), generator=generator)
    rejected = (chosen + torch.randint(1, items, (users, labels), generator=generator)) % items
    weight = (torch.rand(users, labels, generator=generator) < 0.9).float()
    weight[users // 2] = 0
    half = torch.randint(2, (users, labels, 2), generator=generator)
    tier = torch.ones(users, labels)
    return make_pairs(features, chosen=chosen, rejected=rejected, weight=weight, half=half, tier=tier.to(torch.int8))


def toy_plan(
    population: int,
    *,
    epsilon: float = 2.0,
    participation: str = "full",
    min_survivors: int | None = None,
    trust: Trust | None = None,
    colluding: int = 0,
    dim: int = DIM,
) -> Plan:
    """The calibrated plan of the toy learner."""
    how = Participation.parse(participation)
    return PrivacySpec(
        epsilon=epsilon,
        delta=1e-5,
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        trust=trust or (Trust.DISTRIBUTED if how.sampling_probability is None else Trust.CENTRAL),
        participation=how,
        population=population,
        min_survivors=population if min_survivors is None else min_survivors,
        colluding=colluding,
        releases=tuple(
            Release(name=p.name, rounds=p.rounds, share=share, clip_norm=p.clip_norm, dimension=dim)
            for p, share in zip(toy_phases(dim).values(), (0.6, 0.4), strict=True)
        ),
    ).build()


def toy_phases(dim: int = DIM) -> dict[str, Any]:
    """The phases by name."""
    return {"nudge": Nudge(dimension=dim), "spread": Spread(dimension=dim)}


def toy_training(
    plan: Plan, members: tuple[int, ...], *, run: int = 0, seed: int = 0, dim: int = DIM
) -> Training[Backbone]:
    """The training of the toy learner over nodes of so many people."""

    def noise(run: int, round: int) -> NoiseStream:
        return NoiseStream.seeded(seed, "server", run, round)

    return Training(
        plan=plan,
        phases=tuple(toy_phases(dim).values()),
        initial=average_user(dim, dim, projection="0" * 64),
        members=members,
        run=run,
        noise=noise,
    )


def toy_ledger(folder: Path, plan: Plan) -> Ledger:
    """The ledger in a folder, or a new one, signed by a key that every test knows."""
    genesis = run_genesis(plan, origin="example.org/toy")
    return open_run_ledger(folder, SigningKey.from_bytes("example.org/toy", b"toy " * 8), genesis)


def toy_request(plan: Plan, *, name: str = "nudge", **changes: Any) -> RoundRequest:
    """A request of a round of the plan; ``changes`` replace fields."""
    backbone = average_user(DIM, DIM, projection="0" * 64)
    fields: dict[str, Any] = {
        "run": 0,
        "round": 0,
        "phase_round": 0,
        "release": plan[name],
        "plan_digest": plan.digest,
        "projection": backbone.projection,
        "version": 0,
        "backbone": {key: tensor.numpy() for key, tensor in backbone.tensors().items()},
    }
    return RoundRequest(**{**fields, **changes})


def stand_in_encoder(name: str | None = None) -> SentenceEncoder:
    """Stands in for ``load``: no weights, no seconds."""
    return SentenceEncoder(name="stand-in", digest="0" * 64, folder=Path())


def stand_in_embed(encoder: Any, texts: Any, *, progress: Any = None, folder: Any = None) -> Any:
    """Stands in for ``embed``: every text has its own random direction, float32 ``(texts, 48)``."""
    rows = np.empty((len(texts), 48), np.float32)
    for row, text in zip(rows, texts, strict=True):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        row[:] = np.random.default_rng(seed).standard_normal(48) / math.sqrt(48)
    return rows
