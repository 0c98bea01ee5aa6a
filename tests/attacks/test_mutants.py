"""Every way in which the path could break its promise is built here on purpose, and the audit must see it.

A mutant may be caught by a rigorous bound, by the near-tight interval, or by a direct test of the noise; the table says
which one it must be at least. ``docs/design/11-attacks.md`` has the same table with rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from homespun.audit.game import Coins, throw
from homespun.audit.path import Path, audit_path
from homespun.privacy import (
    Noise,
    NoiseStream,
    Participation,
    Plan,
    PrivacySpec,
    Relation,
    Release,
    ReleasePlan,
    Trust,
    Unit,
    contribute,
    open_sum,
    to_ring,
)
from homespun.secagg.crypto import add_mask

torch.set_num_threads(1)

CANARIES = 1000
PEOPLE = 1000
RELEASES = (
    Release(name="mean", rounds=1, share=0.2, clip_norm=0.1, dimension=24),
    Release(name="basis", rounds=2, share=0.7, clip_norm=0.05, dimension=300),
    Release(name="spread", rounds=1, share=0.1, clip_norm=0.06, dimension=4),
)
RIGOROUS = {"snj", "fdp"}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return PrivacySpec(
        epsilon=2.0,
        delta=1e-5,
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        trust=Trust.DISTRIBUTED,
        participation=Participation.full(),
        population=PEOPLE + PEOPLE // 2,
        min_survivors=PEOPLE,
        releases=RELEASES,
    ).build()


Contribution = NDArray[np.uint32]


def integers(rows: Tensor, release: ReleasePlan) -> NDArray[np.int64]:
    """What a path without any bound would add up."""
    return np.trunc(rows.numpy() * (release.clip_units / release.clip_norm)).astype(np.int64).sum(axis=0)


def scaled_noise(change: Callable[[int], int]) -> Path:
    """Draws noise of another variance than asked for."""

    def noise(release: str, round: int, part: int) -> Noise:
        stream = NoiseStream()
        return lambda variance, size: stream.discrete_gaussian(change(variance), size)

    return Path(noise=noise)


def no_clip(rows: Tensor, release: ReleasePlan, *, devices: int, noise: Noise) -> Contribution:
    silent = contribute(torch.zeros(0, release.dimension), release, devices=devices, noise=noise)
    return np.asarray(silent + to_ring(integers(rows, release)))


def weighted(rows: Tensor, release: ReleasePlan, *, devices: int, noise: Noise) -> Contribution:
    """Multiplies what was clipped with the number of examples that a client says it has."""
    examples = 10
    clipped = rows.clamp(-release.clip_norm, release.clip_norm)  # one coordinate a row: this clips it right
    return no_clip(examples * clipped, release, devices=devices, noise=noise)


def muffled(rows: Tensor, release: ReleasePlan, *, devices: int, noise: Noise) -> Contribution:
    """Not a breach, but an audit that hears nothing would prove nothing."""
    return contribute(rows * 1e-6, release, devices=devices, noise=noise)


def no_noise(variance: int, size: int) -> NDArray[np.int64]:
    return np.zeros(size, np.int64)


def added_afterwards() -> Path:
    """Devices send sums without noise, and the server adds what is missing: whoever sees the mean sees nothing of it."""

    def quiet(rows: Tensor, release: ReleasePlan, *, devices: int, noise: Noise) -> Contribution:
        return contribute(rows, release, devices=devices, noise=no_noise)

    def add(vectors: Any, release: ReleasePlan, *, devices: int, noise: Noise | None) -> tuple[Tensor, float]:
        own = NoiseStream().discrete_gaussian(release.share_variance * devices, release.dimension)
        return open_sum([*vectors, to_ring(own)], release, devices=devices, noise=noise)

    return Path(contribute=quiet, open_sum=add)


def some_without_noise(release: str, round: int, part: int) -> Noise:
    """Every fourth cell of survivors forgets its shares."""
    return no_noise if part % 4 == 0 else NoiseStream()


def no_noise_on_half(rows: Tensor, release: ReleasePlan, *, devices: int, noise: Noise) -> Contribution:
    whole = contribute(rows, release, devices=devices, noise=noise)
    quiet = contribute(rows, release, devices=devices, noise=no_noise)
    return np.where(np.arange(release.dimension) < release.dimension // 2, quiet, whole)


def no_noise_on_one_release(rows: Tensor, release: ReleasePlan, *, devices: int, noise: Noise) -> Contribution:
    quiet = release.name == "spread"
    return contribute(rows, release, devices=devices, noise=no_noise if quiet else noise)


def realised_divisor(
    vectors: Iterable[Contribution], release: ReleasePlan, *, devices: int, noise: Noise | None
) -> tuple[Tensor, float]:
    """Divides by how many answered."""
    mean, std = open_sum(vectors, release, devices=devices, noise=noise)
    return mean * release.divisor / devices, std * release.divisor / devices


def data_size_divisor() -> Path:
    """Divides by how many rows held data, and states the promised noise."""
    rows_with_data: list[int] = []

    def count(rows: Tensor, release: ReleasePlan, *, devices: int, noise: Noise) -> Contribution:
        rows_with_data.append(int((rows != 0).any(dim=1).sum()))
        return contribute(rows, release, devices=devices, noise=noise)

    def divide(vectors: Any, release: ReleasePlan, *, devices: int, noise: Noise | None) -> tuple[Tensor, float]:
        mean, std = open_sum(vectors, release, devices=devices, noise=noise)
        size = max(1, sum(rows_with_data))
        rows_with_data.clear()
        return mean * release.divisor / size, std

    return Path(contribute=count, open_sum=divide)


def same_seed(*labels: int) -> Path:
    """Every stream of the numbered labels' values is seeded alike: 0 release, 1 round, 2 part."""

    def noise(*asked: Any) -> Noise:
        return NoiseStream.seeded(1, *(asked[place] for place in labels))

    return Path(noise=noise)


