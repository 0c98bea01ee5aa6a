"""Bug 4: the sum is divided by how many there happened to be, so neighbours differ in scale, noise included.

Published: opacus#571 and #819 (``int(len(dataset) * sample_rate)``: 10 people and 9 divide by 5 and by 4, and the noise
of the release tells which); Flower's fixed-clipping strategies divide by the configured number and average by examples.

Seen to fail: the mutant divides by the number that answered, everything else as it is.
"""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from flwr.app import Message

from homespun.privacy import NoiseStream, Participation, Release, Trust
from homespun.server import coordinator

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE = 10


def check(folder: Path, *, poisson: bool) -> None:
    """The same draws with one person more and less: the noise of the mean is the same to the last bit."""
    pairs = path.people(PEOPLE)
    release = Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=64)
    changes: dict[str, Any] = {"population": PEOPLE, "min_survivors": PEOPLE - 1}
    changes |= {"trust": Trust.CENTRAL}
    if poisson:
        changes |= {"participation": Participation.poisson(0.5)}
    plan = path.plan_of(release, **changes)
    told = []
    for place, lost in enumerate((0, 1)):
        phase = path.Given(answer=path.nothing)
        arrived: list[Message] = []

        def drop(reply: Message, lost: int = lost, arrived: list[Message] = arrived) -> Message | None:
            arrived.append(reply)
            return None if len(arrived) <= lost else reply

        path.walk(
            plan, [phase], pairs, folder / str(place), tamper=drop, server_noise=lambda r, n: NoiseStream.seeded(3)
        )
        told += phase.told
    (first, first_std), (second, second_std) = told
    assert torch.equal(first, second)
    assert first_std == second_std == plan["one"].noise_std


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homespun.server.cohort.ROUND_TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr("homespun.server.cohort.NODES_POLL_SECONDS", 0.0)


@pytest.mark.parametrize("poisson", [False, True])
def test_one_person_less_does_not_change_the_scale(poisson: bool, tmp_path: Path) -> None:
    check(tmp_path, poisson=poisson)


@pytest.mark.parametrize("poisson", [False, True])
def test_the_bug_is_seen(poisson: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = coordinator.open_sum

    def by_answers(vectors: Any, release: Any, *, devices: int, noise: Any) -> Any:
        mean, std = real(vectors, release, devices=devices, noise=noise)
        return mean * release.divisor / max(1, devices), std

    monkeypatch.setattr(coordinator, "open_sum", by_answers)
    with pytest.raises(AssertionError):
        check(tmp_path, poisson=poisson)


@pytest.mark.parametrize(("population", "rate", "divisor"), [(10, None, 10), (9, None, 9), (20, 0.333, 6.66)])
def test_the_divisor_is_a_public_constant(population: int, rate: float | None, divisor: float) -> None:
    """Not truncated, not a batch size: q N of the plan."""
    how = Participation.full() if rate is None else Participation.poisson(rate)
    release = path.one_release(population=population, min_survivors=population, participation=how, trust=Trust.CENTRAL)
    assert release.divisor == pytest.approx(divisor, rel=1e-12)
