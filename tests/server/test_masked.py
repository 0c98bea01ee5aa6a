"""Masked rounds over a Grid: real parties of the protocol, and whatever can happen to their answers."""

import dataclasses
import itertools
import json
import logging
import os
import runpy
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict

from homespun import secagg
from homespun.personal import Backbone
from homespun.privacy import CohortTooSmall, NoiseStream, PrivacyError, ReservationError, contribute, ring_sum
from homespun.privacy.ledger import LEDGER_NAME, Ledger
from homespun.secagg import Aborted, Identity, Terms
from homespun.server import attempts, masked
from homespun.server import cohort as cohorts
from homespun.server.attempts import ATTEMPTS, take_attempt
from homespun.server.cohort import Answers
from homespun.server.coordinator import RoundReport, Training, coordinate
from homespun.server.masked import masked_sum, terms_of
from homespun.simulations.grid import InProcessGrid
from homespun.wire import (
    ADVERTISE,
    CONSENT,
    MASK,
    REVEAL,
    SHARE,
    RoundRequest,
    StepRequest,
    advertise_from_record,
    masked_to_record,
    reply_to_record,
    request_digest,
    step_from_record,
)
from homespun.wire.flower import in_process_identity

toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
PEOPLE, FEWEST = 12, 9
DIM = toy["DIM"]
STEPS = (ADVERTISE, SHARE, MASK, CONSENT, REVEAL)
MANY = 210  # more than a complete graph has
IDENTITIES = tuple(Identity.from_bytes(bytes([number]) * 32) for number in range(1, MANY + 1))
ROSTER = tuple(identity.public for identity in IDENTITIES[:PEOPLE])
PLAN = toy["toy_plan"](PEOPLE, min_survivors=FEWEST)
Tamper = Callable[[Message, list[Message]], list[Message]]
"""What becomes of a reply, given all replies so far, it included."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for: in this process an answer is there or never comes."""
    for name in ("NODES_POLL_SECONDS", "NODES_TIMEOUT_SECONDS", "ROUND_TIMEOUT_SECONDS"):
        monkeypatch.setattr(cohorts, name, 0.0)
    monkeypatch.setattr(masked, "STAGE_TIMEOUT_SECONDS", 0.0)


class Party:
    """A device without ledger, policy and data: the protocol's client, and a memory of what it was asked."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.seen: list[tuple[int, int]] = []
        self._client: secagg.Client
        self._request: RoundRequest

    def answer(self, kind: str, content: RecordDict) -> RecordDict:
        """Answer a step; raises on whatever it would refuse."""
        if kind == ADVERTISE:
            self._request, step = advertise_from_record(content)
            terms = Terms.decode(step.payload)
            asked = self._request.round, self._request.attempt
            if asked in self.seen or terms.context.hex() != request_digest(self._request):
                raise PrivacyError("Expected an attempt that was not seen before.")
            self.seen.append(asked)
            self._client = secagg.Client(terms, IDENTITIES[self.place])
            return reply_to_record(self._client.advert.encode())
        payload = step_from_record(content, kind).payload
        if kind == SHARE:
            return reply_to_record(self._client.share(secagg.Adverts.decode(payload).adverts).encode())
        if kind == MASK:
            row = vector_of(self._request, self.place)
            answer = self._client.mask(row, secagg.Inbox.decode(payload))
            return masked_to_record(answer.vector, answer.acks)
        if kind == CONSENT:
            return reply_to_record(self._client.consent(secagg.Survivors.decode(payload)).encode())
        return reply_to_record(self._client.reveal(secagg.RevealRequest.decode(payload)).encode())


def vector_of(request: RoundRequest, place: int) -> np.ndarray:
    """What a person contributes: everybody's own row of a small statistic, and their share of the noise."""
    rows = toy["torch"].full((1, DIM), 0.01 * (place + 1))
    with NoiseStream.seeded(5, request.round, place) as stream:
        return contribute(rows, request.release, devices=1, noise=stream)


