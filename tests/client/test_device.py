"""What leaves a device: one vector, masked or trusted to the server, or one coded word; nothing else, whatever goes wrong."""

import dataclasses
import io
import itertools
import logging
import math
import re
import runpy
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from homespun.client import app as apps
from homespun.client.app import app, client_app
from homespun.client.device import Device, Installation
from homespun.client.statistic import statistic_or_nothing
from homespun.client.vault import GivenKey
from homespun.personal import Backbone, Pairs
from homespun.privacy import NoiseStream, Trust, from_ring, to_ring
from homespun.privacy.policy import Policy
from homespun.simulations import commands, engine, training, world
from homespun.simulations.cell import Cell
from homespun.simulations.grid import InProcessGrid
from homespun.wire import TRAIN, Contribution, RoundRequest, request_to_record
from homespun.wire.flower import in_process_identity

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_device.py"))
toy = lab["toy"]
data = runpy.run_path(str(Path(__file__).parents[1] / "made_up_data.py"))
DIM = toy["DIM"]
CANARY = "qzx-canary-7f31"


LENIENT = Policy(
    trust=(Trust.DISTRIBUTED, Trust.CENTRAL), min_noise_multiplier=0.0, max_epsilon=math.inf, min_cohort=1,
    witness_required=False,
)  # fmt: skip
NUMBER = itertools.count()
HOME: list[Any] = []


@pytest.fixture(autouse=True)
def identity(tmp_path: Path) -> Iterator[None]:
    HOME[:] = [tmp_path]
    with ExitStack() as closing, in_process_identity():
        HOME.append(closing)
        yield


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wide:
    """A phase with room to measure noise in; its statistic is whatever the test gives."""

    answer: Callable[[Pairs], Any]
    name: str = "nudge"
    rounds: int = 2
    clip_norm: float = 0.5
    dimension: int = 4000

    def statistic(self, backbone: Backbone, data: Pairs, round: int) -> torch.Tensor:
        return self.answer(data)

    def update(self, backbone: Backbone, mean: torch.Tensor, noise_std: float, round: int) -> Backbone:
        raise AssertionError("a device does not update")


def ask(contributor: Any, request: RoundRequest | RecordDict) -> Message:
    """Ask through the ClientApp."""
    content = request_to_record(request) if isinstance(request, RoundRequest) else request
    message = Message(content, dst_node_id=2, message_type=TRAIN)
    context = Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})
    at_node = contributor if isinstance(contributor, type(lambda: 0)) else lambda _: contributor
    return client_app(at_node)(message, context)


def unmasked(asked: Device, request: RoundRequest) -> Any:
    """What a device adds to a masked sum: the others of its cohort send zeros."""
    cohort = lab["Cohort"](asked, request)
    cohort.walk(asked)
    return cohort.total


def one_person() -> Pairs:
    return toy["toy_pairs"](3).select(slice(0, 1))


def device(pairs: Pairs | None = None, phases: Any = None, policy: Policy = LENIENT) -> Device:
    """A device of its own in a new folder."""
    around = Installation(
        project="toy",
        phases=toy["toy_phases"]() if phases is None else phases,
        noise=lambda run, round_, attempt: NoiseStream.seeded(1, run, round_, attempt),
    )
    folder, closing = HOME
    made = Device.create(folder / f"device-{next(NUMBER)}", GivenKey(bytes(32)), policy, around)
    closing.callback(made.close)
    made.learn(one_person() if pairs is None else pairs)
    return made


def raising(_: Pairs) -> torch.Tensor:
    raise RuntimeError(f"could not parse {CANARY}")


