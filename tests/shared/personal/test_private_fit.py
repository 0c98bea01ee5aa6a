"""The posterior: Gaussian conditioning on sums alone, under whatever backbone there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from homespun.personal import (
    Backbone,
    BlockSum,
    PublicMoments,
    Records,
    private_adapter,
    private_gate,
    record_dimension,
    record_rows,
    release_block,
)
from homespun.personal import private_fit as module
from homespun.personal.private import block_integers, make_sketch
from homespun.privacy import NoiseStream
from homespun.privacy.record_plan import RecordPlan, build_record_plan

DIM = 7
ITEMS = 300


@pytest.fixture(scope="module")
def public() -> PublicMoments:
    shape = torch.linspace(0.5, 0.1, DIM)
    return PublicMoments(covariance=torch.diag(shape**2), mean=torch.zeros(DIM), floor=torch.zeros(DIM))


def plan_of(epsilon: float, blocks: tuple[int, ...] = (5, 5)) -> RecordPlan:
    return build_record_plan(epsilon, 1e-5, record_dimension(DIM), blocks=blocks)


def people(backbone: Backbone, tastes: torch.Tensor, *, places: int, votes: bool = False, seed: int = 0) -> Records:
    """People of given tastes, shape ``(users, dim)``, answering about texts that are as the public ones."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(ITEMS, DIM, generator=draw) * torch.linspace(0.5, 0.1, DIM) / 2**0.5
    first, second = (torch.randint(ITEMS, (len(tastes), places), generator=draw, dtype=torch.int32) for _ in "ab")
    records = Records(
        features=features, first=first, second=second, answer=torch.ones(first.shape),
        tier=torch.ones(first.shape, dtype=torch.int8), votes=votes,
    )  # fmt: skip
    score = torch.einsum("upd,ud->up", records.differences(torch.zeros(DIM)), backbone.w + tastes)
    return replace(records, answer=torch.where(torch.rand(score.shape, generator=draw) < score.sigmoid(), 1.0, -1.0))


def released(
    backbone: Backbone, public: PublicMoments, plan: RecordPlan, records: Records, seed: int = 0
) -> list[BlockSum]:
    sums, start = [], 0
    for block, size in enumerate(plan.sizes(records.places)):
        rows = record_rows(backbone, public, plan, records.between(start, start + size))
        sums.append(release_block(rows, plan, block=block, noise=NoiseStream.seeded(seed, block)))
        start += size
    return sums


def tastes_of(backbone: Backbone, users: int, seed: int = 5) -> torch.Tensor:
    draw = torch.randn(users, backbone.prior.shape[0], generator=torch.Generator().manual_seed(seed))
    return (draw * backbone.prior.sqrt()) @ backbone.basis.T


def alignment(backbone: Backbone, coefficients: torch.Tensor, tastes: torch.Tensor) -> float:
    """Correlation of fitted with true personal scores over public texts."""
    root = torch.diag(torch.linspace(0.5, 0.1, DIM))
    found, true = coefficients @ backbone.basis.T @ root, tastes @ root
    return float((found * true).sum() / (found.norm() * true.norm()))


def test_without_a_block_everybody_is_the_average_user(public: PublicMoments, some_backbone) -> None:
    backbone = some_backbone()
    adapter = private_adapter(backbone, public, [], users=3)
    assert (adapter.coefficients == 0).all()
    assert torch.allclose(adapter.covariance[0], torch.diag(module.TRUST * backbone.prior), atol=1e-6)
    assert not private_gate(backbone, public, [], users=3).any()


@pytest.mark.parametrize("votes", [False, True])
def test_the_posterior_is_exact_gaussian_conditioning(votes: bool, public: PublicMoments, some_backbone) -> None:
    """Written out the long way: all sums stacked into one vector, conditioned on as one joint Gaussian."""
    backbone, plan = some_backbone(), plan_of(2.0)
    blocks = released(backbone, public, plan, people(backbone, tastes_of(backbone, 6), places=20, votes=votes))
    response = [module._response(backbone, public, block) for block in blocks]
    slopes = torch.cat([block.size * slope for block, (_, slope, _) in zip(blocks, response, strict=True)])
    noise = torch.block_diag(*(
        block.noise_std**2 * torch.eye(plan.dimension).double() + block.size * (s - torch.outer(c, c) - j @ j.T)
        for block, (c, j, s) in zip(blocks, response, strict=True)
    ))  # fmt: skip
    seen = torch.cat([b.total - b.size * c for b, (c, _, _) in zip(blocks, response, strict=True)], dim=1)
    gain = slopes.T @ torch.linalg.inv(slopes @ slopes.T + noise)
    root = torch.cat([(module.TRUST * backbone.prior.double()).sqrt(), torch.ones(1).double()])
    mean = (seen @ gain.T * root)[:, :-1]
    covariance = ((torch.eye(4).double() - gain @ slopes) * root * root.unsqueeze(1))[:-1, :-1]
    adapter = private_adapter(backbone, public, blocks, users=6)
    assert torch.allclose(adapter.coefficients.double(), mean, atol=1e-5)
    assert torch.allclose(adapter.covariance[3].double(), covariance, atol=1e-5)


