"""How many neighbours, shares and signatures a masked sum needs, so that a server cannot learn more than the sum.

Up to `COMPLETE_UP_TO` parties everybody masks with everybody and nothing is left to chance. Above, a party has at most
``degree`` neighbours, drawn after the keys are fixed, and a small committee signs the list of survivors. The server may
then pick who is dropped *after* it has seen both. `failure_bound` bounds the chance that any pick whatever lets it learn
more; `docs/design/12-secure-aggregation.md` has the proof, `homespun.secagg.chances` the arithmetic.

>>> choose_shape(1000, min_survivors=900, colluding=50)
Shape(degree=48, threshold=29, committee=54, quorum=41)
>>> choose_shape(100, min_survivors=80, colluding=10)
Shape(degree=None, threshold=56, committee=100, quorum=56)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from homespun.secagg.chances import Cuts, distinct_marked, hypergeometric

__all__ = ["COMPLETE_UP_TO", "MAX_PARTIES", "SECURITY_BITS", "Shape", "abort_bound", "choose_shape", "failure_bound"]

SECURITY_BITS = 80
"""A shape is sound if it fails with a chance of at most 2^-80: after 2^40 tries at the coins, still 2^-40."""

COMPLETE_UP_TO = 200
"""Most parties that all mask with each other: 200 agreements of keys, 15 ms."""

MAX_PARTIES = 2**16
MAX_DEGREE = 512  # bounds the work of checking a shape that somebody else chose
ABORT_CHANCE = 1e-3  # at the tolerated dropouts: one round in a thousand is tried again
_CHOSEN_BITS = (
    SECURITY_BITS + 3
)  # each of three events; together 2^-81.4, so rounding on another platform never decides


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Who masks with whom, and how many must agree."""

    degree: int | None
    """Most neighbours of a party, even: two on each random cycle. None: everybody masks with everybody."""

    threshold: int
    """Shares of a secret that put it together; the dealer's neighbours hold one each."""

    committee: int
    """Parties of the roster that may sign the list of survivors."""

    quorum: int
    """Signatures without which no share is revealed."""


@lru_cache(maxsize=256)
def choose_shape(parties: int, *, min_survivors: int, colluding: int) -> Shape:
    """Choose the smallest shape that is sound and rarely aborts when all but ``min_survivors`` drop out by chance.

    Args:
        parties: Parties on the roster, in [3, `MAX_PARTIES`].
        min_survivors: Fewest parties that a sum is opened of.
        colluding: Most parties that the server controls.
    Returns:
        With few parties the complete graph; else the least degree, with it the least threshold, and the smallest committee.
    Raises:
        ValueError: a number is out of range, or there is no such shape.
    """
    _check_numbers(parties, min_survivors, colluding)
    if parties <= COMPLETE_UP_TO:
        return _complete(parties, min_survivors, colluding)
    degree, threshold = _choose_graph(parties, min_survivors, colluding)
    committee, quorum = _choose_committee(parties, min_survivors, colluding)
    return Shape(degree=degree, threshold=threshold, committee=committee, quorum=quorum)


