from __future__ import annotations

import hashlib
import os
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from homespun.secagg import graph as module
from homespun.secagg.graph import Graph, draw_committee, draw_graph
from homespun.secagg.shape import Shape, choose_shape

SPARSE = Shape(degree=12, threshold=7, committee=20, quorum=15)
COMPLETE = Shape(degree=None, threshold=3, committee=5, quorum=3)
KNOWN_ROW = (44, 46, 66, 132, 140, 184, 374, 444, 470, 500, 526, 580)
KNOWN_ROWS = "04be11713089cf10bd69e68fe5f772f87e23fc7aedc8dc01805cffb7afd3c790"
KNOWN_COMMITTEE = [18, 22, 50, 58, 62, 74, 105, 111, 117, 129, 135, 149, 150, 159, 243, 254, 261, 266, 269, 273]


def coins(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(4, "little")).digest()


def reached(graph: Graph) -> set[int]:
    found, front = {graph.present[0]}, {graph.present[0]}
    while front:
        front = {other for index in front for other in graph.neighbours(index)} - found
        found |= front
    return found


def test_known_answer() -> None:
    """One graph and one committee, pinned: other software has to draw the same."""
    graph = draw_graph(range(0, 600, 2), SPARSE, bytes(range(32)))
    rows = b"".join(
        int(other).to_bytes(4, "little") for index in graph.present for other in (index, *graph.neighbours(index))
    )
    assert graph.neighbours(14) == KNOWN_ROW
    assert hashlib.sha256(rows).hexdigest() == KNOWN_ROWS
    assert sorted(draw_committee(300, SPARSE, bytes(range(32)))) == KNOWN_COMMITTEE


