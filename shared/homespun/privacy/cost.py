"""What one event costs, exactly and never too little: the figure that a budget is kept in.

A cost is zCDP's rho, a whole number of 10^-18, so that sums and comparisons are never rounded. Where everybody takes
part it is exact: ``RDP(a) <= a rho`` at every order with

    rho = (s + sqrt(D) tau)^2 / 2,        s = Delta / sqrt(v)

(see `homespun.privacy.accountant` for tau, which is 0 for a single discrete Gaussian). A Poisson sample has no rho that
is worth having; its cost is ``RDP(a) / a`` at one whole order that was fixed beforehand, which adds up in the same way,
also with costs of the first kind.

>>> from homespun.privacy.accountant import GaussianEvent
>>> event_cost(GaussianEvent(clip_units=1024, variance=1024**2, count=3, dimension=16), None)
Decimal('1.500000000000000000')
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np

from homespun.privacy.accountant import GaussianEvent, distributed_tau, event_rdp

__all__ = ["agrees", "cost_text", "event_cost", "whole_cost", "whole_from_decimal", "whole_from_text"]

_GRID = 10**18
_TEXT = re.compile(r"(0|[1-9][0-9]{0,29})\.([0-9]{18})\Z")
_FLOAT_SLACK = 1000  # 1e-15: float arithmetic of costs below 1 is a few 1e-16 off
_FLOAT_RELATIVE = Fraction(1, 10**12)  # two machines' logarithms agree to far more than that


def event_cost(event: GaussianEvent, order: float | None) -> Decimal:
    """Cost of an event, rho with 18 decimals, rounded up.

    Args:
        event: All of its ``count`` sums are paid for.
        order: Renyi order at which Poisson samples are counted, a whole number of at least 2; None refuses them.
    Raises:
        ValueError: the event is a Poisson sample and there is no order for it.
    """
    return Decimal(cost_text(whole_cost(event, order)))


@lru_cache(maxsize=4096)
def whole_cost(event: GaussianEvent, order: float | None) -> int:
    """`event_cost` as a whole number of 10^-18."""
    return event.count * math.ceil(_one(event, order) * _GRID)


def agrees(event: GaussianEvent, order: float | None, written: int) -> bool:
    """Whether a written cost is the event's: to the last digit, or to 1e-12 of it where logarithms were needed.

    Logarithms and exponentials may differ in their last bit between two machines, so a verifier cannot ask for more.
    """
    own = whole_cost(event, order)
    if _exact(event):
        return written == own
    return abs(written - own) <= math.ceil(own * _FLOAT_RELATIVE) + event.count * _FLOAT_SLACK


def cost_text(whole: int) -> str:
    """A whole number of 10^-18 as the one decimal string for it."""
    return f"{whole // _GRID}.{whole % _GRID:018d}"


def whole_from_text(text: object) -> int:
    """Inverse of `cost_text`; no other spelling of the number is read.

    Raises:
        ValueError: ``text`` is not what `cost_text` writes.
    """
    found = _TEXT.match(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"Expected {str(text)[:64]!r} as a decimal string with 18 decimals.")
    return int(found[1]) * _GRID + int(found[2])


def whole_from_decimal(value: Decimal) -> int:
    """A cost that somebody gives, as a whole number of 10^-18.

    Raises:
        ValueError: it is negative, not finite, or has more than 18 decimals.
    """
    if not value.is_finite() or value < 0:
        raise ValueError(f"Expected a cost={value} in [0, inf).")
    whole = Fraction(value) * _GRID  # Decimal arithmetic would round to 28 digits
    if whole.denominator != 1:
        raise ValueError(f"Expected a cost={value} with at most 18 decimals.")
    return int(whole)


def _sampled(event: GaussianEvent) -> bool:
    return event.sampling_probability is not None and event.sampling_probability < 1.0


def _exact(event: GaussianEvent) -> bool:
    return not _sampled(event) and _tau_part(event) < Fraction(1, _GRID)


def _one(event: GaussianEvent, order: float | None) -> Fraction:
    """Cost of one of the event's sums, never below the exact one."""
    if not _sampled(event):
        return Fraction(event.clip_units**2, 2 * event.variance) + _tau_part(event)
    if order is None:
        raise ValueError("Expected a Renyi order for a Poisson sample: it has no useful zCDP cost.")
    rdp = float(event_rdp(event, np.array([float(order)]))[0])
    return Fraction(rdp / order) + Fraction(_FLOAT_SLACK, _GRID)


@lru_cache(maxsize=4096)
def _tau_part(event: GaussianEvent) -> Fraction:
    """What a sum of shares costs beyond one discrete Gaussian: ``s sqrt(D) tau + D tau^2 / 2``, rounded up."""
    if event.shares == 1 or event.share_variance is None:
        return Fraction(0)
    tau = distributed_tau(event.shares, event.share_variance)
    moved = math.sqrt(event.dimension) * tau
    part = event.clip_units / math.sqrt(event.variance) * moved + moved * moved / 2.0
    # exp() may underflow to zero: one more 1e-300 keeps the cost above the exact one
    return Fraction(part) * Fraction(1 + 10**-9) + Fraction(1, 10**300)
