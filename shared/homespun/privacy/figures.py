"""What may be said about a guarantee in figures, and at which public deltas, orders, false alarms and priors it is said.

`homespun.privacy.guarantees.figures` computes them from events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

__all__ = [
    "FALSE_ALARMS",
    "PRIORS",
    "PUBLIC_DELTAS",
    "RENYI_ORDERS",
    "Figures",
    "Point",
    "no_figures",
]

PUBLIC_DELTAS = (1e-5, 1e-6, 1e-8, 1e-10)
FALSE_ALARMS = (1e-4, 1e-3, 1e-2, 1e-1)
PRIORS = (0.5, 0.01)
RENYI_ORDERS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One pair (epsilon, delta), by both accountants."""

    delta: float
    epsilon: float | None
    """Proven for the integer mechanism that ran; None where nothing is (`Figures.reason` says why)."""
    order: float | None
    second: float | None
    """Continuous equivalent. It checks the proven figure from below."""
    discrepancy: float | None
    """Proven minus second, both on the same events; negative beyond arithmetic means a bug."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Everything that follows from a guarantee's events; None where it is not bounded."""

    reason: str
    points: tuple[Point, ...]
    """The claim's own delta first, then `PUBLIC_DELTAS`."""
    second_accountant: str
    snapped: bool
    """Whether both accountants were compared on events put on the public grid."""
    mu: float | None
    """Gaussian-DP parameter, continuous equivalent; None with a Poisson sample."""
    rho: Decimal | None
    """zCDP, proven, rounded up; None with a Poisson sample."""
    renyi: tuple[tuple[float, float], ...]
    """(order, divergence)."""
    power: tuple[tuple[float, float], ...]
    """(false alarms, largest share of true cases found), proven."""
    power_continuous: tuple[tuple[float, float], ...]
    """The same for the continuous Gaussian; empty with a Poisson sample."""
    advantage: float | None
    advantage_continuous: float | None
    loss: float | None
    """What the privacy loss itself stays below, except with probability delta."""
    posteriors: tuple[tuple[float, float], ...]
    """(prior, largest posterior), except with probability delta."""


def no_figures(deltas: Sequence[float], reason: str) -> Figures:
    """Figures of a guarantee that bounds nothing, and why."""
    empty = Point(delta=1.0, epsilon=None, order=None, second=None, discrepancy=None)
    return Figures(
        reason=reason,
        points=tuple(replace(empty, delta=delta) for delta in deltas),
        second_accountant="none",
        snapped=False,
        mu=None,
        rho=None,
        renyi=(),
        power=(),
        power_continuous=(),
        advantage=None,
        advantage_continuous=None,
        loss=None,
        posteriors=(),
    )
