"""Bug 11: noise or clipping once per chunk of the work, so that the result depends on the size of a chunk.

Published: gradient accumulation in opacus#320 and #459 (noise at every accumulation step, or only at the last).

Seen to fail: one share of noise per chunk whoever is in it; the chunk clipped as a whole; the tail left out.
"""

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from homespun.personal import Pairs
from homespun.privacy import Plan, Release, contribute, from_ring
from homespun.simulations import cell as cells
from homespun.simulations.cell import Cell

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE = 23
PAIRS: Pairs = path.people(PEOPLE)
PHASE = path.shipped(PAIRS)[1]


def plan() -> Plan:
    release = Release(name=PHASE.name, rounds=1, share=1.0, clip_norm=PHASE.clip_norm, dimension=PHASE.dimension)
    made: Plan = path.plan_of(release, population=PEOPLE, min_survivors=PEOPLE)
    return made


def answers(chunk: int, monkeypatch: pytest.MonkeyPatch) -> tuple[NDArray[np.int64], int]:
    """The exact sum of a cell that works in chunks, and the variance of all the noise that it drew."""
    monkeypatch.setattr(cells, "CHUNK_VALUES", chunk * PHASE.dimension)
    drawn = 0

    def draw(variance: int, size: int) -> NDArray[np.int64]:
        nonlocal drawn
        drawn += variance * size // PHASE.dimension
        return np.zeros(size, np.int64)

    cell = Cell(pairs=PAIRS, phases={PHASE.name: PHASE}, noise=lambda run, round: draw)
    request = path.toy["toy_request"](
        plan(),
        name=PHASE.name,
        backbone={name: tensor.numpy() for name, tensor in path.taught().tensors().items()},
    )
    return from_ring(cell.contribute(request).vector), drawn


def check(monkeypatch: pytest.MonkeyPatch) -> None:
    share = plan()[PHASE.name].share_variance
    whole, drawn = answers(PEOPLE, monkeypatch)
    assert np.abs(whole).sum() > 1000  # not equal because nothing is there
    assert drawn == PEOPLE * share
    for chunk in (1, 2, 5, 22):
        total, drawn = answers(chunk, monkeypatch)
        # one unit a person at most: a product of matrices is summed in another order for another number of rows
        assert np.abs(total - whole).max() <= PEOPLE // 4
        assert drawn == PEOPLE * share


def test_the_size_of_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    check(monkeypatch)


def one_share(rows: Tensor, release: Any, *, devices: int, noise: Any) -> Any:
    silent = contribute(rows, release, devices=devices, noise=path.silence)
    return silent + contribute(rows[:0], release, devices=1, noise=noise)


def one_row(rows: Tensor, release: Any, *, devices: int, noise: Any) -> Any:
    return contribute(rows.sum(0, keepdim=True), release, devices=devices, noise=noise)


def noise_of_a_full_chunk(rows: Tensor, release: Any, *, devices: int, noise: Any) -> Any:
    silent = contribute(rows, release, devices=devices, noise=path.silence)
    return silent + contribute(rows[:0], release, devices=5, noise=noise)


@pytest.mark.parametrize("mutant", [one_share, one_row, noise_of_a_full_chunk])
def test_the_bug_is_seen(mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "contribute", mutant)
    with pytest.raises(AssertionError):
        check(monkeypatch)


def test_rows_that_are_given_add_up_exactly_in_any_chunks() -> None:
    """From the row on everything is a whole number: the same to the last bit."""
    release = dataclasses.replace(plan()[PHASE.name], dimension=64)
    rows = path.some_rows(PEOPLE)
    whole = path.integers(rows, release)
    for chunk in (1, 4, 22):
        assert np.array_equal(sum(path.integers(part, release) for part in rows.split(chunk)), whole)