class Link(InProcessGrid):
    """A Grid whose replies pass through somebody's hands; what was sent is kept."""

    def __init__(
        self,
        run: Any,
        *,
        people: int = PEOPLE,
        tamper: Tamper = lambda reply, seen: [reply],
        on_push: Callable[[str], object] = lambda kind: None,
    ) -> None:
        self.parties = [Party(place) for place in range(people)]
        super().__init__(self._app, people, run)
        self._tamper, self._on_push = tamper, on_push
        self.sent: list[Message] = []
        self._all: list[Message] = []

    def _app(self, message: Message, context: Context) -> Message:
        party = self.parties[int(context.node_config["partition-id"])]
        try:
            return Message(party.answer(message.metadata.message_type, message.content), reply_to=message)
        except (secagg.SecAggError, PrivacyError):
            return Message(Error(100, "declined"), reply_to=message)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        kept = list(messages)
        for kind in dict.fromkeys(message.metadata.message_type for message in kept):
            self._on_push(kind)
        self.sent += kept
        return super().push_messages(kept)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(super().pull_messages(message_ids))
        self._all += replies
        return list(itertools.chain.from_iterable(self._tamper(reply, self._all) for reply in replies))

    def count(self, kind: str) -> int:
        """How many messages of a type were sent."""
        return sum(message.metadata.message_type == kind for message in self.sent)

    def sessions(self) -> list[bytes]:
        """Sessions in the order in which they were begun."""
        found = (bytes(message.content["step"]["session"]) for message in self.sent)  # type: ignore[index,arg-type]
        return list(dict.fromkeys(found))


def place_of(message: Message) -> int:
    """Index of the party that sent, or is sent, a message."""
    return max(message.metadata.src_node_id, message.metadata.dst_node_id) - 2


def kind_of(reply: Message) -> str:
    """Message type of what a reply answers."""
    return str(reply.metadata.message_type)


def spoiling(kind: str, places: Iterable[int], change: Callable[[Message, list[Message]], list[Message]]) -> Tamper:
    """Change what some parties answer at one step."""
    chosen = set(places)

    def tamper(reply: Message, seen: list[Message]) -> list[Message]:
        return change(reply, seen) if kind_of(reply) == kind and place_of(reply) in chosen else [reply]

    return tamper


def silent_from(step: str, places: Iterable[int]) -> Tamper:
    """Some parties answer nothing from a step on."""
    chosen, gone = set(places), STEPS[STEPS.index(step) :]
    return lambda reply, seen: [] if kind_of(reply) in gone and place_of(reply) in chosen else [reply]


def again(reply: Message, content: RecordDict | Error, **metadata: Any) -> Message:
    """The same reply with another content; ``metadata`` is overwritten, as a hostile node can."""
    request = Message(RecordDict(), dst_node_id=reply.metadata.src_node_id, message_type=kind_of(reply))
    request.metadata.__dict__["_message_id"] = reply.metadata.reply_to_message_id
    twin = Message(content, reply_to=request)
    for name, value in {"reply_to_message_id": reply.metadata.reply_to_message_id, **metadata}.items():
        twin.metadata.__dict__[f"_{name}"] = value
    return twin


@dataclasses.dataclass
class Sum:
    """One attempt at one round."""

    answers: Answers | None
    aborted: Aborted | None
    opened: list[tuple[bytes, int, int]]
    """Transcript, survivors, and how many reveals had been asked for by then."""
    link: Link
    request: RoundRequest

    def expect(self, places: Iterable[int]) -> None:
        """The sum of exactly these people's vectors came out, and was announced before it was opened."""
        places = sorted(places)
        assert self.answers is not None
        (total,) = self.answers.contributions
        vectors = [vector_of(self.request, place) for place in places]
        assert np.array_equal(total.vector, ring_sum(vectors, dimension=DIM))
        assert total.devices == self.answers.devices == len(places)
        ((transcript, survivors, revealed),) = self.opened
        assert (len(transcript), survivors, revealed) == (32, len(places), 0)


def attempt(tamper: Tamper = lambda reply, seen: [reply], **changes: Any) -> Sum:
    request = toy["toy_request"](PLAN, **changes)
    terms = terms_of(request.release, ROSTER, context=bytes.fromhex(request_digest(request)))
    opened: list[tuple[bytes, int, int]] = []
    with in_process_identity() as flower:
        link = Link(flower, tamper=tamper)

        def opening(transcript: bytes, survivors: int) -> None:
            opened.append((transcript, survivors, link.count(REVEAL)))

        answers, aborted = None, None
        try:
            nodes = list(link.get_node_ids())
            answers = masked_sum(link, nodes, terms, request, opening=opening)
        except Aborted as error:
            aborted = error
    return Sum(answers=answers, aborted=aborted, opened=opened, link=link, request=request)