FAILURES: dict[str, Callable[[Pairs], Any]] = {
    "raises": raising,
    "nan": lambda data: torch.full((data.users, 4000), torch.nan),
    "infinite": lambda data: torch.full((data.users, 4000), torch.inf),
    "another length": lambda data: torch.ones(data.users, 3),
    "more rows": lambda data: torch.ones(2 * data.users, 4000),
    "doubles": lambda data: torch.ones(data.users, 4000, dtype=torch.float64),
    "nothing at all": lambda data: None,
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_statistic_is_answered_with_noise_alone(failure: str) -> None:
    plan = toy["toy_plan"](5, min_survivors=4, dim=4000)
    ring = unmasked(device(phases={"nudge": Wide(answer=FAILURES[failure])}), toy["toy_request"](plan))
    vector, share = from_ring(ring), plan["nudge"].share_variance
    assert vector.var() == pytest.approx(share, rel=0.1)  # 4,000 draws: 4.5 sigma
    assert abs(vector.mean()) < 4.5 * (share / 4000) ** 0.5
    assert np.array_equal(to_ring(NoiseStream.seeded(1, 0, 0, 0).discrete_gaussian(share, 4000)), ring)


def test_a_failing_person_does_not_silence_a_cell() -> None:
    """Everybody else's rows count; a device alone would have answered for them, too."""
    plan = toy["toy_plan"](20, epsilon=float("inf"), dim=4000)

    def third_fails(pairs: Pairs) -> torch.Tensor:
        if bool((pairs.weight == 7).any()):
            raise ValueError(CANARY)
        return torch.full((pairs.users, 4000), 1e-3)

    pairs = toy["toy_pairs"](5)
    weight = pairs.weight.clone()
    weight[2] = 7
    phases = {"nudge": Wide(answer=third_fails)}
    cell = Cell(pairs=dataclasses.replace(pairs, weight=weight), phases=phases, noise=lambda *_: NoiseStream.seeded(0))
    answer = cell.contribute(toy["toy_request"](plan))
    one = int(1e-3 / plan["nudge"].step)
    assert answer.devices == 5
    assert set(from_ring(answer.vector).tolist()) == {4 * one}


def test_statistics_that_do_not_fail_are_untouched() -> None:
    pairs, phase = toy["toy_pairs"](4), toy["Nudge"]()
    backbone = toy["average_user"](DIM, DIM, projection="0" * 64)
    assert torch.equal(statistic_or_nothing(phase, backbone, pairs, 0), phase.statistic(backbone, pairs, 0))


PLAN = toy["toy_plan"](20)
CENTRAL = toy["toy_plan"](20, trust=Trust.CENTRAL)
CHANGED: dict[str, Callable[[], RoundRequest]] = {
    "a phase that is not installed": lambda: toy["toy_request"](
        PLAN, release=dataclasses.replace(PLAN["nudge"], name="peek")
    ),
    "another clip norm": lambda: toy["toy_request"](PLAN, release=dataclasses.replace(PLAN["nudge"], clip_norm=50.0)),
    "another dimension": lambda: toy["toy_request"](
        PLAN, release=dataclasses.replace(PLAN["nudge"], dimension=DIM + 1)
    ),
    "other rounds": lambda: toy["toy_request"](PLAN, release=dataclasses.replace(PLAN["nudge"], rounds=100)),
    "a round too many": lambda: toy["toy_request"](PLAN, phase_round=2),
    "another phase's release": lambda: toy["toy_request"](
        PLAN, release=dataclasses.replace(PLAN["spread"], name="nudge")
    ),
    "no backbone": lambda: toy["toy_request"](PLAN, backbone={"w": np.zeros(DIM, np.float32)}),
    "a backbone of other shapes": lambda: toy["toy_request"](
        PLAN,
        backbone={
            "w": np.zeros(DIM, np.float32),
            "basis": np.zeros((DIM + 1, 2), np.float32),
            "prior": np.zeros(2, np.float32),
        },
    ),
}


@pytest.mark.parametrize("what", CHANGED)
@pytest.mark.parametrize("kind", ["device", "cell"])
def test_what_is_not_installed_is_declined(what: str, kind: str) -> None:
    cell = Cell(pairs=one_person(), phases=toy["toy_phases"](), noise=lambda *_: NoiseStream.seeded(0))
    reply = ask(device() if kind == "device" else cell, CHANGED[what]())
    assert (reply.error.code, reply.error.reason) == (100, "declined")
    assert not reply.has_content()


def without(record: str, key: str) -> RecordDict:
    content = request_to_record(toy["toy_request"](PLAN))
    content[record] = type(content[record])({k: v for k, v in content[record].items() if k != key})
    return content


def with_field(key: str, value: Any) -> RecordDict:
    content = request_to_record(toy["toy_request"](PLAN))
    content["round"][key] = value
    return content


def with_tensor(value: Any) -> RecordDict:
    content = request_to_record(toy["toy_request"](PLAN))
    content["backbone"] = ArrayRecord({"w": Array(value)})
    return content


def with_participants(value: Any) -> RecordDict:
    content = request_to_record(toy["toy_request"](PLAN))
    content["cohort"] = ArrayRecord({"participants": Array(np.asarray(value))})
    return content


MALFORMED: dict[str, Callable[[], RecordDict]] = {
    "nothing": RecordDict,
    "a field too few": lambda: without("round", "version"),
    "a field too many": lambda: with_field("learning_rate", 0.1),
    "another protocol": lambda: with_field("protocol", 2),
    "a release that is no JSON": lambda: with_field("release", "{"),
    "a release of other fields": lambda: with_field("release", '{"name": "nudge"}'),
    "a release that is a list": lambda: with_field("release", "[[1, 2]]"),
    "a release of infinite depth": lambda: with_field("release", "[" * 4000),
    "a round of another type": lambda: with_field("round", "0"),
    "a negative round": lambda: with_field("round", -1),
    "a backbone with nan": lambda: with_tensor(np.full(DIM, np.nan, np.float32)),
    "a backbone of doubles": lambda: with_tensor(np.zeros(DIM)),
    "participants twice": lambda: with_participants(np.array([1, 1], np.int32)),
    "participants below 0": lambda: with_participants(np.array([-1, 1], np.int32)),
    "participants as a matrix": lambda: with_participants(np.zeros((1, 1), np.int32)),
    "another record": lambda: RecordDict(
        {**request_to_record(toy["toy_request"](PLAN)), "code": ConfigRecord({"run": "this"})}
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_refused(what: str) -> None:
    asked = device()
    reply = ask(asked, MALFORMED[what]())
    assert (reply.error.code, reply.error.reason) == (100, "declined")
    assert [entry.kind for entry in asked.ledger.entries()] == ["genesis", "refuse"]


@dataclasses.dataclass
class Answers:
    """Somebody who answers with this, or raises it."""

    with_: Any

    def contribute(self, request: RoundRequest) -> Any:
        if isinstance(self.with_, Exception):
            raise self.with_
        return self.with_

    def note_malformed(self) -> None: ...


@pytest.mark.parametrize(
    "answer",
    [
        ValueError(CANARY),
        KeyError(CANARY),
        MemoryError(),
        None,
        CANARY,
        Contribution(vector=np.zeros(DIM, np.float32), devices=1),  # type: ignore[arg-type]
        Contribution(vector=np.zeros(DIM + 1, np.uint32), devices=1),
        Contribution(vector=np.zeros(DIM, np.uint32), devices=-1),
        Contribution(vector=np.zeros(DIM, np.uint32), devices=CANARY),  # type: ignore[arg-type]
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_wrong_inside_is_one_word_outside(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        reply = ask(Answers(answer), toy["toy_request"](PLAN))
    assert (reply.error.code, reply.error.reason) == (100, "declined")
    assert CANARY not in everything(reply)
    assert CANARY not in logged(caplog)
    assert "a contribution failed" in caplog.text  # the owner can find out that, and in which class


def everything(message: Message) -> str:
    """All that a message is on the wire, and how it shows itself."""
    objects = get_all_nested_objects(message).values()
    return repr(message) + "".join(part.deflate().decode("latin-1") for part in objects)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Every record at any level, with its arguments and the traceback that a handler would print."""
    parts = []
    for record in caplog.records:
        parts.append(f"{record.getMessage()} {record.args!r} {record.stack_info} {record.exc_text}")
        if record.exc_info:
            parts += traceback.format_exception(*record.exc_info)
    return "\n".join(parts)


def test_nobody_at_the_node(caplog: pytest.LogCaptureFixture) -> None:
    def nowhere(context: Context) -> Any:
        raise IndexError(CANARY)

    reply = ask(nowhere, toy["toy_request"](PLAN))
    assert reply.error.code == 100
    assert CANARY not in logged(caplog)


def test_a_statistic_s_exception_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    plan = toy["toy_plan"](20, dim=4000, trust=Trust.CENTRAL)
    with caplog.at_level(logging.DEBUG):
        reply = ask(device(phases={"nudge": Wide(answer=raising)}), toy["toy_request"](plan))
    assert reply.has_content()
    assert CANARY not in everything(reply)
    assert CANARY not in logged(caplog)
    assert "RuntimeError" in caplog.text


def test_a_reply_is_the_contribution_schema_and_nothing_else() -> None:
    reply = ask(device(), toy["toy_request"](CENTRAL))
    assert set(reply.content) == {"contribution", "sender"}
    assert set(reply.content["contribution"]) == {"vector"}
    assert dict(reply.content["sender"]) == {"devices": 1}
    vector = reply.content["contribution"]["vector"].numpy()
    assert (vector.dtype, vector.shape) == (np.uint32, (DIM,))


def test_replies_have_one_size() -> None:
    """Neither how much somebody said nor whether it could be used shows in the size."""
    empty = dataclasses.replace(one_person(), weight=torch.zeros_like(one_person().weight))
    many = toy["toy_pairs"](1, labels=500)
    broken = {"nudge": dataclasses.replace(toy["Nudge"](), clip_norm=0.5)}
    sizes = {
        sum(len(part.deflate()) for part in get_all_nested_objects(reply).values() if not isinstance(part, Message))
        for reply in (
            ask(device(), toy["toy_request"](CENTRAL)),
            ask(device(pairs=empty), toy["toy_request"](CENTRAL)),
            ask(device(pairs=many), toy["toy_request"](CENTRAL)),
            ask(device(phases=broken), toy["toy_request"](CENTRAL)),
        )
    }
    assert len(sizes) == 1


def test_a_person_without_labels_sends_noise_alone() -> None:
    empty = dataclasses.replace(one_person(), weight=torch.zeros_like(one_person().weight))
    plan = lab["MASKED_PLAN"]
    noise = NoiseStream.seeded(1, 0, 0, 0).discrete_gaussian(plan["nudge"].share_variance, DIM)
    assert np.array_equal(unmasked(device(pairs=empty), toy["toy_request"](plan)), to_ring(noise))


def test_a_device_is_one_person() -> None:
    with pytest.raises(ValueError, match="users=2"):
        device(pairs=toy["toy_pairs"](2))


def test_a_device_shows_nothing_of_itself() -> None:
    assert repr(device()) == "Device()"
    assert repr(Contribution(vector=np.arange(3, dtype=np.uint32), devices=1)) == "Contribution(devices=1)"


def test_the_deployed_client_app_declines_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    message = Message(request_to_record(toy["toy_request"](PLAN)), dst_node_id=2, message_type=TRAIN)
    context = Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})
    reply = app(message, context)
    assert (reply.error.code, reply.error.reason) == (100, "declined")
    assert "homespun simulate" in caplog.text
    assert apps.app is app


class Overheard(InProcessGrid):
    """Keeps all that crosses, in both directions."""

    heard: ClassVar[list[str]] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        kept = list(messages)
        Overheard.heard += map(everything, kept)
        return super().push_messages(kept)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(super().pull_messages(message_ids))
        Overheard.heard += map(everything, replies)
        return replies


class Silent:
    def stage(self, name: str, total: int | None = None) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def round(self, status: Any) -> None: ...
    def note(self, text: str) -> None: ...


@pytest.mark.parametrize("engine_name", ["vectorised", "faithful"])
def test_no_preference_is_anywhere_after_a_run(
    engine_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A canary in every text and every name; some people's statistics fail with a text that quotes it."""
    rows = data["choices"](mark=CANARY)
    file = data["write_jsonl"](tmp_path / "said.jsonl", rows)
    monkeypatch.setenv("HOMESPUN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(world, "load", toy["stand_in_encoder"])
    monkeypatch.setattr(world, "embed", toy["stand_in_embed"])
    monkeypatch.setattr(training, "preference_learner", toy["toy_learner"])
    monkeypatch.setattr(commands, "reference_methods", lambda *_: ({}, {}))
    monkeypatch.setattr(engine, "InProcessGrid", Overheard)
    monkeypatch.setattr(Overheard, "heard", [])
    statistic = toy["Spread"].statistic

    def sometimes(self: Any, backbone: Backbone, data: Pairs, round: int) -> torch.Tensor:
        if data.users == 1 and int(data.chosen[0, 0]) % 5 == 0:
            raise ValueError(f"unexpected preference: {CANARY}")
        if data.users > 1:
            raise ValueError(f"unexpected preferences: {CANARY}")
        return statistic(self, backbone, data, round)

    monkeypatch.setattr(toy["Spread"], "statistic", sometimes)
    told: list[str] = []

    class Listening(Silent):
        def stage(self, name: str, total: int | None = None) -> None:
            told.append(name)

        def round(self, status: Any) -> None:
            told.append(repr(status))

        def note(self, text: str) -> None:
            told.append(text)

    given = {
        "data": str(file),
        "shots": (0, 5),
        "dim": 6,
        "rank": 2,
        "engine": engine_name,
        "out": str(tmp_path / "runs"),
    }
    with caplog.at_level(logging.DEBUG):
        summary = commands.simulate(given, None, Listening())
    assert "a statistic failed" in caplog.text  # it did happen
    out, err = capfd.readouterr()
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(files) > 8
    found = {str(path): path.read_bytes().decode("latin-1") for path in files}
    found |= {"log": logged(caplog), "stdout": out, "stderr": err, "told": repr(told), "summary": repr(summary)}
    found |= {f"message {number}": heard for number, heard in enumerate(Overheard.heard)}
    assert len(Overheard.heard) >= 6
    texts = re.compile(rf"{CANARY}|somebody-\d|quiet river|Say something", re.IGNORECASE)
    assert [name for name, text in found.items() if texts.search(text)] == []
    assert texts.search(file.read_text())  # the search itself finds


def test_an_error_about_data_does_not_quote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "load", toy["stand_in_encoder"])
    monkeypatch.setattr(world, "embed", toy["stand_in_embed"])
    rows = list(data["choices"](mark=CANARY, people=3))
    spoilt = [*rows, {**rows[0], "rejected": rows[0]["chosen"]}]
    for number, content in enumerate((rows, spoilt)):
        file = data["write_jsonl"](tmp_path / f"{number}.jsonl", content)
        with pytest.raises(ValueError) as caught:
            commands.simulate({"data": str(file), "out": str(tmp_path / "runs")}, None, Silent())
        told = io.StringIO()
        traceback.print_exception(caught.value, file=told)
        assert CANARY not in told.getvalue()
