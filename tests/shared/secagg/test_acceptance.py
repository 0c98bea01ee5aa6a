"""The decoded sum is the plain sum of the survivors' vectors, bit for bit, whoever drops out and whenever.

``make study`` runs every number of parties with every dimension, dropout and step, and prints what each took. Dropouts are
parts of the parties, rounded down, and as many are tolerated; one party in twenty, rounded down, may side with the server.
So of 3 parties nobody drops out, and of 1,000 at 30 % the sum is opened of 700.
"""

import math
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from homespun.secagg import Outcome, Stage, choose_shape, rehearse

STEPS = (Stage.ADVERTISE, Stage.SHARE, Stage.MASK, Stage.CONSENT, Stage.REVEAL)
WITH_VECTOR = (Stage.CONSENT, Stage.REVEAL)  # who drops out here is in the sum
SIZES = [(3, 10**3), (3, 10**5), (3, 10**6), (10, 10**3), (10, 10**5), (10, 10**6), (100, 10**3), (100, 10**5), (100, 10**6),
         (1000, 10**3), (1000, 10**5)]  # fmt: skip
MATRIX = [(*size, 0.0, Stage.ADVERTISE) for size in SIZES] + [
    (*size, dropout, step) for size, dropout, step in product(SIZES, (0.1, 0.3), STEPS) if size[0] > 3
]
QUICK = [
    (3, 10**3, 0.0, Stage.ADVERTISE),
    (3, 10**6, 0.0, Stage.ADVERTISE),
    *((10, 10**3, dropout, step) for dropout in (0.1, 0.3) for step in STEPS),
    (10, 10**5, 0.3, Stage.MASK),
    (10, 10**6, 0.1, Stage.MASK),
    (100, 10**3, 0.3, Stage.MASK),
    (210, 10**3, 0.1, Stage.MASK),  # a sparse graph
]


def vector(index: int, dimension: int) -> NDArray[np.uint32]:
    """Over the whole ring, so that sums wrap."""
    return np.random.default_rng(index).integers(0, 2**32, dimension, dtype=np.uint32)


def outcome_of(parties: int, dimension: int, dropout: float, step: Stage, colluding: float = 0.05) -> Outcome:
    """One session; the dropouts are spread over the roster. Vectors are made when they are due."""
    count = math.floor(dropout * parties + 1e-9)
    gone = {place * parties // max(count, 1): step for place in range(count)}
    return rehearse(
        lambda index: vector(index, dimension),
        parties=parties,
        dimension=dimension,
        min_survivors=parties - count,
        colluding=math.floor(colluding * parties),
        drops=gone,
    )


def check(parties: int, dimension: int, dropout: float, step: Stage) -> Outcome:
    outcome = outcome_of(parties, dimension, dropout, step)
    count = math.floor(dropout * parties + 1e-9)
    assert len(outcome.survivors) == (parties if step in WITH_VECTOR else parties - count)
    plain = np.zeros(dimension, dtype=np.uint64)
    for index in outcome.survivors:
        plain += vector(index, dimension)
    assert outcome.total.dtype == np.uint32
    assert np.array_equal(outcome.total, (plain % 2**32).astype(np.uint32))
    # At most 4.2 bytes a coordinate of 100,000: what comes beside the vector takes the same room in every dimension.
    assert outcome.upload_bytes - 4 * dimension <= 0.2 * 10**5
    return outcome


@pytest.mark.parametrize(("parties", "dimension", "dropout", "step"), QUICK)
def test_the_sum_is_exact_and_an_upload_hardly_more_than_the_vector(
    parties: int, dimension: int, dropout: float, step: Stage
) -> None:
    check(parties, dimension, dropout, step)


@pytest.mark.study
@pytest.mark.parametrize(("parties", "dimension", "dropout", "step"), MATRIX)
def test_study_of_the_whole_matrix(
    parties: int, dimension: int, dropout: float, step: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = check(parties, dimension, dropout, step)
    count = math.floor(dropout * parties + 1e-9)
    shape = choose_shape(parties, min_survivors=parties - count, colluding=math.floor(0.05 * parties))
    with capsys.disabled():
        print(
            f"\nn={parties:>5,} d={dimension:>9,} {count:>3} drop at {step.value:<9} {len(outcome.survivors):>5,} summed; "
            f"client {1e3 * outcome.client.mean:8.1f} ms (most {1e3 * outcome.client.largest:8.1f}), server "
            f"{outcome.server_seconds:6.2f} s, up {outcome.upload_bytes / dimension:6.2f} B a coordinate; "
            f"k={shape.degree or parties - 1}, t={shape.threshold}, m={shape.committee}, q={shape.quorum}",
            end="",
        )