def test_the_sum_of_everybody() -> None:
    made = attempt()
    made.expect(range(PEOPLE))
    assert made.answers is not None
    assert dict(made.answers.steps) == {
        "advertise": PEOPLE, "share": PEOPLE, "mask": PEOPLE, "consent": PEOPLE, "reveal": PEOPLE,
    }  # fmt: skip
    assert made.answers.messages == PEOPLE
    row = 116 + 37  # a sealed pair of shares, and a share, for each of the others; a vector; advert and consent
    each = (PEOPLE - 1) * row + 2 * 8 + 4 * DIM + 164 + 68
    assert PEOPLE * each <= made.answers.reply_bytes <= PEOPLE * (each + row)
    assert [made.link.count(kind) for kind in STEPS] == [PEOPLE] * 5


def test_no_vector_is_seen_without_its_masks() -> None:
    """What left at MASK is neither a person's vector, nor the same twice."""
    seen: list[np.ndarray] = []

    def look(reply: Message, all_: list[Message]) -> list[Message]:
        if kind_of(reply) == MASK:
            seen.append(reply.content["masked"]["vector"].numpy())  # type: ignore[index,union-attr]
        return [reply]

    first, second = attempt(look), attempt(look)
    assert len(seen) == 2 * PEOPLE and len({row.tobytes() for row in seen}) == 2 * PEOPLE
    plain = {vector_of(first.request, place).tobytes() for place in range(PEOPLE)}
    assert not plain & {row.tobytes() for row in seen}
    assert first.answers is not None and second.answers is not None
    assert np.array_equal(first.answers.contributions[0].vector, second.answers.contributions[0].vector)


@pytest.mark.parametrize("step", STEPS)
def test_who_falls_silent_is_left_out(step: str) -> None:
    """From any step on; whose masked vector had arrived is in the sum."""
    gone = (0, 5, 11)
    made = attempt(silent_from(step, gone))
    made.expect(set(range(PEOPLE)) - set(gone) if STEPS.index(step) <= 2 else range(PEOPLE))
    for number, kind in enumerate(STEPS):
        missing = len(gone) if number > STEPS.index(step) and kind in (SHARE, MASK, CONSENT, REVEAL) else 0
        # of those whose vectors arrived, everybody is asked for a share, whether or not they consented
        assert made.link.count(kind) == PEOPLE - (missing if STEPS.index(step) <= 2 else 0)


def test_dropouts_at_every_step_at_once() -> None:
    gone = {ADVERTISE: 3, MASK: 7, REVEAL: 1}

    def tamper(reply: Message, seen: list[Message]) -> list[Message]:
        for kind, place in gone.items():
            if place_of(reply) == place and STEPS.index(kind_of(reply)) >= STEPS.index(kind):
                return []
        return [reply]

    attempt(tamper).expect(set(range(PEOPLE)) - {3, 7})


def _stolen(reply: Message, seen: list[Message]) -> list[Message]:
    """An answer in the name of party 11, who comes later; shares bear no signature, so these are made up."""
    theirs = next(other for other in seen if kind_of(other) == kind_of(reply) and place_of(other) == 11).content
    if kind_of(reply) == SHARE:
        shares = secagg.SealedShares.decode(bytes(theirs["reply"]["payload"]))  # type: ignore[index,arg-type]
        rows = tuple(secagg.messages.Sealed(row.to, bytes(80), bytes(16), bytes(16)) for row in shares.rows)
        theirs = reply_to_record(dataclasses.replace(shares, rows=rows).encode())
    return [again(reply, theirs)]


def _late(reply: Message, seen: list[Message]) -> list[Message]:
    """The party's answer to the step before, once more, and nothing else."""
    before = STEPS[STEPS.index(kind_of(reply)) - 1]
    late = [other for other in seen if kind_of(other) == before and place_of(other) == place_of(reply)]
    return [again(reply, late[0].content)] if late else []


