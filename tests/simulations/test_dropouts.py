"""Who drops out: coins by person, round and attempt, the same in either engine, and silence in front of a device."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from homespun.simulations import engine
from homespun.simulations.cell import Cell
from homespun.simulations.dropouts import STEPS, Dropouts, silencing
from homespun.simulations.grid import InProcessGrid
from homespun.wire.flower import in_process_identity

toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
PEOPLE = 40
COINS = Dropouts(seed=3, chance=0.4, people=PEOPLE)


def test_as_many_drop_out_as_are_asked_to_and_at_every_step() -> None:
    """100,000 people at a tenth: the counts of six binomials, each within five standard deviations."""
    steps = Dropouts(seed=0, chance=0.1, people=100_000).steps(0, 0)
    counts = np.bincount(steps, minlength=6)
    expected = np.array([2000.0] * 5 + [90_000.0])
    deviation = np.sqrt(expected * (1 - expected / 100_000))
    assert (abs(counts - expected) < 5 * deviation).all()


def test_coins_follow_from_seed_run_round_and_attempt_alone() -> None:
    again = Dropouts(seed=3, chance=0.4, people=PEOPLE)
    assert (COINS.steps(1, 2, 0) == again.steps(1, 2, 0)).all()
    others = [(0, 2, 0), (1, 1, 0), (1, 2, 1)]
    drawn = [COINS.steps(1, 2, 0), *(COINS.steps(*place) for place in others)]
    drawn.append(Dropouts(seed=4, chance=0.4, people=PEOPLE).steps(1, 2, 0))
    assert len({steps.tobytes() for steps in drawn}) == len(drawn)
    fewer = Dropouts(seed=3, chance=0.4, people=7).steps(1, 2, 0)  # a person's coin does not hang on who else is there
    assert (fewer == COINS.steps(1, 2, 0)[:7]).all()


def test_nobody_drops_out_at_chance_zero() -> None:
    assert (Dropouts(seed=0, chance=0.0, people=PEOPLE).steps(0, 0) == len(STEPS)).all()


def test_who_drops_out_after_the_masked_vector_left_is_in_the_sum() -> None:
    assert (COINS.contributing(0, 0) == (COINS.steps(0, 0) >= 3)).all()
    assert set(COINS.steps(0, 0)) == set(range(6))


@pytest.mark.parametrize("size", [1, 7, PEOPLE])
@pytest.mark.parametrize("attempt", [0, 1])
def test_cells_leave_out_whose_vector_would_not_arrive(size: int, attempt: int) -> None:
    """Of every cell size the same people: their vectors add up to those of the ones who stay, noise included."""
    plan, pairs, phases = toy["toy_plan"](PEOPLE, epsilon=float("inf")), toy["toy_pairs"](PEOPLE), toy["toy_phases"]()
    request = toy["toy_request"](plan, round=1, attempt=attempt)
    there = np.flatnonzero(COINS.contributing(0, 1, attempt))

    def total(people: Any, dropouts: Dropouts | None) -> tuple[list[int], int]:
        at_node = engine.contributors(people, phases, cell_size=size, seed=0, dropouts=dropouts)
        nodes = len(engine.members("vectorised", people.users, size))
        places = (type("Context", (), {"node_config": {"partition-id": place}})() for place in range(nodes))
        parts = [at_node(place).contribute(request) for place in places]
        return sum(part.vector.astype(object) for part in parts) % 2**32, sum(part.devices for part in parts)

    vector, devices = total(pairs, COINS)
    expected, _ = total(pairs.select(there.tolist()), None)
    assert devices == len(there) < PEOPLE
    assert list(vector) == list(expected)


def test_a_cell_adds_one_share_of_noise_for_each_who_stays() -> None:
    plan, pairs = toy["toy_plan"](PEOPLE), toy["toy_pairs"](PEOPLE)
    shares: list[int] = []
    share = plan["nudge"].share_variance

    def draw(variance: int, size: int) -> Any:
        shares.append(variance // share * (size // plan["nudge"].dimension))
        return np.zeros(size, np.int64)

    cell = Cell(pairs=pairs, phases=toy["toy_phases"](), noise=lambda run, round: draw, dropouts=COINS)
    answered = cell.contribute(toy["toy_request"](plan))
    assert sum(shares) == answered.devices == COINS.contributing(0, 0).sum()


def echo(message: Message, context: Any) -> Message:
    return Message(RecordDict({"here": ConfigRecord({"yes": True})}), reply_to=message)


def test_silence_begins_at_the_step_of_the_coin_and_lasts_for_the_round() -> None:
    app = ClientApp()
    for step in STEPS:
        app.train(step.removeprefix("train."))(echo)
    with in_process_identity() as flower:
        grid = InProcessGrid(silencing(app, COINS), PEOPLE, flower)
        nodes = list(grid.get_node_ids())
        for round_, attempt in ((0, 0), (0, 1), (1, 0)):
            about = RecordDict({"round": ConfigRecord({"run": 0, "round": round_, "attempt": attempt})})
            steps = COINS.steps(0, round_, attempt)
            for number, step in enumerate(STEPS):
                content = about if number == 0 else RecordDict({"step": ConfigRecord({"session": b"x"})})
                asked = [Message(content, dst_node_id=node, message_type=step) for node in nodes]
                replies = list(grid.send_and_receive(asked))
                assert [reply.has_error() for reply in replies] == [bool(number >= first) for first in steps]
                assert {reply.error.code for reply in replies if reply.has_error()} <= {5}


def test_a_plain_vector_is_lost_with_the_masked_one() -> None:
    app = ClientApp()
    app.train("contribute")(echo)
    about = RecordDict({"round": ConfigRecord({"run": 0, "round": 4, "attempt": 0})})
    with in_process_identity() as flower:
        grid = InProcessGrid(silencing(app, COINS), PEOPLE, flower)
        asked = [Message(about, dst_node_id=node, message_type="train.contribute") for node in grid.get_node_ids()]
        silent = [reply.has_error() for reply in grid.send_and_receive(asked)]
    assert silent == [not there for there in COINS.contributing(0, 4)]
