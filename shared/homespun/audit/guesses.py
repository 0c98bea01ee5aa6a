"""How many guesses an audit should make: chosen from public numbers, before any coin is thrown.

>>> choose_guesses(1000, 0.5)
128
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import log_ndtr, ndtr

from homespun.audit.bounds import lowest_mu

__all__ = ["choose_guesses"]

_PLANNED = 24  # numbers of guesses that are compared, from 1 % to half of the canaries


@lru_cache(maxsize=64)
def choose_guesses(canaries: int, mu: float, *, confidence: float = 0.95) -> int:
    """A number of guesses that serves a Gaussian of this mu well; a function of public numbers alone.

    The expected number of right guesses, less one standard deviation, goes through the f-DP bound for a fixed grid of
    numbers, and the best is taken. No coin and no score is looked at.

    Args:
        canaries: m, at least 4.
        mu: Claimed.
        confidence: Of the bound.
    """
    if canaries < 4:
        raise ValueError(f"Expected canaries={canaries} in [4, inf).")
    tried = np.unique(np.geomspace(max(2, canaries // 100), canaries // 2, _PLANNED).round().astype(int))
    shown = []
    for k in tried:
        precision = _precision(k / canaries, mu)
        right = int(k * precision - math.sqrt(k * precision * (1.0 - precision)))
        shown.append(lowest_mu(canaries, int(k), max(0, right), confidence))
    # too few canaries to show anything on most days: an eighth is never far from the best
    return int(tried[int(np.argmax(shown))]) if max(shown) > 0.0 else max(1, canaries // 8)


def _precision(share: float, mu: float) -> float:
    """Share of "in" among the highest ``share`` of scores, half N(0, 1) and half N(mu, 1)."""
    low, high = -10.0, 10.0 + mu
    while high - low > 1e-9:
        cut = (low + high) / 2.0
        above = (float(ndtr(-cut)) + float(ndtr(mu - cut))) / 2.0
        low, high = (cut, high) if above > share else (low, cut)
    return 1.0 / (1.0 + math.exp(min(700.0, float(log_ndtr(-low)) - float(log_ndtr(mu - low)))))
