"""An adversary who writes the rows: no float32 row, however it is made, moves the integer sum by more than its bound.

100,000 rows a setting, in generations: rows on and beside the bound, whole-number points whose norm is exactly the bound,
denormal, huge, infinite and undefined ones, then steps along the gradient of the encoded norm and towards the next whole
number in each coordinate, keeping what got further. Squares are added up as Python integers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from homespun.privacy import Participation, ReleasePlan, Trust, clip_users, contribute, encode, from_ring
from homespun.privacy import private_sum as path

Encode = Callable[[Tensor, float, int], NDArray[np.int64]]
ROWS, GENERATIONS = 500, 200
SETTINGS = [  # dimension, clip norm, units: those of the shipped phases, of their coarsest and finest lattices, and odd ones
    (27, 0.1, 2**14),
    (324, 0.05, 2**14),
    (3, 0.06, 2**10),
    (3, 1.0, 2**20),
    (2, 1e-30, 2**14),
    (16, 1e30, 2**14),
    (1, 3.0, 1000),
]
EXTREMES = [1e-45, 1e-39, 1.1754944e-38, 1e-30, 3.4028235e38, float("inf"), float("nan"), -float("inf"), 0.0, -0.0]


def real(rows: Tensor, clip_norm: float, units: int) -> NDArray[np.int64]:
    """What the private sum does to one person's row."""
    return encode(clip_users(rows, clip_norm=clip_norm), clip_norm=clip_norm, clip_units=units)


def squares(whole: NDArray[np.int64]) -> list[int]:
    """Exact squared norms."""
    large = np.abs(whole).max(initial=0) >= 2**24
    if large:
        return [sum(int(value) ** 2 for value in row) for row in whole]
    return [int(value) for value in np.einsum("ij,ij->i", whole, whole)]  # below 2^63: exact


def on_the_bound(rng: np.random.Generator, dimension: int, units: int) -> NDArray[np.float64]:
    """Whole-number points of norm exactly ``units``: from rational points of the sphere, where they are fine enough."""
    rows = np.zeros((ROWS, dimension))
    for row in rows:
        a, b = sorted(int(n) for n in rng.integers(1, max(3, int(units**0.5)), 2))
        legs = (b * b - a * a, 2 * a * b, b * b + a * a)  # a right triangle, then the largest multiple that fits
        scale = units // max(1, legs[2])
        places = rng.permutation(dimension)[:2]
        row[places[0]] = scale * legs[0]
        row[places[-1]] = scale * legs[1] if dimension > 1 else units
    return rows


