"""One person a node, or many: the same sums, the same backbone."""

import dataclasses
import itertools
import logging
import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from homespun.personal import Backbone, Pairs
from homespun.privacy import NoiseStream, Plan, Trust, contribute
from homespun.server.coordinator import RoundReport, Training
from homespun.simulations import cell as cells
from homespun.simulations import devices, engine, training, world
from homespun.simulations.cell import Cell
from homespun.simulations.dropouts import Dropouts
from homespun.simulations.grid import InProcessGrid
from homespun.simulations.options import Options
from homespun.wire.flower import in_process_identity

toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
PEOPLE = 23


def shares(plan: Plan, schedule: list[str], first: int, dropouts: Dropouts) -> Callable[..., Any]:
    """Noise of people from ``first`` on, such that a cell draws the sum of what its devices would draw alone."""

    def at(run: int, round_: int, attempt: int = 0) -> Callable[[int, int], Any]:
        share = plan[schedule[round_]].share_variance
        person = (first + n for n in np.flatnonzero(dropouts.contributing(run, round_, attempt)[first:]))

        def draw(variance: int, size: int) -> Any:
            dimension = plan[schedule[round_]].dimension
            pieces, together = size // dimension, variance // share
            assert (pieces * dimension, together * share) == (size, variance)
            rows = np.zeros((pieces, dimension), np.int64)
            for row, _ in itertools.product(rows, range(together)):
                source = np.random.default_rng([run, round_, next(person)])
                row += np.rint(source.normal(0, share**0.5, dimension)).astype(np.int64)
            return rows.reshape(-1)

        return draw

    return at


def silence(run: int, round_: int, attempt: int = 0) -> Callable[[int, int], Any]:
    """For plans without noise: nothing may be drawn."""

    def draw(variance: int, size: int) -> Any:
        raise AssertionError("noise was drawn")

    return draw


@dataclasses.dataclass
class Rounds:
    """What one run of an engine released."""

    states: list[Backbone]
    devices: list[int]
    messages: list[int]
    attempts: list[int]


def run(
    course: Any,
    pairs: Pairs,
    folder: Path,
    *,
    size: int,
    epsilon_inf: bool = False,
    of: Any = None,
    dropout: float = 0.0,
) -> Rounds:
    """Train over nodes of ``size`` people, with noise that does not depend on the nodes.

    Where ``size`` is 1 a node is a Device, and vectors are masked if the plan's trust is distributed.
    """
    members = engine.members("vectorised", pairs.users, size)
    plan, phases, initial = course
    dropouts = Dropouts(seed=5, chance=dropout, people=pairs.users)
    faithful = size == 1 and of is None
    masked = faithful and plan.spec.trust is Trust.DISTRIBUTED
    schedule = [p.name for p in phases.values() for _ in range(p.rounds)]
    reports: list[RoundReport[Backbone]] = []

    def noise(place: int) -> Any:
        return silence if epsilon_inf else shares(plan, schedule, place * size, dropouts)

    def cell(context: Any) -> Any:
        place = int(context.node_config["partition-id"])
        people = pairs.select(slice(place * size, (place + 1) * size))
        return Cell(pairs=people, phases=phases, noise=noise(place), dropouts=dropouts, first=place * size)

    task = Training(
        plan=plan,
        phases=tuple(phases.values()),
        initial=initial,
        members=members,
        roster=devices.roster(pairs.users, seed=0) if masked else None,
        noise=lambda run, round_: NoiseStream.seeded(0, run, round_),
    )
    folder.mkdir()
    at_node = cell
    if faithful:
        at_node = devices.simulated_devices(folder, plan, pairs, phases, seed=0, noise=noise)
    with toy["toy_ledger"](folder, plan) as ledger:
        engine.train(
            task,
            at_node,
            ledger,
            folder / "checkpoints",
            engine="vectorised",
            observe=reports.append,
            dropouts=dropouts if faithful else None,
        )
    return Rounds(
        states=[report.state for report in reports],
        devices=[report.checkpoint.devices for report in reports],
        messages=[report.checkpoint.messages for report in reports],
        attempts=[report.checkpoint.attempts for report in reports],
    )


def toy_course(people: int, epsilon: float, **of_plan: Any) -> Any:
    initial = toy["average_user"](toy["DIM"], toy["DIM"], projection="0" * 64)
    return toy["toy_plan"](people, epsilon=epsilon, **of_plan), toy["toy_phases"](), initial


def assert_same(first: Rounds, second: Rounds, tolerance: float = 1e-5) -> None:
    """Round by round. A basis is defined up to turns within equal variances, so what it means is compared."""
    assert len(first.states) == len(second.states) > 1
    for a, b in zip(first.states, second.states, strict=True):
        assert torch.allclose(a.w, b.w, atol=tolerance, rtol=0)
        assert torch.allclose(a.prior, b.prior, atol=tolerance, rtol=0)
        assert torch.allclose(a.scaled_basis @ a.scaled_basis.T, b.scaled_basis @ b.scaled_basis.T, atol=tolerance)
    assert first.devices == second.devices


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Rounds]:
    """What devices release together, by epsilon; nobody drops out."""
    folder, pairs = tmp_path_factory.mktemp("masked"), toy["toy_pairs"](PEOPLE)
    return {
        epsilon: run(toy_course(PEOPLE, epsilon), pairs, folder / f"{epsilon}", size=1, epsilon_inf=epsilon > 2)
        for epsilon in (2.0, float("inf"))
    }


