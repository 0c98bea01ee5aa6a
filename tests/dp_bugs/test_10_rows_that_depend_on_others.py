"""Bug 10: a person's row depends on who else is in the batch, so that clipping it bounds nothing.

Published: batch normalisation under DP-SGD, in-batch negatives, reward whitening, GRPO's group norm. One person then moves
everybody's row, and the sum by N times the clip norm.

Seen to fail: every shipped phase with its rows centred, whitened, or contrasted with the batch.

To 1e-6 in the unit of the statistic: a matrix product over another number of rows is summed in another order, and an
iteration leaves out whoever has arrived. That is a simulated cell's matter: on a device a batch is one person. The phases
without an iteration are the same to the last bit whatever the others prefer.
"""

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from homespun.personal import Pairs, fit

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE = 24
PAIRS: Pairs = path.people(PEOPLE)
NAMES = ["mean", "basis", "spread", "refine"]
Rows = Callable[[Pairs], Tensor]


def rows_of(name: str) -> Rows:
    phase = next(phase for phase in path.shipped(PAIRS) if phase.name == name)
    return lambda pairs: phase.statistic(path.taught(), pairs, phase.rounds - 1)


def others(person: int) -> list[Pairs]:
    """The same batch with everybody else's preferences turned round, made loud, or taken away."""
    them = torch.arange(PEOPLE) != person
    turned = dataclasses.replace(
        PAIRS,
        chosen=torch.where(them[:, None], PAIRS.rejected, PAIRS.chosen),
        rejected=torch.where(them[:, None], PAIRS.chosen, PAIRS.rejected),
    )
    loud = dataclasses.replace(PAIRS, weight=torch.where(them[:, None], PAIRS.weight * 1e6, PAIRS.weight))
    empty = dataclasses.replace(PAIRS, weight=torch.where(them[:, None], 0.0, PAIRS.weight))
    return [turned, loud, empty]


def check(rows: Rows, *, exact: bool = False) -> None:
    whole = rows(PAIRS)
    assert float(whole.abs().max()) > 1e-4  # not equal because nothing is there
    for person in range(0, PEOPLE, 5):
        for batch in others(person):
            changed = rows(batch)[person]
            assert torch.allclose(changed, whole[person], rtol=0, atol=0 if exact else 1e-6)
        alone = rows(PAIRS.select(slice(person, person + 1)))[0]
        among = rows(PAIRS.select(torch.tensor([(person + 3) % PEOPLE, person, (person + 7) % PEOPLE])))[1]
        assert torch.allclose(alone, whole[person], rtol=0, atol=1e-6)
        assert torch.allclose(among, whole[person], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_one_persons_own(name: str) -> None:
    check(rows_of(name), exact=name in ("mean", "basis"))


def test_an_adapter_is_one_persons_own() -> None:
    check(lambda pairs: fit(path.taught(), pairs).coefficients)


MUTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "centred": lambda rows: rows - rows.mean(0),
    "whitened": lambda rows: rows / (rows.std() if len(rows) > 1 else 1.0),
    "in-batch negatives": lambda rows: rows - 0.01 * rows.roll(1, 0),
    "one norm for all": lambda rows: rows / rows.norm(),
    "a trace of the others": lambda rows: rows + 1e-4 * rows.sum(),
}


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_bug_is_seen(name: str, mutant: str) -> None:
    rows = rows_of(name)

    def broken(pairs: Pairs) -> Any:
        return MUTANTS[mutant](rows(pairs))

    with pytest.raises(AssertionError):
        check(broken)
