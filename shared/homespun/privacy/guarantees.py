"""The guarantees A, B and C: from the events of a ledger to everything that may be said about them (`Figures`).

Pure functions. A report, a check of a report, a device's page and a simulation ask here; nobody counts for himself.

A is device level, B and C are record level, and no sum of the two levels means anything. **C takes the events of A at
twice their clip bound**: when one record changes, the vector of its device changes from one point of the clip ball to
another one, so by up to 2C, and not from a point to zero, by up to C.

>>> one = GaussianEvent(clip_units=1024, variance=1024**2, count=1, dimension=16)
>>> a, c = backbone([one], delta=1e-5), joint([one], [one], delta=1e-5)
>>> figures(a).mu, round(figures(c).mu ** 2, 9)                     # 1 + 2^2
(1.0, 5.0)
>>> [round(point.epsilon, 3) for point in figures(a).points if point.delta == 1e-5]
[4.728]

**A group** of k devices under one person's hand moves a sum by at most kC. In a Poisson sample some member of it is drawn
with chance ``1 - (1-q)^k``; given that, the sum moves by a mixture of at most k C, and ``exp((a-1) D_a)`` is convex in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from homespun.privacy.accountant import GaussianEvent, orders_for
from homespun.privacy.cost import event_cost
from homespun.privacy.crosscheck import continuous_curve, snap
from homespun.privacy.curves import is_sampled, merge, renyi_at, renyi_curve
from homespun.privacy.figures import FALSE_ALARMS, PRIORS, PUBLIC_DELTAS, RENYI_ORDERS, Figures, Point, no_figures
from homespun.privacy.terms import Relation, Unit
from homespun.privacy.tradeoff import RenyiCurve, gaussian_advantage, gaussian_power, posterior

__all__ = [
    "FALSE_ALARMS",
    "PRIORS",
    "PUBLIC_DELTAS",
    "Figures",
    "Guarantee",
    "Point",
    "adapter",
    "backbone",
    "curve",
    "figures",
    "group",
    "joint",
    "stand_alone",
]

_FEW_GROUPS = 8  # more kinds of events than this are put on the public grid for the second accountant and for groups


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What is counted together, and under which words.

    Args:
        unit: What is protected as a whole.
        relation: Which data sets are neighbours.
        delta: The claim's own.
        events: Sums of which a unit is present or absent.
        replaced: Sums in which a unit's vector is exchanged for another one of the clip ball.
        unbounded: Why nothing is claimed; empty where something is.
    """

    unit: Unit
    relation: Relation
    delta: float
    events: tuple[GaussianEvent, ...] = ()
    replaced: tuple[GaussianEvent, ...] = ()
    unbounded: str = ""

    def __post_init__(self) -> None:
        """Refuse events that no accountant can count, and a delta that is none."""
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"Expected delta={self.delta!r} in (0, 1).")
        orders_for([*self.events, *self.replaced])


def backbone(events: Iterable[GaussianEvent | None], *, delta: float) -> Guarantee:
    """Guarantee A: everything that one device holds, present or absent. None is a round without noise."""
    known, why = _counted(events)
    return Guarantee(unit=Unit.DEVICE, relation=Relation.ADD_OR_REMOVE, delta=delta, events=known, unbounded=why)


def adapter(events: Iterable[GaussianEvent | None], *, delta: float) -> Guarantee:
    """Guarantee B: one record counts, or its place is blank.

    Args:
        events: What *one* record took part in, so the event of one block: blocks are disjoint.
        delta: The claim's own.
    """
    known, why = _counted(events)
    return Guarantee(unit=Unit.RECORD, relation=Relation.ZERO_OUT, delta=delta, events=known, unbounded=why)


def joint(shared: Iterable[GaussianEvent | None], own: Iterable[GaussianEvent | None], *, delta: float) -> Guarantee:
    """Guarantee C: one record, against somebody who sees the backbone and the adapter's outputs.

    Args:
        shared: The events of A. They count at twice their clip bound.
        own: The events of B, of one record.
        delta: Of the composed claim.
    """
    changed, why = _counted(shared)
    known, whynot = _counted(own)
    return Guarantee(
        unit=Unit.RECORD,
        relation=Relation.ZERO_OUT,
        delta=delta,
        events=known,
        replaced=changed,
        unbounded=why or whynot,
    )


def group(guarantee: Guarantee, *, devices: int) -> Guarantee:
    """The same for several devices of one person, present or absent together.

    Raises:
        ValueError: fewer than one device, or a guarantee that is not about presence.
    """
    if devices < 1:
        raise ValueError(f"Expected devices={devices} in [1, inf).")
    if guarantee.unit is not Unit.DEVICE or guarantee.replaced:
        raise ValueError("Expected a guarantee at device level.")
    events = merge(guarantee.events)
    if _many(events, ()):
        events = merge(snap(event) for event in events)
    return replace(guarantee, events=tuple(_together(event, devices) for event in events))


