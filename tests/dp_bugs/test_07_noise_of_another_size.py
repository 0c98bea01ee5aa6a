"""Bug 7: the noise is not the size that the accountant was told: variance for standard deviation, C squared, C of a layer,
noise on the mean and not on the sum, or one draw that several workers share.

Published: tensorflow/privacy#153 (noise added to the average), SPRINT_gan#5 (the clip norm squared in the standard
deviation), PySyft#6914 (less noise, *less* budget spent), opacus (distributed workers with one seed add one noise).

Seen to fail: each mutant draws another variance, or the same draw twice. The check knows nothing of the plan's numbers:
it measures what one person can do to the mean, measures the noise, and asks the exact Gaussian what that is worth.
"""

import math
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from homespun.privacy import NoiseStream, Trust, gaussian_epsilon, open_sum, private_sum
from homespun.simulations import engine

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
DIMENSION, PEOPLE = 100_000, 20
EPSILON, DELTA = 2.0, 1e-4


def check(*, trust: Trust = Trust.DISTRIBUTED, clip_norm: float = 0.05) -> None:
    """Influence over noise is a Gaussian mechanism; its epsilon is the promised one, not above and not far below."""
    release = path.one_release(
        dimension=DIMENSION, clip_norm=clip_norm, trust=trust, epsilon=EPSILON, delta=DELTA,
        population=PEOPLE, min_survivors=PEOPLE,
    )  # fmt: skip
    loud = torch.zeros(1, DIMENSION)
    loud[0, 0] = 1e9
    quiet = torch.zeros(0, DIMENSION)

    def mean(rows: torch.Tensor, noise: Any) -> torch.Tensor:
        parts = rows.split(1) if len(rows) else [rows]
        vectors = [private_sum.contribute(part, release, devices=1, noise=noise) for part in parts]
        vectors += [
            private_sum.contribute(quiet, release, devices=1, noise=noise) for _ in range(PEOPLE - len(vectors))
        ]
        server = noise if trust is Trust.CENTRAL else None
        return open_sum(vectors, release, devices=PEOPLE, noise=server)[0]

    influence = float((mean(loud, path.silence) - mean(quiet, path.silence)).norm())
    with NoiseStream.seeded(7, "size") as stream:
        measured = float(mean(quiet, stream).std())
    spent = gaussian_epsilon(influence / measured, delta=DELTA)
    assert 0.85 * EPSILON <= spent <= 1.01 * EPSILON


@pytest.mark.parametrize("trust", list(Trust))
@pytest.mark.parametrize("clip_norm", [0.05, 1.0, 7.0])
def test_noise_and_influence_are_worth_the_promised_epsilon(trust: Trust, clip_norm: float) -> None:
    check(trust=trust, clip_norm=clip_norm)


def scaled(by: Callable[[int], int]) -> Callable[..., Any]:
    def draw(draws: Any, share_variance: int, devices: int, size: int) -> Any:
        return original(draws, by(share_variance), devices, size)

    original = private_sum.draw_shares
    return draw


MUTANTS: dict[str, Callable[[int], int]] = {
    "a standard deviation for a variance": math.isqrt,
    "half the standard deviation": lambda v: v // 4,
    "noise on the average": lambda v: v // PEOPLE**2,
    "a layer's clip norm of four": lambda v: v // 4,
    "much too much": lambda v: 9 * v,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_bug_is_seen(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_sum, "draw_shares", scaled(MUTANTS[mutant]))
    with pytest.raises(AssertionError):
        check(clip_norm=0.05)


def test_less_noise_never_costs_less() -> None:
    """PySyft#6914: the price must rise as the noise falls, for every release of every plan."""
    plans = [path.one_release(epsilon=epsilon, trust=Trust.CENTRAL) for epsilon in (0.5, 1.0, 2.0, 4.0, 8.0)]
    prices, noises = [float(plan.rho) for plan in plans], [plan.noise_std for plan in plans]
    assert prices == sorted(prices)
    assert noises == sorted(noises, reverse=True)


def correlation(streams: list[Any]) -> float:
    draws = np.stack([stream.discrete_gaussian(10**6, 20_000) for stream in streams]).astype(float)
    return float(np.abs(np.corrcoef(draws) - np.eye(len(draws))).max())


def test_no_two_nodes_add_the_same_noise() -> None:
    """Nodes of one simulation share a seed, and nothing else."""
    pairs = path.people(6)
    at_node = engine.contributors(pairs, {}, cell_size=2, seed=0)
    nodes = [at_node(SimpleNamespace(node_config={"partition-id": place})) for place in range(3)]
    assert correlation([node.noise(run, round) for node in nodes for run in (0, 1) for round in (0, 1)]) < 0.05
    assert correlation([NoiseStream.seeded(0, "shares", 0, 0) for _ in nodes]) == pytest.approx(1.0)  # the bug
