"""The released sums: bounded by record, noisy as planned, and each record in its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from homespun.personal import BlockSum, Pairs, PublicMoments, Records, choices_of, record_rows, release_block
from homespun.personal.private import RecordRows, block_integers, make_sketch, record_dimension
from homespun.privacy import NoiseStream
from homespun.privacy.record_plan import RecordPlan, build_record_plan

DIM = 7
ITEMS = 40


@pytest.fixture(scope="module")
def plan() -> RecordPlan:
    return build_record_plan(2.0, 1e-5, record_dimension(DIM))


@pytest.fixture(scope="module")
def public() -> PublicMoments:
    draw = torch.randn(300, DIM, generator=torch.Generator().manual_seed(1)) / 4
    return PublicMoments(covariance=draw.T @ draw / 300, mean=draw.mean(0), floor=torch.full((DIM,), 0.1))


def some_records(*, users: int, places: int, votes: bool = False, seed: int = 0, spread: float = 1.0) -> Records:
    draw = torch.Generator().manual_seed(seed)
    first = torch.randint(ITEMS, (users, places), generator=draw, dtype=torch.int32)
    return Records(
        features=torch.randn(ITEMS, DIM, generator=draw) * spread,
        first=first,
        second=(first + torch.randint(1, ITEMS, (users, places), generator=draw, dtype=torch.int32)) % ITEMS,
        answer=torch.randint(-1, 2, (users, places), generator=draw).float(),
        tier=torch.randint(1, 4, (users, places), generator=draw).to(torch.int8),
        votes=votes,
    )


def blanked(rows: RecordRows, place: int) -> RecordRows:
    values = rows.values.clone()
    values[:, place] = 0
    return replace(rows, values=values)


def moved(rows: RecordRows, plan: RecordPlan, place: int) -> np.ndarray[Any, Any]:
    """Squared distance in lattice steps by which blanking a place moves each person's exact sum."""
    difference = block_integers(rows, plan) - block_integers(blanked(rows, place), plan)
    squares: np.ndarray[Any, Any] = (difference**2).sum(axis=1)
    return squares


