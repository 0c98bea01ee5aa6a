from __future__ import annotations

import itertools
import random
import secrets

import pytest
import shamirs
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.secagg import shares as module
from homespun.secagg.shares import PRIME, combine, split

secret_values = st.integers(0, PRIME - 1)


def line_through(points: list[tuple[int, int]], x: int) -> int:
    """Value at x of the polynomial through the points, by Lagrange's formula as in the book."""
    total = 0
    for i, (at, value) in enumerate(points):
        weight = 1
        for j, (other, _) in enumerate(points):
            if i != j:
                weight = weight * (x - other) * pow(at - other, -1, PRIME) % PRIME
        total = (total + value * weight) % PRIME
    return total


def test_the_prime_is_that_of_curve25519() -> None:
    assert PRIME == 57896044618658097711785492504343953926634992332820282019728792003956564819949
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7))


def test_known_answers() -> None:
    """A polynomial written down by hand, x^2 - 2x + 9: places count from 1 over the sorted holders."""
    holders = [40, 7, 100, 12, 55]
    values = {7: 8, 12: 9, 40: 12, 55: 17, 100: 24}
    for some in itertools.combinations(values, 3):
        assert combine({holder: values[holder] for holder in some}, threshold=3, holders=holders) == 9
    assert combine({7: PRIME - 1, 12: 0}, threshold=2, holders=holders) == PRIME - 2


@settings(max_examples=60, deadline=None)
@given(secret=secret_values, holders=st.sets(st.integers(0, 10**6), min_size=2, max_size=24), data=st.data())
def test_any_threshold_of_shares_give_the_secret(secret: int, holders: set[int], data: st.DataObject) -> None:
    threshold = data.draw(st.integers(2, len(holders)))
    order = data.draw(st.permutations(sorted(holders)))
    points = split(secret, threshold=threshold, holders=order)
    assert points.keys() == holders
    some = dict(data.draw(st.permutations(sorted(points.items())))[: data.draw(st.integers(threshold, len(holders)))])
    assert combine(some, threshold=threshold, holders=sorted(holders)) == secret
    places = {holder: place for place, holder in enumerate(sorted(holders), start=1)}
    library = shamirs.interpolate(
        [shamirs.share(places[holder], value, PRIME) for holder, value in some.items()], threshold=threshold
    )
    assert library == secret


@settings(max_examples=30, deadline=None)
@given(secret=secret_values, other=secret_values, count=st.integers(2, 12), data=st.data())
def test_fewer_shares_fit_every_secret(secret: int, other: int, count: int, data: st.DataObject) -> None:
    """For t - 1 shares and any secret there is one polynomial, so all secrets are as likely as before."""
    threshold = data.draw(st.integers(2, count))
    points = split(secret, threshold=threshold, holders=range(count))
    known = data.draw(st.permutations(range(count)))[: threshold - 1]
    curve = [(0, other), *((holder + 1, points[holder]) for holder in known)]
    forged = {holder: line_through(curve, holder + 1) for holder in range(count)}
    assert all(forged[holder] == points[holder] for holder in known)
    for some in (list(range(threshold)), list(range(count))[-threshold:]):
        assert combine({holder: forged[holder] for holder in some}, threshold=threshold, holders=range(count)) == other


@pytest.mark.parametrize(("count", "threshold"), [(3, 3), (9, 3), (12, 7), (48, 29)])
def test_one_share_less_gives_another_number(count: int, threshold: int) -> None:
    """The polynomial has the full degree: any t - 1 shares, taken for all there are, miss the secret."""
    points = split(123, threshold=threshold, holders=range(count))
    generator = random.Random(count)
    for _ in range(20):
        some = generator.sample(range(count), threshold - 1)
        found = combine({holder: points[holder] for holder in some}, threshold=threshold - 1, holders=range(count))
        assert found != 123


def test_shares_of_one_secret_are_fresh() -> None:
    drawn = [split(5, threshold=2, holders=range(3)) for _ in range(50)]
    assert len({points[0] for points in drawn}) == 50
    assert len({(points[1] - points[0]) % PRIME for points in drawn}) == 50  # the slope, not an offset


def test_a_share_is_a_uniform_element() -> None:
    """Top bits of one share of the same secret: both halves of the field, all sixteenths, within five deviations."""
    drawn = [split(0, threshold=2, holders=range(2))[0] for _ in range(4096)]
    counts = [sum(value >> 251 == bucket for value in drawn) for bucket in range(16)]
    assert all(abs(count - 256) < 5 * 256**0.5 for count in counts)


def test_a_dealers_secret_comes_back_at_real_sizes() -> None:
    generator = random.Random(3)
    for count, threshold in ((48, 29), (220, 103), (199, 101)):
        holders = sorted(generator.sample(range(60_000), count))
        secret = secrets.randbelow(PRIME)
        points = split(secret, threshold=threshold, holders=holders)
        for _ in range(3):
            some = generator.sample(holders, threshold)
            assert combine({holder: points[holder] for holder in some}, threshold=threshold, holders=holders) == secret


def test_another_list_of_holders_gives_another_number() -> None:
    """Why both sides must give all holders: places move when one is left out."""
    points = split(77, threshold=3, holders=[1, 2, 3, 4, 5])
    some = {holder: points[holder] for holder in (3, 4, 5)}
    assert combine(some, threshold=3, holders=[1, 2, 3, 4, 5]) == 77
    assert combine(some, threshold=3, holders=[3, 4, 5]) != 77


def test_weights_are_kept_for_the_next_dealer_with_the_same_places() -> None:
    module._weights_at_zero.cache_clear()
    for shift in (0, 1000):
        holders = range(shift, shift + 10)
        points = split(1, threshold=4, holders=holders)
        combine({holder: points[holder] for holder in holders[2:8]}, threshold=4, holders=holders)
    assert module._weights_at_zero.cache_info().misses == 1
    assert module._weights_at_zero.cache_info().maxsize is not None


@pytest.mark.parametrize(
    ("points", "threshold", "holders", "rule"),
    [
        ({1: 5}, 2, [1, 2, 3], r"threshold=2 in \[2, shares=1\]"),
        ({1: 5, 2: 5}, 1, [1, 2, 3], r"threshold=1 in \[2, shares=2\]"),
        ({1: 5, 4: 5}, 2, [1, 2, 3], "the dealer's holders alone"),
        ({1: 5, 2: PRIME}, 2, [1, 2, 3], "every share in"),
        ({1: -1, 2: 5}, 2, [1, 2, 3], "every share in"),
        ({1: 5, 2: 5}, 2, [1, 2, 2], "distinct holders"),
    ],
)
def test_combine_refuses(points: dict[int, int], threshold: int, holders: list[int], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        combine(points, threshold=threshold, holders=holders)


@pytest.mark.parametrize(
    ("secret", "threshold", "holders", "rule"),
    [
        (PRIME, 2, [1, 2], "the secret in"),
        (-987654, 2, [1, 2], "the secret in"),
        (987654, 1, [1, 2], r"threshold=1 in \[2, holders=2\]"),
        (987654, 3, [1, 2], r"threshold=3 in \[2, holders=2\]"),
        (987654, 2, [1, 1], "distinct holders"),
    ],
)
def test_split_refuses_and_never_shows_the_secret(secret: int, threshold: int, holders: list[int], rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as refusal:
        split(secret, threshold=threshold, holders=holders)
    assert str(secret) not in str(refusal.value)
