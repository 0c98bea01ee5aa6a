"""Membership inference: did this person take part? By the backbone's loss, and by likelihood ratios of shadows.

The people are those of the run's first fold: members its seen people with the labels they trained on, others its unseen
people with labels on the same texts. Both attackers know everybody's labels, and the second can train as many backbones
as they like; that is more than any real one.

    loss            a person's mean log-likelihood under the backbone
    likelihood      LiRA (arXiv:2112.03570): normal laws of two such figures with the person in and out, from shadows
    ratio           trained as the run was; spreads are shared by all people, as the paper advises for few shadows
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from homespun.audit.bounds import Interval
from homespun.audit.evidence import Attack
from homespun.audit.separation import auc, best_auc, best_tpr, reached_fpr, tpr_at_fpr
from homespun.personal import Backbone, Pairs, TierCaps, fit, predict
from homespun.simulations.attacks.shadows import joined, shadows
from homespun.simulations.attacks.target import Target

FALSE_ALARMS = 0.01

Array = NDArray[np.float64]


def infer_membership(
    target: Target, *, count: int = 16, seed: int = 0, progress: Callable[[], None] = lambda: None
) -> list[Attack]:
    """Run both attacks on a run.

    Args:
        target: The run.
        count: Shadows to learn from; one more is trained to aim the same attack at, as a control.
        seed: Of who is in which shadow.
        progress: Called after each shadow.
    Returns:
        Area under the curve and true positives at 1 % false alarms, or as near as the number of people allows, of the
        loss and of the likelihood ratio.
    """
    seen = target.fold.seen
    others = target.fold.evidence.shots[max(target.fold.evidence.shots)]
    people = joined(seen, others)
    member = np.arange(people.users) < seen.users
    inside, figures = [], []
    for shadow in shadows(target.course, people, members=seen.users, count=count + 1, seed=seed):
        inside.append(shadow.members)
        figures.append(_figures(shadow.backbone, people))
        progress()
    known, truth = torch.stack(figures[:-1]), torch.stack(inside[:-1])
    released = _figures(target.backbone, people)
    mu = target.mu
    return [
        *_report("loss", released[:, 0].numpy(), figures[-1][:, 0].numpy(), member, mu),
        *_report(
            "likelihood-ratio", _ratio(released, known, truth), _ratio(figures[-1], known, truth), member, mu
        ),
    ]  # fmt: skip


def _figures(backbone: Backbone, people: Pairs) -> Tensor:
    """Mean log-likelihood by the average user and by the person's own adapter, float64, shape ``(people, 2)``."""
    told = predict(backbone, fit(backbone, people), people, caps=TierCaps())
    weight = people.weight.double()
    total = weight.sum(1).clamp(min=1e-12)
    return torch.stack(
        [(weight * logsigmoid(margin.double())).sum(1) / total for margin in (told.shared, told.total)], dim=1
    )


def _ratio(figures: Tensor, known: Tensor, inside: Tensor) -> Array:
    """Log-likelihood ratio of in against out, shape ``(people,)``; 0 for who was never in or never out."""
    count_in, count_out = inside.sum(0), (~inside).sum(0)
    weight = inside.double().unsqueeze(-1)
    mean_in = (weight * known).sum(0) / count_in.clamp(min=1).unsqueeze(-1)
    mean_out = ((1 - weight) * known).sum(0) / count_out.clamp(min=1).unsqueeze(-1)
    # Both laws share one spread a person: shadows are few, and noise is the same whether a person is in or out.
    spread = (known - torch.where(inside.unsqueeze(-1), mean_in, mean_out)).square().mean(0)
    spread = (spread + spread.mean(0)) / 2 + 1e-18
    ratio = ((figures - mean_out).square() - (figures - mean_in).square()) / (2 * spread)
    found: Array = torch.where((count_in > 0) & (count_out > 0), ratio.sum(1), 0.0).numpy()
    return found


def _report(name: str, scores: Array, control: Array, member: NDArray[np.bool_], mu: float | None) -> list[Attack]:
    def curve(of: Array) -> Interval:
        return auc(of[member], of[~member])

    def hits(of: Array) -> Interval:
        return tpr_at_fpr(of[member], of[~member], fpr=FALSE_ALARMS)

    area, found = curve(scores), hits(scores)
    words = f"by {name.replace('-', ' ')}"
    limit = None if mu is None else best_auc(mu)
    alarms = reached_fpr(int((~member).sum()), fpr=FALSE_ALARMS)
    most = None if mu is None else best_tpr(mu, fpr=alarms)
    return [
        Attack(
            name=f"membership-{name}-auc",
            title=f"Who took part, {words}",
            metric="area under the curve",
            figure=area,
            control=curve(control),
            bound=limit,
            sentence=(
                f"Of a person who took part and one who did not, the attack names the right one {100 * area.value:.0f} "
                f"times in 100; guessing is right 50 times{_at_most(limit, 100, 'times')}."
            ),
        ),
        Attack(
            name=f"membership-{name}-tpr",
            title=f"Who took part, {words}, with {100 * alarms:.1f} % false alarms",
            metric="share of members found",
            figure=found,
            control=hits(control),
            bound=most,
            sentence=(
                f"Accusing {100 * alarms:.1f} in 100 who stayed away, the attack finds {100 * found.value:.1f} in 100 who took part"
                f"{_at_most(most, 100, 'in 100')}."
            ),
        ),
    ]  # fmt: skip


def _at_most(bound: float | None, scale: float, unit: str) -> str:
    if bound is None:
        return ", and no claim limits it"
    return f", and under the claim no attack can be above {scale * bound:.1f} {unit}"