def stand_alone(guarantee: Guarantee) -> Guarantee:
    """What one device's messages cost by themselves, before any sum: its own share of the noise is all that hides it."""
    alone = tuple(
        event
        if event.share_variance is None
        else replace(event, variance=event.share_variance, shares=1, share_variance=None)
        for event in guarantee.events
    )
    return replace(guarantee, events=alone)


def figures(guarantee: Guarantee, *, second: bool = True) -> Figures:
    """All figures of a guarantee.

    Args:
        guarantee: What to count.
        second: Whether to ask the second accountant as well; groups and time lines do without.
    Returns:
        Figures as they are, nothing rounded. A second accountant that contradicts is a figure too, `Point.discrepancy`.
    """
    deltas = tuple(dict.fromkeys((guarantee.delta, *PUBLIC_DELTAS)))
    events, replaced = merge(guarantee.events), merge(guarantee.replaced)
    sampled = any(is_sampled(event) for event in (*events, *replaced))
    whole = renyi_curve(events, replaced)
    bounds = [whole.epsilon(delta) for delta in deltas]
    reason = guarantee.unbounded
    if not reason and bounds[0] is None:
        reason = "more than the tables of the noise can prove (an epsilon of about 40)"
    if reason:
        return no_figures(deltas, reason)
    checks, method, compared, snapped = _second(events, replaced, deltas) if second else ((), "none", (), False)
    mu = None if sampled else math.sqrt(_square(events) + 4.0 * _square(replaced))
    loss = whole.loss(guarantee.delta)
    return Figures(
        reason="",
        points=tuple(
            Point(
                delta=delta,
                epsilon=None if bound is None else bound.epsilon,
                order=None if bound is None else bound.order,
                second=checks[index] if second else None,
                discrepancy=compared[index] if second else None,
            )
            for index, (delta, bound) in enumerate(zip(deltas, bounds, strict=True))
        ),
        second_accountant=method,
        snapped=snapped,
        mu=mu,
        rho=None if sampled else _rho(events, replaced),
        renyi=tuple((order, renyi_at(events, replaced, order=order)) for order in RENYI_ORDERS),
        power=tuple((alarms, whole.power(alarms)) for alarms in FALSE_ALARMS),
        power_continuous=()
        if mu is None
        else tuple((alarms, gaussian_power(mu, false_alarms=alarms)) for alarms in FALSE_ALARMS),
        advantage=whole.advantage,
        advantage_continuous=None if mu is None else gaussian_advantage(mu),
        loss=loss,
        posteriors=tuple((prior, posterior(prior, loss=loss)) for prior in PRIORS),
    )


def curve(guarantee: Guarantee) -> RenyiCurve:
    """The Renyi curve itself, for drawings."""
    return renyi_curve(merge(guarantee.events), merge(guarantee.replaced))


def _counted(events: Iterable[GaussianEvent | None]) -> tuple[tuple[GaussianEvent, ...], str]:
    listed = tuple(events)
    known = tuple(event for event in listed if event is not None)
    return known, "" if len(known) == len(listed) else "a round ran without noise"


def _together(event: GaussianEvent, devices: int) -> GaussianEvent:
    q = event.sampling_probability
    if q is not None and q < 1.0:
        q = -math.expm1(devices * math.log1p(-q))
    return replace(event, clip_units=event.clip_units * devices, sampling_probability=q)


def _many(events: Sequence[GaussianEvent], replaced: Sequence[GaussianEvent]) -> bool:
    """Whether samples of so many kinds are composed that they are put on the public grid first."""
    every = (*events, *replaced)
    return len(every) > _FEW_GROUPS and any(is_sampled(event) for event in every)


def _square(events: Iterable[GaussianEvent]) -> float:
    return math.fsum(event.count * event.clip_units**2 / event.variance for event in events)


def _rho(events: Iterable[GaussianEvent], replaced: Iterable[GaussianEvent]) -> Decimal:
    doubled = (replace(event, clip_units=2 * event.clip_units) for event in replaced)
    return sum((event_cost(event, None) for event in (*events, *doubled)), Decimal(0))


def _second(
    events: Sequence[GaussianEvent],
    replaced: Sequence[GaussianEvent],
    deltas: Sequence[float],
) -> tuple[tuple[float, ...], str, tuple[float | None, ...], bool]:
    """Second accountant's epsilons, its name, proven minus second on the same events, and whether they were snapped."""
    snapped = _many(events, replaced)
    if snapped:
        events, replaced = (merge(snap(event) for event in part) for part in (events, replaced))
    proven = renyi_curve(events, replaced)
    checks, method = continuous_curve(events, deltas=deltas, replaced=replaced)
    compared = tuple(
        None if (bound := proven.epsilon(delta)) is None else bound.epsilon - check
        for delta, check in zip(deltas, checks, strict=True)
    )
    return checks, method, compared, snapped
