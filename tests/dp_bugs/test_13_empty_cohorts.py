"""Bug 13: nobody was drawn, and the step crashes, is skipped, or releases nothing but zeros.

Published: opacus#161 and #164 (empty Poisson batches); a skipped step tells that nobody was drawn, and is often not
accounted either.

Seen to fail: a coordinator that skips the round, one that releases an exact zero, and one that asks again.
"""

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from homespun.privacy import NoiseStream, Participation, Plan, Release, Trust
from homespun.server import coordinator
from homespun.server.run_ledger import account_of

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE, ROUNDS = 6, 5


def plan() -> Plan:
    release = Release(name="one", rounds=ROUNDS, share=1.0, clip_norm=1.0, dimension=64)
    made: Plan = path.plan_of(
        release, population=PEOPLE, min_survivors=PEOPLE, participation=Participation.poisson(1e-3), trust=Trust.CENTRAL
    )
    return made


def check(folder: Path) -> None:
    phase = path.Given(answer=path.nothing, rounds=ROUNDS)
    done = path.walk(
        plan(), [phase], path.people(PEOPLE), folder, server_noise=lambda run, n: NoiseStream.seeded(2, run, n)
    )
    assert [report.checkpoint.devices for report in done.reports] == [0] * ROUNDS  # the case is the one that is meant
    assert len(phase.told) == ROUNDS
    for mean, std in phase.told:
        assert bool((mean != 0).sum() >= 60)
        assert std == plan()["one"].noise_std == pytest.approx(float(mean.std()), rel=0.4)
    assert done.grid.requests == []  # and nobody was asked in their stead
    with path.run_ledger(folder, plan()) as ledger:
        assert sum(event.count for event in ledger.events(account_of(0))) == ROUNDS


def test_an_empty_cohort_releases_noise_and_is_paid_for(tmp_path: Path) -> None:
    check(tmp_path)


def skipped(vectors: Any, release: Any, *, devices: int, noise: Any) -> Any:
    return path.torch.zeros(release.dimension, dtype=path.torch.float64), 0.0


def asked_again(release: Any, members: Any, stream: NoiseStream) -> Any:
    return [path.np.array([0], path.np.int32)] + [path.np.array([], path.np.int32)] * (len(members) - 1)


@pytest.mark.parametrize(("name", "mutant"), [("open_sum", skipped), ("draw_cohort", asked_again)])
def test_the_bug_is_seen(
    name: str, mutant: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, name, mutant)
    with pytest.raises(AssertionError):
        check(tmp_path)
