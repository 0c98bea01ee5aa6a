"""Bug 17: padding and duplicates add influence, or one person counts as several.

Published: contribution bounding left out of user-level pipelines: records clipped one by one, a user's hundred records
move the sum by a hundred clip norms; padding rows that carry the last record again.

Seen to fail: clipping label by label, padding that counts, and a reader that takes each run of rows for a person.
"""

import dataclasses
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from homespun.personal import Pairs, fit
from homespun.preferences import index, read
from homespun.privacy import compose, release_event

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
made_up = runpy.run_path(str(Path(__file__).parents[1] / "made_up_data.py"))
NAMES = ["mean", "basis", "spread", "refine"]


def repeated(pairs: Pairs, times: int) -> Pairs:
    columns = ("chosen", "rejected", "scale", "weight", "half", "tier")
    return dataclasses.replace(pairs, **{name: torch.cat([getattr(pairs, name)] * times, dim=1) for name in columns})


def padded(pairs: Pairs, weight: float = 0.0) -> Pairs:
    more = repeated(pairs, 2)
    weights = torch.cat([pairs.weight, torch.full_like(pairs.weight, weight)], dim=1)
    return dataclasses.replace(more, weight=weights)


def check(name: str, *, pad: float = 0.0, by_label: bool = False) -> None:
    """However often a person says the same, and however their rows are padded, they count as one."""
    pairs = path.people(9)
    phase = next(phase for phase in path.shipped(pairs) if phase.name == name)
    release = path.one_release(dimension=phase.dimension, clip_norm=phase.clip_norm)
    rows = phase.statistic(path.taught(), pairs, 0)
    more = phase.statistic(path.taught(), padded(pairs, pad), 0)
    assert torch.allclose(more, rows, rtol=0, atol=1e-6)  # padding says nothing
    for times in (1, 7, 100):
        loud = phase.statistic(path.taught(), repeated(pairs, times), 0)
        for person in range(pairs.users):
            labels = loud[person : person + 1].repeat(times if by_label else 1, 1)
            vector = sum(path.integers(one[None], release) for one in labels)
            assert path.squares(vector) <= release.clip_units**2


@pytest.mark.parametrize("name", NAMES)
def test_repeating_oneself_does_not_add_influence(name: str) -> None:
    check(name)


@pytest.mark.parametrize("name", NAMES)
def test_padding_that_counts_is_seen(name: str) -> None:
    with pytest.raises(AssertionError):
        check(name, pad=0.5)


def test_clipping_label_by_label_is_seen() -> None:
    with pytest.raises(AssertionError):
        check("mean", by_label=True)


def test_padding_does_not_move_an_adapter() -> None:
    pairs = path.people(9)
    own, more = (fit(path.taught(), some).coefficients for some in (pairs, padded(pairs)))
    assert torch.allclose(own, more, rtol=0, atol=1e-6)


def test_a_persons_rows_are_theirs_wherever_they_stand(tmp_path: Path) -> None:
    """A file in which everybody's rows are scattered holds as many people as names."""
    rows = list(made_up["choices"](people=5, prompts=12, labels=8))
    scattered = [row for place in range(8) for row in rows[place::8]]
    assert len({row["user"] for row in rows}) == 5
    file = tmp_path / "scattered.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in scattered))
    _, labels = index(read(str(file)))
    assert len(labels.users) == 5


def test_two_devices_of_one_person_cost_what_two_cost() -> None:
    """The unit is the device: a person with two of them moves the sum by two clip norms, and the price says so."""
    release = path.one_release()
    rows: Tensor = torch.zeros(2, 64)
    rows[:, 0] = 1e9
    moved = path.integers(rows, release)
    assert path.squares(moved) == (2 * release.clip_units) ** 2
    event = release_event(release, count=1)
    alone, both = (
        compose([dataclasses.replace(event, clip_units=times * release.clip_units)], delta=1e-5).epsilon
        for times in (1, 2)
    )
    assert both > 2 * alone
