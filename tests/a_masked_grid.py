"""A Grid of parties of the protocol, and hands through which their answers pass; loaded by path, as tests are no package."""

import itertools
import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Error, Message, RecordDict

from homespun import secagg
from homespun.privacy import NoiseStream, PrivacyError, contribute
from homespun.secagg import Identity, Terms
from homespun.simulations.grid import InProcessGrid
from homespun.wire import (
    ADVERTISE,
    CONSENT,
    MASK,
    REVEAL,
    SHARE,
    RoundRequest,
    advertise_from_record,
    masked_to_record,
    reply_to_record,
    request_digest,
    step_from_record,
)

toy = runpy.run_path(str(Path(__file__).parent / "toy.py"))
PEOPLE, FEWEST = 12, 9
DIM = toy["DIM"]
STEPS = (ADVERTISE, SHARE, MASK, CONSENT, REVEAL)
MANY = 210  # more than a complete graph has
IDENTITIES = tuple(Identity.from_bytes(bytes([number]) * 32) for number in range(1, MANY + 1))
ROSTER = tuple(identity.public for identity in IDENTITIES[:PEOPLE])
PLAN = toy["toy_plan"](PEOPLE, min_survivors=FEWEST)
Tamper = Callable[[Message, list[Message]], list[Message]]
"""What becomes of a reply, given all replies so far, it included."""


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
