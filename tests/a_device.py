"""A device of the toy learner with a witness and an anchor; loaded by path, as tests are no package.

What is about ledgers alone asks for plain rounds, whose owner trusts the server (`PLAN`, `POLICY`). A masked round
(`MASKED_PLAN`, `MASKED_POLICY`) is one of a :class:`Cohort`: the device and four bare parties.
"""

import runpy
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict

from homespun import secagg
from homespun.client import Declined, Device, FileAnchor, Installation, client_app
from homespun.client.vault import GivenKey
from homespun.privacy import Trust
from homespun.privacy.ledger import KeyRole, SigningKey
from homespun.privacy.policy import Policy
from homespun.server.witness import WitnessBook
from homespun.wire import (
    ADVERTISE,
    CONSENT,
    MASK,
    REVEAL,
    SHARE,
    StepRequest,
    advertise_to_record,
    masked_from_record,
    reply_from_record,
    request_digest,
    step_to_record,
)

toy = runpy.run_path(str(Path(__file__).parent / "toy.py"))
KEY = GivenKey(b"k" * 32)
PLAN = toy["toy_plan"](1000, trust=Trust.CENTRAL)
POLICY = Policy(max_epsilon=8.0, delta=1e-6, trust=(Trust.CENTRAL,))
MASKED_PLAN = toy["toy_plan"](5, min_survivors=4)
MASKED_POLICY = Policy(max_epsilon=8.0, delta=1e-6, min_cohort=4)
STEPS = ("advertise", "share", "mask", "consent", "reveal")


def witness(folder: Path) -> WitnessBook:
    """The witness that every device of a test shares."""
    return WitnessBook(folder / "witness.sqlite", SigningKey.from_bytes("w", b"w" * 32, role=KeyRole.COSIGNER))


def installation(folder: Path, **changes: Any) -> Installation:
    """What is installed: the toy learner, the witness, and an anchor outside the device's folder."""
    around = {"witness": witness(folder), "anchor": FileAnchor(folder / "anchor"), "phases": toy["toy_phases"]()}
    return Installation(project="toy", **{**around, **changes})


def create(folder: Path, policy: Policy = POLICY, **changes: Any) -> Device:
    """A new device that knows one person's pairs."""
    device = Device.create(folder / "device", KEY, policy, installation(folder, **changes))
    device.learn(toy["toy_pairs"](3).select(slice(0, 1)))
    return device


def reopen(folder: Path, name: str = "device", **changes: Any) -> Device:
    """Open it again."""
    return Device.open(folder / name, KEY, installation(folder, **changes))


def request(number: int = 0, **changes: Any) -> Any:
    """A round of the plan."""
    return toy["toy_request"](PLAN, round=number, **changes)


def masked_request(number: int = 0, attempt: int = 0, **changes: Any) -> Any:
    """A round of the plan of masked rounds."""
    return toy["toy_request"](MASKED_PLAN, round=number, attempt=attempt, **changes)


def reason(device: Device, asked: Any) -> str:
    """Why a device declines."""
    return why(lambda: device.contribute(asked))


def why(act: Any) -> str:
    """Why something that a device is asked for is declined."""
    try:
        act()
    except Declined as error:
        return error.reason.value
    return "answered"


def refusals(device: Device) -> list[str]:
    """What the device's ledger says that it refused."""
    return [str(entry.body["reason"]) for entry in device.ledger.entries() if entry.kind == "refuse"]


def faults(device: Device) -> list[str]:
    """The words of the protocol for what the device's ledger says that it refused."""
    refused = [entry.body for entry in device.ledger.entries() if entry.kind == "refuse"]
    return [str(body["subject"]["fault"]) for body in refused if body["reason"] == "protocol"]


def terms_of(asked: Any, roster: Sequence[bytes], **changes: Any) -> secagg.Terms:
    """The terms that a faithful server makes for a round; ``changes`` replace fields."""
    release = asked.release
    fields = {
        "context": bytes.fromhex(request_digest(asked)), "dimension": release.dimension, "roster": tuple(roster),
        "min_survivors": release.fewest, "colluding": release.colluding,
    }  # fmt: skip
    return secagg.Terms.of(**{**fields, **changes})


class Outside(Exception):
    """A server got no answer, but this."""

    def __init__(self, reply: Message) -> None:
        super().__init__(reply.error.code, reply.error.reason)
        self.reply = reply