def failure_bound(shape: Shape, parties: int, min_survivors: int, colluding: int) -> float:
    """Bound the chance that a server can learn anything but the one sum, for parties that follow the protocol.

    The sum of three bounds: the committee can be made to sign two lists; somebody's two secrets can both be put together by
    colluding neighbours; honest parties on some list fall apart into two groups that no mask joins.

    Args:
        shape: Any shape, also one that another party chose.
        parties: Parties on the roster.
        min_survivors: Fewest parties that a sum is opened of.
        colluding: Most parties that the server controls; which ones is fixed before the coins. With fewer it holds, too.
    Returns:
        Logarithm to base 2, at most 0; -inf: it cannot happen. Rounding moves it by far less than 0.01.
    Raises:
        ValueError: a number is out of range.
    """
    _check_numbers(parties, min_survivors, colluding)
    _check_shape(shape, parties, min_survivors)
    two_lists = _log_two_lists(parties, colluding, shape.committee, shape.quorum)
    if shape.degree is None:
        # then the honest parties that sent a party its masks' partners and those that open its own mask have one in common
        bound = two_lists if 2 * shape.threshold > parties - 1 + colluding else 0.0
    else:
        *_, corrupt = islice(distinct_marked(min_survivors - 1, colluding), shape.degree // 2 + 1)
        both = _log((parties - colluding) * corrupt[shape.threshold :].sum())
        cut = _cuts(parties, min_survivors, colluding).log_chance(shape.degree, shape.threshold)
        bound = float(np.logaddexp(two_lists, np.logaddexp(both, cut) + _log_price_of_fewer(min_survivors, colluding)))
    return min(bound / math.log(2), 0.0)


def abort_bound(shape: Shape, parties: int, min_survivors: int) -> float:
    """Bound the chance that a sum cannot be opened though ``min_survivors`` honest parties, left by chance, are there.

    Either fewer than a quorum of the committee are left, or some survivor has fewer than ``threshold`` neighbours left.
    A party that cheats can always make a session abort; this is about dropouts.

    Returns:
        A chance in [0, 1].
    Raises:
        ValueError: a number is out of range.
    """
    _check_numbers(parties, min_survivors, 0)
    _check_shape(shape, parties, min_survivors)
    silent = hypergeometric(parties, min_survivors, shape.committee)[: shape.quorum].sum()
    if shape.degree is None:
        return min(float(silent + (min_survivors <= shape.threshold)), 1.0)
    *_, live = islice(distinct_marked(parties - 1, min_survivors - 1), shape.degree // 2 + 1)
    return min(float(silent + parties * live[: shape.threshold].sum()), 1.0)


def _complete(parties: int, min_survivors: int, colluding: int) -> Shape:
    """Two sets of more than half of all parties and colluding ones together have an honest party in common."""
    most = (parties + colluding) // 2 + 1
    if min_survivors <= most:
        raise ValueError(
            f"Expected min_survivors={min_survivors} in [{most + 1}, parties={parties}]: with colluding={colluding}, a mask is"
            f" removed by {most} others; raise min-survivors, lower colluding."
        )
    return Shape(degree=None, threshold=most, committee=parties, quorum=most)


def _choose_graph(parties: int, min_survivors: int, colluding: int) -> tuple[int, int]:
    """Return the least degree that has a threshold, and the least threshold that goes with it."""
    least = -_CHOSEN_BITS * math.log(2)
    cuts = _cuts(parties, min_survivors, colluding)
    cycles = min(MAX_DEGREE, min_survivors - 1) // 2
    steps = zip(
        distinct_marked(min_survivors - 1, colluding), distinct_marked(parties - 1, min_survivors - 1), strict=True
    )
    for cycle, (corrupt, live) in enumerate(islice(steps, cycles + 1)):
        degree = 2 * cycle
        at_least = np.cumsum(corrupt[::-1])[::-1]
        below = np.cumsum(live) - live
        fits = ((parties - colluding) * at_least <= math.exp(least)) & (parties * below <= ABORT_CHANCE / 2)
        thresholds = [int(threshold) for threshold in np.nonzero(fits)[0] if threshold >= 2]
        if not thresholds or cuts.log_chance(degree, thresholds[-1]) > least:
            continue
        return degree, next(threshold for threshold in thresholds if cuts.log_chance(degree, threshold) <= least)
    raise _none_found("degree", 2 * cycles, parties, min_survivors, colluding)


def _choose_committee(parties: int, min_survivors: int, colluding: int) -> tuple[int, int]:
    """Return the smallest committee that has a quorum, and its least quorum."""
    for committee in range(1, parties + 1):
        corrupt = hypergeometric(parties, colluding, committee)
        at_least = np.append(np.cumsum(corrupt[::-1])[::-1], 0.0)
        needed = int(
            np.nonzero(at_least <= 2.0**-_CHOSEN_BITS)[0][0]
        )  # common signers of two lists, who cannot all be corrupt
        quorum = (committee + max(needed, 1) + 1) // 2
        if quorum > committee:
            continue
        if hypergeometric(parties, min_survivors, committee)[:quorum].sum() <= ABORT_CHANCE / 2:
            return committee, quorum
    raise _none_found("committee", parties, parties, min_survivors, colluding)


def _log_two_lists(parties: int, colluding: int, committee: int, quorum: int) -> float:
    """Two lists need 2 quorum - committee common signers, and only corrupt ones sign twice."""
    common = 2 * quorum - committee
    return 0.0 if common <= 0 else _log(hypergeometric(parties, colluding, committee)[common:].sum())


def _log_price_of_fewer(min_survivors: int, colluding: int) -> float:
    """Factor by which fewer corrupt parties than ``colluding`` may be worse.

    Call others corrupt, too, by lot, until there are ``colluding``. Somebody whom a failure harms is not among them with a chance
    of at least 1 - colluding / min_survivors, and then the failure is one with ``colluding`` corrupt parties.
    """
    return -math.log1p(-colluding / min_survivors) if 2 * colluding <= min_survivors else math.inf


@lru_cache(maxsize=64)
def _cuts(parties: int, min_survivors: int, colluding: int) -> Cuts:
    return Cuts(parties, min_survivors, colluding)


def _check_numbers(parties: int, min_survivors: int, colluding: int) -> None:
    if not 3 <= parties <= MAX_PARTIES:
        raise ValueError(f"Expected parties={parties} in [3, {MAX_PARTIES}].")
    if not 0 <= colluding < min_survivors <= parties:
        raise ValueError(
            f"Expected min_survivors={min_survivors} in (colluding={colluding}, parties={parties}] and colluding in [0, inf)."
        )


def _check_shape(shape: Shape, parties: int, min_survivors: int) -> None:
    if not 1 <= shape.quorum <= shape.committee <= parties:
        raise ValueError(
            f"Expected quorum={shape.quorum} in [1, committee={shape.committee}] and committee in [1, parties={parties}]."
        )
    if shape.degree is None:
        most = parties - 1
    elif shape.degree % 2 == 0 and 2 <= shape.degree <= min(MAX_DEGREE, min_survivors - 1):
        most = shape.degree
    else:
        raise ValueError(
            f"Expected degree={shape.degree} even, in [2, {MAX_DEGREE}] and below min_survivors={min_survivors}."
        )
    if not 2 <= shape.threshold <= most:
        raise ValueError(f"Expected threshold={shape.threshold} in [2, neighbours={most}].")


def _none_found(what: str, most: int, parties: int, min_survivors: int, colluding: int) -> ValueError:
    return ValueError(
        f"Expected min_survivors={min_survivors} of parties={parties}, with colluding={colluding}, to leave a {what} of at most"
        f" {most}, and it leaves none: raise min-survivors, lower colluding."
    )


def _log(chance: float) -> float:
    return math.log(chance) if chance > 0 else -math.inf
