"""Bug 14: a NaN or an infinity raises, is skipped, or spreads; each tells of the person, or ruins everybody's sum.

Published: clipping by ``min(1, C / norm)`` keeps NaN and turns inf into NaN; frameworks drop the update or stop the run.

Seen to fail: clipping without the guard; a device that answers a failure with an error.
"""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from homespun.personal import Pairs
from homespun.privacy import Release, private_sum
from homespun.simulations import cell as cells

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE = 6
VALUES = [float("nan"), float("inf"), -float("inf"), 3.4e38, 1e-45]


def raises(data: Pairs) -> Tensor:
    raise FloatingPointError("not a number")


def check(folder: Path) -> None:
    """One person with such a value in one place, or everywhere, or whose statistic cannot be computed at all."""
    release = Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=64)
    quiet = path.plan_of(release, epsilon=float("inf"), population=PEOPLE, min_survivors=PEOPLE)
    marked = path.people(PEOPLE)
    marked.weight[0] = 77.0
    plain = float(int(0.01 / quiet["one"].step))
    for number, value in enumerate([*VALUES, None]):

        def answer(data: Pairs, round: int, value: float | None = value) -> Tensor:
            rows = torch.full((data.users, 64), 0.01)
            if not bool((data.weight == 77.0).all()):
                return rows
            if value is None:
                return raises(data)
            rows[:, 0] = value
            return rows

        phase = path.Given(answer=answer)
        done = path.walk(quiet, [phase], marked, folder / str(number))
        assert [report.checkpoint.devices for report in done.reports] == [PEOPLE]  # nobody is missed
        assert not any(reply.has_error() for reply in done.grid.replies)
        assert len({reply.content.object_id for reply in done.grid.replies}) <= PEOPLE
        for vector in done.vectors:
            assert path.squares(vector) <= quiet["one"].clip_units ** 2
        if value is None or not np.isfinite(value):
            assert done.vectors[0].tolist() == [0] * 64
        assert set(sum(done.vectors[1:])[1:].tolist()) == {(PEOPLE - 1) * plain}  # and nobody else is touched


def test_what_is_no_number_counts_as_nothing_and_is_not_missed(tmp_path: Path) -> None:
    check(tmp_path)


def unguarded(rows: Tensor, *, clip_norm: float) -> Tensor:
    norms = rows.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(norms).all()):
        raise FloatingPointError("a norm is not finite")
    return rows * (clip_norm / norms).clamp(max=1.0)


def test_the_bug_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_sum, "clip_users", unguarded)
    with pytest.raises(Exception, match=r"CohortTooSmall|devices=5|assert"):
        check(tmp_path)


def test_a_failure_that_is_answered_with_an_error_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cells, "statistic_or_nothing", lambda phase, backbone, pairs, round: phase.statistic(backbone, pairs, round)
    )
    with pytest.raises(Exception, match=r"CohortTooSmall|devices=5|assert"):
        check(tmp_path)
