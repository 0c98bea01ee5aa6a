"""How a figure is written in a report: rounded up, to a fixed number of digits, the same on every machine.

Up, because every figure is a bound from above. Fixed, because a check computes the figure again and compares the text.

>>> up(2.1014001), up(0.1), up(3e-7)
(2.101401, 0.1, 1e-06)
>>> up(up(2.1014001))                   # what is rounded stays as it is
2.101401
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal

__all__ = ["of_100", "one_in", "short", "times", "up"]

DIGITS = 6


def up(value: float | None, digits: int = DIGITS) -> float | None:
    """The smallest number with so many decimals that is not below ``value``; None stays None.

    Raises:
        ValueError: ``value`` is not finite: no report holds NaN or infinity.
    """
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError(f"Expected value={value!r} in (-inf, inf).")
    # the shortest decimal that reads back as the float: 0.1 is 0.1, although the float is 5e-18 above it
    return float(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_CEILING))


def times(epsilon: float) -> str:
    """``e^epsilon`` with two digits, rounded up: how many times as likely.

    >>> times(0.262), times(1.0), times(3.0), times(10.0)
    ('1.3', '2.8', '21', '23,000')
    """
    if not 0.0 <= epsilon < 700.0:
        raise ValueError(f"Expected epsilon={epsilon!r} in [0, 700).")
    exact = Decimal(math.exp(epsilon))
    step = Decimal(10) ** (exact.adjusted() - 1)
    rounded = (exact / step).to_integral_value(rounding=ROUND_CEILING) * step
    return f"{rounded:,.1f}" if rounded < 10 else f"{int(rounded):,}"


def of_100(share: float) -> int:
    """A share as people of 100, rounded up: nobody is promised less risk than there is."""
    return min(100, math.ceil(100.0 * share - 1e-9))


def one_in(delta: float) -> str:
    """A small chance as one in so many, the many rounded down.

    >>> one_in(1e-5), one_in(3e-7)
    ('1 in 100,000', '1 in 3,000,000')
    """
    many = Decimal(1) / Decimal(repr(delta))
    step = Decimal(10) ** max(0, many.adjusted())
    return f"1 in {int((many / step).to_integral_value(rounding='ROUND_FLOOR') * step):,}"


def short(value: float, digits: int = 3) -> str:
    """A figure for a sentence, rounded up; small ones with an exponent.

    >>> short(2.0011), short(1e-6), short(8.0)
    ('2.002', '1e-6', '8')
    """
    if 0.0 < value < 1e-3:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return f"{up(value, digits):,.{digits}f}".rstrip("0").rstrip(".")