def test_graph_by_hand() -> None:
    """The definition once more, in plain Python: sort words, join those that are next to each other."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    present, transcript = list(range(3, 250)), coins(1)
    key = HKDF(hashes.SHA256(), 32, salt=None, info=b"homespun secagg graph v1").derive(transcript)
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(8 * 6 * len(present)))
    wanted: dict[int, set[int]] = {index: set() for index in present}
    for cycle in range(6):
        words = [
            int.from_bytes(stream[8 * (cycle * len(present) + place) :][:8], "little") >> 16
            for place in range(len(present))
        ]
        order = sorted(range(len(present)), key=lambda place: (words[place], place))
        for left, right in zip(order, order[1:] + order[:1], strict=True):
            wanted[present[left]].add(present[right])
            wanted[present[right]].add(present[left])
    graph = draw_graph(present, SPARSE, transcript)
    assert {index: set(graph.neighbours(index)) for index in present} == wanted


@pytest.mark.parametrize("number", range(5))
def test_symmetric_connected_and_of_the_degree(number: int) -> None:
    present = sorted(np.random.default_rng(number).choice(1000, 300, replace=False).tolist())
    graph = draw_graph(present, SPARSE, coins(number))
    for index in present:
        row = graph.neighbours(index)
        assert list(row) == sorted(set(row)) and index not in row and set(row) <= set(present)
        assert 2 <= len(row) <= 12
        assert all(index in graph.neighbours(other) for other in row)
    assert reached(graph) == set(present)


def test_same_for_all_and_different_for_every_transcript() -> None:
    first = draw_graph(range(300), SPARSE, coins(1))
    again = draw_graph(tuple(range(300)), SPARSE, coins(1))
    other = draw_graph(range(300), SPARSE, coins(2))
    rows = [[graph.neighbours(index) for index in range(300)] for graph in (first, again, other)]
    assert rows[0] == rows[1]
    shared = sum(len(set(left) & set(right)) for left, right in zip(rows[0], rows[2], strict=True))
    assert shared < 400  # 3,600 slots with a chance of 12/299 each: about 144


def test_complete_graph_joins_all_who_are_present() -> None:
    graph = draw_graph([1, 4, 6, 9], COMPLETE, coins(0))
    assert graph.neighbours(1) == (4, 6, 9)
    assert graph.neighbours(6) == (1, 4, 9)
    assert graph.least_live([1, 4, 9]) == 2
    assert draw_committee(5, COMPLETE, coins(0)) == frozenset(range(5))


def test_every_order_is_as_likely() -> None:
    """24,000 orders of four: chi-square over all 24, and over pairs of orders that follow each other."""
    orders = module._random_orders(24_000, 4, b"test", coins(3))
    counts = Counter(map(tuple, orders.tolist()))
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4
    ranks = orders @ np.array([64, 16, 4, 1])
    _, codes = np.unique(ranks, return_inverse=True)
    pairs = np.bincount(codes[:-1] * 24 + codes[1:], minlength=576)
    assert stats.chisquare(pairs).pvalue > 1e-4


def test_every_edge_is_as_likely() -> None:
    """20 parties, two slots a cycle: every pair is joined on a cycle with the chance 2 / 19."""
    edges = np.zeros((20, 20))
    graphs, cycles = 400, 6
    for number in range(graphs):
        links = draw_graph(range(20), SPARSE, coins(number)).links
        assert links is not None
        for place in range(20):
            np.add.at(edges[place], links[place], 1)
    assert (edges == edges.T).all()
    upper = edges[np.triu_indices(20, 1)]
    assert upper.mean() == pytest.approx(graphs * cycles * 2 / 19)
    assert stats.chisquare(upper).pvalue > 1e-4


def test_every_member_of_the_committee_is_as_likely() -> None:
    counts = Counter(index for number in range(1500) for index in draw_committee(40, SPARSE, coins(number)))
    # a draw without replacement varies less than a multinomial one, so the statistic is scaled to what it should be
    statistic = sum((counts[index] - 750) ** 2 for index in range(40)) / (1500 * 0.25) * 39 / 40
    assert 0.001 < stats.chi2.sf(statistic, 39) < 0.999


@pytest.mark.parametrize(("parties", "left"), [(100, 70), (16, 13), (13, 13)])
def test_least_live_counts_different_listed_neighbours(parties: int, left: int) -> None:
    """With few parties most edges are drawn twice, and count once."""
    graph = draw_graph(range(parties), SPARSE, coins(8))
    survivors = sorted(np.random.default_rng(1).choice(parties, left, replace=False).tolist())
    wanted = min(len(set(graph.neighbours(index)) & set(survivors)) for index in survivors)
    assert graph.least_live(survivors) == wanted


def test_least_live_sees_who_is_cut_off() -> None:
    graph = draw_graph(range(100), SPARSE, coins(8))
    survivors = range(40, 100)
    alone = [survivors[0], *(index for index in range(100) if index not in graph.neighbours(survivors[0]))]
    assert graph.least_live(alone) == 0  # a server that declares all neighbours of one party dropped


@pytest.mark.parametrize("parties", [300, 1000])
def test_least_live_reaches_the_threshold_with_nobody_gone(parties: int) -> None:
    shape = choose_shape(parties, min_survivors=parties * 9 // 10, colluding=parties // 20)
    assert draw_graph(range(parties), shape, coins(parties)).least_live(range(parties)) >= shape.threshold


def test_refusals() -> None:
    with pytest.raises(ValueError, match="distinct, rising"):
        draw_graph([3, 2, 9, 10], SPARSE, coins(0))
    with pytest.raises(ValueError, match="distinct, rising"):
        draw_graph([2, 2, 9, 10], SPARSE, coins(0))
    with pytest.raises(ValueError, match=r"present=12 .* above degree=12"):
        draw_graph(range(12), SPARSE, coins(0))
    with pytest.raises(ValueError, match="present=2 "):
        draw_graph(range(2), COMPLETE, coins(0))
    with pytest.raises(ValueError, match=r"parties=10 in \[committee=20"):
        draw_committee(10, SPARSE, coins(0))
    with pytest.raises(KeyError):
        draw_graph(range(20), SPARSE, os.urandom(32)).neighbours(20)
