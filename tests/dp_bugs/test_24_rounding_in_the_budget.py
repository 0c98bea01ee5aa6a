"""Bug 24: the budget is a float: a sum that is rounded down, a comparison that is off by one unit, a NaN that never exceeds.

Published: accountants that compare ``spent + cost > cap`` in float64, where ten times 0.1 is below 1 and a cost of 1e-17 is
free for ever; accountants that report a spend to four digits and compare with that.

Seen to fail: a ledger's rules on floats let one release too many through, at the first cap that the search finds.
"""

import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.privacy import GaussianEvent, PrivacyBudgetExhausted, Relation, Unit
from homespun.privacy.ledger import Genesis, Ledger, SigningKey, event_cost

UNIT = Decimal(1).scaleb(-18)
KEY = SigningKey.from_bytes("tests", bytes(range(32)))


def event(clip_units: int, variance: int) -> GaussianEvent:
    return GaussianEvent(clip_units=clip_units, variance=variance, count=1, dimension=4)


def ledger(path: Path, cap: Decimal) -> Ledger:
    path.unlink(missing_ok=True)
    genesis = Genesis(
        origin="tests/device", guarantee="backbone", holder="device", unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE, delta=1e-6, cap=cap,
    )  # fmt: skip
    return Ledger.create(path, KEY, genesis)


def admitted(book: Ledger, one: GaussianEvent, most: int) -> int:
    for number in range(most):
        try:
            book.reserve("device", one, {"run": 0, "round": number})
        except PrivacyBudgetExhausted:
            return number
    return most


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 2**14), st.integers(1, 10**9), st.integers(1, 5), st.sampled_from([-1, 0, 1]))
def test_the_cap_is_never_passed_by_a_unit_of_the_last_digit(units: int, variance: int, rounds: int, off: int) -> None:
    """A cap of exactly n rounds lets n through, one unit less lets n - 1 through, one more still n."""
    import tempfile

    one = event(units, variance)
    cost = event_cost(one, None)
    cap = cost * rounds + off * UNIT
    exact = Fraction(units**2, 2 * variance)
    assert Fraction(cost) >= exact
    assert Fraction(cost) - exact < Fraction(1, 10**18)  # rounded up, and by less than a unit
    with tempfile.TemporaryDirectory() as folder, ledger(Path(folder) / "l.sqlite", cap) as book:
        got = admitted(book, one, rounds + 2)
        spent = book.spent("device")
    assert got == rounds - (off < 0)
    assert spent == cost * got <= cap
    assert Fraction(spent) >= got * exact  # what is booked covers what was lost


def test_costs_that_a_float_would_swallow_add_up(tmp_path: Path) -> None:
    """A billion rounds of 5e-13 beside one of 10^6: a float of the sum would not move."""
    big, small = event(2**14, 128), event(1, 10**12)
    cost = event_cost(small, None)
    assert float(event_cost(big, None)) + float(cost) * 1e-4 == float(event_cost(big, None))
    cap = event_cost(big, None) + 3 * cost
    with ledger(tmp_path / "l.sqlite", cap) as book:
        book.reserve("device", big, {"run": 9, "round": 0})
        assert admitted(book, small, 5) == 3
        assert book.spent("device") == cap


def float_admits(cost: Decimal, cap: Decimal, most: int) -> int:
    """The bug: how many rounds a float accountant lets through."""
    spent, number = 0.0, 0
    while number < most and spent + float(cost) <= float(cap):
        spent, number = spent + float(cost), number + 1
    return number


def test_the_bug_is_seen() -> None:
    """The same comparison in floats admits more, or fewer, than whole numbers do, at caps that are easily met."""
    wrong = []
    for variance in range(1, 400):
        cost = event_cost(event(7, variance), None)
        for rounds in (3, 10):
            for cap in (cost * rounds, cost * rounds - UNIT):
                right = int(Fraction(cap) / Fraction(cost))
                wrong.append(float_admits(cost, cap, rounds + 2) - right)
    assert max(wrong) > 0  # one release too many


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-1", "0.1234567890123456789"])
def test_a_cap_is_a_number_with_18_decimals(bad: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected a cost="):
        ledger(tmp_path / "l.sqlite", Decimal(bad))
    assert not list(tmp_path.iterdir())


def test_no_cost_is_nothing() -> None:
    """However little a round loses, it costs at least one unit."""
    assert event_cost(event(1, 2**62), None) >= UNIT
    assert not math.isnan(float(event_cost(event(1, 2**62), None)))
