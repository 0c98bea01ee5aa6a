"""What a Renyi curve proves about a guess: power of a test, advantage, posterior.

All of it follows from pairs (epsilon, delta), each of which is proven, on a fixed public grid of deltas: the least of
finitely many bounds is a bound. The trade-off curve of the continuous Gaussian stands beside it under that name, because
it is not proven for sums of integer noise.

>>> import numpy as np
>>> orders = np.linspace(1.1, 64.0, 600)
>>> curve = RenyiCurve(orders=orders, values=orders * 0.5)      # one Gaussian release, mu = 1
>>> round(curve.power(0.01), 3), round(gaussian_power(1.0, false_alarms=0.01), 3)
(0.126, 0.092)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from homespun.privacy.accountant import Bound, to_epsilon

__all__ = ["DELTAS", "RenyiCurve", "gaussian_advantage", "gaussian_power", "posterior"]

Array = NDArray[np.float64]

DELTAS: Array = np.asarray(10.0 ** -np.arange(0.05, 20.0, 0.05), dtype=np.float64)  # 0.89 down to 1e-20
_LARGEST_LOSS = 0.01  # share of delta that noise tables may take; beyond it nothing is proven


@dataclass(frozen=True, kw_only=True, eq=False)
class RenyiCurve:
    """Renyi divergences of everything together, in both directions.

    Args:
        orders: Above 1, ascending, shape ``(orders,)``.
        values: Bound on the divergence at each order, shape ``(orders,)``.
        drawn: Total variation between the noise that was drawn and the noise that was counted: tables end somewhere.
    """

    orders: Array
    values: Array
    drawn: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is not a curve: a wrong number here would be a wrong claim everywhere."""
        if self.orders.shape != self.values.shape or self.orders.ndim != 1 or not len(self.orders):
            raise ValueError("Expected orders and values as vectors of one length.")
        if not (np.isfinite(self.orders).all() and (self.orders > 1.0).all()):
            raise ValueError("Expected orders as finite numbers above 1.")
        if not (np.isfinite(self.values).all() and (self.values >= 0.0).all()):
            raise ValueError("Expected Renyi divergences as finite numbers of at least 0.")
        if not 0.0 <= self.drawn < 1.0:
            raise ValueError(f"Expected drawn={self.drawn!r} in [0, 1).")

    def epsilon(self, delta: float) -> Bound | None:
        """Proven epsilon at ``delta``, or None where the tables of the noise are too coarse to prove one (about 40).

        Raises:
            ValueError: ``delta`` is not in (0, 1).
        """
        if not 0.0 < delta < 1.0:
            raise ValueError(f"Expected delta={delta!r} in (0, 1).")
        if not self.values.any():
            return Bound(epsilon=0.0, order=float(self.orders[0]))
        above = to_epsilon(self.orders, self.values, delta=delta * (1.0 - _LARGEST_LOSS))
        lost = (1.0 + math.exp(min(above.epsilon, 700.0))) * self.drawn
        if lost > delta * _LARGEST_LOSS:
            return None
        return to_epsilon(self.orders, self.values, delta=delta - lost)

    def loss(self, delta: float) -> float:
        """What the privacy loss itself stays below, except with probability ``delta`` (in both directions).

        By Markov's inequality on ``exp((a - 1) loss)``: ``min_a RDP(a) + log(1/delta) / (a - 1)`` (Mironov 2017,
        arXiv:1702.07476, proposition 3). It is more than epsilon at the same delta, because it bounds every outcome
        and not a sum over outcomes.
        """
        if not 0.0 < delta < 1.0:
            raise ValueError(f"Expected delta={delta!r} in (0, 1).")
        return float(np.min(self.values - math.log(delta) / (self.orders - 1.0)))

    @cached_property
    def pairs(self) -> tuple[Array, Array]:
        """Proven epsilons and their deltas, two arrays of one shape; deltas that the tables spoil are left out."""
        terms = self.values + np.log1p(-1.0 / self.orders) - np.log(self.orders) / (self.orders - 1.0)
        epsilons = np.maximum(0.0, np.min(terms - np.log(DELTAS)[:, None] / (self.orders - 1.0), axis=1))
        deltas = DELTAS + (1.0 + np.exp(np.minimum(epsilons, 700.0))) * self.drawn
        kept = deltas < 1.0
        return epsilons[kept], deltas[kept]

    def power(self, false_alarms: float) -> float:
        """Largest share of the true cases that any test finds with this share of false alarms.

        From ``TPR <= e^eps FPR + delta`` and ``1 - FPR <= e^eps (1 - TPR) + delta``, for every pair.
        """
        if not 0.0 < false_alarms < 1.0:
            raise ValueError(f"Expected false_alarms={false_alarms!r} in (0, 1).")
        epsilons, deltas = self.pairs
        few = np.exp(np.minimum(epsilons, 700.0)) * false_alarms + deltas
        many = 1.0 - np.exp(-epsilons) * (1.0 - deltas - false_alarms)
        return float(min(1.0, np.min(np.minimum(few, many), initial=1.0)))

    @property
    def advantage(self) -> float:
        """Largest gap between the true cases found and the false alarms, of any test: ``(e^eps - 1 + 2 delta) / (e^eps + 1)``."""
        epsilons, deltas = self.pairs
        gap = np.tanh(epsilons / 2.0) + 2.0 * deltas / (np.exp(np.minimum(epsilons, 700.0)) + 1.0)
        # Pinsker: total variation is at most the root of half the divergence of order 1, and orders only add
        return float(min(1.0, np.min(gap, initial=1.0), math.sqrt(self.values[0] / 2.0) + self.drawn))


def posterior(prior: float, *, loss: float) -> float:
    """Largest belief that somebody can come to who believed ``prior`` before, where the privacy loss is at most ``loss``."""
    if not 0.0 < prior < 1.0:
        raise ValueError(f"Expected prior={prior!r} in (0, 1).")
    if not 0.0 <= loss < math.inf:
        raise ValueError(f"Expected loss={loss!r} in [0, inf).")
    return 1.0 / (1.0 + math.exp(-min(loss, 700.0)) * (1.0 - prior) / prior)


def gaussian_power(mu: float, *, false_alarms: float) -> float:
    """Power against the continuous Gaussian: ``Phi(Phi^-1(x) + mu)`` (Dong, Roth and Su 2019, arXiv:1905.02383, eq. 6)."""
    normal = NormalDist()
    return normal.cdf(normal.inv_cdf(false_alarms) + mu)


def gaussian_advantage(mu: float) -> float:
    """Advantage against the continuous Gaussian: ``2 Phi(mu/2) - 1``."""
    return math.erf(mu / (2.0 * math.sqrt(2.0)))