@pytest.mark.parametrize("votes", [False, True])
def test_record_sensitivity_by_adversarial_search(votes: bool, plan: RecordPlan, some_backbone) -> None:
    """10^5 tries: features, labels, backbone and sketch climb the gradient of the unclipped row, at every scale."""
    tries, places, bound = 100_000, 5, plan.clip_units**2
    worst = 0
    for seed, scale in enumerate((1e-3, 0.1, 1.0, 30.0, 1e12)):
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(tries // 5, places, DIM + 1, generator=draw)
        x[..., -1] = float(votes)
        w = torch.randn(DIM, generator=draw) * scale
        sketch = torch.randn(plan.dimension, DIM + 1, generator=draw) * scale
        answer = torch.randint(0, 2, x.shape[:2], generator=draw).float() * 2 - 1
        for _ in range(3):
            x.requires_grad_(True)
            row = (answer * torch.sigmoid(-answer * (x[..., :-1] @ w))).unsqueeze(-1) * (x @ sketch.T)
            (slope,) = torch.autograd.grad(row.clamp(-1e15, 1e15).square().sum(), x)
            with torch.no_grad():
                step = x + slope / slope.norm(dim=-1, keepdim=True).clamp(min=1e-12)
                x = step / step.norm(dim=-1, keepdim=True).clamp(min=1.0)
        with torch.no_grad():
            rows = RecordRows(
                values=(answer * torch.sigmoid(-answer * (x[..., :-1] @ w))).unsqueeze(-1) * (x @ sketch.T),
                sketch=sketch, w=w, votes=votes,
            )  # fmt: skip
        for place in range(places):
            worst = max(worst, int(moved(rows, plan, place).max()))
    assert worst <= bound
    assert worst > 0.999 * bound  # the search reached the bound, so it would have seen a higher one


def test_record_sensitivity_of_the_real_path(plan: RecordPlan, public: PublicMoments, some_backbone) -> None:
    """From features and labels to the sum, ``w`` and prior of every scale, choices and votes."""
    for votes in (False, True):
        for scale in (0.0, 1e-3, 1.0, 1e4, 1e15):
            backbone = some_backbone()
            backbone = replace(backbone, w=backbone.w * scale, prior=backbone.prior * scale)
            records = some_records(users=400, places=5, votes=votes, spread=min(scale, 1e4) + 0.1)
            whole = block_integers(record_rows(backbone, public, plan, records), plan)
            for place in range(5):  # the record is taken out before anything is computed: no other row may feel it
                without = {name: getattr(records, name).clone() for name in ("first", "second", "answer", "tier")}
                for part in without.values():
                    part[:, place] = 0
                rest = block_integers(record_rows(backbone, public, plan, replace(records, **without)), plan)
                assert ((whole - rest) ** 2).sum(axis=1).max() <= plan.clip_units**2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_rows_count_as_blank(value: float, plan: RecordPlan) -> None:
    values = torch.randn(3, 5, plan.dimension, generator=torch.Generator().manual_seed(0))
    rows = RecordRows(values=values, sketch=torch.zeros(plan.dimension, DIM + 1), w=torch.zeros(DIM), votes=False)
    bad = values.clone()
    bad[:, 2, 4] = value
    assert (block_integers(replace(rows, values=bad), plan) == block_integers(blanked(rows, 2), plan)).all()


def test_non_finite_features_count_as_blank(plan: RecordPlan, public: PublicMoments, some_backbone) -> None:
    records = some_records(users=50, places=5)
    features = records.features.clone()
    features[3] = float("nan")
    broken = replace(records, features=features)
    touched = (records.first == 3) | (records.second == 3)
    blank = replace(records, answer=torch.where(touched, 0.0, records.answer))
    assert touched.any()
    sums = [block_integers(record_rows(some_backbone(), public, plan, part), plan) for part in (broken, blank)]
    assert (sums[0] == sums[1]).all()


@pytest.mark.parametrize("votes", [False, True])
def test_blanks_keep_their_place(votes: bool, plan: RecordPlan, public: PublicMoments, some_backbone) -> None:
    """A tie, a tier-3 text, an erased record: zero, and nobody else moves to another block."""
    backbone = some_backbone()
    records = some_records(users=6, places=10, votes=votes)
    records = replace(records, answer=torch.ones(6, 10), tier=torch.ones(6, 10, dtype=torch.int8))
    whole = record_rows(backbone, public, plan, records).values
    for change in ({"answer": records.answer.clone()}, {"tier": records.tier.clone()}):
        for name, value in change.items():
            value[:, 3] = 0 if name == "answer" else 3
        rows = record_rows(backbone, public, plan, replace(records, **change)).values
        others = [place for place in range(10) if place != 3]
        assert (rows[:, 3] == 0).all()
        assert torch.equal(rows[:, others], whole[:, others])
        second = record_rows(backbone, public, plan, replace(records, **change).between(5, 10))
        assert torch.allclose(second.values, whole[:, 5:], rtol=1e-5)


def test_rows_are_the_clipped_gradient_at_the_average_user(
    plan: RecordPlan, public: PublicMoments, some_pairs, some_backbone, differences
) -> None:
    backbone, pairs = some_backbone(), some_pairs(users=5, pairs=5, tiers=(1,))
    rows = record_rows(backbone, public, plan, choices_of(pairs))
    x = differences(pairs)
    chance = torch.sigmoid(-(x @ backbone.w.double())) * (pairs.weight > 0)
    wanted = chance.unsqueeze(-1) * (x @ rows.sketch[:, :-1].double().T)
    assert torch.allclose(rows.values.double(), wanted, atol=1e-5)
    length = wanted.norm(dim=-1, keepdim=True).clamp(min=1.0)
    exact = (wanted / length).sum(1) * plan.clip_units
    assert np.abs(block_integers(rows, plan) - exact.numpy()).max() <= pairs.chosen.shape[1] * (1 + 1e-2)
    assert (rows.values[..., -1] == 0).all()  # a choice says nothing about a habit of agreeing


def test_a_vote_and_its_opposite(plan: RecordPlan, public: PublicMoments, some_backbone) -> None:
    records = some_records(users=4, places=5, votes=True, spread=0.3)
    records = replace(records, answer=torch.ones(4, 5), tier=torch.ones(4, 5, dtype=torch.int8))
    agree, disagree = (
        record_rows(some_backbone(), public, plan, replace(records, answer=sign * records.answer)).values
        for sign in (1.0, -1.0)
    )
    assert (agree[..., -1] > 0).all() and (disagree[..., -1] < 0).all()
    with_intercept = record_rows(some_backbone(), public, plan, records).sketch[:, -1]
    x = records.features[records.first.long()] - public.mean
    seen = x / x.norm(dim=-1, keepdim=True).clamp(min=1) @ make_sketch(some_backbone(), public, plan)[:, :-1].T
    assert torch.allclose(agree - disagree, seen + with_intercept, atol=1e-5)  # the residuals of yes and no add to 1


def test_the_noise_is_what_was_planned(plan: RecordPlan, public: PublicMoments, some_backbone) -> None:
    records = some_records(users=4000, places=5)
    rows = record_rows(some_backbone(), public, plan, records)
    exact = block_integers(rows, plan)
    released = release_block(rows, plan, block=0, noise=NoiseStream.seeded(3))
    noise = released.total.numpy() / plan.step - exact
    assert np.abs(noise - noise.round()).max() < 1e-6  # on the lattice
    count = noise.size
    assert abs(noise.mean()) < 4 * (plan.variance / count) ** 0.5
    assert abs(noise.var() / plan.variance - 1) < 4 * (2 / count) ** 0.5
    correlation = np.corrcoef(noise.T) - np.eye(plan.dimension)
    assert np.abs(correlation).max() < 5 / len(noise) ** 0.5
    assert released.noise_std == pytest.approx(plan.noise_multiplier * plan.clip_norm)
    again = release_block(rows, plan, block=0, noise=NoiseStream.seeded(4))
    assert not torch.equal(again.total, released.total)


def test_a_block_is_released_whole_or_not_at_all(plan: RecordPlan, public: PublicMoments, some_backbone) -> None:
    rows = record_rows(some_backbone(), public, plan, some_records(users=2, places=4))
    with pytest.raises(ValueError, match="places=4 to be 5"):
        release_block(rows, plan, block=0, noise=NoiseStream.seeded(0))
    other = build_record_plan(2.0, 1e-5, plan.dimension + 1)
    five = record_rows(some_backbone(), public, plan, some_records(users=2, places=5))
    with pytest.raises(ValueError, match="Expected dimension="):
        release_block(five, other, block=0, noise=NoiseStream.seeded(0))


def test_rows_are_independent(plan: RecordPlan, public: PublicMoments, some_backbone) -> None:
    """One person on a device and the same person in a batch release the same."""
    records = some_records(users=9, places=5)
    whole = block_integers(record_rows(some_backbone(), public, plan, records), plan)
    alone = [
        block_integers(record_rows(some_backbone(), public, plan, records.select(slice(u, u + 1))), plan)
        for u in range(9)
    ]
    assert np.abs(whole - np.concatenate(alone)).max() <= 1  # float32 products in another order, then truncation


def test_round_trip_and_refusals(plan: RecordPlan, public: PublicMoments, some_backbone) -> None:
    rows = record_rows(some_backbone(), public, plan, some_records(users=1, places=5, votes=True))
    block = release_block(rows, plan, block=0, noise=NoiseStream())
    again = BlockSum.read(block.tensors(), block.facts())
    assert (again.size, again.votes, again.noise_std) == (5, True, block.noise_std)
    assert all(torch.equal(again.tensors()[name], tensor) for name, tensor in block.tensors().items())
    for change in ({"total": torch.zeros(1, 3)}, {"w": torch.full((DIM,), float("nan"))}, {"more": torch.zeros(1)}):
        with pytest.raises(ValueError, match="^Expected"):
            BlockSum.read({**block.tensors(), **change}, block.facts())


def test_nothing_private_is_shown(plan: RecordPlan, public: PublicMoments, some_pairs, some_backbone) -> None:
    pairs: Pairs = some_pairs(users=1, pairs=5)
    records = choices_of(pairs)
    rows = record_rows(some_backbone(), public, plan, records)
    block = release_block(rows, plan, block=0, noise=NoiseStream())
    for thing in (records, rows, block, public):
        assert "tensor" not in repr(thing)


def test_a_backbone_without_differences_releases_noise_alone(plan: RecordPlan, public: PublicMoments, some_backbone):
    flat = some_backbone()
    flat = replace(flat, prior=torch.zeros_like(flat.prior))
    assert (block_integers(record_rows(flat, public, plan, some_records(users=3, places=5)), plan) == 0).all()
