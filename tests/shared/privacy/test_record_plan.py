from __future__ import annotations

from dataclasses import replace

import pytest

from homespun.privacy import Relation, Unit, compose, continuous_equivalent
from homespun.privacy.record_plan import RecordPlan, build_record_plan

DELTA = 1e-5


@pytest.fixture(scope="module")
def plan() -> RecordPlan:
    return build_record_plan(2.0, DELTA, 25)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 2.0, 4.0, 8.0])
def test_the_noise_proves_the_epsilon_and_wastes_little(epsilon: float) -> None:
    plan = build_record_plan(epsilon, DELTA, 25)
    proven = compose([plan.event], delta=DELTA).epsilon
    assert epsilon - 1e-3 < proven <= epsilon
    check, _ = continuous_equivalent([plan.event], delta=DELTA)
    assert 0.85 * epsilon < check <= proven
    assert (plan.event.count, plan.event.dimension, plan.event.sampling_probability) == (1, 25, None)


def test_a_plan_that_promises_more_than_it_proves_cannot_be_made(plan: RecordPlan) -> None:
    for change in ({"variance": plan.variance // 2}, {"epsilon": 1.9}, {"clip_units": 2 * plan.clip_units}):
        with pytest.raises(ValueError, match="Expected noise that proves"):
            replace(plan, **change)
    with pytest.raises(ValueError, match="Expected noise that proves"):
        RecordPlan.from_dict({**plan.to_dict(), "variance": plan.variance - plan.variance // 10})


def test_blocks_double(plan: RecordPlan) -> None:
    assert [plan.size(block) for block in range(6)] == [5, 5, 10, 20, 40, 80]
    assert plan.sizes(0) == plan.sizes(4) == ()
    assert plan.sizes(40) == plan.sizes(79) == (5, 5, 10, 20)
    once = build_record_plan(2.0, DELTA, 25, blocks=(40,))
    assert once.sizes(40) == (40,)
    assert once.sizes(120) == (40, 80)


@pytest.mark.parametrize("blocks", [(5, 5), (1,), (40,), (3, 2, 7)])
def test_every_record_lies_in_exactly_one_block_whatever_the_arrivals(blocks: tuple[int, ...]) -> None:
    plan = build_record_plan(2.0, DELTA, 25, blocks=blocks)
    seen = [plan.place(record) for record in range(500)]
    assert len(set(seen)) == 500
    for arrived in (1, 2, 5, 9, 10, 11, 40, 41, 77, 300):
        full = plan.sizes(arrived)
        inside = [record for record in range(arrived) if plan.place(record)[0] < len(full)]
        assert inside == list(range(sum(full)))  # blocks follow on each other without gap or overlap
        for block, size in enumerate(full):
            assert [place for found, place in seen[:arrived] if found == block] == list(range(size))
    for more in range(1, 200):  # what was full stays full, with the same records in it
        assert plan.sizes(more)[: len(plan.sizes(more - 1))] == plan.sizes(more - 1)


def test_round_trip(plan: RecordPlan) -> None:
    content = plan.to_dict()
    assert RecordPlan.from_dict(content) == plan
    assert not any(isinstance(value, float) for value in content.values())
    assert (content["unit"], content["relation"]) == ("record", "zero-out")
    assert (plan.unit, plan.relation) == (Unit.RECORD, Relation.ZERO_OUT)


@pytest.mark.parametrize(
    "change", [{"unit": "device"}, {"relation": "add-or-remove"}, {"version": 2}, {"more": 1}, {"blocks": [0]}]
)
def test_other_content_is_refused(plan: RecordPlan, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="^Expected"):
        RecordPlan.from_dict({**plan.to_dict(), **change})


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ((0.0, DELTA, 25), "epsilon=0.0"),
        ((float("inf"), DELTA, 25), "epsilon=inf"),
        ((float("nan"), DELTA, 25), "epsilon=nan"),
        ((100.0, DELTA, 25), "epsilon=100.0 small enough"),
        ((1e-3, DELTA, 25), "epsilon=0.001 large enough"),
        ((2.0, 0.0, 25), "delta=0.0"),
        ((2.0, DELTA, 0), "dimension=0"),
    ],
)
def test_what_cannot_be_promised_is_refused(given: tuple[float, float, int], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        build_record_plan(*given)
