"""Private adapters in a simulation: what they keep, what they are made of, and what a run says of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from homespun.personal import Adapter, Backbone, Pairs, TierCaps, choices_of, fit, predict
from homespun.privacy import compose
from homespun.privacy.record_plan import build_record_plan
from homespun.simulations.evaluation import correct, per_person
from homespun.simulations.options import Options
from homespun.simulations.record_adapters import adapter_statement, asked_plan, private_adapters, record_plans
from homespun.simulations.summary import _kept, _resample
from homespun.simulations.training import Course, FoldData, fold_data, plan_course
from homespun.simulations.world import World, prepare

OPTIONS = Options(seed=100, users=1200, epsilon=math.inf, shots=(0, 5, 40))


@pytest.fixture(scope="module")
def world() -> World:
    return prepare(OPTIONS)


@pytest.fixture(scope="module")
def fold(world: World) -> FoldData:
    return next(fold_data(world, OPTIONS))


@pytest.fixture(scope="module")
def course(world: World, fold: FoldData) -> Course:
    return plan_course(world, [fold], OPTIONS)


@pytest.fixture(scope="module")
def backbone(fold: FoldData, course: Course) -> Backbone:
    """The run's own phases on everybody's data, without noise or Flower."""
    state = course.initial
    for phase in course.phases.values():
        state = phase.update(state, phase.statistic(state, fold.seen, 0).double().mean(0), 0.0, 0)
    return state


def accuracy(backbone: Backbone, adapter: Adapter, test: Pairs) -> torch.Tensor:
    return per_person(correct(predict(backbone, adapter, test, caps=TierCaps()).total), test)


@pytest.fixture(scope="module")
def kept(fold: FoldData, course: Course, backbone: Backbone) -> Mapping[str, float]:
    """Share of the exact adapter's gain at 40 labels."""
    evidence = fold.evidence
    exact = fit(backbone, evidence.shots[40])
    base = accuracy(backbone, replace(exact, coefficients=torch.zeros_like(exact.coefficients)), evidence.test)
    gain = float((accuracy(backbone, exact, evidence.test) - base).mean())
    assert gain > 0.04
    found = {}
    for name, epsilon, blocks in (("1", 1.0, (40,)), ("2", 2.0, (40,)), ("4", 4.0, (40,)), ("blocks", 2.0, (5, 5))):
        plan = build_record_plan(epsilon, 1e-5, course.geometry.dim + 1, blocks=blocks)
        own = torch.stack([
            accuracy(backbone, private_adapters(backbone, course.public, evidence, plan, seed=s, fold=0)[40], evidence.test)
            for s in range(3)
        ])  # fmt: skip
        found[name] = float((own.mean(0) - base).mean()) / gain
    return found


def test_private_adapters_keep_most_of_the_gain(kept: Mapping[str, float]) -> None:
    """Margins of two standard errors below the figures of docs/design/07-private-adapters.md."""
    assert kept["1"] > 0.52
    assert kept["2"] > 0.68
    assert kept["4"] > 0.77
    assert kept["blocks"] > 0.54
    assert kept["1"] < kept["2"] < kept["4"] < 1.05
    assert kept["blocks"] < kept["2"]


def test_the_records_are_the_labels_of_the_shots(fold: FoldData) -> None:
    """The first n places are the n labels that the exact adapter sees, in whatever order."""
    records = fold.evidence.records
    for n in (5, 40):
        pairs = choices_of(fold.evidence.shots[n])
        for person in range(0, records.users, 37):
            mine = zip(records.first[person, :n].tolist(), records.second[person, :n].tolist(), strict=True)
            theirs = zip(pairs.first[person].tolist(), pairs.second[person].tolist(), strict=True)
            assert sorted(mine) == sorted(theirs)
    assert records.places == 40
    assert (records.answer == 1).all()


def test_an_adapter_knows_the_blocks_that_its_labels_fill(fold: FoldData, course: Course, backbone: Backbone) -> None:
    plan = record_plans(OPTIONS, course.geometry.dim)["private_8"]
    evidence = replace(fold.evidence, shots=dict.fromkeys((0, 4, 5, 9, 40)))  # numbers of shots alone are read
    made = private_adapters(backbone, course.public, evidence, plan, seed=1, fold=0)
    assert (made[0].coefficients == 0).all() and (made[4].coefficients == 0).all()
    assert torch.equal(made[5].coefficients, made[9].coefficients)
    later = evidence.records.answer.clone()
    later[:, 5:] = 0  # what comes later changes nothing before
    changed = replace(evidence, records=replace(evidence.records, answer=later))
    again = private_adapters(backbone, course.public, changed, plan, seed=1, fold=0)
    assert torch.equal(again[5].coefficients, made[5].coefficients)
    assert not torch.equal(again[40].coefficients, made[40].coefficients)


def test_folds_and_epsilons_do_not_share_noise(fold: FoldData, course: Course, backbone: Backbone) -> None:
    def fitted(name: str, fold_number: int) -> torch.Tensor:
        plan = record_plans(OPTIONS, course.geometry.dim)[name]
        silent = replace(
            fold.evidence, records=replace(fold.evidence.records, answer=torch.zeros_like(fold.evidence.records.answer))
        )
        return private_adapters(backbone, course.public, silent, plan, seed=1, fold=fold_number)[40].coefficients

    one, other, quieter = fitted("private_1", 0), fitted("private_1", 1), fitted("private_8", 0)
    for second in (other, quieter):
        assert abs(float(torch.corrcoef(torch.stack([one.flatten(), second.flatten()]))[0, 1])) < 0.1


def test_the_statement_holds_what_an_epsilon_needs() -> None:
    told = adapter_statement(Options(adapter_privacy="record:3"), 25, {})
    plan = asked_plan(Options(adapter_privacy="record:3"), 25)
    assert plan is not None
    assert told["epsilon"] == compose([plan.event], delta=1e-5).epsilon <= 3
    assert (told["mode"], told["privacy_unit"], told["neighboring_relation"]) == ("record:3", "record", "zero-out")
    assert told["crosscheck"]["epsilon"] <= told["epsilon"]
    assert adapter_statement(Options(adapter_privacy="exact"), 25, {})["epsilon"] is None
    assert set(record_plans(Options(adapter_privacy="record:3"), 25)) - set(record_plans(OPTIONS, 25)) == {"private"}


def test_the_share_kept_is_of_a_gain_that_is_there() -> None:
    draw = torch.Generator().manual_seed(0)
    exact = 0.08 + 0.1 * torch.randn(400, generator=draw)
    private = 0.75 * exact + 0.02 * torch.randn(400, generator=draw)
    gains = torch.stack([private, exact])
    share = _kept(gains, _resample(gains, seed=0))
    assert share is not None
    assert share["low"] < 0.75 < share["high"]
    assert share["high"] - share["low"] < 0.12  # paired: far narrower than the gains themselves
    nothing = torch.stack([private, 0.1 * torch.randn(400, generator=draw)])
    assert _kept(nothing, _resample(nothing, seed=0)) is None


def test_the_share_kept_is_a_number_where_few_people_gain() -> None:
    """Among few people some resamples hold nobody who gains: zero of zero is no share, and no NaN in a report."""
    gains = torch.tensor([[0.1, 0.1, 0.1, 0.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.0, 0.0, 0.0]])
    means = _resample(gains, seed=0)
    assert (means[1] == 0).any()
    share = _kept(gains, means)
    assert share == pytest.approx({"mean": 0.5, "low": 0.5, "high": 0.5})
