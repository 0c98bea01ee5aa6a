"""Bounds against known numbers, a slow second computation, and attackers who see the graph."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from homespun.secagg import chances
from homespun.secagg.chances import Cuts, distinct_marked, hypergeometric
from homespun.secagg.graph import Graph, draw_committee, draw_graph
from homespun.secagg.shape import COMPLETE_UP_TO, SECURITY_BITS, Shape, abort_bound, choose_shape, failure_bound

CASES = [
    (201, 0.05, 0.1),
    (201, 0.1, 0.35),
    (300, 0.0, 0.3),
    (300, 0.05, 0.2),
    (1000, 0.05, 0.1),
    (1000, 0.05, 0.2),
    (1000, 0.05, 0.3),
    (1000, 0.1, 0.35),
    (1000, 0.0, 0.0),
    (10_000, 0.05, 0.2),
    (10_000, 0.1, 0.35),
]

GREEDY = [(24, 22, 8, 8, 4), (30, 28, 10, 8, 4), (40, 38, 15, 8, 5)]  # small enough for an attacker to succeed at times


def numbers(parties: int, colluding: float, dropouts: float) -> tuple[int, int, int]:
    return parties, parties - int(parties * dropouts), int(parties * colluding)


def graphs(parties: int, degree: int, count: int, first: int = 0) -> Iterator[Graph]:
    shape = Shape(degree=degree, threshold=2, committee=1, quorum=1)
    for number in range(first, first + count):
        yield draw_graph(range(parties), shape, number.to_bytes(32, "little"))


def interval(hits: int, tries: int) -> tuple[float, float]:
    """Clopper-Pearson at 99.99 %."""
    low = stats.beta.ppf(5e-5, hits, tries - hits + 1) if hits else 0.0
    return float(low), float(stats.beta.ppf(1 - 5e-5, hits + 1, tries - hits))


# --- shapes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parties", "colluding", "dropouts"), CASES)
def test_a_chosen_shape_is_sound_and_rarely_aborts(parties: int, colluding: float, dropouts: float) -> None:
    parties, fewest, corrupt = numbers(parties, colluding, dropouts)
    shape = choose_shape(parties, min_survivors=fewest, colluding=corrupt)
    assert failure_bound(shape, parties, fewest, corrupt) <= -SECURITY_BITS - 1  # a bit of room for another platform
    assert abort_bound(shape, parties, fewest) <= 1e-3
    assert shape.degree is not None
    assert shape.threshold <= shape.degree <= 2 * 120 and shape.quorum <= shape.committee <= parties


def test_known_shapes() -> None:
    """Both sides may choose for themselves, so a change here is a change of protocol."""
    assert choose_shape(1000, min_survivors=900, colluding=50) == Shape(
        degree=48, threshold=29, committee=54, quorum=41
    )
    assert choose_shape(1000, min_survivors=700, colluding=50) == Shape(
        degree=88, threshold=38, committee=206, quorum=125
    )
    assert choose_shape(10_000, min_survivors=8000, colluding=500).degree == 80


@pytest.mark.parametrize("parties", [3, 4, 10, 57, COMPLETE_UP_TO])
@pytest.mark.parametrize("colluding", [0, 1, 5, 30])
def test_complete_graph_leaves_nothing_to_chance(parties: int, colluding: int) -> None:
    most = (parties + colluding) // 2 + 1
    if most >= parties:
        with pytest.raises(ValueError, match="min_survivors"):
            choose_shape(parties, min_survivors=parties, colluding=colluding)
        return
    shape = choose_shape(parties, min_survivors=parties, colluding=colluding)
    assert shape == Shape(degree=None, threshold=most, committee=parties, quorum=most)
    assert failure_bound(shape, parties, most + 1, colluding) == -math.inf
    assert abort_bound(shape, parties, most + 1) == 0
    assert abort_bound(shape, parties, most) == 1  # nobody holds a share of its own secret
    lax = Shape(degree=None, threshold=most, committee=parties, quorum=(parties + colluding) // 2)
    assert failure_bound(lax, parties, most + 1, colluding) == 0 or colluding == 0 == parties % 2 - 1


@pytest.mark.parametrize(
    ("change", "worse"),
    [({"threshold": 20}, "both secrets"), ({"quorum": 35}, "two lists"), ({"degree": 80}, "both secrets")],
)
def test_a_device_finds_out_a_shape_that_is_too_weak(change: dict[str, int], worse: str) -> None:
    good = {"degree": 48, "threshold": 29, "committee": 54, "quorum": 41}
    assert failure_bound(Shape(**good), 1000, 900, 50) <= -SECURITY_BITS
    assert failure_bound(Shape(**(good | change)), 1000, 900, 50) > -SECURITY_BITS, worse


def test_a_graph_that_falls_apart_is_found_out() -> None:
    """Nobody colludes, so both-secrets and two-lists cannot happen: only the cut is left."""
    weak = Shape(degree=8, threshold=2, committee=101, quorum=60)
    assert failure_bound(weak, 1000, 900, 0) > -SECURITY_BITS
    assert failure_bound(choose_shape(1000, min_survivors=900, colluding=0), 1000, 900, 0) <= -SECURITY_BITS


def test_bounds_move_the_right_way() -> None:
    base = Shape(degree=66, threshold=34, committee=101, quorum=68)
    at = failure_bound(base, 1000, 800, 50)
    assert failure_bound(Shape(degree=66, threshold=36, committee=101, quorum=68), 1000, 800, 50) <= at
    assert failure_bound(base, 1000, 800, 60) > at
    assert failure_bound(base, 1000, 750, 50) > at
    assert abort_bound(base, 1000, 750) > abort_bound(base, 1000, 800)


def test_fewer_corrupt_parties_have_their_price() -> None:
    """60 of 300: a fifth more than with exactly 60; above half of the survivors no bound is claimed."""
    shape = Shape(degree=24, threshold=14, committee=300, quorum=300)
    *_, corrupt = itertools.islice(distinct_marked(299, 60), 13)
    exactly = 240 * corrupt[14:].sum() + math.exp(Cuts(300, 300, 60).log_chance(24, 14))
    assert 2 ** failure_bound(shape, 300, 300, 60) == pytest.approx(exactly / 0.8)
    assert failure_bound(shape, 300, 119, 60) == 0
    for fewer in (0, 15, 30, 45):
        assert failure_bound(shape, 300, 300, fewer) <= failure_bound(shape, 300, 300, 60)


def test_choosing_is_quick() -> None:
    choose_shape.cache_clear()
    begin = time.process_time()
    choose_shape(1000, min_survivors=713, colluding=47)
    assert time.process_time() - begin < 0.5
    assert choose_shape(1000, min_survivors=713, colluding=47) is choose_shape(1000, min_survivors=713, colluding=47)


@pytest.mark.parametrize(
    ("parties", "fewest", "colluding", "rule"),
    [
        (2, 2, 0, r"parties=2 in \[3, 65536\]"),
        (2**16 + 1, 2**16, 0, "parties=65537"),
        (10, 11, 0, r"min_survivors=11 in \(colluding=0, parties=10\]"),
        (10, 5, 5, r"min_survivors=5 in \(colluding=5"),
        (10, 5, -1, "colluding=-1"),
        (10, 6, 0, r"min_survivors=6 in \[7, parties=10\].*raise min-survivors, lower colluding"),
        (1000, 600, 300, r"min_survivors=600 .* raise min-survivors, lower colluding"),
    ],
)
def test_what_cannot_be_had_is_named(parties: int, fewest: int, colluding: int, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        choose_shape(parties, min_survivors=fewest, colluding=colluding)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(degree=49, threshold=29, committee=54, quorum=41),
        Shape(degree=0, threshold=29, committee=54, quorum=41),
        Shape(degree=2**31, threshold=29, committee=54, quorum=41),
        Shape(degree=48, threshold=49, committee=54, quorum=41),
        Shape(degree=48, threshold=1, committee=54, quorum=41),
        Shape(degree=48, threshold=29, committee=54, quorum=55),
        Shape(degree=48, threshold=29, committee=1001, quorum=700),
        Shape(degree=48, threshold=29, committee=54, quorum=0),
        Shape(degree=None, threshold=1000, committee=1000, quorum=600),
    ],
)
def test_a_shape_that_is_none_is_refused(shape: Shape) -> None:
    with pytest.raises(ValueError, match="Expected"):
        failure_bound(shape, 1000, 900, 50)
    with pytest.raises(ValueError, match="Expected"):
        abort_bound(shape, 1000, 900)


# --- one party, and the committee: exact ---------------------------------------------------------------------------


@pytest.mark.parametrize(("population", "marked", "draws"), [(20, 5, 7), (20, 18, 7), (1000, 50, 54), (10, 0, 3)])
def test_hypergeometric_against_scipy(population: int, marked: int, draws: int) -> None:
    wanted = stats.hypergeom.pmf(np.arange(draws + 1), population, marked, draws)
    assert hypergeometric(population, marked, draws) == pytest.approx(wanted, rel=1e-9, abs=1e-300)


def test_distinct_neighbours_against_all_pairs() -> None:
    """Six others, three of them marked: all 15^3 ways to draw three pairs, counted as fractions."""
    pairs = list(itertools.combinations(range(6), 2))
    wanted = [Fraction(0)] * 7
    for drawn in itertools.product(pairs, repeat=3):
        wanted[len({other for pair in drawn for other in pair if other < 3})] += Fraction(1, 15**3)
    *_, found = itertools.islice(distinct_marked(6, 3), 4)
    assert found == pytest.approx([float(chance) for chance in wanted], abs=1e-15)


def marked_neighbours(graph: Graph, marked: int) -> np.ndarray:
    """How many different neighbours below ``marked`` each party has."""
    assert graph.links is not None
    rows = np.sort(graph.links, axis=1)
    new = rows < marked
    new[:, 1:] &= rows[:, 1:] != rows[:, :-1]
    return new.sum(axis=1)


@pytest.mark.parametrize(("degree", "threshold"), [(16, 11), (24, 14)])
def test_both_secrets_as_often_as_bounded(degree: int, threshold: int, tries: int = 3000) -> None:
    """300 parties, 60 corrupt: how often some honest party has ``threshold`` corrupt neighbours."""
    hits = sum((marked_neighbours(graph, 60)[60:] >= threshold).any() for graph in graphs(300, degree, tries))
    shape = Shape(degree=degree, threshold=threshold, committee=300, quorum=300)  # the other two cannot happen visibly
    bound = 2 ** failure_bound(shape, 300, 300, 60)
    low, high = interval(hits, tries)
    assert low <= bound * (1 - 60 / 300) <= 1.5 * high, (hits / tries, bound)  # but for the price of fewer corrupt ones


def test_abort_as_often_as_bounded(tries: int = 3000) -> None:
    """300 parties, 210 left by chance: how often a survivor has fewer than eight neighbours left."""
    hits = sum((marked_neighbours(graph, 210)[:210] < 8).any() for graph in graphs(300, 24, tries))
    bound = abort_bound(Shape(degree=24, threshold=8, committee=1, quorum=1), 300, 210) - 90 / 300
    low, high = interval(hits, tries)
    assert low <= bound <= 300 / 210 * 1.3 * high, (hits / tries, bound)


def test_committee_as_often_as_bounded(tries: int = 3000) -> None:
    """200 parties, 40 corrupt, 30 sign, 20 needed: two lists need ten corrupt signers; 150 left: fewer than 20 sign."""
    shape = Shape(degree=2, threshold=2, committee=30, quorum=20)
    drawn = [draw_committee(200, shape, number.to_bytes(32, "little")) for number in range(tries)]
    twice = sum(sum(member < 40 for member in members) >= 10 for members in drawn)
    low, high = interval(twice, tries)
    complete = Shape(degree=None, threshold=199, committee=30, quorum=20)
    assert low <= 2 ** failure_bound(complete, 200, 200, 40) <= high
    silent = sum(sum(member < 150 for member in members) < 20 for members in drawn)
    low, high = interval(silent, tries)
    assert low <= abort_bound(complete, 200, 200) + hypergeometric(200, 150, 30)[:20].sum() <= high


# --- groups of parties ---------------------------------------------------------------------------------------------


def slow_cut(present: int, fewest: int, colluding: int, degree: int, threshold: int) -> float:
    """Logarithm of `Cuts` for one number of present parties, straight from its definition, at the best of its tilts."""
    honest, logs = present - colluding, []
    for w in range(max(2, threshold + 1 - colluding), honest // 2 + 1):
        r = max(w, fewest - colluding - w)
        if r > honest - w:
            continue
        inside = min(1.0, (w - 1) / (present - w))
        counted = min(1.0, (w - 1 + colluding) / (present - w))
        before = min(1.0, colluding / max(present - 2 * w, 1))
        bounds = [0.0]
        for choices, q, q_before in (
            (math.comb(honest, w), 1.0, 1.0),
            (math.comb(honest, w) * math.comb(honest - w, r), 1 - r / (present - 1), 1 - r / (present - w - 1)),
        ):
            s = min(counted, q)
            p, p_before = min(inside, s), min(before, q_before)
            for tilt in chances._TILTS:
                z = math.exp(tilt)
                back = p_before * z + q_before - p_before
                growth = p * z * z + (s - p) * z * back + (q - s) * back
                exponent = w * (degree / 2 * math.log(growth) - threshold * tilt)
                bounds.append(math.log(choices) + exponent)
        logs.append(min(bounds))
    return float(np.logaddexp.reduce(logs))


@pytest.mark.parametrize(
    ("parties", "fewest", "colluding", "degree", "threshold"),
    [
        (100, 100, 10, 14, 9),
        (60, 54, 6, 14, 5),
        (200, 180, 10, 20, 10),
        (120, 120, 0, 8, 4),
        (150, 110, 3, 30, 9),
        (400, 380, 0, 60, 50),
    ],
)
def test_cuts_against_the_slow_way(parties: int, fewest: int, colluding: int, degree: int, threshold: int) -> None:
    """Above the worst number of present parties, and not by much: what a range of numbers costs."""
    worst = max(slow_cut(present, fewest, colluding, degree, threshold) for present in range(fewest, parties + 1))
    found = Cuts(parties, fewest, colluding).log_chance(degree, threshold)
    assert worst < 0
    assert worst - 1e-9 <= found <= worst * (0.9 if fewest < parties else 1) + 0.01


@pytest.mark.parametrize(("group", "corrupt", "rest"), [(3, 20, 0), (6, 12, 0), (5, 10, 20), (8, 9, 12), (2, 25, 15)])
def test_slots_of_one_group_against_drawn_cycles(group: int, corrupt: int, rest: int, tries: int = 40_000) -> None:
    """The step of the proof: on drawn cycles, E[z^slots; none into R] is at most G^w, and near it for small groups."""
    generator = np.random.default_rng(group)
    parties = 60
    kind = np.repeat([0, 1, 2, 3], [group, corrupt, rest, parties - group - corrupt - rest])  # W, corrupt, R, dropped
    order = kind[generator.permuted(np.tile(np.arange(parties), (tries, 1)), axis=1)]
    here = order == 0
    slots, safe = np.zeros(tries), np.ones(tries, dtype=bool)
    for step in (1, -1):
        other = np.roll(order, step, axis=1)
        slots += (here & (other <= 1)).sum(axis=1)
        safe &= ~(here & (other == 2)).any(axis=1)
    inside, counted = (group - 1) / (parties - group), (group - 1 + corrupt) / (parties - group)
    bounds = [[inside], [counted], [corrupt / (parties - 2 * group)], [1.0], [1.0]]
    if rest:
        bounds[3:] = [[1 - rest / (parties - 1)], [1 - rest / (parties - group - 1)]]
    growth = np.exp(group * chances._log_growth(*(np.array([bound]) for bound in bounds))[0])
    for tilt, bound in zip(chances._TILTS, growth, strict=True):
        if tilt > 0.7:  # beyond, a handful of the drawn cycles decide the mean
            break
        values = np.exp(tilt * slots) * safe
        mean, error = values.mean(), values.std() / math.sqrt(tries)
        assert mean - 4 * error <= bound <= 1.2**group * mean, tilt


def greedy_cut(graph: Graph, honest: range, droppable: int, threshold: int) -> bool:
    """An attacker that sees the graph and looks for a list that passes every check and still falls apart.

    From every honest party on it grows a group, taking in the neighbour that leaves the fewest to be dropped; when those
    around the group can be dropped, it prunes the rest until everybody listed has ``threshold`` listed neighbours.
    """
    rows = {index: set(graph.neighbours(index)) for index in graph.present}
    people = set(honest)
    corrupt = set(graph.present) - people
    for seed in honest:
        group = {seed}
        around = rows[seed] & people
        while around and len(group) < 12:
            counted = group | corrupt
            if (
                len(group) > 1
                and len(around) <= droppable
                and all(len(rows[member] & counted) >= threshold for member in group)
            ):
                listed = set(graph.present) - around
                while len(listed) >= len(graph.present) - droppable:
                    weak = {index for index in listed - corrupt if len(rows[index] & listed) < threshold}
                    if not weak:
                        return True
                    listed -= weak
            best = min(around, key=lambda index: (len((rows[index] & people) - group - around), index))
            group.add(best)
            around = (around | rows[best] & people) - group
    return False


@pytest.mark.parametrize(("parties", "fewest", "colluding", "degree", "threshold"), GREEDY)
def test_no_attacker_cuts_more_often_than_bounded(
    parties: int, fewest: int, colluding: int, degree: int, threshold: int, tries: int = 300
) -> None:
    """The bound covers any list at all; this attacker tries a few. It must succeed now and then, or it would show nothing."""
    honest = range(parties - colluding)
    hits = sum(greedy_cut(graph, honest, parties - fewest, threshold) for graph in graphs(parties, degree, tries))
    bound = math.exp(Cuts(parties, fewest, colluding).log_chance(degree, threshold))
    low, _ = interval(hits, tries)
    assert hits > 0 and low <= bound, (hits / tries, bound)


@pytest.mark.study
@pytest.mark.parametrize(
    ("parties", "fewest", "colluding", "degree", "threshold"),
    [*GREEDY, (20, 18, 5, 8, 4), (30, 26, 10, 12, 6), (40, 38, 15, 8, 6)],
)
def test_study_of_cuts(parties: int, fewest: int, colluding: int, degree: int, threshold: int) -> None:
    """The same with ten times as many graphs, for `docs/design/12-secure-aggregation.md`."""
    test_no_attacker_cuts_more_often_than_bounded(parties, fewest, colluding, degree, threshold, tries=3000)


@pytest.mark.study
@pytest.mark.parametrize(("degree", "threshold"), [(16, 10), (16, 11), (16, 12), (24, 13), (24, 14), (24, 15)])
def test_study_of_both_secrets(degree: int, threshold: int) -> None:
    test_both_secrets_as_often_as_bounded(degree, threshold, tries=50_000)


@pytest.mark.study
def test_study_of_aborts_and_committees() -> None:
    test_abort_as_often_as_bounded(tries=50_000)
    test_committee_as_often_as_bounded(tries=50_000)


@pytest.mark.study
@pytest.mark.parametrize(("parties", "dropouts"), [(300, 0.2), (1000, 0.1), (1000, 0.3)])
def test_study_of_chosen_shapes(parties: int, dropouts: float) -> None:
    """At the chosen shapes nothing fails, and random dropouts abort no more often than one round in a thousand."""
    parties, fewest, corrupt = numbers(parties, 0.05, dropouts)
    shape = choose_shape(parties, min_survivors=fewest, colluding=corrupt)
    generator, tries, aborted = np.random.default_rng(0), 4000, 0
    for number in range(tries):
        coins = number.to_bytes(32, "little")
        graph = draw_graph(range(parties), shape, coins)
        assert (marked_neighbours(graph, corrupt)[corrupt:] < shape.threshold).all()
        survivors = generator.choice(parties, fewest, replace=False).tolist()
        silent = len(draw_committee(parties, shape, coins).intersection(survivors)) < shape.quorum
        aborted += silent or graph.least_live(survivors) < shape.threshold
    assert interval(aborted, tries)[0] <= abort_bound(shape, parties, fewest) <= 1e-3
