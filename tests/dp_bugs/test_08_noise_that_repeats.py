"""Bug 8: the same noise twice: across steps, after a restart, in forked workers, on a second attempt at a round.

Published: generators that are seeded in a constructor and copied into workers; ``torch.Generator`` saved in a checkpoint
and restored with it. Two sums with the same noise, subtracted, are exact.

Seen to fail: a generator seeded once per node (the round left out of its labels), and one that a fork copies.
"""

import hashlib
import itertools
import multiprocessing
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from homespun.privacy import NoiseStream, Release, Trust

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE, ROUNDS = 4, 3


def digests(folder: Path, noise: Callable[[int, int, int], Any], *, trust: Trust) -> list[str]:
    """Every noisy thing of two runs, the second a repetition of the first in another folder."""
    release = Release(name="one", rounds=ROUNDS, share=1.0, clip_norm=1.0, dimension=64)
    plan = path.plan_of(release, population=PEOPLE, min_survivors=PEOPLE, trust=trust)
    seen = []
    for run in range(2):
        phase = path.Given(answer=path.nothing, rounds=ROUNDS)
        done = path.walk(
            plan, [phase], path.people(PEOPLE), folder / str(run), run=run, noise=noise,
            server_noise=lambda run, round: noise(run, round, -1),
        )  # fmt: skip
        noisy = [mean.numpy() for mean, _ in phase.told] if trust is Trust.CENTRAL else done.vectors
        seen += [hashlib.sha256(vector.tobytes()).hexdigest() for vector in noisy]
    return seen


def check(seen: list[str]) -> None:
    assert len(seen) >= 2 * ROUNDS
    assert len(set(seen)) == len(seen)


def labelled(run: int, round: int, place: int) -> NoiseStream:
    """As simulations label them."""
    return NoiseStream.seeded(5, "shares", run, round, place)


def fresh(run: int, round: int, place: int) -> NoiseStream:
    """As devices make them."""
    return NoiseStream()


@pytest.mark.parametrize("trust", list(Trust))
@pytest.mark.parametrize("noise", [labelled, fresh])
def test_no_noise_is_used_twice(noise: Callable[[int, int, int], Any], trust: Trust, tmp_path: Path) -> None:
    check(digests(tmp_path, noise, trust=trust))


@pytest.mark.parametrize("trust", list(Trust))
def test_the_bug_is_seen(trust: Trust, tmp_path: Path) -> None:
    for bug in (
        lambda run, round, place: NoiseStream.seeded(5, place),
        lambda run, round, place: NoiseStream.seeded(5, round, place),
    ):
        with pytest.raises(AssertionError):
            check(digests(tmp_path / str(id(bug)), bug, trust=trust))


def _draws(stream: NoiseStream, queue: Any) -> None:
    queue.put([stream.read(16), NoiseStream().read(16)])


def test_neither_fork_nor_spawn_repeats_a_stream() -> None:
    stream, seen = NoiseStream(), []
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    for _ in range(3):
        process = context.Process(target=_draws, args=(stream, queue))
        process.start()
        seen += queue.get()
        process.join()
    seen += [stream.read(16), NoiseStream().read(16)]
    assert len(set(seen)) == 8


def test_labels_cannot_be_confused() -> None:
    """(1, 23) and (12, 3), 1 and "1", a missing label and an empty one: each is a stream of its own."""
    labels: list[tuple[str | int, ...]] = [(1, 23), (12, 3), (1, 2, 3), ("1", 23), ("1", "23"), (), ("",), ("", "")]
    streams = [NoiseStream.seeded(0, *some).read(16) for some in labels]
    assert all(a != b for a, b in itertools.combinations(streams, 2))
