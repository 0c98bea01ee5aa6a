"""Reconstruction: what a server would see of one person if a contribution reached it without masks.

With noise from devices, a person's own share is all that then stands between the server and their clipped vector; it
is small by design, because it only has to add up over many. This shows how small.
"""

import math

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from homespun.audit.evidence import Attack
from homespun.audit.separation import mean_of
from homespun.personal import Backbone, Pairs
from homespun.privacy import (
    GaussianEvent,
    NoiseStream,
    Phase,
    ReleasePlan,
    Trust,
    clip_users,
    compose,
    contribute,
    decode,
)
from homespun.simulations.attacks.target import Target

PEOPLE = 200  # whose vectors are looked at: enough for the mean cosine to two digits


def reconstruct(target: Target, *, people: int = PEOPLE) -> list[Attack]:
    """One attack a phase: the cosine between what arrives and the person's clipped vector.

    The backbone of the first round is the public start; later ones take the released one, as an attacker would.
    """
    plan = target.course.plan
    some = target.fold.seen.select(slice(0, people))
    return [
        _phase(
            plan[phase.name], phase, target.course.initial if number == 0 else target.backbone, some, plan.claim.delta
        )
        for number, phase in enumerate(target.course.phases.values())
    ]


def local_epsilon(release: ReleasePlan, *, delta: float) -> float:
    """Epsilon of one unmasked contribution against who receives it; infinite where the server adds the noise."""
    if release.trust is Trust.CENTRAL or release.share_variance == 0:
        return math.inf
    alone = GaussianEvent(
        clip_units=release.clip_units, variance=release.share_variance, count=1, dimension=release.dimension
    )
    return compose([alone], delta=delta).epsilon


def _phase(
    release: ReleasePlan, phase: Phase[Backbone, Pairs], backbone: Backbone, people: Pairs, delta: float
) -> Attack:
    rows = clip_users(phase.statistic(backbone, people, 0), clip_norm=release.clip_norm)
    with NoiseStream() as noise:
        sent = [contribute(row.unsqueeze(0), release, devices=1, noise=noise) for row in rows]
    arrived = torch.from_numpy(np.stack([decode(vector, step=release.step) for vector in sent]))
    own = mean_of(cosine_similarity(rows.double(), arrived).numpy())
    others = mean_of(cosine_similarity(rows.double().roll(1, 0), arrived).numpy())
    epsilon = local_epsilon(release, delta=delta)
    alone = "has no noise of its own" if math.isinf(epsilon) else f"is worth epsilon {epsilon:,.0f} by itself"
    return Attack(
        name=f"reconstruction-{release.name}",
        title=f"One contribution to {release.name}, without masks",
        metric="mean cosine with the clipped vector",
        figure=own,
        control=others,
        bound=None,
        sentence=(
            f"Without masks a contribution {alone}, and its direction agrees with the person's own to {own.value:.2f} "
            f"(with somebody else's to {others.value:.2f}): it is the sum over many that protects, not the share."
        ),
    )
