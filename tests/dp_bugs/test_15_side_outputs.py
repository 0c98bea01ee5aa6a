"""Bug 15: a loss, an accuracy, a norm, a count or an early stop leaves beside the noisy sum, without noise.

Published: DP-SGD scripts that print the training loss and keep the best checkpoint; Flower's accountant, which leaves
metrics out of what it counts.

Seen to fail: an answer with a loss in it, an answer whose size depends on the person, a server figure made of something
else than the noisy mean, and a run that stops when the mean is small.
"""

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from homespun.client import app as apps
from homespun.personal import Pairs
from homespun.privacy import NoiseStream, Release
from homespun.server import coordinator
from homespun.server.checkpoint import Checkpoint
from homespun.wire import Contribution

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE = 6
PUBLIC = {  # what a checkpoint says of a round, and where it comes from
    "round", "phase",  # the schedule
    "devices", "messages", "reply_bytes", "seconds",  # who answered, and when
    "attempts", "steps",  # how often, and how many at which step of a masked round
    "state_digest", "release_digest", "noise_std", "signal_to_noise",  # the noisy mean alone
}  # fmt: skip


def walked(folder: Path, answer: Callable[[Pairs, int], Any]) -> Any:
    release = Release(name="one", rounds=2, share=1.0, clip_norm=1.0, dimension=64)
    plan = path.plan_of(release, population=PEOPLE, min_survivors=PEOPLE)
    phase = path.Given(answer=answer, rounds=2)
    return phase, path.walk(plan, [phase], path.people(PEOPLE), folder)


def raising(data: Pairs, round: int) -> Any:
    raise ValueError("no labels")


PERSONS: dict[str, Callable[[Pairs, int], Any]] = {
    "says nothing": lambda data, round: torch.zeros(data.users, 64),
    "is loud": lambda data, round: torch.full((data.users, 64), 1e9),
    "is not a number": lambda data, round: torch.full((data.users, 64), torch.nan),
    "fails": raising,
}


def shape(reply: Message) -> list[tuple[str, int]]:
    """Every object that crosses the edge: its kind and its size."""
    return sorted((type(part).__name__, len(part.deflate())) for part in get_all_nested_objects(reply.content).values())


def check(folder: Path) -> None:
    """Whoever answers, the answers have the same fields and the same size, and the schedule is kept to its end."""
    shapes = set()
    for name, answer in PERSONS.items():
        phase, done = walked(folder / name, answer)
        assert len(done.reports) == len(phase.told) == 2  # no early stop
        for report, (mean, std) in zip(done.reports, phase.told, strict=True):
            assert {field.name for field in dataclasses.fields(report.checkpoint)} == PUBLIC
            assert report.checkpoint.noise_std == std
            assert report.checkpoint.signal_to_noise == pytest.approx(float(mean.norm()) / (std * 64**0.5))
            assert (report.checkpoint.devices, report.checkpoint.messages) == (PEOPLE, PEOPLE)
        assert len(done.grid.replies) == 2 * PEOPLE
        shapes |= {tuple(shape(reply)) for reply in done.grid.replies}
    assert len(shapes) == 1


def test_answers_look_alike_whoever_gives_them(tmp_path: Path) -> None:
    check(tmp_path)


def test_an_answer_with_a_loss_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = apps.contribution_to_record

    def with_loss(contribution: Contribution) -> Any:
        record = real(contribution)
        record["sender"] = ConfigRecord({"devices": contribution.devices, "loss": 0.25})
        return record

    monkeypatch.setattr(apps, "contribution_to_record", with_loss)
    with pytest.raises(Exception, match="devices=0"):  # refused on the way out, by every device
        check(tmp_path)
    monkeypatch.setattr(apps, "contribution_from_record", lambda *_, **__: None)
    with pytest.raises(Exception, match="devices=0"):  # and again on the way in
        check(tmp_path / "again")


def test_a_round_that_stops_early_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = coordinator.Training.schedule

    def until_quiet(training: Any) -> Any:
        for number, step in enumerate(real(training)):
            if number == 0 or all(std < 1.0 for _, std in training.phases[0].told):
                return
            yield step

    monkeypatch.setattr(coordinator.Training, "schedule", until_quiet)
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_a_figure_of_something_else_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "_signal_to_noise", lambda mean, std: 7.0)
    with pytest.raises(AssertionError):
        check(tmp_path)


def test_the_server_learns_nothing_that_is_not_in_the_vectors(tmp_path: Path) -> None:
    """Two populations that differ in everything, and vectors that happen to be equal: every byte on disk is equal."""
    release = Release(name="one", rounds=2, share=1.0, clip_norm=1.0, dimension=64)
    plan = path.plan_of(release, population=PEOPLE, min_survivors=PEOPLE)
    found = []
    for seed, answer in ((0, PERSONS["says nothing"]), (99, PERSONS["fails"])):
        folder = tmp_path / str(seed)
        path.walk(
            plan,
            [path.Given(answer=answer, rounds=2)],
            path.people(PEOPLE, seed=seed, labels=5 + seed),
            folder,
            noise=lambda run, round, place: NoiseStream.seeded(4, run, round, place),
        )
        states = sorted(folder.rglob("state.json"))
        found.append(
            [file.read_bytes() for file in sorted(folder.rglob("*.safetensors"))]
            + [
                b"\n".join(line for line in file.read_bytes().splitlines() if b'"seconds"' not in line)
                for file in states
            ]
        )
    assert len(found[0]) == 4
    assert found[0] == found[1]


def test_a_checkpoint_has_the_public_fields_and_no_more() -> None:
    assert {field.name for field in dataclasses.fields(Checkpoint)} == PUBLIC