def test_the_expectations_are_those_of_people(public: PublicMoments, some_backbone) -> None:
    """Mean, slope and spread of a block against 20,000 people drawn from the prior that is trusted."""
    backbone = some_backbone(taste=2.0)
    plan = plan_of(8.0, blocks=(10,))
    tastes = tastes_of(replace(backbone, prior=module.TRUST * backbone.prior), 20_000)
    records = people(backbone, tastes, places=10)
    rows = record_rows(backbone, public, plan, records)
    sums = torch.from_numpy(block_integers(rows, plan)).double() * plan.step
    block = release_block(rows, plan, block=0, noise=NoiseStream.seeded(0))
    mean, slope, second = module._response(backbone, public, block)
    unit = (tastes @ backbone.basis).double() / (module.TRUST * backbone.prior.double()).sqrt()
    found = (sums - sums.mean(0)).T @ unit / len(unit) / 10
    assert torch.allclose(sums.mean(0) / 10, mean, atol=0.01)
    assert torch.allclose(found, slope[:, :-1], atol=0.015)
    spread = 10 * (second - torch.outer(mean, mean) - slope @ slope.T) + 100 * slope @ slope.T
    scale = spread.diagonal()[:3].sqrt()
    error = ((torch.cov(sums.T) - spread)[:3, :3] / scale / scale.unsqueeze(1)).abs()
    assert float(error.max()) < 0.1


def test_less_noise_and_more_records_bring_an_adapter_nearer_to_the_taste(public: PublicMoments, some_backbone) -> None:
    backbone = some_backbone(taste=8.0)
    tastes = tastes_of(backbone, 200)
    records = people(backbone, tastes, places=160)
    by_epsilon = [
        alignment(backbone, _fit(backbone, public, plan_of(epsilon, (160,)), records), tastes)
        for epsilon in (0.3, 2.0, 30.0)
    ]
    assert by_epsilon == sorted(by_epsilon)
    assert by_epsilon[0] > 0.2
    assert by_epsilon[-1] > 0.9  # nearly no noise: nearly the taste
    by_count = [
        alignment(backbone, _fit(backbone, public, plan_of(4.0), records.between(0, n)), tastes) for n in (5, 40, 160)
    ]
    assert by_count == sorted(by_count)


def _fit(backbone: Backbone, public: PublicMoments, plan: RecordPlan, records: Records) -> torch.Tensor:
    sums = released(backbone, public, plan, records)
    return private_adapter(backbone, public, sums, users=records.users).coefficients


def test_old_sums_serve_a_new_backbone(public: PublicMoments, some_backbone) -> None:
    """Another ``w`` and a turned basis: nothing is asked of the person again, and next to nothing is lost."""
    old = some_backbone(taste=8.0)
    tastes = tastes_of(old, 300)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(9)))[0]
    records = people(old, tastes, places=80)
    plan = plan_of(8.0, (80,))
    sums = released(old, public, plan, records)
    before = alignment(old, private_adapter(old, public, sums, users=300).coefficients, tastes)

    # The same tastes in other coordinates: the same adapter, exactly.
    even = replace(old, prior=torch.full((3,), 4.0))
    turned = replace(even, basis=even.basis @ turn)
    plain, other = (private_adapter(b, public, sums, users=300).coefficients @ b.basis.T for b in (even, turned))
    assert torch.allclose(plain, other, atol=1e-4)

    # Sums that were taken around a wrong average user: the new backbone knows the right one.
    wrong = replace(old, w=old.w + 3 * torch.randn(DIM, generator=torch.Generator().manual_seed(3)))
    astray = released(wrong, public, plan, records)
    after = alignment(old, private_adapter(old, public, astray, users=300).coefficients, tastes)
    misread = [replace(block, w=old.w) for block in astray]  # as if nobody had kept what they were taken around
    lost = alignment(old, private_adapter(old, public, misread, users=300).coefficients, tastes)
    assert after > before - 0.08
    assert after > lost + 0.05

    # A backbone of another rank, blocks from before and after side by side.
    narrow = replace(old, basis=old.basis[:, :2], prior=old.prior[:2])
    mixed = [sums[0], released(narrow, public, plan, people(old, tastes, places=80, seed=1))[0]]
    both = private_adapter(old, public, mixed, users=300)
    assert alignment(old, both.coefficients, tastes) > before


