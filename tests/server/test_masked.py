"""Masked rounds over a Grid: real parties of the protocol, and whatever can happen to their answers."""

import dataclasses
import logging
import os
import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from homespun import secagg
from homespun.privacy import ReservationError, ring_sum
from homespun.secagg import Aborted
from homespun.server import cohort as cohorts
from homespun.server import masked
from homespun.server.cohort import Answers
from homespun.server.masked import masked_sum, terms_of
from homespun.wire import (
    ADVERTISE,
    CONSENT,
    MASK,
    REVEAL,
    SHARE,
    RoundRequest,
    masked_to_record,
    reply_to_record,
    request_digest,
)
from homespun.wire.flower import in_process_identity

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_masked_grid.py"))
toy = lab["toy"]
PEOPLE = lab["PEOPLE"]
FEWEST = lab["FEWEST"]
DIM = lab["DIM"]
STEPS = lab["STEPS"]
MANY = lab["MANY"]
IDENTITIES = lab["IDENTITIES"]
ROSTER = lab["ROSTER"]
PLAN = lab["PLAN"]
Tamper = lab["Tamper"]
vector_of = lab["vector_of"]
Link = lab["Link"]
place_of = lab["place_of"]
kind_of = lab["kind_of"]
spoiling = lab["spoiling"]
silent_from = lab["silent_from"]
again = lab["again"]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for: in this process an answer is there or never comes."""
    for name in ("NODES_POLL_SECONDS", "NODES_TIMEOUT_SECONDS", "ROUND_TIMEOUT_SECONDS"):
        monkeypatch.setattr(cohorts, name, 0.0)
    monkeypatch.setattr(masked, "STAGE_TIMEOUT_SECONDS", 0.0)


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
