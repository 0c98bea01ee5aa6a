"""Bug 9: noise on some tensors only; adapters, buffers, embeddings or biases leave as they are.

Published: NVFlare#343 (a filter passed weights through un-noised), and a measured use of its sparse-vector default on
seven million parameters: epsilon 70,333 for one round. Opacus' hooks see the layers that they know.

Seen to fail: noise on all but the last coordinates; a reply with a second, noiseless tensor.
"""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message
from safetensors import safe_open

from homespun.personal import Pairs
from homespun.privacy import NoiseStream, Release, Trust, private_sum

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
PEOPLE, ROUNDS, DIMENSION = 6, 20, 64
RELEASED = {"w", "basis", "prior"}


def check(folder: Path, *, trust: Trust) -> None:
    """With nothing to say, every number of every release is noise of the promised size."""
    release = Release(name="one", rounds=ROUNDS, share=1.0, clip_norm=1.0, dimension=DIMENSION)
    plan = path.plan_of(release, population=PEOPLE, min_survivors=PEOPLE, trust=trust)
    phase = path.Given(answer=path.nothing, rounds=ROUNDS)
    done = path.walk(
        plan, [phase], path.people(PEOPLE), folder, members=(PEOPLE,),
        noise=lambda run, round, place: NoiseStream.seeded(1, round),
        server_noise=lambda run, round: NoiseStream.seeded(2, round),
    )  # fmt: skip
    means = torch.stack([mean for mean, _ in phase.told])
    stds = means.std(dim=0)
    expected = plan["one"].noise_std
    assert stds.shape == (DIMENSION,)
    assert float(stds.min()) > 0.5 * expected
    assert float(means.std()) == pytest.approx(expected, rel=0.08)
    for reply in done.grid.replies:
        assert {name: list(part) for name, part in reply.content.items()} == {
            "contribution": ["vector"],
            "sender": ["devices"],
        }


@pytest.mark.parametrize("trust", list(Trust))
def test_every_number_that_is_released_has_noise(trust: Trust, tmp_path: Path) -> None:
    check(tmp_path, trust=trust)


@pytest.mark.parametrize("trust", list(Trust))
@pytest.mark.parametrize("kept", [0, 1, DIMENSION // 2, DIMENSION - 1])
def test_the_bug_is_seen(kept: int, trust: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = private_sum.draw_shares

    def partly(*args: Any) -> Any:
        drawn = real(*args)
        drawn[kept:] = 0
        return drawn

    monkeypatch.setattr(private_sum, "draw_shares", partly)
    with pytest.raises(AssertionError):
        check(tmp_path, trust=trust)


def test_a_checkpoint_holds_the_released_tensors_and_nothing_else(tmp_path: Path) -> None:
    """What ships: the tensors on disk are the backbone's, made of noisy means."""
    pairs: Pairs = path.people(PEOPLE)
    phases = path.shipped(pairs)
    shares = (0.2, 0.4, 0.1, 0.3)
    releases = [
        Release(name=p.name, rounds=p.rounds, share=share, clip_norm=p.clip_norm, dimension=p.dimension)
        for p, share in zip(phases, shares, strict=True)
    ]
    plan = path.plan_of(*releases, population=PEOPLE, min_survivors=PEOPLE)
    done = path.walk(plan, phases, pairs, tmp_path)
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert len(files) == len(done.reports) == sum(phase.rounds for phase in phases)
    for file in files:
        with safe_open(file, "pt") as content:
            assert set(content.keys()) == RELEASED
            assert not content.metadata()


def test_a_second_tensor_is_refused(tmp_path: Path) -> None:
    """An answer that carries more than the vector counts as no answer."""
    release = Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=DIMENSION)
    plan = path.plan_of(release, population=PEOPLE, min_survivors=PEOPLE - 1)
    phase = path.Given(answer=path.nothing)
    seen: list[Message] = []

    def smuggle(reply: Message) -> Message:
        if not seen:
            seen.append(reply)
            vector = reply.content["contribution"]["vector"]
            reply.content["contribution"] = ArrayRecord({"vector": vector, "bias": Array(np.ones(4, np.uint32))})
        return reply

    done = path.walk(plan, [phase], path.people(PEOPLE), tmp_path, tamper=smuggle)
    assert [report.checkpoint.devices for report in done.reports] == [PEOPLE - 1]
