"""Bug 12: batches of a fixed size, or shuffled ones, are accounted as independent coins.

Published: opacus#813 (a weighted sampler: the rate off by a factor of 45,000); jax-privacy#121 (members drawn one by one
after a size: they depend on each other); shuffled loaders accounted as Poisson overstate the guarantee up to fourfold
(arXiv:2403.17673, 2411.10614). Batches built differently from what is accounted are the commonest false claim.

Seen to fail: a fixed size, a shuffled pass, one coin per node, the size's parity first, and a rate that is not the plan's.
"""

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from homespun.privacy import NoiseStream, Participation, ReleasePlan, Trust, release_event
from homespun.server import cohort as cohorts

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
MEMBERS, DRAWS, RATE = (1, 1, 3, 5, 1, 9), 4000, 0.3
PEOPLE = sum(MEMBERS)
Draw = Callable[[ReleasePlan, Any, NoiseStream], Any]


def drawn(draw: Draw, release: ReleasePlan) -> NDArray[np.bool_]:
    """Who was asked in each of many rounds, each with a stream of its own; shape ``(rounds, people)``."""
    rounds = np.zeros((DRAWS, PEOPLE), bool)
    starts = np.cumsum([0, *MEMBERS[:-1]])
    for number, row in enumerate(rounds):
        cohort = draw(release, MEMBERS, NoiseStream.seeded(11, "server", 0, number))
        for start, places in zip(starts, cohort, strict=True):
            row[start + places] = True
    return rounds


def check(draw: Draw) -> None:
    release = path.one_release(
        population=PEOPLE, min_survivors=1, participation=Participation.poisson(RATE), trust=Trust.CENTRAL, delta=1e-5
    )
    asked = drawn(draw, release)
    accounted = release_event(release, count=1).sampling_probability
    assert accounted == RATE
    spread = (accounted * (1 - accounted) / DRAWS) ** 0.5
    assert np.abs(asked.mean(axis=0) - accounted).max() < 4.5 * spread  # each person's chance is the accounted one
    sizes = asked.sum(axis=1)
    assert sizes.var() == pytest.approx(PEOPLE * accounted * (1 - accounted), rel=0.12)
    pairs = [(a, b) for a in range(PEOPLE) for b in range(a)]
    statistic = sum(
        stats.chi2_contingency(np.histogram2d(asked[:, a], asked[:, b], bins=2)[0], correction=False)[0]
        for a, b in pairs
    )
    assert 1e-4 < stats.chi2.sf(statistic, len(pairs)) < 1 - 1e-4  # no two people know of each other
    together = sum(
        stats.chi2_contingency(np.histogram2d(asked[:-1, a], asked[1:, a], bins=2)[0], correction=False)[0]
        for a in range(PEOPLE)
    )
    assert 1e-4 < stats.chi2.sf(together, PEOPLE) < 1 - 1e-4  # nor does a round of the one before


def test_everybody_has_an_independent_coin_of_the_accounted_rate() -> None:
    check(cohorts.draw_cohort)


def split(chosen: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    return [np.flatnonzero(part).astype(np.int32) for part in np.split(chosen, np.cumsum(MEMBERS)[:-1])]


def coins(stream: NoiseStream) -> NDArray[np.float64]:
    return np.frombuffer(stream.read(8 * PEOPLE), "<u8") / 2.0**64


def fixed_size(release: ReleasePlan, members: Any, stream: NoiseStream) -> Any:
    return split(coins(stream).argsort().argsort() < round(RATE * PEOPLE))


def one_coin_a_node(release: ReleasePlan, members: Any, stream: NoiseStream) -> Any:
    return split(np.repeat(coins(stream)[: len(members)] < RATE, members))


def even_sizes(release: ReleasePlan, members: Any, stream: NoiseStream) -> Any:
    chosen = coins(stream) < RATE
    chosen[0] ^= bool(chosen.sum() % 2)
    return split(chosen)


def another_rate(release: ReleasePlan, members: Any, stream: NoiseStream) -> Any:
    return split(coins(stream) < 1 / round(1 / RATE))  # 0.333: one over the number of batches


class Shuffled:
    """A pass over everybody in random order, a batch at a time."""

    def __init__(self) -> None:
        self._left: list[int] = []

    def __call__(self, release: ReleasePlan, members: Any, stream: NoiseStream) -> Any:
        chosen = np.zeros(PEOPLE, bool)
        for _ in range(round(RATE * PEOPLE)):
            if not self._left:
                self._left = coins(stream).argsort().tolist()
            chosen[self._left.pop()] = True
        return split(chosen)


@pytest.mark.parametrize(
    "mutant",
    [fixed_size, one_coin_a_node, even_sizes, another_rate, Shuffled()],
    ids=lambda m: getattr(m, "__name__", "shuffled"),
)
def test_the_bug_is_seen(mutant: Draw) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_amplification_is_claimed_against_nobody_who_sees_the_cohort() -> None:
    """A server that adds no noise of its own sees who answers: the spec refuses the combination."""
    with pytest.raises(ValueError, match="Expected trust='distributed' as 'central' with participation"):
        path.one_release(participation=Participation.poisson(0.1), trust=Trust.DISTRIBUTED)


def test_a_cohort_of_everybody_pays_the_full_price() -> None:
    """Without coins nothing is amplified, however few are asked."""
    assert release_event(path.one_release(), count=1).sampling_probability is None
