"""Bug 6: people who drop out take their share of the noise with them, and the rest is released with less than claimed.

Published: Flower's client-side strategies size each share for the configured cohort; replies that never come are only
warned of. Distributed noise must be sized for the fewest who may answer.

Seen to fail: shares sized for everybody instead of `min_survivors`.
"""

import dataclasses
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from homespun.client.app import UnknownPhase
from homespun.privacy import CohortTooSmall, Release
from homespun.simulations.cell import Cell

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE, FEWEST, DIMENSION = 14, 10, 4000


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homespun.server.cohort.ROUND_TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr("homespun.server.cohort.NODES_POLL_SECONDS", 0.0)


def calibrated() -> Any:
    release = Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=DIMENSION)
    return path.plan_of(release, population=PEOPLE, min_survivors=FEWEST)


def check(plan: Any, folder: Path) -> None:
    """A zero statistic, every way of dropping out: what is released is as loud as the claim, by measurement."""
    promised = calibrated()["one"].noise_std
    for lost in (0, 1, PEOPLE - FEWEST):
        phase = path.Given(answer=lambda data, _: torch.zeros(data.users, DIMENSION), dimension=DIMENSION)
        gone: list[Any] = []

        def drop(reply: Any, lost: int = lost, gone: list[Any] = gone) -> Any:
            gone.append(reply)
            return None if len(gone) <= lost else reply

        path.walk(plan, [phase], path.people(PEOPLE), folder / str(lost), tamper=drop)
        ((mean, told),) = phase.told
        assert float(mean.std()) >= promised * (1 - 4 / (2 * DIMENSION) ** 0.5)  # 4 sigma of a measured std
        assert told == pytest.approx(float(mean.std()), rel=0.05)
        assert told >= promised * (1 - 1e-12)


def test_whoever_drops_out_the_noise_is_what_is_claimed(tmp_path: Path) -> None:
    check(calibrated(), tmp_path)


def test_the_bug_is_seen(tmp_path: Path) -> None:
    right = calibrated()
    short = dataclasses.replace(right["one"], share_variance=right["one"].variance // PEOPLE)
    with pytest.raises(AssertionError):
        check(dataclasses.replace(right, releases=(short,)), tmp_path)


@pytest.mark.parametrize("how", ["silent", "refusing"])
def test_one_more_and_nothing_is_opened(how: str, tmp_path: Path) -> None:
    phase = path.Given(answer=lambda data, _: torch.zeros(data.users, DIMENSION), dimension=DIMENSION)
    answered: list[int] = []

    class Absent(Cell):
        def contribute(self, request: Any) -> Any:
            answered.append(1)
            if how == "refusing" and len(answered) <= PEOPLE - FEWEST + 1:
                raise UnknownPhase("not me")
            return super().contribute(request)

    def drop(reply: Any) -> Any:
        return None if how == "silent" and len(answered) and answered.pop() and len(answered) < 5 else reply

    with pytest.raises(CohortTooSmall):
        path.walk(calibrated(), [phase], path.people(PEOPLE), tmp_path, contributor=Absent, tamper=drop)
    assert phase.told == []  # no update, no release
    assert not list(tmp_path.glob("checkpoints/round-*"))
