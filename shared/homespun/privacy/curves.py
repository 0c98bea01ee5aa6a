"""From events to a Renyi curve, each kind of event computed once.

>>> one = GaussianEvent(clip_units=1024, variance=1024**2, count=1, dimension=16)
>>> merge([one, one])[0].count
2
>>> round(renyi_curve([one] * 2).epsilon(1e-5).epsilon, 3) == round(renyi_curve(merge([one] * 2)).epsilon(1e-5).epsilon, 3)
True

**Exchanged vectors.** Amplification by a Poisson sample is proven for presence or absence alone. Where a device stays and
its vector is exchanged for another one of the clip ball, the sum is one of the mixtures ``P = (1-q) N(0) + q N(x)`` and
``Q = (1-q) N(0) + q N(y)``, ``|x - y| <= 2C``. With ``s = C / std`` and RDP the amplified bound for presence, the
divergence is at most the smaller of

    log(1 - q + q exp(a (a-1) (2s)^2 / 2)) / (a - 1)             joint convexity of exp((a-1) D_a)
    (a - 1/2) / (a - 1) RDP(2a) + RDP(2a - 1)                    by way of N(0) (arXiv:1702.07476, proposition 11)

Without sampling it is plainly that of sensitivity 2C.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from homespun.privacy.accountant import GaussianEvent, event_rdp, orders_for
from homespun.privacy.gaussian_table import TOTAL_VARIATION
from homespun.privacy.tradeoff import Array, RenyiCurve

__all__ = ["epsilon_over_time", "is_sampled", "merge", "renyi_at", "renyi_curve"]


def is_sampled(event: GaussianEvent) -> bool:
    """Whether the event's cohort is a proper Poisson sample."""
    return event.sampling_probability is not None and event.sampling_probability < 1.0


def merge(events: Iterable[GaussianEvent]) -> tuple[GaussianEvent, ...]:
    """One event for all that differ in nothing but their count, in the order in which they first appear."""
    counts: Counter[GaussianEvent] = Counter()
    for event in events:
        if event.count:
            counts[replace(event, count=1)] += event.count
    return tuple(replace(kind, count=count) for kind, count in counts.items())


def renyi_curve(events: Sequence[GaussianEvent], replaced: Sequence[GaussianEvent] = ()) -> RenyiCurve:
    """The proven curve of all events together.

    Args:
        events: Sums of which a unit is present or absent.
        replaced: Sums in which a unit's vector is exchanged for another one of the clip ball.
    Raises:
        ValueError: an event of an unknown kind.
    """
    orders = orders_for([*events, *replaced])
    whole = _on_whole_orders(orders)
    values = np.zeros(len(orders))
    for event in events:
        values += event.count * _renyi(replace(event, count=1), whole)
    for event in replaced:
        values += event.count * _renyi_replaced(replace(event, count=1), whole)
    drawn = math.fsum(_drawn(event) for event in (*events, *replaced))
    return RenyiCurve(orders=orders, values=values, drawn=drawn)


def epsilon_over_time(
    events: Sequence[GaussianEvent], *, delta: float, steps: int = 200
) -> tuple[tuple[int, float | None], ...]:
    """Proven epsilon after the first n events, at no more than ``steps`` places, the last one always among them."""
    kinds = list(dict.fromkeys(replace(event, count=1) for event in events))
    place = {kind: index for index, kind in enumerate(kinds)}
    orders = orders_for(kinds)
    costs = np.asarray([_renyi(kind, _on_whole_orders(orders)) for kind in kinds]).reshape(len(kinds), len(orders))
    stride = max(1, math.ceil(len(events) / steps))
    counts = np.zeros(len(kinds))
    drawn = 0.0
    told: list[tuple[int, float | None]] = []
    for number, event in enumerate(events, start=1):
        counts[place[replace(event, count=1)]] += event.count
        drawn += _drawn(event)
        if number % stride == 0 or number == len(events):
            bound = RenyiCurve(orders=orders, values=counts @ costs, drawn=drawn).epsilon(delta)
            told.append((number, None if bound is None else bound.epsilon))
    return tuple(told)


def renyi_at(events: Sequence[GaussianEvent], replaced: Sequence[GaussianEvent], *, order: float) -> float:
    """One divergence, counted at that order itself (a power of two up to 64, so that samples have it too)."""
    single = np.asarray([order])
    parts = [event.count * float(event_rdp(event, single)[0]) for event in events]
    parts += [event.count * float(_exchanged(event, single)[0]) for event in replaced]
    return math.fsum(parts)


def _drawn(event: GaussianEvent) -> float:
    return event.count * event.dimension * event.shares * TOTAL_VARIATION


def _on_whole_orders(orders: Array) -> bool:
    return bool(orders[0] == 2.0)


@lru_cache(maxsize=4096)
def _renyi(event: GaussianEvent, whole: bool) -> Array:
    return event_rdp(event, _grid(whole))


@lru_cache(maxsize=4096)
def _renyi_replaced(event: GaussianEvent, whole: bool) -> Array:
    return _exchanged(event, _grid(whole))


@lru_cache(maxsize=2)
def _grid(whole: bool) -> Array:
    if not whole:
        return orders_for(())
    return orders_for([GaussianEvent(clip_units=1, variance=1, count=1, dimension=1, sampling_probability=0.5)])


def _exchanged(event: GaussianEvent, orders: Array) -> Array:
    """Renyi divergence of one sum in which a vector is exchanged for another one; see the top of the module."""
    twice = replace(event, clip_units=2 * event.clip_units, sampling_probability=None)
    plain = event_rdp(twice, orders)
    q = event.sampling_probability
    if q is None or not is_sampled(event):
        return plain
    convex = np.logaddexp(math.log1p(-q), math.log(q) + (orders - 1.0) * plain) / (orders - 1.0)
    low = orders <= 31.0  # 2a is a whole order of the grid up to 62
    around = np.full(len(orders), np.inf)
    a = orders[low]
    around[low] = (a - 0.5) / (a - 1.0) * event_rdp(event, 2.0 * a) + event_rdp(event, 2.0 * a - 1.0)
    return np.asarray(np.minimum(convex, around), dtype=np.float64)
