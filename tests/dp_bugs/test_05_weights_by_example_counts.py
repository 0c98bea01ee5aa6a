"""Bug 5: people weigh in with how many examples they have, or say they have.

Published: Flower's server-side clipping strategies leave FedAvg's weights by ``num-examples`` in place, so that a client
that reports 10^9 examples is the average.

Seen to fail: a device that multiplies its vector by its labels; a server that believes a reply's count.
"""

import dataclasses
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from homespun.privacy import Release, from_ring, to_ring
from homespun.server import cohort, coordinator
from homespun.simulations.cell import Cell
from homespun.wire import contribution_from_record

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE = 8


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort, "NODES_POLL_SECONDS", 0.0)


def check(folder: Path, contributor: Any = Cell) -> None:
    """One person with a billion labels' worth of evidence, and one who claims to be a billion people."""
    pairs = path.people(PEOPLE)
    weight = pairs.weight.clone()
    weight[0] = 1e9
    heavy = dataclasses.replace(pairs, weight=weight)
    mean = dataclasses.replace(path.shipped(pairs)[0], clip_norm=1e-3)
    release = Release(name=mean.name, rounds=1, share=1.0, clip_norm=mean.clip_norm, dimension=mean.dimension)
    quiet = path.plan_of(release, epsilon=float("inf"), population=PEOPLE, min_survivors=1)
    for vector in path.walk(quiet, [mean], heavy, folder / "heavy", contributor=contributor).vectors:
        assert path.squares(vector) <= quiet["mean"].clip_units ** 2

    phase = path.Given(answer=lambda data, _: torch.full((data.users, 64), 1e-3))
    release = Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=64)
    plan = path.plan_of(release, epsilon=float("inf"), population=PEOPLE, min_survivors=1)
    lied: list[Message] = []

    def lie(reply: Message) -> Message:
        if lied:
            return reply
        lied.append(reply)
        loud = to_ring(from_ring(reply.content["contribution"]["vector"].numpy()) * 10**4)
        reply.content["contribution"] = ArrayRecord({"vector": Array(loud)})
        reply.content["sender"] = ConfigRecord({"devices": 10**9})
        return reply

    path.walk(plan, [phase], pairs, folder / "lie", tamper=lie, contributor=contributor)
    ((mean, _),) = phase.told
    step = plan["one"].step
    expected = (PEOPLE - 1) * int(1e-3 / step) * step / PEOPLE  # everybody else, over the public number
    assert torch.allclose(mean, torch.full((64,), expected, dtype=torch.float64), rtol=1e-9)


def test_nobody_weighs_more_than_one_clip_norm(tmp_path: Path) -> None:
    check(tmp_path)


class Weighted(Cell):
    """A device that sends the sum over its labels."""

    def contribute(self, request: Any) -> Any:
        answer = super().contribute(request)
        labels = int((self.pairs.weight > 0).sum())
        return dataclasses.replace(answer, vector=to_ring(from_ring(answer.vector) * labels))


def test_a_device_that_weighs_itself_is_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check(tmp_path, contributor=Weighted)


def test_a_server_that_believes_a_count_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = coordinator.open_sum

    def trusting(content: RecordDict, release: Any, devices: range) -> Any:
        return contribution_from_record(content, dimension=release.dimension)

    def averaged(vectors: Any, release: Any, *, devices: int, noise: Any) -> Any:
        mean, std = real(vectors, release, devices=min(devices, PEOPLE), noise=noise)
        return mean * release.population / devices, std

    monkeypatch.setattr(cohort, "_read", trusting)
    monkeypatch.setattr(coordinator, "open_sum", averaged)
    with pytest.raises(AssertionError):
        check(tmp_path)
