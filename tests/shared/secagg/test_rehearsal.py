from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.secagg import Aborted, Fault, Outcome, Refused, Shape, Stage, choose_shape, rehearse

DROPS = [stage for stage in Stage if stage is not Stage.DONE]


@st.composite
def sessions(draw: st.DrawFn) -> tuple[int, int, int, int, dict[int, Stage]]:
    """Parties, dimension, least survivors, colluding and drops that the session must live through."""
    parties = draw(st.integers(3, 8))
    colluding = draw(st.integers(0, parties - 3))
    least = (parties + colluding) // 2 + 2  # a mask is removed by the threshold of others
    if least > parties:
        colluding, least = 0, parties // 2 + 2
    min_survivors = draw(st.integers(least, parties))
    drops: dict[int, Stage] = {}
    for index in draw(st.permutations(range(parties))):
        stage = draw(st.sampled_from([*DROPS, Stage.DONE]))
        silent = len(drops) + 1
        # whoever is in the list may be silent later, down to what quorum and threshold need
        room = parties - min_survivors if stage in DROPS[:3] else parties - least
        if stage is not Stage.DONE and silent <= min(room, parties - least):
            drops[index] = stage
    early = [index for index, stage in drops.items() if stage in DROPS[:3]]
    for index in early[parties - min_survivors :]:
        del drops[index]
    return parties, draw(st.integers(1, 9)), min_survivors, colluding, drops


def _check_exact(session: tuple[int, int, int, int, dict[int, Stage]]) -> None:
    parties, dimension, min_survivors, colluding, drops = session
    rng = np.random.default_rng(parties + 10 * dimension)
    vectors = [rng.integers(0, 2**32, dimension, dtype=np.uint32) for _ in range(parties)]
    outcome = rehearse(vectors, min_survivors=min_survivors, colluding=colluding, drops=drops)
    survivors = tuple(index for index in range(parties) if drops.get(index) not in DROPS[:3])
    assert outcome.survivors == survivors
    expected = np.sum([vectors[index] for index in survivors], axis=0, dtype=np.uint32)
    assert outcome.total.dtype == np.uint32
    assert np.array_equal(outcome.total, expected)


@settings(max_examples=500, deadline=None)
@given(sessions())
def test_the_sum_is_that_of_the_survivors(session: tuple[int, int, int, int, dict[int, Stage]]) -> None:
    _check_exact(session)


@pytest.mark.study
@settings(max_examples=10_000, deadline=None)
@given(sessions())
def test_the_sum_is_that_of_the_survivors_in_10000_sessions(
    session: tuple[int, int, int, int, dict[int, Stage]],
) -> None:
    _check_exact(session)


def test_three_parties_and_one_coordinate() -> None:
    outcome = rehearse([np.array([x], dtype=np.uint32) for x in (2**32 - 1, 5, 7)], min_survivors=3)
    assert outcome.total.tolist() == [11]


@pytest.mark.parametrize("stage", DROPS)
def test_a_party_of_seven_may_drop_at_any_step(stage: Stage) -> None:
    vectors = [np.full(2, 10**index, dtype=np.uint32) for index in range(7)]
    outcome = rehearse(vectors, min_survivors=6, drops={3: stage})
    assert outcome.total.tolist() == [1111111 - (1000 if stage in DROPS[:3] else 0)] * 2


def test_just_enough_parties_reveal() -> None:
    vectors = [np.full(1, 10**index, dtype=np.uint32) for index in range(7)]
    kept = {5: Stage.REVEAL, 6: Stage.REVEAL}  # threshold 4: each of the five others has four beside it
    assert rehearse(vectors, min_survivors=5, drops=kept).total.tolist() == [1111111]
    with pytest.raises(Aborted) as error:
        rehearse(vectors, min_survivors=5, drops={**kept, 4: Stage.REVEAL})
    assert (error.value.fault, error.value.stage) == (Fault.TOO_FEW, Stage.REVEAL)


@pytest.mark.parametrize("stage", DROPS)
def test_too_many_drop(stage: Stage) -> None:
    vectors = [np.ones(1, dtype=np.uint32)] * 7
    with pytest.raises(Aborted) as error:
        rehearse(vectors, min_survivors=5, drops=dict.fromkeys(range(4), stage))
    assert error.value.stage is stage
    assert error.value.fault is (Fault.NO_QUORUM if stage is Stage.CONSENT else Fault.TOO_FEW)


def _sparse(drops: dict[int, Stage], dimension: int = 2) -> Outcome:
    return rehearse(
        lambda index: np.full(dimension, index + 1, dtype=np.uint32),
        parties=210,
        dimension=dimension,
        min_survivors=180,
        colluding=2,
        drops=drops,
    )


def test_a_sparse_graph_with_drops_at_every_step() -> None:
    rng = np.random.default_rng(5)
    gone = rng.permutation(210)[:10]
    drops = {int(index): DROPS[place % 5] for place, index in enumerate(gone)}
    outcome = _sparse(drops)
    survivors = [index for index in range(210) if drops.get(index) not in DROPS[:3]]
    assert choose_shape(210, min_survivors=180, colluding=2).degree is not None
    assert outcome.survivors == tuple(survivors)
    assert outcome.total.tolist() == [sum(survivors) + len(survivors)] * 2


def test_a_sparse_graph_without_drops() -> None:
    assert _sparse({}, dimension=1).total.tolist() == [210 * 211 // 2]


def test_bytes_are_counted() -> None:
    outcome = rehearse([np.zeros(1000, dtype=np.uint32)] * 4, min_survivors=4)
    advert, shares, vector, consent, revealed = 164, 8 + 3 * 116, 4000, 68, 8 + 3 * 37
    assert outcome.upload_bytes == advert + shares + vector + consent + revealed
    terms, adverts, inbox, survivors = 64 + 4 * 32, 4 * 164, 8 + 3 * 84, 4 + 4 * 4
    assert outcome.download_bytes == terms + adverts + inbox + survivors + (survivors + 4 + 3 * 68 + 4 + 4)
    assert 0 < outcome.client.mean <= outcome.client.largest
    assert outcome.server_seconds > 0


def test_a_function_needs_its_sizes() -> None:
    with pytest.raises(ValueError, match="parties and dimension"):
        rehearse(lambda index: np.zeros(1, dtype=np.uint32), min_survivors=3)


@pytest.mark.parametrize("parties", [1, 2])
def test_one_and_two_are_no_sum(parties: int) -> None:
    with pytest.raises(Refused) as error:
        rehearse([np.zeros(1, dtype=np.uint32)] * parties, min_survivors=parties)
    assert error.value.fault is Fault.TERMS_UNSOUND


def test_shapes_are_equal_by_value() -> None:
    assert Shape(degree=None, threshold=3, committee=4, quorum=3) == choose_shape(4, min_survivors=4, colluding=0)
