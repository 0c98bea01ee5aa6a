"""The five messages each way of a round under secure aggregation: frames around what `homespun.secagg` encodes.

A request names its session and holds one message of the protocol; `ADVERTISE` holds the round request beside it. A
reply holds one message; at `MASK` that is a vector, and acks beside it. There is no other field::

    ADVERTISE   round request, terms          -> the device's keys
    SHARE       everybody's keys              -> shares of its secrets, sealed to its neighbours
    MASK        the shares sealed to it       -> its masked vector, acks of whom it masked with
    CONSENT     whose vectors arrived         -> its signature of that list
    REVEAL      the list and the signatures   -> one share of each neighbour's secret

What a payload says is for `homespun.secagg` to read: a payload that fits here may still be no message of the protocol.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from homespun.wire.messages import RoundRequest, request_from_record, request_to_record
from homespun.wire.records import MalformedMessage, arrays, config, plain, require

ADVERTISE = "train.advertise"
SHARE = "train.share"
MASK = "train.mask"
CONSENT = "train.consent"
REVEAL = "train.reveal"  # Flower message types of the steps, in their order

MAX_PARTIES = 20_000  # on one roster; 20,000 adverts are 3.3 MB
SESSION_BYTES = 32
FIXED_BYTES = 256  # most that a payload holds beside its rows; an advert has 164

_REQUEST_ROW = {ADVERTISE: 32, SHARE: 164, MASK: 84, CONSENT: 4, REVEAL: 92}
"""Bytes a party in the payload of a request: identity, advert, sealed shares, index; index, consent and ack."""
_REPLY_ROW = {ADVERTISE: 0, SHARE: 116, MASK: 20, CONSENT: 0, REVEAL: 37}
"""The same of a reply: sealed shares with their checks, ack, share. A masked vector is no payload but a tensor."""

_STEP = {"step"}
_REPLY = {"reply"}
_MASKED = {"masked", "reply"}


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """What the server asks in a step, beside the round request of the first."""

    session: bytes
    """Digest of the terms, 32 bytes: which sum this belongs to."""
    payload: bytes = field(repr=False)
    """One message of the protocol, encoded."""


def request_cap(message_type: str, parties: int) -> int:
    """Most bytes of the payload of a request, with so many parties on the roster."""
    return FIXED_BYTES + _REQUEST_ROW[message_type] * parties


def reply_cap(message_type: str, parties: int) -> int:
    """Most bytes of the payload of a reply, with so many parties on the roster."""
    return FIXED_BYTES + _REPLY_ROW[message_type] * parties


def advertise_to_record(request: RoundRequest, step: StepRequest) -> RecordDict:
    """The Flower content of the first step: the round request, and the terms as payload."""
    record = request_to_record(request)
    record["step"] = _step(step)
    return record


def advertise_from_record(record: RecordDict) -> tuple[RoundRequest, StepRequest]:
    """Check and read the first step.

    Raises:
        MalformedMessage: It is not exactly a round request to one person, a session and a payload of allowed size.
    """
    require(set(record) == {"round", "backbone", "step"}, "the records of a round request and one step")
    request = request_from_record(RecordDict({name: record[name] for name in ("round", "backbone")}))
    return request, _read_step(record, ADVERTISE, MAX_PARTIES)


def step_to_record(step: StepRequest) -> RecordDict:
    """The Flower content of a later step."""
    return RecordDict({"step": _step(step)})


def step_from_record(record: RecordDict, message_type: str, *, parties: int = MAX_PARTIES) -> StepRequest:
    """Check and read a later step.

    Args:
        record: What arrived.
        message_type: `SHARE`, `MASK`, `CONSENT` or `REVEAL`.
        parties: How many are on the roster, where it is known already.
    Raises:
        MalformedMessage: It is not exactly a session and a payload of allowed size.
    """
    require(set(record) == _STEP, "the one record of a step")
    return _read_step(record, message_type, parties)


def reply_to_record(payload: bytes) -> RecordDict:
    """The Flower content of a reply, but for the one at `MASK`."""
    return RecordDict({"reply": ConfigRecord({"payload": payload})})


def reply_from_record(record: RecordDict, message_type: str, *, parties: int) -> bytes:
    """Check a reply and return its payload.

    Args:
        record: What arrived.
        message_type: `ADVERTISE`, `SHARE`, `CONSENT` or `REVEAL`.
        parties: How many are on the roster.
    Raises:
        MalformedMessage: It is not exactly one payload of allowed size.
    """
    require(set(record) == _REPLY, "the one record of a reply")
    return _read_reply(record, message_type, parties)


def masked_to_record(vector: npt.NDArray[np.uint32], acks: bytes) -> RecordDict:
    """The Flower content of the reply at `MASK`: the vector, and as payload the acks (none where the graph is complete)."""
    record = reply_to_record(acks)
    record["masked"] = ArrayRecord({"vector": Array(plain(vector))})
    return record


def masked_from_record(
    record: RecordDict, *, dimension: int, parties: int = MAX_PARTIES
) -> tuple[npt.NDArray[np.uint32], bytes]:
    """Check and read a masked vector, uint32, shape ``(dimension,)``, and the acks beside it.

    Raises:
        MalformedMessage: It is not exactly one such vector and a payload of allowed size.
    """
    require(set(record) == _MASKED, "the records of a masked vector")
    found = arrays(record, "masked", np.uint32)
    require(set(found) == {"vector"} and found["vector"].shape == (dimension,), "one vector of the release's length")
    return found["vector"], _read_reply(record, MASK, parties)


def _step(step: StepRequest) -> ConfigRecord:
    return ConfigRecord({"session": step.session, "payload": step.payload})


def _read_step(record: RecordDict, message_type: str, parties: int) -> StepRequest:
    fields = config(record, "step")
    require(set(fields) == {"session", "payload"}, "the fields of a step")
    session = _payload(fields["session"], SESSION_BYTES)
    require(len(session) == SESSION_BYTES, f"a session of {SESSION_BYTES} bytes")
    return StepRequest(session=session, payload=_payload(fields["payload"], request_cap(message_type, parties)))


def _read_reply(record: RecordDict, message_type: str, parties: int) -> bytes:
    fields = config(record, "reply")
    require(set(fields) == {"payload"}, "one payload")
    return _payload(fields["payload"], reply_cap(message_type, parties))


def _payload(value: object, cap: int) -> bytes:
    if not isinstance(value, bytes) or len(value) > cap:
        raise MalformedMessage(f"Expected at most {cap} bytes.")
    return value
