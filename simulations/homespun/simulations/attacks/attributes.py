"""Attribute inference: what is a person like? From the released backbone, and from adapters exact and private.

Of the embedded population the attribute is the planted group of tastes, which no record names; of other data it is which
of two texts a person prefers where they gave no label that the adapter knows.

A group is a matter of all of a person's records. Record-level privacy hides single ones, so it claims nothing here, and
neither does the backbone's: who is like many others can be guessed from what many others are like.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from homespun.audit.evidence import Attack
from homespun.audit.separation import mean_of
from homespun.personal import Adapter, Backbone, Pairs, TierCaps, fit, predict
from homespun.simulations.attacks.target import Target
from homespun.simulations.evaluation import correct, per_person
from homespun.simulations.record_adapters import private_adapters, record_plans

RIDGE = 1.0  # of the attacker's regression, in units of a standardised coefficient

Array = NDArray[np.float64]


def infer_attributes(target: Target, *, seed: int = 0) -> list[Attack]:
    """Attack the released backbone, then unseen people's adapters: exact ones, and each private one of the run.

    Args:
        target: The run.
        seed: Of the attacker's training half and of the controls.
    """
    evidence, backbone = target.fold.evidence, target.backbone
    most = max(evidence.shots)
    adapters = {"exact": fit(backbone, evidence.shots[most])}
    for name, plan in record_plans(target.options, target.course.geometry.dim).items():
        made = private_adapters(
            backbone, target.course.public, evidence, plan, seed=target.options.seed, fold=target.fold.number
        )
        adapters[name.replace("_", "-")] = made[most]
    order = torch.from_numpy(_one_cycle(evidence.test.users, seed))
    attacks = [_from_backbone(target)]
    for name, adapter in adapters.items():
        if target.world.truth is None:
            attacks.append(_hidden_label(name, backbone, adapter, order, evidence.test))
        else:
            group = target.world.truth.tastes.group[list(target.fold.evaluated_users)]
            attacks.append(_group(name, adapter, group, seed))
    return attacks


def _from_backbone(target: Target) -> Attack:
    """Which answer a person preferred, guessed from the backbone alone: of people who took part, and of others."""

    def guessed(pairs: Pairs) -> Array:
        margin = pairs.project(target.backbone.w.unsqueeze(1)).squeeze(-1)
        found: Array = per_person(correct(margin), pairs).double().numpy()
        return found

    members, others = (
        mean_of(guessed(pairs))
        for pairs in (target.fold.seen, target.fold.evidence.shots[max(target.fold.evidence.shots)])
    )
    gain = None if target.mu is None else 2.0 * float(ndtr(target.mu / 2.0)) - 1.0
    bound = None if gain is None else min(1.0, others.value + gain)
    more = "" if gain is None else f"; under the claim taking part can add at most {100 * gain:.0f} points"
    return Attack(
        name="attribute-backbone",
        title="What a person prefers, from the backbone",
        metric="share of a person's own choices guessed",
        figure=members,
        control=others,
        bound=bound,
        sentence=(
            f"The backbone guesses {100 * members.value:.1f} in 100 choices of people who took part and "
            f"{100 * others.value:.1f} of people who did not: what it tells, it tells of everybody{more}."
        ),
    )


def _group(name: str, adapter: Adapter, group: NDArray[np.int8], seed: int) -> Attack:
    """The planted group, by a regression that was taught on half of the people."""
    rng = np.random.default_rng(seed)
    taught = rng.permutation(len(group)) < len(group) // 2
    figures = adapter.coefficients.double().numpy()
    own = _balanced(figures, group, taught)
    control = _balanced(figures[_one_cycle(len(group), seed)], group, taught)
    kinds = len(np.unique(group))
    return Attack(
        name=f"attribute-adapter-{name}",
        title=f"Which group of tastes, from the adapter ({_words(name)})",
        metric="share of groups guessed, each group counted alike",
        figure=mean_of(own),
        control=mean_of(control),
        bound=None,
        sentence=(
            f"Whoever sees the adapter ({_words(name)}) names {100 * own.mean():.0f} in 100 groups, with somebody "
            f"else's adapter {100 * control.mean():.0f}; guessing names {100 / kinds:.0f}. An adapter is made to tell "
            "a person's taste; the claim for single records says nothing of it."
        ),
    )


def _balanced(figures: Array, group: NDArray[np.int8], taught: NDArray[np.bool_]) -> Array:
    """Whether each person of the other half was named right, weighted so that groups count alike; mean is the score."""
    spread = figures[taught].std(axis=0) + 1e-12
    x = np.concatenate([(figures - figures[taught].mean(axis=0)) / spread, np.ones((len(figures), 1))], axis=1)
    kinds = np.unique(group[taught])
    target = (group[:, None] == kinds).astype(np.float64)
    share = 1.0 / np.maximum(target[taught].sum(axis=0), 1.0)
    weight = target[taught] @ share  # groups alike: the small ones are what an attacker looks for
    left = x[taught] * weight[:, None]
    solved = np.linalg.solve(left.T @ x[taught] + RIDGE * np.eye(x.shape[1]) / len(figures), left.T @ target[taught])
    named = kinds[np.argmax(x[~taught] @ solved, axis=1)]
    right, actual = named == group[~taught], group[~taught]
    counts = np.array([(actual == kind).sum() for kind in actual])
    found: Array = right * (len(actual) / (len(np.unique(actual)) * counts))
    return found


def _hidden_label(name: str, backbone: Backbone, adapter: Adapter, order: Tensor, test: Pairs) -> Attack:
    """Labels that the adapter was not made of, guessed by it."""

    def guessed(by: Adapter) -> Array:
        found: Array = per_person(correct(predict(backbone, by, test, caps=TierCaps()).total), test).double().numpy()
        return found

    own, control = mean_of(guessed(adapter)), mean_of(guessed(adapter.reassigned(order)))
    return Attack(
        name=f"attribute-adapter-{name}",
        title=f"A label that was held back, from the adapter ({_words(name)})",
        metric="share of held-out labels guessed",
        figure=own,
        control=control,
        bound=None,
        sentence=(
            f"Whoever sees the adapter ({_words(name)}) guesses {100 * own.value:.1f} in 100 labels that it was not made "
            f"of, with somebody else's adapter {100 * control.value:.1f}. An adapter is made to tell this."
        ),
    )


def _one_cycle(people: int, seed: int) -> NDArray[np.int64]:
    """For each person somebody else."""
    order = np.random.default_rng(seed + 1).permutation(people)
    stranger = np.empty(people, dtype=np.int64)
    stranger[order] = np.roll(order, 1)
    return stranger


def _words(name: str) -> str:
    kind, _, epsilon = name.partition("-")
    return "exact" if kind == "exact" else f"private, record epsilon {epsilon}" if epsilon else "private, as asked"
