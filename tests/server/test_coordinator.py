"""The server's side of a round: whatever nodes send, and whoever is drawn."""

import dataclasses
import io
import itertools
import logging
import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from homespun.client.app import client_app
from homespun.personal import Backbone, average_user
from homespun.privacy import (
    CohortTooSmall,
    LedgerDamaged,
    NoiseStream,
    PrivacyBudgetExhausted,
    Trust,
    decode,
    release_event,
    ring_sum,
)
from homespun.privacy.ledger import LEDGER_NAME, Ledger
from homespun.server import checkpoint as checkpoints
from homespun.server import cohort as cohorts
from homespun.server import coordinator
from homespun.server.app import app, server_app
from homespun.server.coordinator import RoundReport, Training, coordinate
from homespun.simulations.cell import Cell
from homespun.simulations.grid import InProcessGrid
from homespun.wire import TRAIN, Contribution, contribution_to_record
from homespun.wire.flower import in_process_identity

toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
PEOPLE = 12
DIM = toy["DIM"]
INF = float("inf")
Tamper = Callable[[Message], list[Message]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for: in this process an answer is there or never comes."""
    for name in ("NODES_POLL_SECONDS", "NODES_TIMEOUT_SECONDS", "ROUND_TIMEOUT_SECONDS"):
        monkeypatch.setattr(cohorts, name, 0.0)


class Tampered(InProcessGrid):
    """Replies pass through somebody's hands; each node's requests are kept."""

    def __init__(self, client: ClientApp, nodes: int, run: Any, tamper: Tamper) -> None:
        super().__init__(client, nodes, run)
        self._tamper = tamper
        self.messages: list[Message] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.messages += (kept := list(messages))
        return super().push_messages(kept)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return list(itertools.chain.from_iterable(map(self._tamper, super().pull_messages(message_ids))))


@dataclasses.dataclass
class Run:
    """What one call of the coordinator did."""

    state: Backbone
    reports: list[RoundReport[Backbone]]
    grid: Tampered


def people(training: Training[Backbone]) -> Callable[[Any], Any]:
    """Cells, also of one person: a device's own ledger and policy are tested elsewhere."""
    pairs = toy["toy_pairs"](sum(training.members))
    phases = {phase.name: phase for phase in training.phases}
    edges = np.cumsum([0, *training.members])

    def at_node(context: Any) -> Any:
        place = int(context.node_config["partition-id"])
        return Cell(
            pairs=pairs.select(slice(int(edges[place]), int(edges[place + 1]))),
            phases=phases,
            noise=lambda run, round_: NoiseStream.seeded(0, run, round_, place),
        )

    return at_node


def run(training: Training[Backbone], folder: Path, *, tamper: Tamper = lambda reply: [reply]) -> Run:
    """Run, or go on with, a training in a folder."""
    reports: list[RoundReport[Backbone]] = []
    with in_process_identity() as flower, toy["toy_ledger"](folder, training.plan) as ledger:
        client = client_app(people(training))
        grid = Tampered(client, len(training.members), flower, tamper)
        state = coordinate(training, grid, ledger, folder / "checkpoints", reports.append)
    return Run(state=state, reports=reports, grid=grid)


def devices(epsilon: float = INF, *, absent: int = 0, count: int = PEOPLE) -> Training[Backbone]:
    """One device a node, of which some may be missing."""
    return toy["toy_training"](toy["toy_plan"](count, epsilon=epsilon, min_survivors=count - absent), (1,) * count)


def kinds(folder: Path) -> list[str]:
    """Kinds of the entries in a folder's ledger."""
    with Ledger.open(folder / LEDGER_NAME, None) as ledger:
        return [entry.kind.value for entry in ledger.entries()]


def only(node: int, change: Callable[[Message], list[Message]]) -> Tamper:
    """Change the replies of one node (the first is 2); an error counts as the reply of whoever it answers."""
    return lambda reply: change(reply) if reply.metadata.src_node_id == node else [reply]


def answered(reply: Message, content: RecordDict | Error, **metadata: Any) -> Message:
    """The same reply with another content; ``metadata`` is overwritten, as a hostile node can."""
    twin = Message(content, reply_to=_request_of(reply))
    for name, value in {"reply_to_message_id": reply.metadata.reply_to_message_id, **metadata}.items():
        twin.metadata.__dict__[f"_{name}"] = value
    return twin


def _request_of(reply: Message) -> Message:
    request = Message(RecordDict(), dst_node_id=reply.metadata.src_node_id, message_type=TRAIN)
    request.metadata.__dict__["_message_id"] = reply.metadata.reply_to_message_id
    return request


def contribution(vector: Any, count: Any = 1) -> RecordDict:
    return RecordDict(
        {"contribution": ArrayRecord({"vector": Array(vector)}), "sender": ConfigRecord({"devices": count})}
    )


def raw(data: bytes, *, dtype: str = "uint32", shape: tuple[int, ...] = (DIM,), stype: str = "numpy.ndarray") -> Any:
    """A contribution whose tensor is these bytes."""
    record = contribution(np.zeros(DIM, np.uint32))
    record["contribution"] = ArrayRecord({"vector": Array(dtype=dtype, shape=shape, stype=stype, data=data)})
    return record


def npy(value: Any, **named: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, value, **named)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, np.zeros(10**6))
    return stream.getvalue()


