"""The adapter that released block sums support: a linear-Gaussian posterior that knows how loud the noise is.

In units of the prior a person's taste is ``b ~ N(0, 1)`` a coordinate. Of ``n`` records a block's sum is read as

    m ~ N(n (c + J b), noise^2 + n (S - c c^T - J J^T)),

``c`` what the average user's records would sum to, ``J`` how a taste moves it, ``S`` the second moment of a record.
All three are expectations over *public* made-up texts and over the prior: a person's own texts are never looked at
again, so everything here is post-processing of the sums. The prior is far from small against the curve of the sigmoid,
so ``J`` is the mean slope over the prior, as for a best linear estimator, and not the slope at the average user.

If the backbone has changed since a block was released, its sum stays what it is: the clip and the residual are those of
the block's own ``A`` and ``w``, the answers are those of people as the new backbone describes them. Nothing is asked
of the person again.

Source:
    The probit approximation of a sigmoid's mean under a Gaussian, MacKay 1992; Gaussian conditioning.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from homespun.personal.backbone import Backbone
from homespun.personal.fit import Adapter
from homespun.personal.private import BlockSum, PublicMoments

FLOOR = 2.0  # times the public floor: it was sized for pairs of votes, of which a person has many more than votes
TRUST = 0.6  # of the learned variance: it was sized for exact adapters, and noise punishes a prior that is too wide
HABIT_SPREAD = 1.0  # log-odds by which people differ in how readily they agree


def private_adapter(backbone: Backbone, public: PublicMoments, blocks: Sequence[BlockSum], *, users: int) -> Adapter:
    """Posterior mean and covariance of every person's taste, given their released sums alone.

    Args:
        backbone: Shared model, as it is now.
        public: Facts about the texts.
        blocks: Each of the same ``users`` people; none gives the average user.
        users: Number of people.

    Returns:
        Coefficients in the backbone's basis; the covariance is the same for everybody with the same blocks, and public.

    Guarantees:
        * post-processing: depends on the records through the sums alone.
        * row independence: an adapter depends on the same person's sums alone.

    Raises:
        ValueError: A block is of other people or of another number of features.
    """
    precision, pull = _evidence(backbone, public, blocks, users)
    covariance = torch.linalg.inv(precision + torch.eye(len(precision), dtype=torch.float64))
    rank = backbone.prior.shape[0]
    root = _spread(backbone, public)
    coefficients = (pull @ covariance)[:, :rank] * root
    spread = covariance[:rank, :rank] * root.unsqueeze(1) * root
    return Adapter(coefficients=coefficients.float(), covariance=spread.float().expand(users, rank, rank).contiguous())


def private_gate(backbone: Backbone, public: PublicMoments, blocks: Sequence[BlockSum], *, users: int) -> Tensor:
    """Whether each person's adapter is used: do the sums speak for a taste of their own?

    The log evidence of the sums under the prior of tastes, less that under no taste; a habit of agreeing is free in both.

    Returns:
        bool, shape ``(users,)``; False without a block.

    Guarantees:
        * post-processing: depends on the records through the sums alone, so it may be known.
    """
    precision, pull = _evidence(backbone, public, blocks, users)
    open_: Tensor = _log_evidence(precision, pull) > _log_evidence(precision[-1:, -1:], pull[:, -1:])
    return open_


def _log_evidence(precision: Tensor, pull: Tensor) -> Tensor:
    """``log N(m; n c, V + n^2 J J^T) - log N(m; n c, V)`` over all blocks, shape ``(users,)``."""
    whole = precision + torch.eye(len(precision), dtype=torch.float64)
    explained = (pull * torch.linalg.solve(whole, pull.T).T).sum(1)
    evidence: Tensor = 0.5 * (explained - torch.logdet(whole))
    return evidence


def _evidence(
    backbone: Backbone, public: PublicMoments, blocks: Sequence[BlockSum], users: int
) -> tuple[Tensor, Tensor]:
    """``sum n^2 J^T V^-1 J``, shape ``(k, k)``, and ``sum n J^T V^-1 (m - n c)``, shape ``(users, k)``; k = rank + 1."""
    k = backbone.prior.shape[0] + 1
    precision, pull = torch.zeros(k, k, dtype=torch.float64), torch.zeros(users, k, dtype=torch.float64)
    for block in blocks:
        if block.total.shape[0] != users or block.w.shape[0] != backbone.dim or public.dim != backbone.dim:
            raise ValueError(
                f"Expected blocks of users={users} people and dim={backbone.dim} features, not of "
                f"{block.total.shape[0]} and {block.w.shape[0]}."
            )
        mean, slope, second = _response(backbone, public, block)
        own = second - torch.outer(mean, mean) - slope @ slope.T
        noise = block.noise_std**2 * torch.eye(len(mean), dtype=torch.float64)
        weigh = torch.linalg.solve(noise + block.size * own, block.size * slope)
        precision += block.size * slope.T @ weigh
        pull += (block.total - block.size * mean) @ weigh
    return precision, pull


def _spread(backbone: Backbone, public: PublicMoments) -> Tensor:
    """Standard deviation of each coefficient, float64, shape ``(rank,)``: the public floor, part of what was learned."""
    floor = (backbone.basis.double() ** 2 * public.floor.double().unsqueeze(1)).sum(0)
    return (FLOOR * floor + TRUST * (backbone.prior.double() - floor).clamp(min=0)).sqrt()


def _response(backbone: Backbone, public: PublicMoments, block: BlockSum) -> tuple[Tensor, Tensor, Tensor]:
    """Mean ``c`` of a clipped record, its slope ``J`` along tastes and habit, and its second moment ``S``."""
    texts = public.sample(votes=block.votes)
    seen = texts @ block.sketch.double().T
    length = seen.norm(dim=1).clamp(min=1e-30)
    chance = torch.sigmoid(texts[:, :-1] @ block.w.double())  # under the average user when the block was released
    forward = torch.minimum(
        1 - chance, block.clip_norm / length
    )  # what is left of the residual, if the first is preferred
    backward = torch.minimum(chance, block.clip_norm / length)
    tastes = texts[:, :-1] @ (backbone.basis.double() * _spread(backbone, public))
    tastes = torch.cat([tastes, HABIT_SPREAD * texts[:, -1:]], dim=1)
    damping = (1 + math.pi * (tastes * tastes).sum(1) / 8).rsqrt()
    preferred = torch.sigmoid(damping * (texts[:, :-1] @ backbone.w.double()))
    slope = (forward + backward) * damping * preferred * (1 - preferred)
    mean = ((forward + backward) * preferred - backward) @ seen / len(texts)
    squares = forward**2 * preferred + backward**2 * (1 - preferred)
    return (
        mean,
        (seen * slope.unsqueeze(1)).T @ tastes / len(texts),
        (seen * squares.unsqueeze(1)).T @ seen / len(texts),
    )