def shares_for_everybody(plan: Plan) -> Plan:
    """Sizes a share for all devices instead of the fewest that may answer."""
    return replace(
        plan, releases=tuple(replace(r, share_variance=math.ceil(r.variance / r.population)) for r in plan.releases)
    )


def leaky() -> tuple[Path, Callable[[int], Coins]]:
    """An auditor whose score has seen the coins: it proves a breach where there is none."""
    told: list[Coins] = []

    def remember(canaries: int) -> Coins:
        told.append(throw(canaries))
        return told[-1]

    def tell(vectors: Any, release: ReleasePlan, *, devices: int, noise: Noise | None) -> tuple[Tensor, float]:
        mean, std = open_sum(vectors, release, devices=devices, noise=noise)
        return mean + 10 * std * torch.from_numpy(told[-1].values).double(), std

    return Path(open_sum=tell), remember


PATHS = {
    "noise halved": (scaled_noise(lambda variance: variance // 4), {"gauss", "noise-scale"}),
    "standard deviation used as variance": (scaled_noise(math.isqrt), {"fdp", "snj", "noise-scale"}),
    "variance used as standard deviation": (scaled_noise(lambda variance: 16 * variance), {"noise-scale"}),
    "no noise": (scaled_noise(lambda variance: 0), {"fdp", "snj", "silent-coordinates"}),
    "clip off": (Path(contribute=no_clip), {"fdp", "snj"}),
    "clip much too tight": (Path(contribute=muffled), {"canaries-heard"}),
    "weights by number of examples": (Path(contribute=weighted), {"fdp", "snj"}),
    "no noise on half of the coordinates": (Path(contribute=no_noise_on_half), {"silent-coordinates"}),
    "no noise on one release": (Path(contribute=no_noise_on_one_release), {"silent-coordinates", "noise-scale"}),
    "noise added after unmasking": (added_afterwards(), {"silent-coordinates", "noise-scale"}),
    "some survivors without noise": (Path(noise=some_without_noise), {"noise-scale"}),
    "divisor by answers": (Path(open_sum=realised_divisor), {"noise-scale", "public-lattice"}),
    "divisor by data size": (data_size_divisor(), {"noise-scale", "public-lattice"}),
    "same noise in every sum": (same_seed(), {"gauss", "repeated-noise"}),
    "same noise in every round": (same_seed(0, 2), {"gauss", "repeated-noise"}),
    "same noise on every device": (same_seed(0, 1), {"noise-scale"}),
}


@pytest.mark.parametrize("name", PATHS)
def test_mutant_is_caught(plan: Plan, name: str) -> None:
    path, by = PATHS[name]
    found = audit_path(plan, canaries=CANARIES, path=path)
    assert by <= set(found.failed)


def test_shares_for_everybody_are_caught(plan: Plan) -> None:
    found = audit_path(shares_for_everybody(plan), canaries=CANARIES)
    assert "noise-scale" in found.failed


def test_shares_for_colluders_are_caught(plan: Plan) -> None:
    """Sized for everybody who is in the sum, of whom some take their noise away again."""
    spec = replace(plan.spec, colluding=PEOPLE // 2)
    right = spec.build()
    assert not RIGOROUS & set(audit_path(right, canaries=CANARIES).failed)
    short = replace(
        right, releases=tuple(replace(r, share_variance=math.ceil(r.variance / r.fewest)) for r in right.releases)
    )
    assert "noise-scale" in audit_path(short, canaries=CANARIES).failed


@pytest.mark.parametrize("step", ["client.subtract_mask", "server.subtract_mask"])
def test_a_mask_with_the_wrong_sign_is_caught(plan: Plan, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a mask is uniform in the whole ring: much louder than any noise that a plan promised."""
    monkeypatch.setattr(f"homespun.secagg.{step}", add_mask)
    assert "noise-scale" in audit_path(plan, canaries=CANARIES).failed


def test_leaked_coins_are_caught(plan: Plan) -> None:
    """A broken auditor shows in its own control, where there is nothing to find."""
    path, coins = leaky()
    found = audit_path(plan, canaries=CANARIES, path=path, coins=coins)
    assert "control" in found.failed
    assert found.control.fdp > 0.2


def test_correct_build_passes(plan: Plan) -> None:
    """At most 5 of 100 audits may fail; with ten, two failures happen in less than one of ten thousand good builds."""
    failed = [audit_path(plan, canaries=CANARIES).failed for _ in range(10)]
    assert sum(bool(names) for names in failed) <= 2
    assert not any(RIGOROUS & set(names) for names in failed)


@pytest.mark.study
def test_95_of_100_correct_builds_pass(plan: Plan) -> None:
    failed = [audit_path(plan, canaries=canaries).failed for canaries in (1000, 4000) for _ in range(100)]
    for part in (failed[:100], failed[100:]):
        assert sum(not names for names in part) >= 95
        assert not any(RIGOROUS & set(names) for names in part)


@pytest.mark.study
@pytest.mark.parametrize("name", PATHS)
def test_every_mutant_is_caught_in_19_of_20_audits(plan: Plan, name: str) -> None:
    path, by = PATHS[name]
    assert sum(by <= set(audit_path(plan, canaries=4000, path=path).failed) for _ in range(20)) >= 19