ZEROS = np.zeros(DIM, np.uint32)
MALFORMED: dict[str, Callable[[], RecordDict]] = {
    "nothing": RecordDict,
    "another record": lambda: RecordDict({**contribution(ZEROS), "loss": ConfigRecord({"value": 0.1})}),
    "no count": lambda: RecordDict({"contribution": ArrayRecord({"vector": Array(ZEROS)})}),
    "another field": lambda: RecordDict(
        {"contribution": ArrayRecord({"vector": Array(ZEROS)}), "sender": ConfigRecord({"devices": 1, "examples": 9})}
    ),
    "two vectors": lambda: RecordDict(
        {
            "contribution": ArrayRecord({"vector": Array(ZEROS), "other": Array(ZEROS)}),
            "sender": ConfigRecord({"devices": 1}),
        }
    ),
    "records swapped": lambda: RecordDict(
        {"contribution": ConfigRecord({"devices": 1}), "sender": ArrayRecord({"vector": Array(ZEROS)})}
    ),
    "nan": lambda: contribution(np.full(DIM, np.nan, np.float32)),
    "floats": lambda: contribution(np.zeros(DIM, np.float64)),
    "signed": lambda: contribution(np.zeros(DIM, np.int32)),
    "wide integers": lambda: contribution(np.zeros(DIM, np.uint64)),
    "too long": lambda: contribution(np.zeros(DIM + 1, np.uint32)),
    "too short": lambda: contribution(np.zeros(DIM - 1, np.uint32)),
    "a matrix": lambda: contribution(np.zeros((1, DIM), np.uint32)),
    "oversized": lambda: contribution(np.zeros(2**20, np.uint32)),
    "empty": lambda: raw(b""),
    "cut off": lambda: raw(npy(ZEROS)[:-1]),
    "more behind it": lambda: raw(npy(ZEROS) + b"\0"),
    "a header that asks for a terabyte": lambda: raw(
        npy(ZEROS).replace(b"(6,), }             ", b"(300000000000,), }  ")
    ),
    "a header that is no literal": lambda: raw(b"\x93NUMPY\x01\x00\x08\x00{'a':(((" + b" " * 40),
    "an archive": lambda: raw(zipped()),
    "half an archive": lambda: raw(b"PK\x03\x04" + b"a" * 60),
    "a pickle": lambda: raw(npy(np.array([{}] * DIM, dtype=object), allow_pickle=True)),
    "torch": lambda: raw(npy(ZEROS), stype="torch.tensor"),
    "a shape that lies": lambda: raw(npy(np.zeros(2 * DIM, np.uint32)), shape=(DIM,)),
    "a type that lies": lambda: raw(npy(np.zeros(DIM, np.float32)), dtype="uint32"),
    "count as text": lambda: contribution(ZEROS, "1"),
    "count as float": lambda: contribution(ZEROS, 1.0),
    "count as truth": lambda: contribution(ZEROS, True),
    "negative count": lambda: contribution(ZEROS, -1),
}
FORGED: dict[str, Callable[[], RecordDict]] = {
    "many": lambda: contribution(ZEROS, 1000),
    "nobody": lambda: contribution(ZEROS, 0),
}


