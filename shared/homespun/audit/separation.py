"""How well scores tell two groups of people apart: what attacks reach, and what no attack can reach under a claim.

>>> members, others = np.array([3.0, 2.0, 1.0]), np.array([2.0, 0.0, -1.0])
>>> round(auc(members, others).value, 3), tpr_at_fpr(members, others, fpr=0.3).value
(0.833, 0.3333333333333333)
>>> round(best_auc(0.5), 3), round(best_tpr(0.5, fpr=0.01), 4)
(0.638, 0.0339)

Intervals are of the figure, not of the leak: a better attack may exist. Only `homespun.audit.bounds` bounds anything.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri
from scipy.stats import rankdata

from homespun.audit.bounds import Interval

__all__ = ["auc", "best_auc", "best_tpr", "clopper_pearson", "mean_of", "reached_fpr", "tpr_at_fpr"]

Array = NDArray[np.float64]


def auc(members: Array, others: Array, *, confidence: float = 0.95) -> Interval:
    """Chance that a member scores above somebody else, ties counted half, with a two-sided interval.

    Args:
        members: Scores of people whose data was used, float64, shape ``(n,)``, n >= 2.
        others: Scores of comparable people whose data was not, float64, shape ``(m,)``, m >= 2.
        confidence: Of the interval.
    Source:
        Variance from the structural components of DeLong, DeLong and Clarke-Pearson 1988.
    """
    n, m = len(members), len(others)
    if min(n, m) < 2:
        raise ValueError(f"Expected at least 2 members and 2 others, not {n} and {m}.")
    ranks = rankdata(np.concatenate([members, others]))
    above = (ranks[:n] - rankdata(members)) / m  # each member's share of the others below
    below = 1.0 - (ranks[n:] - rankdata(others)) / n
    value = float(above.mean())
    error = math.sqrt(float(above.var(ddof=1)) / n + float(below.var(ddof=1)) / m)
    margin = float(ndtri((1.0 + confidence) / 2.0)) * error
    return Interval(value=value, low=max(0.0, value - margin), high=min(1.0, value + margin))


def tpr_at_fpr(members: Array, others: Array, *, fpr: float, confidence: float = 0.95) -> Interval:
    """Share of members above the threshold that at most a share ``fpr`` of the others is above.

    The threshold is the others' own quantile and is taken as given; the interval is Clopper-Pearson's of the share.

    Args:
        members: Scores, float64, shape ``(n,)``.
        others: Scores, float64, shape ``(m,)``; with m < 1 / fpr the threshold is their largest: see `reached_fpr`.
        fpr: In (0, 1).
        confidence: Of the interval.
    """
    if not 0.0 < fpr < 1.0 or len(members) == 0 or len(others) == 0:
        raise ValueError(f"Expected fpr={fpr!r} in (0, 1), members and others.")
    threshold = np.sort(others)[::-1][int(fpr * len(others))]
    return clopper_pearson(int((members > threshold).sum()), len(members), confidence=confidence)


def reached_fpr(others: int, *, fpr: float) -> float:
    """False alarm rate to expect at the threshold of `tpr_at_fpr`: few others cannot tell a small rate.

    The threshold is the k-th largest of m scores, and somebody new is above it with a mean chance of ``k / (m + 1)``.
    `best_tpr` is concave in the rate, so at this one it bounds the mean of what `tpr_at_fpr` shows (Jensen).
    """
    return (int(fpr * others) + 1) / (others + 1)


def clopper_pearson(hits: int, tries: int, *, confidence: float = 0.95) -> Interval:
    """A share and its exact two-sided interval."""
    if not 0 <= hits <= tries or tries < 1:
        raise ValueError(f"Expected hits={hits} in [0, tries={tries}], tries >= 1.")
    tail = (1.0 - confidence) / 2.0
    return Interval(
        value=hits / tries,
        low=float(betaincinv(hits, tries - hits + 1, tail)) if hits > 0 else 0.0,
        high=float(betaincinv(hits + 1, tries - hits, 1.0 - tail)) if hits < tries else 1.0,
    )


def mean_of(values: Array, *, confidence: float = 0.95) -> Interval:
    """Mean of independent values and its normal interval; of one value no interval is known, so all of the line.

    Args:
        values: float64, shape ``(n,)``, n >= 1.
        confidence: Of the interval.
    """
    n, value = len(values), float(values.mean())
    margin = math.inf if n < 2 else float(ndtri((1.0 + confidence) / 2.0)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(value=value, low=value - margin, high=value + margin)


def best_tpr(mu: float, *, fpr: float) -> float:
    """Largest share of members that any attack finds at a false alarm rate, under mu-Gaussian-DP.

    ``Phi(Phi^-1(fpr) + mu)`` (Dong, Roth and Su 2019, arXiv:1905.02383).
    """
    return float(ndtr(ndtri(fpr) + mu))


def best_auc(mu: float) -> float:
    """Area under `best_tpr` over all false alarm rates, ``Phi(mu / sqrt 2)``."""
    return float(ndtr(mu / math.sqrt(2.0)))
