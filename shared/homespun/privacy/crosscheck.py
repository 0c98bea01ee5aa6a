"""The second accountant: what the continuous Gaussian of the same size would cost.

Its figures are named "continuous equivalent". They check the claim from below: Renyi bounds lose a little, so a
correct claim lies above, and a claim that lies below has a bug in it.

>>> round(gaussian_epsilon(1.0, delta=1e-5), 4), round(gaussian_delta(1.0, epsilon=1.0), 8)
(4.3772, 0.12693674)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from scipy.special import log_ndtr

from homespun.privacy.accountant import GaussianEvent, orders_for

__all__ = ["continuous_curve", "continuous_equivalent", "gaussian_delta", "gaussian_epsilon", "snap"]

_PLD_INTERVAL = 1e-3  # pessimistic; 1e-4 gives the same epsilon to 1e-4 and takes 18 times as long
_COARSE_INTERVAL = 5e-3  # for many groups: the price of a composition grows with its length, epsilon by 1e-3 or less
_FEW = 4  # groups of events that are composed at the fine interval
_GRID_RATIO = 1.01  # public grid of noise multipliers and rates for mixed events, see snap


def gaussian_delta(mu: float, *, epsilon: float) -> float:
    """Smallest delta of a mu-Gaussian-DP mechanism at ``epsilon``, exactly, also for epsilon above 1.

    ``Phi(mu/2 - eps/mu) - exp(eps) Phi(-mu/2 - eps/mu)`` in log space (Balle and Wang 2018, arXiv:1805.06530).

    Args:
        mu: Sensitivity over noise standard deviation, of all releases together (root of the sum of squares).
        epsilon: Not negative.
    """
    if not (0.0 < mu < math.inf and 0.0 <= epsilon < math.inf):
        raise ValueError(f"Expected mu={mu!r} in (0, inf) and epsilon={epsilon!r} in [0, inf).")
    first = float(log_ndtr(mu / 2.0 - epsilon / mu))
    second = epsilon + float(log_ndtr(-mu / 2.0 - epsilon / mu))
    return math.exp(first) * -math.expm1(min(0.0, second - first))


def gaussian_epsilon(mu: float, *, delta: float) -> float:
    """Inverse of `gaussian_delta`: smallest epsilon at ``delta``, by bisection to 1e-12 and rounded up."""
    if not 0.0 < delta < 1.0:
        raise ValueError(f"Expected delta={delta!r} in (0, 1).")
    low, high = 0.0, 1.0
    if gaussian_delta(mu, epsilon=low) <= delta:
        return 0.0
    while gaussian_delta(mu, epsilon=high) > delta:
        low, high = high, 2.0 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2.0
        if gaussian_delta(mu, epsilon=middle) > delta:
            low = middle
        else:
            high = middle
    return high


def continuous_equivalent(events: Sequence[GaussianEvent], *, delta: float) -> tuple[float, str]:
    """Epsilon of the continuous Gaussian with the same noise multipliers, and the method's name.

    Args:
        events: As for `homespun.privacy.accountant.compose`.
        delta: In (0, 1).
    Returns:
        Without sampling the exact figure. With a Poisson sample the privacy loss distribution of dp-accounting,
        add-or-remove, pessimistic, interval 1e-3.
    """
    (epsilon,), method = continuous_curve(events, deltas=(delta,))
    return epsilon, method


def continuous_curve(
    events: Sequence[GaussianEvent], *, deltas: Sequence[float], replaced: Sequence[GaussianEvent] = ()
) -> tuple[tuple[float, ...], str]:
    """`continuous_equivalent` at several deltas for the price of one composition.

    Args:
        events: Sums of which a unit is present or absent.
        deltas: Each in (0, 1).
        replaced: Further sums in which a unit's vector is exchanged for another one.
    Returns:
        One epsilon for each delta, and the method's name.
    """
    orders_for([*events, *replaced])  # refuses unknown events
    present, changed = (tuple(event for event in part if event.count > 0) for part in (events, replaced))
    if not present and not changed:
        return (0.0,) * len(deltas), "exact Gaussian, continuous equivalent"
    if all(event.sampling_probability in (None, 1.0) for event in (*present, *changed)):
        square = math.fsum(
            [event.count * event.clip_units**2 / event.variance for event in present]
            + [4 * event.count * event.clip_units**2 / event.variance for event in changed]
        )
        mu = math.sqrt(square)
        return tuple(gaussian_epsilon(mu, delta=delta) for delta in deltas), "exact Gaussian, continuous equivalent"
    relation = "replace-one" if changed else "add-or-remove"
    return _pld_epsilons(present, changed, deltas), f"PLD {relation} (dp-accounting), continuous equivalent"


def snap(event: GaussianEvent) -> GaussianEvent:
    """The event on a public grid of 1 %: less noise and a larger sample, so that no figure gets better by it.

    Two hundred rounds with two hundred noise levels then are a few groups, each composed with itself at once.
    """
    # what is on the grid already must stay: a hair's breadth for arithmetic, which min() below takes back
    std = _GRID_RATIO ** math.floor(math.log(math.sqrt(event.variance), _GRID_RATIO) + 1e-6)
    q = event.sampling_probability
    if q is not None:
        q = min(1.0, _GRID_RATIO ** math.ceil(math.log(q, _GRID_RATIO) - 1e-9))
    return replace(event, variance=min(event.variance, max(1, math.floor(std * std))), sampling_probability=q)


def _pld_epsilons(
    present: Sequence[GaussianEvent], changed: Sequence[GaussianEvent], deltas: Sequence[float]
) -> tuple[float, ...]:
    # imported here: it takes half a second, and only sampled plans need it
    from dp_accounting import dp_event, privacy_accountant
    from dp_accounting.pld import pld_privacy_accountant

    relations = privacy_accountant.NeighboringRelation
    accountant = pld_privacy_accountant.PLDAccountant(
        neighboring_relation=relations.REPLACE_ONE if changed else relations.ADD_OR_REMOVE_ONE,
        value_discretization_interval=_PLD_INTERVAL if len(present) + len(changed) <= _FEW else _COARSE_INTERVAL,
    )
    if changed and any(event.sampling_probability not in (None, 1.0) for event in present):
        raise ValueError("Expected no Poisson sample among the events that keep their relation beside replaced ones.")
    # Under replace-one the library doubles every sensitivity; what is present or absent gets twice the noise instead.
    halves = 2.0 if changed else 1.0
    for events, scale in ((present, halves), (changed, 1.0)):
        for event in events:
            gaussian = dp_event.GaussianDpEvent(scale * event.noise_multiplier)
            q = event.sampling_probability
            accountant.compose(gaussian if q is None else dp_event.PoissonSampledDpEvent(q, gaussian), event.count)
    return tuple(float(accountant.get_epsilon(delta)) for delta in deltas)