def test_the_gate_knows_the_released_sums_and_nothing_else(public: PublicMoments, some_backbone) -> None:
    backbone, plan = some_backbone(taste=8.0), plan_of(4.0, (40,))
    sums = released(backbone, public, plan, people(backbone, tastes_of(backbone, 50), places=40))
    others = people(backbone, -tastes_of(backbone, 50), places=40, seed=7)
    copied = [replace(released(backbone, public, plan, others)[0], total=sums[0].total)]
    assert torch.equal(private_gate(backbone, public, sums, users=50), private_gate(backbone, public, copied, users=50))
    fits = [private_adapter(backbone, public, blocks, users=50).coefficients for blocks in (sums, copied)]
    assert torch.equal(*fits)


def test_the_gate_is_the_log_evidence_of_the_sums(public: PublicMoments, some_backbone) -> None:
    """Of choices, where no habit is in the way: two Gaussian densities, written out."""
    backbone, plan = some_backbone(taste=2.0), plan_of(4.0, (40,))
    (block,) = released(backbone, public, plan, people(backbone, tastes_of(backbone, 60), places=40))
    c, j, s = module._response(backbone, public, block)
    noise = block.noise_std**2 * torch.eye(plan.dimension).double() + 40 * (s - torch.outer(c, c) - j @ j.T)
    personal = torch.distributions.MultivariateNormal(40 * c, noise + 1600 * j @ j.T).log_prob(block.total)
    average = torch.distributions.MultivariateNormal(40 * c, noise).log_prob(block.total)
    gate = private_gate(backbone, public, [block], users=60)
    assert torch.equal(gate, personal > average)
    assert 0 < gate.sum() < 60


def test_the_gate_closes_on_people_without_a_taste(public: PublicMoments, some_backbone) -> None:
    backbone, plan = some_backbone(taste=8.0), plan_of(4.0, (80,))
    share = [
        private_gate(backbone, public, released(backbone, public, plan, people(backbone, tastes, places=80)), users=300)
        .float()
        .mean()
        for tastes in (torch.zeros(300, DIM), tastes_of(backbone, 300))
    ]
    assert share[0] < 0.2
    assert share[1] > 0.6


def test_agreeing_with_everything_is_not_a_taste(public: PublicMoments, some_backbone) -> None:
    backbone, plan = some_backbone(taste=4.0), plan_of(8.0, (80,))
    backbone = replace(backbone, w=torch.zeros(DIM))
    records = people(backbone, torch.zeros(200, DIM), places=80, votes=True)
    agreeable = replace(records, answer=torch.ones(records.answer.shape))
    sums = released(backbone, public, plan, agreeable)
    assert private_gate(backbone, public, sums, users=200).float().mean() < 0.4
    tastes = tastes_of(backbone, 200)
    voters = people(backbone, tastes, places=80, votes=True)
    fitted = private_adapter(backbone, public, released(backbone, public, plan, voters), users=200)
    assert alignment(backbone, fitted.coefficients, tastes) > 0.6


def test_people_are_independent(public: PublicMoments, some_backbone) -> None:
    backbone, plan = some_backbone(), plan_of(4.0)
    sums = released(backbone, public, plan, people(backbone, tastes_of(backbone, 5), places=20))
    alone = [replace(block, total=block.total[3:4]) for block in sums]
    whole = private_adapter(backbone, public, sums, users=5)
    single = private_adapter(backbone, public, alone, users=1)
    assert torch.allclose(whole.coefficients[3:4], single.coefficients, atol=1e-6)


@pytest.mark.parametrize("change", [lambda b: replace(b, total=b.total[:1]), lambda b: replace(b, w=b.w[:3])])
def test_blocks_of_others_are_refused(
    change: Callable[[BlockSum], BlockSum], public: PublicMoments, some_backbone
) -> None:
    backbone, plan = some_backbone(), plan_of(4.0)
    (block,) = released(backbone, public, plan, people(backbone, tastes_of(backbone, 2), places=5))
    with pytest.raises(ValueError, match="^Expected blocks of users=2"):
        private_adapter(backbone, public, [change(block)], users=2)


def test_the_sketch_looks_where_people_differ(public: PublicMoments, some_backbone) -> None:
    backbone, plan = some_backbone(), plan_of(2.0)
    sketch = make_sketch(backbone, public, plan)[:, :-1].double()
    power = torch.einsum("ij,jk,ik->", sketch, public.covariance.double(), sketch)
    assert float(power) == pytest.approx(16.0, rel=1e-4)  # LOUDNESS squared
    assert (sketch[3:] == 0).all()
    ratio = sketch[:3].norm(dim=1) / backbone.prior.double() ** 0.75
    assert torch.allclose(ratio, ratio[0].expand(3), rtol=1e-4)