def first_rows(rng: np.random.Generator, dimension: int, clip_norm: float, units: int) -> Tensor:
    """A fifth of each family."""
    step = clip_norm / units
    directions = rng.standard_normal((ROWS, dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sizes = 10.0 ** rng.uniform(-3, 6, (ROWS, 1))
    families = [
        directions * clip_norm * (1 + rng.uniform(-1e-6, 1e-6, (ROWS, 1))),
        directions * clip_norm * sizes,
        on_the_bound(rng, dimension, units) * step * np.where(rng.random((ROWS, 1)) < 0.5, 1.0, sizes),
        np.rint(directions * units) * step * (1 + rng.integers(-2, 3, (ROWS, dimension)) * 2.0**-24),
        np.where(rng.random((ROWS, dimension)) < 0.3, rng.choice(EXTREMES, (ROWS, dimension)), directions * clip_norm),
    ]
    mixed = np.stack(families)[rng.integers(0, len(families), ROWS), np.arange(ROWS)]
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(mixed.astype(np.float32))


def bred(rows: Tensor, whole: NDArray[np.int64], rng: np.random.Generator, clip_norm: float, units: int) -> Tensor:
    """Rows a step further: up the gradient of the encoded norm, or to where truncation takes less away."""
    step = clip_norm / units
    clipped = clip_users(rows, clip_norm=clip_norm).double().numpy() / step
    gradient = whole / np.maximum(1.0, np.sqrt(np.einsum("ij,ij->i", whole, whole)))[:, None]
    missing = np.sign(clipped) * (np.ceil(np.abs(clipped)) - np.abs(clipped))  # to the next whole number
    kind = rng.integers(0, 4, (len(rows), 1))
    wanted = clipped + np.where(
        kind == 0,
        gradient * rng.uniform(0, 2, (len(rows), 1)),
        np.where(kind == 1, missing * (rng.random(clipped.shape) < 0.5), 0.0),
    )
    wanted = np.where(kind == 2, np.rint(clipped + rng.uniform(-0.7, 0.7, clipped.shape)), wanted)
    nudged = wanted * step * (1 + rng.integers(-3, 4, clipped.shape) * 2.0**-24)
    scaled = np.where(rng.random((len(rows), 1)) < 0.5, nudged, nudged * 10.0 ** rng.uniform(0, 6, (len(rows), 1)))
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(scaled.astype(np.float32))


def search(encoder: Encode, dimension: int, clip_norm: float, units: int, *, seed: int = 0) -> tuple[int, Tensor]:
    """Largest squared norm that 100,000 rows reach, and the last generation of rows."""
    rng = np.random.default_rng([seed, dimension, units])
    rows = first_rows(rng, dimension, clip_norm, units)
    whole = encoder(rows, clip_norm, units)
    best = squares(whole)
    for generation in range(1, GENERATIONS):
        fresh = generation % 20 == 0
        tried = first_rows(rng, dimension, clip_norm, units) if fresh else bred(rows, whole, rng, clip_norm, units)
        found = encoder(tried, clip_norm, units)
        reached = squares(found)
        further = np.array([new >= old for new, old in zip(reached, best, strict=True)])
        rows = torch.where(torch.from_numpy(further)[:, None], tried, rows)
        whole = np.where(further[:, None], found, whole)
        best = [max(pair) for pair in zip(reached, best, strict=True)]
    return max(best), rows


@pytest.mark.parametrize(("dimension", "clip_norm", "units"), SETTINGS)
def test_no_row_gets_past_the_bound(dimension: int, clip_norm: float, units: int) -> None:
    """And the search is a good one: it arrives at the bound, where only exact arithmetic can tell."""
    reached, rows = search(real, dimension, clip_norm, units)
    assert reached <= units**2
    assert reached >= units**2 * (1 - 1e-3)
    release = ReleasePlan(
        name="one", rounds=1, dimension=dimension, clip_norm=clip_norm, clip_units=units, variance=0, share_variance=0,
        trust=Trust.DISTRIBUTED, participation=Participation.full(), population=ROWS, min_survivors=1, rho="0",
    )  # fmt: skip
    others = from_ring(contribute(rows[100:], release, devices=ROWS, noise=lambda v, n: np.zeros(n, np.int64)))
    for person in range(0, 100, 4):  # one more row among others moves the sum by no more than it would alone
        both = torch.cat([rows[100:], rows[person : person + 1]])
        moved = from_ring(contribute(both, release, devices=ROWS, noise=lambda v, n: np.zeros(n, np.int64))) - others
        assert sum(int(value) ** 2 for value in moved) <= units**2


def rounded(rows: Tensor, clip_norm: float, units: int) -> NDArray[np.int64]:
    """A mutant: to the nearest whole number, the most natural way to write it."""
    return np.rint(clip_users(rows, clip_norm=clip_norm).double().numpy() / (clip_norm / units)).astype(np.int64)


def unchecked(rows: Tensor, clip_norm: float, units: int) -> NDArray[np.int64]:
    """A mutant: toward zero, but the bound taken on trust from floats."""
    return np.trunc(clip_users(rows, clip_norm=clip_norm).numpy() * np.float32(units / clip_norm)).astype(np.int64)


@pytest.mark.parametrize("mutant", [rounded, unchecked])
def test_the_search_finds_a_bound_that_is_taken_on_trust(mutant: Encode) -> None:
    assert max(search(mutant, *case)[0] - case[2] ** 2 for case in ((27, 0.1, 2**14), (3, 1.0, 2**20))) > 0


def test_the_exact_check_is_what_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clipping in float32 alone lets rows through that are above the bound in whole numbers; the path shrinks them."""
    reached, rows = search(unchecked, 3, 1.0, 2**20)
    assert reached > 2**40
    assert max(squares(real(rows, 1.0, 2**20))) <= 2**40
    monkeypatch.setattr(path, "clip_users", lambda rows, clip_norm: rows)  # and without any clipping, too
    release = ReleasePlan(
        name="one", rounds=1, dimension=3, clip_norm=1.0, clip_units=2**20, variance=0, share_variance=0,
        trust=Trust.DISTRIBUTED, participation=Participation.full(), population=1, min_survivors=1, rho="0",
    )  # fmt: skip
    for row in torch.nan_to_num(rows[:50] * 1e20):
        alone = contribute(row[None], release, devices=1, noise=lambda v, n: np.zeros(n, np.int64))
        assert squares(from_ring(alone)[None])[0] <= 2**40