class ThroughApp:
    """A device as a server has it: behind the ClientApp, step by step in Flower messages. In `in_process_identity`."""

    def __init__(self, device: Device) -> None:
        self.device, self.identity = device, device.identity
        self.replies: list[Message] = []

    def send(self, message_type: str, content: RecordDict) -> Message:
        """What comes back for a message."""
        message = Message(content, dst_node_id=2, message_type=message_type)
        context = Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})
        return client_app(lambda _: self.device)(message, context)

    def advertise(self, asked: Any, step: StepRequest) -> bytes:
        return self._payload(ADVERTISE, advertise_to_record(asked, step))

    def share(self, step: StepRequest) -> bytes:
        return self._payload(SHARE, step_to_record(step))

    def mask(self, step: StepRequest) -> Any:
        reply = self._good(self.send(MASK, step_to_record(step)))
        vector, acks = masked_from_record(reply.content, dimension=MASKED_PLAN["nudge"].dimension)
        return secagg.MaskedVector(sender=0, vector=vector, acks=acks)

    def consent(self, step: StepRequest) -> bytes:
        return self._payload(CONSENT, step_to_record(step))

    def reveal(self, step: StepRequest) -> bytes:
        return self._payload(REVEAL, step_to_record(step))

    def _payload(self, message_type: str, content: RecordDict) -> bytes:
        return reply_from_record(self._good(self.send(message_type, content)).content, message_type, parties=5)

    def _good(self, reply: Message) -> Message:
        self.replies.append(reply)
        if reply.has_error():
            raise Outside(reply)
        return reply


class Cohort:
    """The device at place 0, four parties who send zeros, and a server: one attempt at one round, step by step.

    `sends` holds what the server asks the device in each step, as soon as it knows it; a test may change it.
    """

    def __init__(self, device: Device, asked: Any, **terms: Any) -> None:
        self.asked = asked
        self.others = [secagg.Identity.generate() for _ in range(4)]
        roster = (device.identity, *(identity.public for identity in self.others))
        self.terms = terms_of(asked, roster, **terms)
        self.server = secagg.Server(self.terms)
        self.parties = [secagg.Client(self.terms, identity) for identity in self.others]
        self.sends = {"advertise": self.terms.encode()}
        self.vector: Any = None
        self.total: Any = None

    def step(self, name: str) -> StepRequest:
        """What the server asks in a step."""
        return StepRequest(session=self.terms.digest, payload=self.sends[name])

    def ask(self, device: Device, name: str) -> Any:
        """What the device answers in a step."""
        if name == "advertise":
            return device.advertise(self.asked, self.step(name))
        return getattr(device, name)(self.step(name))

    def walk(self, device: Device, until: str = "reveal") -> Any:
        """Go through the steps that are left, up to and with the given one; the device's last answer."""
        done = [name for name in STEPS if name in self.sends][:-1]
        for name in STEPS[len(done) : STEPS.index(until) + 1]:
            answer = self.ask(device, name)
            getattr(self, f"_after_{name}")(answer)
        return answer

    def _after_advertise(self, answer: bytes) -> None:
        self.server.receive(secagg.Advert.decode(answer))
        for party in self.parties:
            self.server.receive(party.advert)
        self.adverts = tuple(self.server.close_adverts())
        self.sends["share"] = secagg.Adverts(adverts=self.adverts).encode()

    def _after_share(self, answer: bytes) -> None:
        self.server.receive(secagg.SealedShares.decode(answer))
        for party in self.parties:
            self.server.receive(party.share(self.adverts))
        self.inboxes = self.server.close_shares()
        self.sends["mask"] = self.inboxes[0].encode()

    def _after_mask(self, answer: Any) -> None:
        self.vector = answer.vector
        self.server.receive(answer)
        for party in self.parties:
            zeros = np.zeros(self.terms.dimension, np.uint32)
            self.server.receive(party.mask(zeros, self.inboxes[party.index]))
        self.survivors = self.server.close_masked()
        self.sends["consent"] = self.survivors.encode()

    def _after_consent(self, answer: bytes) -> None:
        self.server.receive(secagg.Consent.decode(answer))
        for party in self.parties:
            self.server.receive(party.consent(self.survivors))
        self.server.close_consents()
        self.sends["reveal"] = self.server.reveal_request(0).encode()

    def _after_reveal(self, answer: bytes) -> None:
        self.server.receive(secagg.Revealed.decode(answer))
        for party in self.parties:
            self.server.receive(party.reveal(self.server.reveal_request(party.index)))
        self.total = self.server.close()


def copy(source: Path, target: Path) -> None:
    """What a backup does: the files of a closed device."""
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


def damage(path: Path, name: str) -> None:
    """Change a byte of a sealed item."""
    database = sqlite3.connect(path)
    with database:
        (body,) = database.execute("SELECT body FROM items WHERE name = ?", (name,)).fetchone()
        database.execute("UPDATE items SET body = ? WHERE name = ?", (body[:-1] + bytes([body[-1] ^ 1]), name))
    database.close()
