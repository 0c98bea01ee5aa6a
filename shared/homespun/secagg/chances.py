"""Chances of what may go wrong with a random graph and a random committee.

A graph is the union of random cycles through everybody. On one cycle a party's two neighbours are a uniform pair of the
others, and cycles are independent, so everything about one party is exact. For groups of parties there is `Cuts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cuts", "distinct_marked", "hypergeometric"]

_Floats = NDArray[np.float64]

_TILTS = np.concatenate(
    [[0.0], np.geomspace(0.02, 7.0, 40)]
)  # any tilt gives a bound; these are close enough to the best
_SPANS = 8  # ranges of the number of present parties; a bound that holds for a whole range is looser the longer it is
_THINNING = 64  # group sizes within 1/64 of each other share a bound


def hypergeometric(population: int, marked: int, draws: int) -> _Floats:
    """Return the chances of 0..draws marked ones among ``draws`` taken from the population without replacement."""
    log_factorial = _log_factorials(population)
    count = np.arange(draws + 1)
    possible = count[(count <= marked) & (draws - count <= population - marked)]
    chances = np.zeros(draws + 1)
    chances[possible] = np.exp(
        _log_choose(log_factorial, marked, possible)
        + _log_choose(log_factorial, population - marked, draws - possible)
        - _log_choose(log_factorial, population, draws)
    )
    return chances


def distinct_marked(others: int, marked: int) -> Iterator[_Floats]:
    """Yield, after 0, 1, 2 ... cycles, the chances of how many *different* marked neighbours a party has.

    Args:
        others: All other parties on the cycles.
        marked: How many of them are marked, such as corrupt or alive.
    Yields:
        Chances of 0..2 cycles, exact up to rounding: a Markov chain on the count, each cycle adding 0, 1 or 2.
    """
    chances = np.ones(1)
    pairs = others * (others - 1)
    while True:
        yield chances
        new = np.maximum(marked - np.arange(len(chances)), 0)  # marked ones that are no neighbours yet
        old = others - new
        longer = np.zeros(len(chances) + 2)
        longer[:-2] += chances * (old * (old - 1) / pairs)
        longer[1:-1] += chances * (2 * new * old / pairs)
        longer[2:] += chances * (new * (new - 1) / pairs)
        chances = longer


class Cuts:
    """Bound the chance that the honest parties on some list fall apart into two groups without an edge between.

    It is a class because what takes time does not depend on degree and threshold, and a search tries many of both.

    Args:
        parties: Parties on the roster. Any number from ``min_survivors`` of them may be on the graph.
        min_survivors: Fewest parties on a list.
        colluding: Corrupt parties, all of them on the graph.

    The adversary sees the graph, then chooses a list on which every honest party has at least ``threshold`` neighbours. Let W
    be the smaller group, of w >= 2 parties, and R the rest of the honest ones on the list, at least
    r = max(w, min_survivors - colluding - w). Every member of W has its ``threshold`` listed neighbours in W or among
    the corrupt, and none in R. With n parties on the graph, follow a cycle from each member of W to its successor, then
    back from each that is not such a successor to its predecessor. Given all steps before, a successor is in W with a
    chance of at most (w-1)/(n-w), in W or corrupt at most (w-1+c)/(n-w), in R at least r/(n-1); a predecessor is corrupt
    with at most c/(n-2w), in R at least r/(n-w-1). A successor in W counts twice (for both ends) and saves a
    predecessor. So with z = exp(tilt) >= 1 the expectation of z^(slots of W that lead to W or a corrupt party), counted only if
    none leads to R, is at most G^w a cycle, with

        B = p' z + (q' - p'),   G = p z^2 + (s - p) z B + (q - s) B

    for the bounds p (in W), s (in W or corrupt), q (not in R), p' and q' of a successor and a predecessor. By Markov, W has
    threshold * w such slots on degree/2 cycles with a chance of at most z^(-threshold w) G^(w degree/2). This is summed
    over all choices of W and of r parties in R. Or R is forgotten (q = q' = 1) and the sum is over W alone: the better bound
    counts, for each w.
    """

    def __init__(self, parties: int, min_survivors: int, colluding: int) -> None:
        """Prepare for every number of parties on the graph, in a few ranges."""
        self._colluding = colluding
        edges = np.unique(np.linspace(min_survivors, parties, _SPANS + 1).astype(int)).tolist()
        log_factorial = _log_factorials(parties)
        self._spans = [
            _Span(log_factorial, low, high, min_survivors, colluding)
            for low, high in zip(edges[:-1] or edges, edges[1:] or edges, strict=True)
        ]

    def log_chance(self, degree: int, threshold: int) -> float:
        """Return the natural logarithm of the bound; -inf: there is no such group."""
        return max(span.log_chance(degree, threshold, self._colluding) for span in self._spans)


class _Span:
    """The bound of `Cuts` for low..high parties on the graph: every chance and count at whichever end is worse."""

    def __init__(self, log_factorial: _Floats, low: int, high: int, min_survivors: int, colluding: int) -> None:
        honest = high - colluding
        group = np.arange(2, honest // 2 + 1)
        rest = np.maximum(group, min_survivors - colluding - group)
        group, rest = group[rest <= honest - group], rest[rest <= honest - group]
        starts = _thinned(group)
        self._least = group[starts]
        self._most = np.append(group[starts[1:]] - 1, group[-1:])
        if not len(group):
            return

        def worst(values: _Floats) -> _Floats:
            return np.maximum.reduceat(values, starts)[:, None]

        groups = _log_choose(log_factorial, honest, group)
        rests = _log_choose(log_factorial, honest - group, rest)
        inside = worst(np.minimum((group - 1) / np.maximum(low - group, 1), 1.0))
        counted = worst(np.minimum((group - 1 + colluding) / np.maximum(low - group, 1), 1.0))
        before = worst(np.minimum(colluding / np.maximum(low - 2 * group, 1), 1.0))
        free = worst(1 - rest / (high - 1))
        free_before = worst(1 - rest / (high - group - 1))
        one = np.ones_like(free)
        self._ways = [
            (worst(groups)[:, 0], _log_growth(inside, counted, before, one, one)),
            (worst(groups + rests)[:, 0], _log_growth(inside, counted, before, free, free_before)),
        ]

    def log_chance(self, degree: int, threshold: int, colluding: int) -> float:
        possible = self._most >= threshold + 1 - colluding  # a member has threshold others in W or among the corrupt
        if not possible.any():
            return -math.inf
        bounds = []
        for choices, growth in self._ways:
            member = (degree / 2 * growth - threshold * _TILTS).min(axis=1)
            bounds.append(np.where(member < 0, choices + self._least * member, 0.0))
        best = np.minimum(np.minimum(*bounds), 0.0) + np.log(self._most - self._least + 1)
        return float(np.logaddexp.reduce(best[possible]))


def _log_growth(inside: _Floats, counted: _Floats, before: _Floats, free: _Floats, free_before: _Floats) -> _Floats:
    """Return log G of `Cuts`, shape ``(sizes, tilts)``; a chance cannot exceed that of the larger event."""
    counted, before = np.minimum(counted, free), np.minimum(before, free_before)
    inside = np.minimum(inside, counted)
    z = np.exp(_TILTS)
    back = before * z + (free_before - before)
    growth = inside * z**2 + (counted - inside) * z * back + (free - counted) * back
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(growth))


def _thinned(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each run of sizes begins whose bound is taken together."""
    starts, place = [], 0
    while place < len(group):
        starts.append(place)
        place += max(1, int(group[place]) // _THINNING)
    return np.array(starts, dtype=np.int64)


def _log_factorials(most: int) -> _Floats:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])


def _log_choose(log_factorial: _Floats, population: int | NDArray[np.int64], taken: int | NDArray[np.int64]) -> _Floats:
    return np.asarray(log_factorial[population] - log_factorial[taken] - log_factorial[population - taken])