@pytest.mark.parametrize("epsilon", [2.0, float("inf")])
@pytest.mark.parametrize("size", [2, 7, 16, PEOPLE])
def test_faithful_and_vectorised_release_the_same(
    size: int, epsilon: float, masked: dict[float, Rounds], tmp_path: Path
) -> None:
    course, pairs, quiet = toy_course(PEOPLE, epsilon), toy["toy_pairs"](PEOPLE), epsilon == float("inf")
    faithful = masked[epsilon]
    vectorised = run(course, pairs, tmp_path / "v", size=size, epsilon_inf=quiet)
    assert_same(faithful, vectorised)
    assert faithful.messages == [PEOPLE] * 3
    assert vectorised.messages == [-(-PEOPLE // size)] * 3
    moved = faithful.states[-1].w.norm()
    assert moved > 1e-3  # not equal because nothing happened


@pytest.mark.parametrize("epsilon", [2.0, float("inf")])
@pytest.mark.parametrize("trust", list(Trust))
def test_engines_lose_the_same_people(epsilon: float, trust: Trust, tmp_path: Path) -> None:
    """Masks come off, whoever drops out at whichever step, and what is left is what cells sum."""
    course, pairs = toy_course(PEOPLE, epsilon, trust=trust, min_survivors=14), toy["toy_pairs"](PEOPLE)
    quiet = epsilon == float("inf")
    faithful = run(course, pairs, tmp_path / "f", size=1, epsilon_inf=quiet, dropout=0.3)
    vectorised = run(course, pairs, tmp_path / "v", size=7, epsilon_inf=quiet, dropout=0.3)
    assert_same(faithful, vectorised)
    steps = [Dropouts(seed=5, chance=0.3, people=PEOPLE).steps(0, round_) for round_ in range(3)]
    assert {int(step) for row in steps for step in row} == set(range(6))  # somebody was lost at every step
    assert faithful.devices == [int((row >= 3).sum()) for row in steps]
    assert faithful.attempts == [1, 1, 1]
    everybody = run(course, pairs, tmp_path / "e", size=7, epsilon_inf=quiet)
    assert (everybody.states[-1].w - vectorised.states[-1].w).norm() > 1e-3


def test_the_noise_is_in_it(masked: dict[float, Rounds]) -> None:
    assert (masked[2.0].states[0].w - masked[float("inf")].states[0].w).norm() > 1e-2


def test_a_cell_of_one_is_a_device(masked: dict[float, Rounds], tmp_path: Path) -> None:
    course, pairs = toy_course(PEOPLE, 2.0), toy["toy_pairs"](PEOPLE)
    cell = run(course, pairs, tmp_path / "c", size=1, of=Cell)
    assert_same(masked[2.0], cell)  # a device keeps the features of its own items only, and so sums in another order


def test_chunks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course, pairs = toy_course(PEOPLE, 2.0), toy["toy_pairs"](PEOPLE)
    whole = run(course, pairs, tmp_path / "w", size=PEOPLE)
    monkeypatch.setattr(cells, "CHUNK_VALUES", 5 * toy["DIM"])  # five people at a time
    calls: list[int] = []

    def counted(*args: Any, devices: int, **named: Any) -> Any:
        calls.append(devices)
        return contribute(*args, devices=devices, **named)

    monkeypatch.setattr(cells, "contribute", counted)
    assert_same(whole, run(course, pairs, tmp_path / "p", size=PEOPLE))
    assert calls == [5, 5, 5, 5, 3] * 3


class Shuffled(InProcessGrid):
    """Hands replies out in any order, and some of them later."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ids = list(message_ids)
        chosen = np.random.default_rng(len(ids)).permutation(ids)[: max(1, len(ids) // 2)]
        return super().pull_messages([str(i) for i in chosen])


def test_the_order_of_replies_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course, pairs = toy_course(PEOPLE, 2.0), toy["toy_pairs"](PEOPLE)
    ordered = run(course, pairs, tmp_path / "o", size=3)
    monkeypatch.setattr(engine, "InProcessGrid", Shuffled)
    monkeypatch.setattr("homespun.server.cohort.NODES_POLL_SECONDS", 0.0)
    shuffled = run(course, pairs, tmp_path / "s", size=3)
    assert [a.digest for a in ordered.states] == [b.digest for b in shuffled.states]


def test_a_person_whose_statistic_fails_is_noise_in_either_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = toy["toy_pairs"](PEOPLE)
    chosen = pairs.chosen.clone()
    chosen[4, 0] = 10_000  # an item that is not there
    broken = dataclasses.replace(pairs, chosen=chosen)
    course = toy_course(PEOPLE, 2.0)
    assert_same(
        run(course, broken, tmp_path / "d", size=1),
        run(course, broken, tmp_path / "c", size=PEOPLE),
    )
    absent = dataclasses.replace(pairs, weight=pairs.weight * (torch.arange(PEOPLE) != 4).unsqueeze(1))
    assert_same(run(course, broken, tmp_path / "b", size=8), run(course, absent, tmp_path / "a", size=8))


def test_the_learner_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "load", toy["stand_in_encoder"])
    monkeypatch.setattr(world, "embed", toy["stand_in_embed"])
    options = Options(users=120, dim=8, rank=2, shots=(0, 5), max_dropout=0.45)
    data = world.prepare(options)
    folds = list(training.fold_data(data, options))
    course = training.plan_course(data, folds, options)
    parts = course.plan, dict(course.phases), course.initial
    pairs = folds[0].seen.select(slice(0, course.plan.spec.min_survivors))
    faithful = run(parts, pairs, tmp_path / "f", size=1)
    assert_same(faithful, run(parts, pairs, tmp_path / "v", size=64))
    assert len(faithful.states) == sum(phase.rounds for phase in course.phases.values())


def test_engines_draw_their_own_seeded_noise(tmp_path: Path) -> None:
    """By default each node has a stream of its own for each round and attempt: repeatable, and never the same twice."""
    pairs, phases, plan = toy["toy_pairs"](PEOPLE), toy["toy_phases"](), toy["toy_plan"](PEOPLE)
    pairs = dataclasses.replace(pairs, weight=torch.zeros_like(pairs.weight))  # so that a vector is its noise

    def vectors(seed: int, run_: int = 0, round_: int = 0) -> list[bytes]:
        at_node = engine.contributors(pairs, phases, cell_size=8, seed=seed)
        request = toy["toy_request"](plan, run=run_, round=round_)
        return [at_node(context).contribute(request).vector.tobytes() for context in places(3)]

    def places(nodes: int) -> Any:
        return (type("Context", (), {"node_config": {"partition-id": place}})() for place in range(nodes))

    assert vectors(0) == vectors(0)
    drawn = [vectors(0), vectors(1), vectors(0, 1), vectors(0, 0, 1)]
    assert len({vector for part in drawn for vector in part}) == 4 * 3

    def streams(seed: int) -> list[bytes]:
        at_node = devices.simulated_devices(tmp_path, plan, pairs, phases, seed=seed)
        rounds = itertools.product(range(2), range(2), range(2))
        return [at_node(who).around.noise(*at).read(16) for at in rounds for who in places(PEOPLE)]

    assert streams(0) == streams(0)
    assert len(set(streams(0) + streams(1))) == 2 * 8 * PEOPLE


@pytest.mark.parametrize(("people", "size", "expected"), [(5, 2, (2, 2, 1)), (4, 4, (4,)), (3, 1000, (3,))])
def test_members(people: int, size: int, expected: tuple[int, ...]) -> None:
    assert engine.members("vectorised", people, size) == expected
    assert engine.members("faithful", people, size) == (1,) * people


def grid_of(handler: Callable[[Message, Any], Message], nodes: int, flower: Any) -> InProcessGrid:
    app = ClientApp()
    app.query()(handler)
    return InProcessGrid(app, nodes, flower)


def asking(content: RecordDict, nodes: int) -> list[Message]:
    return [Message(content, dst_node_id=2 + place, message_type="query") for place in range(nodes)]


def test_a_client_app_that_raises_answers_with_a_code(caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: Message, context: Any) -> Message:
        raise KeyError("what somebody likes")

    with in_process_identity() as flower, caplog.at_level(logging.DEBUG):
        (reply,) = grid_of(fail, 1, flower).send_and_receive(asking(RecordDict(), 1))
    assert (reply.error.code, reply.error.reason) == (2, "the app raised")
    assert "somebody" not in caplog.text
    assert all(record.exc_info is None for record in caplog.records)


def test_no_node_reaches_into_anothers_message() -> None:
    def greedy(message: Message, context: Any) -> Message:
        found = [len(message.content), len(context.state)]
        message.content.clear()
        context.state["seen"] = ConfigRecord({"times": 1})
        return Message(RecordDict({"found": ConfigRecord({"found": found})}), reply_to=message)

    shared = RecordDict({"round": ConfigRecord({"number": 0})})
    with in_process_identity() as flower:
        grid = grid_of(greedy, 3, flower)
        ids = list(grid.push_messages(asking(shared, 3)))
        replies = list(grid.pull_messages(reversed(ids)))
        assert [reply.metadata.reply_to_message_id for reply in replies] == ids[::-1]
        assert [reply.content["found"]["found"] for reply in replies] == [[1, 0]] * 3
        assert list(grid.pull_messages(ids)) == []  # each reply once
        again = list(grid.send_and_receive(asking(shared, 1)))
        assert again[0].content["found"]["found"] == [1, 1]  # a node keeps its own state
    assert len(shared) == 1
