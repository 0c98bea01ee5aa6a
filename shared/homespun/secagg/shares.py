"""Shamir's secret sharing over GF(2^255 - 19): split a secret among holders, put it together again from enough of them.

**Which point a holder has.** The dealer's holders are named by any distinct whole numbers, such as their indices. The
holder whose number is r-th smallest, counted from 0, holds the polynomial's value at x = r + 1. Both sides give the same
list of *all* holders of that dealer, silent ones included, so a share has one meaning only.

>>> shares = split(42, threshold=2, holders=[5, 9, 30])
>>> sorted(shares)
[5, 9, 30]
>>> combine({9: shares[9], 30: shares[30]}, threshold=2, holders=[5, 9, 30])
42

Source: Shamir, How to share a secret (CACM 22(11), 1979). The polynomial is drawn by the library `shamirs`; the secret is
put together here, because a server does it once per party: weights are computed with small whole numbers, all inverses
by one, and kept for the next dealer with the same places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

import shamirs

__all__ = ["PRIME", "combine", "split"]

PRIME = 2**255 - 19
"""Modulus of the field: 32 bytes an element, and the prime below 2^256 that this library uses already (RFC 7748)."""


def split(secret: int, *, threshold: int, holders: Sequence[int]) -> dict[int, int]:
    """Split a secret so that any ``threshold`` of the holders can put it together.

    Args:
        secret: A whole number in [0, PRIME).
        threshold: Shares that are needed, in [2, len(holders)].
        holders: Distinct whole numbers, in any order.
    Returns:
        The share of each holder, a whole number in [0, PRIME); shares of a uniform secret are uniform.
    Guarantees:
        * any ``threshold`` shares give the secret.
        * fewer say nothing: for every possible secret exactly as many polynomials agree with them.
    Raises:
        ValueError: an argument is out of range.
    """
    places = _places(holders)
    if not 2 <= threshold <= len(places):
        raise ValueError(f"Expected threshold={threshold} in [2, holders={len(places)}].")
    if not 0 <= secret < PRIME:
        raise ValueError("Expected the secret in [0, 2^255 - 19).")
    drawn = shamirs.shares(secret, len(places), modulus=PRIME, threshold=threshold, compact=True)
    return {holder: drawn[place - 1].value for holder, place in places.items()}


def combine(points: Mapping[int, int], *, threshold: int, holders: Sequence[int]) -> int:
    """Put a secret together from the shares of some holders.

    The result is right if the shares are; a wrong one gives another number without a sign, so a share is checked against
    what its dealer promised before it comes here.

    Args:
        points: Share by holder, at least ``threshold``; those with the lowest places are used.
        threshold: As it was split.
        holders: All holders of that dealer, as it was split.
    Returns:
        The secret, in [0, PRIME).
    Raises:
        ValueError: too few shares, a holder that is not one, or a share outside the field.
    """
    places = _places(holders)
    if not 2 <= threshold <= len(points):
        raise ValueError(f"Expected threshold={threshold} in [2, shares={len(points)}].")
    if not points.keys() <= places.keys():
        raise ValueError("Expected shares of the dealer's holders alone.")
    if not all(0 <= value < PRIME for value in points.values()):
        raise ValueError("Expected every share in [0, 2^255 - 19).")
    used = sorted(points)[:threshold]
    weights = _weights_at_zero(tuple(places[holder] for holder in used))
    return sum(weight * points[holder] for weight, holder in zip(weights, used, strict=True)) % PRIME


def _places(holders: Sequence[int]) -> dict[int, int]:
    """Return the x-coordinate of every holder: 1 for the smallest number, 2 for the next."""
    if len(set(holders)) != len(holders):
        raise ValueError("Expected distinct holders.")
    return {holder: place for place, holder in enumerate(sorted(holders), start=1)}


@lru_cache(maxsize=4096)
def _weights_at_zero(places: tuple[int, ...]) -> tuple[int, ...]:
    """Return Lagrange's weights at zero: product over the other places y of y / (y - x), for each place x.

    Places are small, so every product but the last is one of small whole numbers.
    """
    denominators = [x * math.prod(y - x for y in places if y != x) % PRIME for x in places]
    inverses = _inverses(denominators)
    numerator = math.prod(places) % PRIME
    return tuple(numerator * inverse % PRIME for inverse in inverses)


def _inverses(values: Sequence[int]) -> list[int]:
    """Invert nonzero field elements, at the price of one inversion and three products each (Montgomery's trick)."""
    products = list(accumulate(values, lambda left, right: left * right % PRIME, initial=1))
    running = pow(products[-1], -1, PRIME)
    inverses = []
    for value, before in zip(reversed(values), reversed(products[:-1]), strict=True):
        inverses.append(running * before % PRIME)
        running = running * value % PRIME
    return inverses[::-1]