@pytest.mark.parametrize("what", [*MALFORMED, *FORGED])
def test_an_answer_that_does_not_fit_is_left_out(what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It neither ends the round nor counts, and with the others' answers the round goes on."""
    training = devices(absent=1)
    content = {**MALFORMED, **FORGED}[what]
    with caplog.at_level(logging.WARNING, "homespun.server"):
        spoilt = run(training, tmp_path, tamper=only(4, lambda reply: [answered(reply, content())]))
    assert [report.checkpoint.devices for report in spoilt.reports] == [PEOPLE - 1] * 3
    assert [report.checkpoint.messages for report in spoilt.reports] == [PEOPLE] * 3
    assert spoilt.reports[0].checkpoint.reply_bytes == 4 * DIM * (PEOPLE - 1)
    assert caplog.text.count("a reply was refused") == 3
    (tmp_path / "silent").mkdir()
    silent = run(training, tmp_path / "silent", tamper=only(4, lambda reply: []))
    assert silent.state.digest == spoilt.state.digest


def _stays(devices: int, vector: Any) -> Callable[[Message], list[Message]]:
    return lambda reply: [answered(reply, contribution(vector, devices))]


@pytest.mark.parametrize(
    ("devices", "loud", "counted"),
    [(4, 1, 4), (3, 1, 3), (1, 1, 1), (0, 0, 0), (0, 1, None), (5, 1, None), (12, 0, None)],
)
def test_a_cell_says_how_many_of_those_asked_stayed(
    devices: int, loud: int, counted: int | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Never more than were asked, and nobody's vector is zero. A device stands for one person, or for none at all."""
    training = toy["toy_training"](toy["toy_plan"](PEOPLE, epsilon=INF, min_survivors=8), (4, 4, 4))
    vector = np.full(DIM, loud, np.uint32)
    with caplog.at_level(logging.WARNING, "homespun.server"):
        result = run(training, tmp_path, tamper=only(3, _stays(devices, vector)))
    assert [report.checkpoint.devices for report in result.reports] == [8 + (counted or 0)] * 3
    assert caplog.text.count("another number of people") == (3 if counted is None else 0)


def test_errors_are_left_out(tmp_path: Path) -> None:
    def refuse(reply: Message) -> list[Message]:
        return [answered(reply, Error(2, "the text of a stranger"))]

    def lost(reply: Message) -> list[Message]:  # Flower's own error for a node that went away comes from node 1
        return [answered(reply, Error(5, "gone"), src_node_id=1)]

    for number, change in enumerate((refuse, lost, lambda reply: [])):
        folder = tmp_path / str(number)
        folder.mkdir()
        result = run(devices(absent=1), folder, tamper=only(3, change))
        assert [report.checkpoint.devices for report in result.reports] == [PEOPLE - 1] * 3


def test_an_answer_counts_once(tmp_path: Path) -> None:
    once = run(devices(), tmp_path)
    (tmp_path / "twice").mkdir()
    twice = run(devices(), tmp_path / "twice", tamper=lambda reply: [reply, reply])
    assert [report.checkpoint.devices for report in twice.reports] == [PEOPLE] * 3
    assert twice.state.digest == once.state.digest


def test_an_answer_in_another_nodes_name(tmp_path: Path) -> None:
    """Flower lets a node answer any message id that it knows; what counts is who was asked."""
    plain = run(devices(), tmp_path)
    loud = np.full(DIM, 2**20, np.uint32)
    ids: dict[int, str] = {}

    def forge(reply: Message) -> list[Message]:
        ids[reply.metadata.src_node_id] = reply.metadata.reply_to_message_id
        if reply.metadata.src_node_id != 2:
            return [reply]
        # node 2 is first: it answers for node 3 before node 3 does, and then for itself
        number, count = reply.metadata.reply_to_message_id.split("-")
        theirs = f"{number}-{int(count) + 1}"
        return [answered(reply, contribution(loud), reply_to_message_id=theirs), reply]

    (tmp_path / "forged").mkdir()
    forged = run(devices(), tmp_path / "forged", tamper=forge)
    assert ids[3].split("-")[1] == str(int(ids[2].split("-")[1]) + 1)
    assert forged.state.digest == plain.state.digest


def test_an_answer_to_nothing(tmp_path: Path) -> None:
    plain = run(devices(), tmp_path)

    def stray(reply: Message) -> list[Message]:
        stranger = answered(reply, contribution(np.full(DIM, 5, np.uint32)), reply_to_message_id="1-9999")
        unasked = answered(reply, contribution(np.full(DIM, 5, np.uint32)), reply_to_message_id="")
        return [stranger, unasked, reply]

    (tmp_path / "stray").mkdir()
    assert run(devices(), tmp_path / "stray", tamper=stray).state.digest == plain.state.digest


@pytest.mark.parametrize("epsilon", [2.0, INF])
def test_too_few_answers_open_nothing(epsilon: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = devices(epsilon, absent=2)

    def gone(reply: Message) -> list[Message]:
        return [reply] if reply.metadata.src_node_id > 4 else []

    opened: list[Any] = []
    real = coordinator.open_sum

    def watched(*args: Any, **named: Any) -> Any:
        opened.append(real(*args, **named))
        return opened[-1]

    monkeypatch.setattr(coordinator, "open_sum", watched)
    with pytest.raises(CohortTooSmall, match="devices=9"):
        run(training, tmp_path, tamper=gone)
    assert opened == []
    assert not (tmp_path / "checkpoints").exists()
    assert kinds(tmp_path) == ["genesis", "reserve"]
    # the round is taken up again, not paid for again
    run(training, tmp_path)
    assert kinds(tmp_path) == ["genesis", *["reserve", "commit"] * 3]


def test_a_missing_device_does_not_change_the_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The divisor is public. Divided by those who answered, everybody else's part would grow."""
    seen: list[torch.Tensor] = []
    update = toy["Nudge"].update

    def spy(self: Any, backbone: Backbone, mean: torch.Tensor, noise_std: float, round: int) -> Backbone:
        seen.append(mean)
        return update(self, backbone, mean, noise_std, round)

    monkeypatch.setattr(toy["Nudge"], "update", spy)
    training = devices(absent=1)
    run(training, tmp_path)
    (tmp_path / "without").mkdir()
    run(training, tmp_path / "without", tamper=only(7, lambda reply: []))
    release = training.plan["nudge"]
    row = people(training)(type("Context", (), {"node_config": {"partition-id": 5}}))
    alone = row.contribute(toy["toy_request"](training.plan)).vector
    expected = seen[0] - torch.from_numpy(decode(alone, step=release.step)) / PEOPLE
    assert torch.equal((seen[2] * PEOPLE / release.step).round(), (expected * PEOPLE / release.step).round())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nothing:
    """A phase whose statistic is zero: what comes out is the noise."""

    name: str = "nudge"
    dimension: int = 2000
    rounds: int = 2
    clip_norm: float = 0.5

    def statistic(self, backbone: Backbone, data: Any, round: int) -> torch.Tensor:
        return torch.zeros(data.users, self.dimension)

    def update(self, backbone: Backbone, mean: torch.Tensor, noise_std: float, round: int) -> Backbone:
        return dataclasses.replace(backbone, w=mean.float(), version=backbone.version + 1)


def quiet(
    trust: Trust, *, participation: str = "full", absent: int = 0, members: tuple[int, ...] = (1,) * PEOPLE
) -> Any:
    """A training of nothing but noise, 2,000 numbers a round."""
    plan = toy["toy_plan"](
        sum(members), trust=trust, participation=participation, min_survivors=sum(members) - absent, dim=2000
    )
    training = toy["toy_training"](plan, members, dim=2000)
    phases = (Nothing(), Nothing(name="spread", rounds=1, clip_norm=0.2))
    return dataclasses.replace(training, phases=phases, initial=average_user(2000, 1, projection="0" * 64))


def released(result: Run) -> list[torch.Tensor]:
    return [report.state.w for report in result.reports]


@pytest.mark.parametrize("trust", list(Trust))
def test_noise_is_as_loud_as_promised(trust: Trust, tmp_path: Path) -> None:
    training = quiet(trust)
    result = run(training, tmp_path)
    for mean, report in zip(released(result), result.reports, strict=True):
        release = training.plan[report.checkpoint.phase]
        assert report.checkpoint.noise_std == pytest.approx(release.noise_std, rel=1e-3)
        assert float(mean.std()) == pytest.approx(release.noise_std, rel=0.06)  # 2,000 draws: 4 sigma
        assert 0.8 < (report.checkpoint.signal_to_noise or 0) < 1.2
        assert float((mean == 0).float().mean()) < 0.01
    first, second, _ = released(result)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.1  # never the same noise twice


def test_central_trust_means_that_devices_add_none(tmp_path: Path) -> None:
    sent: list[int] = []

    def look(reply: Message) -> list[Message]:
        sent.append(int(np.abs(reply.content["contribution"]["vector"].numpy().view(np.int32)).max()))
        return [reply]

    training = quiet(Trust.CENTRAL)
    run(training, tmp_path, tamper=look)
    assert max(sent) == 0


def test_dropouts_leave_at_least_the_promised_noise(tmp_path: Path) -> None:
    training = quiet(Trust.DISTRIBUTED, absent=4)

    def gone(reply: Message) -> list[Message]:
        return [reply] if reply.metadata.src_node_id >= 6 else []

    for folder, tamper in (("all", lambda reply: [reply]), ("some", gone)):
        (tmp_path / folder).mkdir()
        result = run(training, tmp_path / folder, tamper=tamper)
        for mean, report in zip(released(result), result.reports, strict=True):
            promised = training.plan[report.checkpoint.phase].noise_std
            assert report.checkpoint.noise_std >= promised
            assert float(mean.std()) == pytest.approx(report.checkpoint.noise_std, rel=0.06)


def test_coins_are_independent() -> None:
    """Pairwise chi-square over many rounds, and the variance of the cohort's size: a fixed size would have none."""
    rate, rounds, members = 0.3, 4000, (3, 1, 2, 4)
    release = toy["toy_plan"](10, participation=f"poisson:{rate}", epsilon=INF)["nudge"]
    drawn = np.zeros((rounds, 10), bool)
    for number in range(rounds):
        cohort = cohorts.draw_cohort(release, members, NoiseStream.seeded(5, "server", 0, number))
        assert cohort is not None
        for start, places in zip(np.cumsum([0, *members]), cohort, strict=False):
            drawn[number, start + places] = True
    assert drawn.mean(axis=0) == pytest.approx(np.full(10, rate), abs=4.5 * (rate * (1 - rate) / rounds) ** 0.5)
    statistics = []
    for a, b in itertools.combinations(range(10), 2):
        table = np.array(
            [[(drawn[:, a] == i).astype(int) @ (drawn[:, b] == j).astype(int) for j in (0, 1)] for i in (0, 1)]
        )
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / rounds
        statistics.append(float(((table - expected) ** 2 / expected).sum()))
    assert max(statistics) < 17  # chi-square of one degree: 4e-5 each, 45 pairs
    assert np.mean(statistics) == pytest.approx(1, abs=0.9)
    sizes = drawn.sum(axis=1)
    assert sizes.var() == pytest.approx(10 * rate * (1 - rate), rel=0.1)
    lags = np.corrcoef(sizes[:-1], sizes[1:])[0, 1]
    assert abs(lags) < 0.08


def test_everybody_is_asked_where_all_take_part() -> None:
    release = toy["toy_plan"](4, epsilon=INF)["nudge"]
    assert cohorts.draw_cohort(release, (2, 2), NoiseStream.seeded(0)) is None


def test_a_cell_gets_only_its_own_participants(tmp_path: Path) -> None:
    members = (4, 1, 5, 2)
    plan = toy["toy_plan"](PEOPLE, participation="poisson:0.4", epsilon=INF)
    training = toy["toy_training"](plan, members)
    result = run(training, tmp_path)
    told: dict[tuple[int, int], Any] = {}
    for message in result.grid.messages:
        cohort = message.content.get("cohort")
        place, number = message.metadata.dst_node_id - 2, int(message.metadata.group_id)
        told[number, place] = None if cohort is None else cohort["participants"].numpy().tolist()
    for number, report in enumerate(result.reports):
        cohort = cohorts.draw_cohort(plan.releases[0], members, training.noise(0, number))
        assert cohort is not None
        assert report.checkpoint.devices == sum(map(len, cohort))
        for place, drawn in enumerate(cohort):
            expected = drawn.tolist() if members[place] > 1 else None
            assert told.pop((number, place), "nobody") == (expected if len(drawn) else "nobody")
    assert told == {}


def test_the_divisor_of_a_poisson_round_is_the_expected_cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors: list[Any] = []
    real = coordinator.ask

    def kept(*args: Any) -> Any:
        answers = real(*args)
        vectors.append([c.vector for c in answers.contributions])
        return answers

    monkeypatch.setattr(coordinator, "ask", kept)
    means: list[torch.Tensor] = []
    update = toy["Spread"].update

    def spy(self: Any, backbone: Backbone, mean: torch.Tensor, noise_std: float, round: int) -> Backbone:
        means.append(mean)
        return update(self, backbone, mean, noise_std, round)

    monkeypatch.setattr(toy["Spread"], "update", spy)
    plan = toy["toy_plan"](PEOPLE, participation="poisson:0.5", epsilon=INF)
    run(toy["toy_training"](plan, (1,) * PEOPLE), tmp_path)
    release = plan["spread"]
    total = decode(ring_sum(vectors[2], dimension=DIM), step=release.step)
    assert 0 < len(vectors[2]) < PEOPLE
    assert np.array_equal(means[0].numpy(), total / (0.5 * PEOPLE))


def test_an_empty_cohort_releases_noise_and_is_paid_for(tmp_path: Path) -> None:
    training = quiet(Trust.CENTRAL, participation="poisson:0.000001", members=(5, 1, 6))
    result = run(training, tmp_path)
    assert [report.checkpoint.devices for report in result.reports] == [0, 0, 0]
    assert [report.checkpoint.messages for report in result.reports] == [0, 0, 0]
    for mean, report in zip(released(result), result.reports, strict=True):
        assert float(mean.std()) == pytest.approx(training.plan[report.checkpoint.phase].noise_std, rel=0.06)
    with Ledger.open(tmp_path / LEDGER_NAME, None) as ledger:
        assert len(ledger.events("run-0")) == 3
        # how many were drawn is a secret that the amplification rests on
        assert [entry.body["facts"] for entry in ledger.entries() if entry.kind == "commit"] == [{}] * 3


def test_no_round_beyond_the_plan(tmp_path: Path) -> None:
    training = devices(2.0)
    run(training, tmp_path)
    with toy["toy_ledger"](tmp_path, training.plan) as ledger, pytest.raises(PrivacyBudgetExhausted):
        ledger.reserve(
            "run-0", release_event(training.plan["nudge"], count=1), {"run": 0, "round": 3, "phase": "nudge"}
        )


@pytest.mark.parametrize(
    "change",
    [
        {"clip_norm": 0.4},
        {"dimension": DIM + 1},
        {"rounds": 3},
        {"name": "shove"},
    ],
)
def test_phases_must_be_the_plans(change: dict[str, Any]) -> None:
    plan = toy["toy_plan"](PEOPLE)
    training = toy["toy_training"](plan, (1,) * PEOPLE)
    first, second = training.phases
    with pytest.raises(ValueError, match="as the plan has them"):
        dataclasses.replace(training, phases=(dataclasses.replace(first, **change), second))
    for phases in ((second, first), (first,), (first, second, second), ()):
        with pytest.raises(ValueError, match="as the plan has them"):
            dataclasses.replace(training, phases=phases)


@pytest.mark.parametrize("members", [(), (1,) * (PEOPLE + 1), (1,) * (PEOPLE - 1), (PEOPLE, 0), (PEOPLE + 1, -1)])
def test_members_must_be_the_plans(members: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Expected (members|people)"):
        toy["toy_training"](toy["toy_plan"](PEOPLE), members)


class Slow:
    """A Grid of two nodes, whose answers come at the polls that are named."""

    def __init__(self, comes: dict[int, int]) -> None:
        self.comes, self.polls, self.pushed = comes, 0, []  # type: ignore[var-annotated]

    def push_messages(self, messages: Any) -> list[str]:
        self.pushed = list(messages)
        return [str(message.metadata.dst_node_id) for message in self.pushed]

    def pull_messages(self, message_ids: Any) -> list[Message]:
        self.polls += 1
        ready = [message for message in self.pushed if self.comes.get(message.metadata.dst_node_id) == self.polls]
        for message in ready:
            message.metadata.__dict__["_message_id"] = str(message.metadata.dst_node_id)
        return [Message(RecordDict(), reply_to=message) for message in ready]


@pytest.mark.parametrize(
    ("comes", "came", "polls"),
    [({2: 1, 3: 1}, [2, 3], 1), ({2: 3, 3: 2}, [3, 2], 3), ({3: 4}, [3], None), ({}, [], None)],
    ids=["at once", "later", "one never", "nobody"],
)
def test_answers_are_waited_for_until_the_time_is_over(
    comes: dict[int, int], came: list[int], polls: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a poll longer than until the last one answered; not for ever for one who does not."""
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr(cohorts.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(cohorts.time, "sleep", lambda seconds: None)
    with in_process_identity():
        grid = Slow(comes)
        answers = cohorts.exchange(grid, TRAIN, {2: RecordDict(), 3: RecordDict()}, group="7", timeout=95.0)  # type: ignore[arg-type]
        assert [node for node, _ in answers] == came
    assert grid.polls == (10 if polls is None else polls)  # after 10, 20, ... seconds; 100 is beyond 95
    for message in grid.pushed:  # what nobody fetched in time is not delivered later
        assert (message.metadata.ttl, message.metadata.group_id, message.metadata.message_type) == (95.0, "7", TRAIN)


def test_nodes_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohorts, "NODES_TIMEOUT_SECONDS", 60.0)
    coming = iter([[], [4, 2], [4, 2, 3, 9]])
    grid = type("Filling", (), {"get_node_ids": lambda self: next(coming)})()
    assert cohorts.wait_for_nodes(grid, 3) == [4, 2, 3]
    monkeypatch.setattr(cohorts, "NODES_TIMEOUT_SECONDS", -1.0)
    empty = type("Empty", (), {"get_node_ids": lambda self: [2]})()
    with pytest.raises(CohortTooSmall, match="2 nodes, 1 came"):
        cohorts.wait_for_nodes(empty, 2)


def test_a_torn_checkpoint_is_ignored(tmp_path: Path) -> None:
    training = devices()
    whole = run(training, tmp_path)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["round-0000", "round-0001", "round-0002"]
    torn = folder / ".round-0003.part"
    torn.mkdir()
    (torn / "backbone.safetensors").write_bytes(b"\0\0")
    found = checkpoints.latest(folder, Backbone)
    assert found is not None
    assert found[0].digest == whole.state.digest
    assert found[1] == whole.reports[-1].checkpoint
    checkpoints.save(folder, whole.state, dataclasses.replace(found[1], round=3))  # over the torn one
    assert not torn.exists()


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path, Backbone) is None
    assert checkpoints.latest(tmp_path / "nowhere", Backbone) is None


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit": lambda folder: _flip(folder / "backbone.safetensors"),
    "cut off": lambda folder: (folder / "backbone.safetensors").write_bytes(b"\1\2\3"),
    "no tensors": lambda folder: (folder / "backbone.safetensors").unlink(),
    "no state": lambda folder: (folder / "state.json").unlink(),
    "half a state": lambda folder: (folder / "state.json").write_text('{"round": 2,'),
    "another state": lambda folder: (folder / "state.json").write_text('{"round": 2}'),
    "a list": lambda folder: (folder / "state.json").write_text("[]"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_checkpoint_is_refused(what: str, tmp_path: Path) -> None:
    training = devices()
    run(training, tmp_path)
    DAMAGE[what](tmp_path / "checkpoints" / "round-0002")
    before = kinds(tmp_path)
    with pytest.raises(ValueError, match="round-0002 to hold the checkpoint that was written"):
        run(training, tmp_path)
    assert kinds(tmp_path) == before


def test_more_rounds_than_four_digits(tmp_path: Path) -> None:
    state = devices().initial
    made = run(devices(), tmp_path).reports[0].checkpoint
    for number in (9999, 10000):
        checkpoints.save(tmp_path / "many", state, dataclasses.replace(made, round=number, state_digest=state.digest))
    found = checkpoints.latest(tmp_path / "many", Backbone)
    assert found is not None
    assert found[1].round == 10000


def test_a_ledger_of_other_rounds_is_refused(tmp_path: Path) -> None:
    training = devices(2.0)
    run(training, tmp_path)
    (tmp_path / LEDGER_NAME).unlink()
    with pytest.raises(LedgerDamaged, match="not theirs"):
        run(training, tmp_path)


def test_an_observer_that_fails_is_told_again(tmp_path: Path) -> None:
    """The round is committed only when it was told of."""
    training, told = devices(2.0), []

    def observe(report: RoundReport[Backbone]) -> None:
        told.append(report.checkpoint.round)
        if told == [0, 1]:
            raise OSError("no space left")

    def go() -> Backbone:
        with in_process_identity() as flower, toy["toy_ledger"](tmp_path, training.plan) as ledger:
            grid = InProcessGrid(client_app(people(training)), PEOPLE, flower)
            return coordinate(training, grid, ledger, tmp_path / "checkpoints", observe)

    with pytest.raises(OSError, match="no space"):
        go()
    state = go()
    assert told == [0, 1, 1, 2]
    (tmp_path / "whole").mkdir()
    assert state.digest == run(training, tmp_path / "whole").state.digest


def test_the_server_app_runs_the_training_and_passes_errors_on() -> None:
    asked: list[Any] = []
    server_app(asked.append)("the grid", None)  # type: ignore[arg-type]
    assert asked == ["the grid"]

    def fail(grid: Any) -> None:
        raise CohortTooSmall("Expected more.")

    with pytest.raises(CohortTooSmall):
        server_app(fail)("the grid", None)  # type: ignore[arg-type]


def test_the_deployed_server_app_says_what_it_is_not() -> None:
    with pytest.raises(RuntimeError, match="homespun simulate"):
        app("a grid", None)  # type: ignore[arg-type]


def test_what_is_sent_is_what_the_schema_allows(tmp_path: Path) -> None:
    result = run(devices(2.0), tmp_path)
    for message in result.grid.messages:
        assert set(message.content) == {"round", "backbone"}
        assert set(message.content["round"]) == {
            "protocol", "run", "round", "phase_round", "attempt", "release", "plan_digest", "projection", "version",
        }  # fmt: skip
    assert set(contribution_to_record(Contribution(vector=ZEROS, devices=1))) == {"contribution", "sender"}


def test_fewer_people_than_a_sum_is_opened_of_are_refused_before_anything_is_paid() -> None:
    """Who may collude counts: what is left without them must still be noise enough."""
    plan = toy["toy_plan"](PEOPLE, min_survivors=PEOPLE - 2, colluding=1)
    toy["toy_training"](plan, (1,) * (PEOPLE - 1))
    with pytest.raises(ValueError, match=rf"Expected people={PEOPLE - 2} behind the nodes in \[min_survivors \+ coll"):
        toy["toy_training"](plan, (1,) * (PEOPLE - 2))