def _garbled(reply: Message, seen: list[Message]) -> list[Message]:
    content = reply.content
    if kind_of(reply) == MASK:
        return [again(reply, masked_to_record(np.zeros(DIM + 1, np.uint32), b""))]
    payload = bytes(content["reply"]["payload"])  # type: ignore[index,arg-type]
    return [again(reply, reply_to_record(payload[:-1]))]


SPOILT: dict[str, Callable[[Message, list[Message]], list[Message]]] = {
    "silence": lambda reply, seen: [],
    "an error": lambda reply, seen: [again(reply, Error(2, "the text of a stranger"))],
    "Flower's error for a node that went away": lambda reply, seen: [again(reply, Error(5, "gone"), src_node_id=1)],
    "an empty record": lambda reply, seen: [again(reply, RecordDict())],
    "another record": lambda reply, seen: [
        again(reply, RecordDict({**reply.content, "loss": ConfigRecord({"x": 1.0})}))
    ],
    "no payload": lambda reply, seen: [again(reply, RecordDict({"reply": ConfigRecord({"payload": b""})}))],
    "a payload beyond its cap": lambda reply, seen: [again(reply, reply_to_record(bytes(10**6)))],
    "a payload of noise": lambda reply, seen: [again(reply, reply_to_record(os.urandom(300)))],
    "a byte less": _garbled,
    "an answer of the step before": _late,
    "an answer in another's name": _stolen,
    "an answer from another node": lambda reply, seen: [again(reply, reply.content, src_node_id=2)],
    "an answer to nothing": lambda reply, seen: [again(reply, reply.content, reply_to_message_id="1-9999")],
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", SPOILT)
def test_an_answer_that_does_not_fit_is_left_out(what: str, step: str, caplog: pytest.LogCaptureFixture) -> None:
    """It ends nothing and changes nothing: the rest is summed, bit for bit."""
    gone = (4, 8)
    with caplog.at_level(logging.INFO, "homespun.server"):
        made = attempt(spoiling(step, gone, SPOILT[what]))
    if what == "an answer in another's name" and step == MASK:
        # A vector has no sender in it: it counts for the node that sent it, and spoils the sum as any vector may.
        assert made.answers is not None and made.answers.devices == PEOPLE
        return
    made.expect(set(range(PEOPLE)) - set(gone) if STEPS.index(step) <= 2 else range(PEOPLE))
    assert made.answers is not None
    assert made.answers.steps[step.removeprefix("train.")] == PEOPLE - len(gone)
    if what not in ("silence", "an answer to nothing") and not (
        what == "an answer of the step before" and step == ADVERTISE
    ):
        assert caplog.text.count("refused") == len(gone)
    assert "stranger" not in caplog.text


def test_answers_count_once() -> None:
    def twice(reply: Message, seen: list[Message]) -> list[Message]:
        return [reply, reply, again(reply, reply.content)]

    made = attempt(twice)
    made.expect(range(PEOPLE))
    assert made.answers is not None and set(made.answers.steps.values()) == {PEOPLE}


def test_the_order_of_answers_does_not_matter() -> None:
    """Everybody's answers are held back, and come in the reverse order."""
    kept: list[Message] = []

    def hold(reply: Message, seen: list[Message]) -> list[Message]:
        kept.append(reply)
        if len(kept) < PEOPLE:
            return []
        out = kept[::-1]
        kept.clear()
        return out

    attempt(hold).expect(range(PEOPLE))


@pytest.mark.parametrize("step", STEPS)
def test_too_few_are_not_opened(step: str) -> None:
    """Below the minimum before the sum is made, nobody is asked for a share. Below the threshold after it, nothing opens."""
    left = FEWEST - 1 if STEPS.index(step) <= 2 else 3
    made = attempt(silent_from(step, range(PEOPLE - left)))
    assert made.answers is None and made.aborted is not None
    assert made.aborted.stage.value == step.removeprefix("train.")
    came = f"{step.removeprefix('train.')} {left}"
    assert f"Of {PEOPLE} who were asked, so many answered:" in str(made.aborted) and came in str(made.aborted)
    if step != REVEAL:
        assert made.opened == [] and made.link.count(REVEAL) == 0
    later = STEPS[STEPS.index(step) + 1 :]
    assert all(made.link.count(kind) == 0 for kind in later)


def test_a_sum_of_more_than_a_complete_graph_has() -> None:
    """Everybody masks with some; what they say of whom they masked with travels beside the vector."""
    plan = toy["toy_plan"](MANY, min_survivors=MANY - 20)
    request = toy["toy_request"](plan)
    roster = [identity.public for identity in IDENTITIES]
    terms = terms_of(request.release, roster, context=bytes.fromhex(request_digest(request)))
    assert terms.sparse
    gone = {SHARE: range(7), MASK: range(100, 108), REVEAL: range(200, 205)}

    def tamper(reply: Message, seen: list[Message]) -> list[Message]:
        step = STEPS.index(kind_of(reply))
        left = any(place_of(reply) in places and step >= STEPS.index(kind) for kind, places in gone.items())
        return [] if left else [reply]

    with in_process_identity() as flower:
        link = Link(flower, people=MANY, tamper=tamper)
        opened: list[int] = []
        answers = masked_sum(
            link, list(link.get_node_ids()), terms, request, opening=lambda transcript, count: opened.append(count)
        )
    survivors = sorted(set(range(MANY)) - {*gone[SHARE], *gone[MASK]})
    vectors = [vector_of(request, place) for place in survivors]
    assert np.array_equal(answers.contributions[0].vector, ring_sum(vectors, dimension=DIM))
    assert opened == [answers.devices] == [len(survivors)]
    assert answers.steps["mask"] == len(survivors) and answers.steps["reveal"] == len(survivors) - 5
    assert link.count(CONSENT) <= len(survivors)


def test_an_opening_that_fails_reveals_nothing() -> None:
    """A ledger that cannot be written to: nobody is asked for what opens the sum."""
    request = toy["toy_request"](PLAN)
    terms = terms_of(request.release, ROSTER, context=bytes.fromhex(request_digest(request)))

    def refuse(transcript: bytes, survivors: int) -> None:
        raise ReservationError("Expected an open reservation.")

    with in_process_identity() as flower:
        link = Link(flower)
        with pytest.raises(ReservationError):
            masked_sum(link, list(link.get_node_ids()), terms, request, opening=refuse)
    assert link.count(CONSENT) == PEOPLE and link.count(REVEAL) == 0


def test_what_is_sent_is_what_the_schema_allows() -> None:
    link = attempt().link
    for message in link.sent:
        first = message.metadata.message_type == ADVERTISE
        assert set(message.content) == ({"round", "backbone", "step"} if first else {"step"})
        assert set(message.content["step"]) == {"session", "payload"}
    assert len(link.sessions()) == 1 and len(link.sessions()[0]) == 32


# Attempts and rounds


def training(*, roster: tuple[bytes, ...] | None = ROSTER, plan: Any = PLAN) -> Training[Backbone]:
    return dataclasses.replace(toy["toy_training"](plan, (1,) * PEOPLE), roster=roster)


@dataclasses.dataclass
class Run:
    """What one call of the coordinator did."""

    state: Backbone | None
    error: BaseException | None
    reports: list[RoundReport[Backbone]]
    link: Link


def run(folder: Path, *, link: Callable[[Any], Link] = Link) -> Run:
    """Run, or go on with, the training in a folder; what ends it is kept."""
    reports: list[RoundReport[Backbone]] = []
    state: Backbone | None = None
    caught: BaseException | None = None
    with in_process_identity() as flower, toy["toy_ledger"](folder, PLAN) as ledger:
        grid = link(flower)
        try:
            state = coordinate(training(), grid, ledger, folder / "checkpoints", reports.append)
        except (CohortTooSmall, KeyboardInterrupt) as error:
            caught = error
    return Run(state=state, error=caught, reports=reports, link=grid)


def entries(folder: Path) -> list[Any]:
    with Ledger.open(folder / LEDGER_NAME, None) as ledger:
        return list(ledger.entries())


def kinds(folder: Path) -> list[str]:
    return [entry.kind.value for entry in entries(folder)]


def test_a_masked_run_is_the_plain_run_of_the_same_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks are gone to the last bit: same sums, same backbone, same noise."""
    made = run(tmp_path)
    assert made.state is not None

    def plain(grid: Any, nodes: Any, members: Any, request: RoundRequest, cohort: Any) -> Answers:
        rows = tuple(cohorts.Contribution(vector=vector_of(request, place), devices=1) for place in range(PEOPLE))
        return Answers(contributions=rows, messages=PEOPLE, reply_bytes=0)

    monkeypatch.setattr("homespun.server.coordinator.ask", plain)
    (tmp_path / "plain").mkdir()
    with in_process_identity() as flower, toy["toy_ledger"](tmp_path / "plain", PLAN) as ledger:
        state = coordinate(training(roster=None), Link(flower), ledger, tmp_path / "plain" / "checkpoints")
    assert made.state.digest == state.digest
    assert kinds(tmp_path) == ["genesis", *["reserve", "open", "commit"] * 3]
    assert kinds(tmp_path / "plain") == ["genesis", *["reserve", "commit"] * 3]


def test_what_is_told_of_a_masked_round(tmp_path: Path) -> None:
    made = run(tmp_path, link=lambda flower: Link(flower, tamper=silent_from(MASK, (2, 3))))
    for number, report in enumerate(made.reports):
        known = report.checkpoint
        assert (known.round, known.devices, known.messages, known.attempts) == (number, PEOPLE - 2, PEOPLE, 1)
        left = PEOPLE - 2
        assert known.steps == {"advertise": PEOPLE, "share": PEOPLE, "mask": left, "consent": left, "reveal": left}
        state = json.loads((tmp_path / "checkpoints" / f"round-{number:04d}" / "state.json").read_text())
        assert (state["attempts"], state["steps"]) == (1, known.steps)
    written = entries(tmp_path)
    facts = [entry.body["facts"] for entry in written if entry.kind.value == "commit"]
    assert facts == [{"asked": PEOPLE, "answered": PEOPLE - 2, "attempts": 1}] * 3
    opened = [entry.body for entry in written if entry.kind.value == "open"]
    assert [(body["attempt"], body["survivors"]) for body in opened] == [(0, PEOPLE - 2)] * 3
    assert len({body["transcript_sha256"] for body in opened}) == 3


def test_an_opening_is_in_the_ledger_before_the_first_reveal_is_asked_for(tmp_path: Path) -> None:
    found: list[tuple[str, list[str]]] = []

    def link(flower: Any) -> Link:
        return Link(flower, on_push=lambda kind: found.append((kind, kinds(tmp_path)[-2:])))

    run(tmp_path, link=link)
    assert [kind for kind, _ in found] == list(STEPS) * 3
    for kind, last in found:
        assert last[-1] == ("open" if kind == REVEAL else "reserve")


@pytest.mark.parametrize("step", [ADVERTISE, SHARE, MASK, CONSENT, REVEAL])
def test_another_attempt_has_other_terms_and_asks_everybody_again(step: str, tmp_path: Path) -> None:
    """The first attempt fails at a step; the next one goes through, with nothing of the first in it."""
    lost = silent_from(step, range(PEOPLE - 3))
    first = True

    def link(flower: Any) -> Link:
        def begun(kind: str) -> None:
            nonlocal first
            first = grid.count(ADVERTISE) < PEOPLE or (first and kind != ADVERTISE)

        grid = Link(flower, tamper=lambda reply, seen: lost(reply, seen) if first else [reply], on_push=begun)
        return grid

    made = run(tmp_path, link=link)
    assert made.state is not None and made.error is None
    assert [report.checkpoint.attempts for report in made.reports] == [2, 1, 1]
    assert [report.checkpoint.devices for report in made.reports] == [PEOPLE] * 3
    assert made.link.count(ADVERTISE) == 4 * PEOPLE and len(made.link.sessions()) == 4
    assert all(party.seen == [(0, 0), (0, 1), (1, 0), (2, 0)] for party in made.link.parties)
    keys = [reply.content["reply"]["payload"] for reply in made.link._all if kind_of(reply) == ADVERTISE]  # type: ignore[index]
    assert len(set(keys)) == 4 * PEOPLE
    opened = [entry.body["attempt"] for entry in entries(tmp_path) if entry.kind.value == "open"]
    assert opened == ([0, 1, 0, 0] if step == REVEAL else [1, 0, 0])
    facts = [entry.body["facts"]["attempts"] for entry in entries(tmp_path) if entry.kind.value == "commit"]
    assert facts == [2, 1, 1]


class Cheat(Party):
    """Deals shares of another secret than it announced, each time: no sum with it can be opened."""

    def answer(self, kind: str, content: RecordDict) -> RecordDict:
        if kind == SHARE:
            self._client._fresh = dataclasses.replace(self._client._fresh, self_secret=1)  # type: ignore[type-var]
        return super().answer(kind, content)


def test_who_dealt_false_shares_is_not_asked_again(tmp_path: Path) -> None:
    """Two cheats cost two attempts, not the training; in the next round they are asked like everybody."""

    def link(flower: Any) -> Link:
        grid = Link(flower)
        for place in (2, 5):
            grid.parties[place] = Cheat(place)
        return grid

    made = run(tmp_path, link=link)
    assert made.error is None
    assert [report.checkpoint.attempts for report in made.reports] == [ATTEMPTS] * 3
    assert [report.checkpoint.devices for report in made.reports] == [PEOPLE - 2] * 3
    assert made.link.parties[2].seen == [(0, 0), (1, 0), (2, 0)]
    assert made.link.parties[5].seen == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert made.link.parties[0].seen == [(number, attempt) for number in range(3) for attempt in range(ATTEMPTS)]


def test_a_round_that_never_opens_says_how_far_it_came(tmp_path: Path) -> None:
    made = run(tmp_path, link=lambda flower: Link(flower, tamper=silent_from(MASK, range(5))))
    text = str(made.error)
    assert isinstance(made.error, CohortTooSmall)
    assert f"Expected round 0 to be opened within {ATTEMPTS} attempts." in text
    for number in range(ATTEMPTS):
        assert f"Attempt {number} ended at step mask" in text
    assert text.count("advertise 12, share 12, mask 7") == ATTEMPTS and "taken up where it stands" in text
    assert kinds(tmp_path) == ["genesis", "reserve"] and made.link.count(REVEAL) == 0
    # taken up again: not paid for again, and no number is used twice
    parties = made.link.parties

    def link(flower: Any) -> Link:
        grid = Link(flower)
        grid.parties = parties
        return grid

    later = run(tmp_path, link=link)
    assert later.error is None
    assert kinds(tmp_path) == ["genesis", *["reserve", "open", "commit"] * 3]
    assert later.reports[0].checkpoint.attempts == ATTEMPTS + 1
    assert parties[0].seen == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("round_", [0, 1])
def test_a_killed_server_goes_on_with_another_attempt(step: str, round_: int, tmp_path: Path) -> None:
    """SIGKILL in the middle of a step, in a process of its own; the devices remember what they were asked."""
    kill_at = 1 + len(STEPS) * round_ + STEPS.index(step)
    child = os.fork()
    if child == 0:  # pragma: no cover
        pushes = itertools.count(1)

        def die(kind: str) -> None:
            if next(pushes) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        run(tmp_path, link=lambda flower: Link(flower, on_push=die))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    before = kinds(tmp_path)
    whole = ["reserve", "open", "commit"]
    assert before == ["genesis", *whole * round_, "reserve", *(["open"] if step == REVEAL else [])]

    def link(flower: Any) -> Link:
        grid = Link(flower)
        for party in grid.parties:
            party.seen = [(number, 0) for number in range(round_ + 1)]  # what the killed server asked of them
        return grid

    made = run(tmp_path, link=link)
    assert made.state is not None and made.error is None
    assert kinds(tmp_path) == before + ["open", "commit"] + whole * (2 - round_)
    assert [report.checkpoint.attempts for report in made.reports] == [2, *[1] * (2 - round_)]
    assert made.link.count(ADVERTISE) == PEOPLE * (3 - round_)
    opened = [entry.body["attempt"] for entry in entries(tmp_path) if entry.kind.value == "open"]
    assert opened == [0] * round_ + ([0, 1] if step == REVEAL else [1]) + [0] * (2 - round_)


def test_the_ledger_remembers_attempts_that_were_opened(tmp_path: Path) -> None:
    """Should the count beside the checkpoints be lost, no attempt that was opened is repeated."""
    run(tmp_path, link=lambda flower: Link(flower, tamper=silent_from(REVEAL, range(9))))
    assert kinds(tmp_path) == ["genesis", "reserve", *["open"] * ATTEMPTS]
    (tmp_path / "checkpoints" / attempts.FILE).unlink()
    made = run(tmp_path)
    assert made.error is None and made.reports[0].checkpoint.attempts == ATTEMPTS + 1


def test_a_round_with_a_checkpoint_is_not_asked_for_again(tmp_path: Path) -> None:
    """Killed between the checkpoint and the commit: the masked sum was used, the devices are left alone."""
    first = run(tmp_path)
    assert first.state is not None
    (tmp_path / "again").mkdir()

    def observe(report: RoundReport[Backbone]) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "again"
    with in_process_identity() as flower, toy["toy_ledger"](folder, PLAN) as ledger, pytest.raises(KeyboardInterrupt):
        coordinate(training(), Link(flower), ledger, folder / "checkpoints", observe)
    assert kinds(folder) == ["genesis", "reserve", "open"]
    made = run(folder)
    assert made.state is not None and made.state.digest == first.state.digest
    assert all(party.seen == [(1, 0), (2, 0)] for party in made.link.parties)
    assert kinds(folder) == ["genesis", *["reserve", "open", "commit"] * 3]


def test_attempts_are_counted_by_round(tmp_path: Path) -> None:
    folder = tmp_path / "fold-0" / "checkpoints"
    assert [take_attempt(folder, 0, least=0) for _ in range(3)] == [0, 1, 2]
    assert [take_attempt(folder, 1, least=least) for least in (0, 0, 5, 0)] == [0, 1, 5, 6]
    assert take_attempt(folder, 0, least=0) == 3
    assert json.loads((folder / attempts.FILE).read_text()) == {"0": 4, "1": 7}
    assert [path.name for path in folder.iterdir()] == [attempts.FILE]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"0": -1}', b'{"0": "1"}', b'{"0": true}', b"[" * 10**5, b"\xff"]
)
def test_damaged_attempts_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / attempts.FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"attempts\.json to hold the attempts that were written"):
        take_attempt(tmp_path, 0, least=0)
    assert (tmp_path / attempts.FILE).read_bytes() == content


def _rosters() -> Mapping[str, tuple[bytes, ...]]:
    return {
        "one missing": ROSTER[:-1],
        "one too many": (*ROSTER, Identity.generate().public),
        "somebody twice": (*ROSTER[:-1], ROSTER[0]),
        "a key cut short": (*ROSTER[:-1], ROSTER[-1][:-1]),
        "nobody": (),
    }


@pytest.mark.parametrize("what", _rosters())
def test_a_roster_that_is_not_the_nodes_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="roster|identities"):
        training(roster=_rosters()[what])


def test_what_cannot_be_masked_is_refused_before_anything_is_paid() -> None:
    with pytest.raises(ValueError, match="trust='central'"):
        training(plan=toy["toy_plan"](PEOPLE, trust=toy["Trust"].CENTRAL))
    with pytest.raises(ValueError, match="can be masked"):  # a majority may be missing: two lists could be opened
        training(plan=toy["toy_plan"](PEOPLE, min_survivors=3))
    with pytest.raises(ValueError, match="one behind each node"):
        cells = toy["toy_training"](PLAN, (PEOPLE // 2, PEOPLE // 2))
        dataclasses.replace(cells, roster=ROSTER[:2])


def test_terms_are_bound_to_the_attempt() -> None:
    requests = [toy["toy_request"](PLAN, attempt=number) for number in range(2)]
    first, second = (terms_of(r.release, ROSTER, context=bytes.fromhex(request_digest(r))) for r in requests)
    assert first.digest != second.digest
    assert (first.min_survivors, first.colluding, first.dimension) == (FEWEST, 0, DIM)
    assert isinstance(StepRequest(session=first.digest, payload=first.encode()).session, bytes)
