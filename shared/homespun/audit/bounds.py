"""What a guessing game proves about epsilon: pure functions of coins and scores.

Each of m canaries was put into one run by its own secret fair coin, and got a score from what the run released. Who
guesses the coins of k canaries better than the claimed privacy allows has shown that the claim is false. How many
guesses are made (k) is public and chosen before the coins are thrown; chosen afterwards it would prove nothing.

>>> coins, scores = np.arange(1000) % 2 == 0, np.where(np.arange(1000) % 2 == 0, 8.0, 0.0)
>>> game = Game(coins=coins, scores=scores, guesses=100)
>>> round(snj_epsilon(game, delta=1e-5, confidence=0.95), 2), round(fdp_mu(game, confidence=0.95), 2)
(4.17, 1.23)

Two lower bounds are rigorous, and loose: at m = 1000 they reach a sixth to a half of the truth. `gaussian_interval` is
near tight and an *estimate*: it believes that scores are normal. Nothing here ever proves that a claim is true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr, ndtri
from scipy.stats import binom

from homespun.privacy.crosscheck import gaussian_delta, gaussian_epsilon

__all__ = [
    "Game",
    "Interval",
    "epsilon_of",
    "fdp_mu",
    "gaussian_interval",
    "lowest_mu",
    "mu_of",
    "snj_epsilon",
]

Array = NDArray[np.float64]

LARGEST_EPSILON = 40.0  # where the search of snj_epsilon ends; no number of canaries that fits in memory shows more
LARGEST_MU = 12.0  # the same for fdp_mu: epsilon 114 at delta 1e-5
_GRID = 65  # values of mu tried at once; four rounds narrow 12 down to 7e-7


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and the interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Game:
    """Coins, scores and the public number of guesses.

    Raises:
        ValueError: shapes differ, a score is not a number, or there are more guesses than canaries.
    """

    coins: NDArray[np.bool_] = field(repr=False)
    """Whether each canary was in, bool, shape ``(canaries,)``."""
    scores: Array = field(repr=False)
    """Higher means more likely in, float64, shape ``(canaries,)``; computed without knowing the coins."""
    guesses: int
    """k: the k highest scores are guessed "in"; with `snj_epsilon` the k lowest also "out"."""

    def __post_init__(self) -> None:
        """Refuse what cannot be scored."""
        if self.coins.dtype != np.bool_ or self.coins.ndim != 1 or self.coins.shape != np.shape(self.scores):
            raise ValueError(
                f"Expected coins and scores of one shape, bool and float, not {self.coins.dtype} {self.coins.shape} "
                f"and {np.shape(self.scores)}."
            )
        if not bool(np.isfinite(self.scores).all()):
            raise ValueError("Expected finite scores.")
        if not 1 <= self.guesses <= self.canaries // 2:
            raise ValueError(f"Expected guesses={self.guesses} in [1, canaries / 2 = {self.canaries // 2}].")

    @property
    def canaries(self) -> int:
        """m."""
        return len(self.coins)

    @property
    def right_in(self) -> int:
        """How many of the k highest scores were in. Equal scores keep their order, which knows no coin."""
        return int(self.coins[np.argsort(-self.scores, kind="stable")[: self.guesses]].sum())

    @property
    def right_out(self) -> int:
        """How many of the k lowest scores were out."""
        return int((~self.coins[np.argsort(self.scores, kind="stable")[: self.guesses]]).sum())


def snj_epsilon(game: Game, *, delta: float, confidence: float) -> float:
    """Lower bound on epsilon from one run, for any mechanism at all.

    With r = 2k guesses of which v are right, an (epsilon, delta) mechanism makes v or more right with a chance of at
    most ``beta + 2 m delta alpha``, where ``W ~ Binomial(r, e^eps / (1 + e^eps))``, ``beta = P[W >= v]`` and
    ``alpha = max_i P[v - i <= W < v] / i``. The bound is the smallest epsilon for which that is not below
    ``1 - confidence``.

    Args:
        game: Coins and scores.
        delta: Of the claim, in [0, 1).
        confidence: In (0, 1).
    Returns:
        Epsilon in [0, 40]; 0 where nothing is shown.
    Guarantees:
        * validity: above the true epsilon in at most a share ``1 - confidence`` of runs.
    Source:
        Steinke, Nasr and Jagielski 2023, arXiv:2305.08846, theorem 5.2.
    """
    _check_level(delta, confidence)
    guesses, right = 2 * game.guesses, game.right_in + game.right_out

    def chance(epsilon: float) -> float:
        one = 1.0 / (1.0 + math.exp(-epsilon))
        beta = 1.0 - float(bdtr(right - 1, guesses, one)) if right > 0 else 1.0
        if right == 0 or delta == 0.0:
            return beta
        below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, one))  # P[v - i <= W < v] for i = 1..v
        return beta + 2.0 * game.canaries * delta * float((below / np.arange(1, right + 1)).max())

    step = 0.05
    crossed = next((i for i in range(int(LARGEST_EPSILON / step) + 1) if chance(i * step) >= 1.0 - confidence), None)
    if crossed is None:
        return LARGEST_EPSILON
    if crossed == 0:
        return 0.0
    low, high = (crossed - 1) * step, crossed * step
    while high - low > 1e-9:
        middle = (low + high) / 2.0
        low, high = (low, middle) if chance(middle) >= 1.0 - confidence else (middle, high)
    return low


def fdp_mu(game: Game, *, confidence: float) -> float:
    """Lower bound on mu from one run: smaller ones are rejected, so the mechanism is not mu-Gaussian-DP for them.

    With g guesses "in" of which v are right and ``eta = 1 - confidence``, start at ``r = eta v / m`` and
    ``h = eta (g - v) / m``, and for i = v - 1 down to 0 put ``h' = max(h, Phi(Phi^-1(r) - mu))``,
    ``r += i / (g - i) (h' - h)``, ``h = h'``. If ``r + h`` ends above g / m, a mu-Gaussian-DP mechanism makes v right
    with a chance below eta. Only the highest scores are guessed: for guesses on both sides the proof is unchecked.

    Args:
        game: Coins and scores.
        confidence: In (0, 1).
    Returns:
        mu in [0, 12]; 0 where nothing is shown. `epsilon_of` turns it into an epsilon.
    Guarantees:
        * validity: above the true mu in at most a share ``1 - confidence`` of runs.
    Source:
        Mahloujifar, Melis and Chaudhuri 2024, arXiv:2410.22235, algorithm for general trade-off functions.
    """
    _check_level(0.0, confidence)
    return lowest_mu(game.canaries, game.guesses, game.right_in, confidence)


@lru_cache(maxsize=4096)
def lowest_mu(canaries: int, guesses: int, right: int, confidence: float) -> float:
    """The same from counts: m, g and v.

    >>> round(lowest_mu(1000, 276, 190, 0.95), 2)
    0.25
    """
    low, high = 0.0, LARGEST_MU
    if not bool(_rejected(np.zeros(1), canaries, guesses, right, confidence)[0]):
        return 0.0
    for _ in range(4):
        grid = np.linspace(low, high, _GRID)
        rejected = _rejected(grid, canaries, guesses, right, confidence)
        last = int(np.flatnonzero(~rejected)[0]) if not bool(rejected.all()) else _GRID
        if last == _GRID:
            return high
        low, high = float(grid[max(0, last - 1)]), float(grid[last])
    return low


def _rejected(mu: Array, canaries: int, guesses: int, right: int, confidence: float) -> NDArray[np.bool_]:
    """Whether each mu is rejected; shape of ``mu``."""
    eta = 1.0 - confidence
    r = np.full(mu.shape, eta * right / canaries)
    h = np.full(mu.shape, eta * (guesses - right) / canaries)
    for i in range(right - 1, -1, -1):
        higher = np.maximum(h, ndtr(ndtri(np.minimum(r, 1.0)) - mu))
        r = r + i / (guesses - i) * (higher - h)
        h = higher
    return np.asarray(r + h > guesses / canaries)


def gaussian_interval(coins: NDArray[np.bool_], scores: Array, *, confidence: float) -> Interval:
    """Estimate of mu from normal scores: ``(mean in - mean out) / sd``, and a two-sided interval of which each side
    has the confidence.

    It is parametric and asymptotic: an estimate, never to be printed as a bound.

    Args:
        coins: bool, shape ``(canaries,)``, both sides with two canaries at least.
        scores: float64, same shape.
        confidence: Of each side, in (0, 1).
    Returns:
        mu, with squared standard error ``1/n_in + 1/n_out + mu^2 / 2n``; infinite where scores do not vary within a
        side but differ between them.
    """
    _check_level(0.0, confidence)
    inside, outside = scores[coins], scores[~coins]
    if min(len(inside), len(outside)) < 2:
        raise ValueError(f"Expected at least 2 canaries on each side, not {len(inside)} and {len(outside)}.")
    n = len(scores)
    squares = float(((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum())
    gap, spread = float(inside.mean() - outside.mean()), math.sqrt(squares / (n - 2))
    if gap != 0.0 and spread <= 1e-12 * abs(gap):
        return Interval(**dict.fromkeys(("value", "low", "high"), math.copysign(math.inf, gap)))
    mu = gap / spread if spread > 0.0 else 0.0
    margin = float(ndtri(confidence)) * math.sqrt(1 / len(inside) + 1 / len(outside) + mu * mu / (2 * n))
    return Interval(value=mu, low=mu - margin, high=mu + margin)


def epsilon_of(mu: float, *, delta: float) -> float:
    """Epsilon of the exact Gaussian with this mu; 0 for mu <= 0, infinite for infinite mu."""
    if mu <= 0.0:
        return 0.0
    return math.inf if math.isinf(mu) else gaussian_epsilon(mu, delta=delta)


def mu_of(epsilon: float, *, delta: float) -> float:
    """Inverse of `epsilon_of`, to 1e-9: the Gaussian that (epsilon, delta) describes exactly."""
    if epsilon <= 0.0 or math.isinf(epsilon):
        return max(0.0, epsilon)
    low, high = 0.0, 1.0
    while gaussian_delta(high, epsilon=epsilon) < delta:
        low, high = high, 2.0 * high
    while high - low > 1e-9:
        middle = (low + high) / 2.0
        low, high = (middle, high) if gaussian_delta(middle, epsilon=epsilon) < delta else (low, middle)
    return high


def _check_level(delta: float, confidence: float) -> None:
    if not (0.0 <= delta < 1.0 and 0.0 < confidence < 1.0):
        raise ValueError(f"Expected delta={delta!r} in [0, 1) and confidence={confidence!r} in (0, 1).")
