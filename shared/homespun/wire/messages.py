"""What may cross a device's edge, field by field: an allow-list with size caps, checked on the way in and out.

A round request goes down: which release, which backbone, and which attempt at the round. One vector of integers modulo
2^32 comes back. There is no field for a count of examples, a loss, a metric or a reason in free text, so none can leak.
What arrives is checked before any of it is used, whoever sent it. Rounds under secure aggregation take five messages
each way: see `homespun.wire.aggregation`.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, RecordDict

from homespun.privacy import ReleasePlan, canonical_json
from homespun.wire.records import MalformedMessage, arrays, config, plain, require, text, whole

PROTOCOL = 2
MAX_COHORT = 2**20  # participants named to one cell

TRAIN = "train.contribute"  # Flower message type of a round without masks

_REQUEST = {"round", "backbone"}
_REPLY = {"contribution", "sender"}


class Refusal(Enum):
    """The one word that a node may give; the number is a Flower error code above its own (0 to 8).

    Malformed, not allowed, not payable or failed: which of them it was would tell the server about the owner's policy
    and budget, or about the data. It stays on the device, in its ledger.
    """

    DECLINED = 100

    def error(self) -> Error:
        """The error reply: a code and a fixed word, nothing of what happened."""
        return Error(self.value, self.name.lower())


class UnknownPhase(ValueError):
    """A device declines: it does not know the phase, or knows it with another release."""


@dataclass(frozen=True, kw_only=True)
class RoundRequest:
    """What the server asks of a node in a round."""

    run: int
    round: int
    """Number of the release within the run, from 0."""
    phase_round: int
    """Number of the release within its phase, from 0."""
    attempt: int = 0
    """Which try at the round this is, from 0. A new one has new keys, new noise, and is paid for anew by devices."""
    release: ReleasePlan
    plan_digest: str
    projection: str
    version: int
    backbone: Mapping[str, npt.NDArray[np.float32]] = field(repr=False)
    participants: npt.NDArray[np.int32] | None = field(default=None, repr=False)
    """In a simulation, which of a cell's people were sampled; ``None`` asks everybody behind the node."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What a node answers: a vector in the ring of integers modulo 2^32."""

    vector: npt.NDArray[np.uint32] = field(repr=False)
    devices: int
    """How many people's vectors are summed: 1 for a device, those of a simulated cell's people who stayed."""


def request_to_record(request: RoundRequest) -> RecordDict:
    """The Flower content of a request."""
    record = RecordDict(
        {
            "round": ConfigRecord(
                {
                    "protocol": PROTOCOL,
                    "run": request.run,
                    "round": request.round,
                    "phase_round": request.phase_round,
                    "attempt": request.attempt,
                    "release": json.dumps(request.release.to_dict(), sort_keys=True),
                    "plan_digest": request.plan_digest,
                    "projection": request.projection,
                    "version": request.version,
                }
            ),
            "backbone": ArrayRecord({name: Array(plain(value)) for name, value in request.backbone.items()}),
        }
    )
    if request.participants is not None:
        record["cohort"] = ArrayRecord({"participants": Array(plain(request.participants))})
    return record


def request_from_record(record: RecordDict) -> RoundRequest:
    """Check and read a request.

    Raises:
        MalformedMessage: Any field is missing, unknown, of another type, too large or not finite.
    """
    require(set(record) in (_REQUEST, _REQUEST | {"cohort"}), "the records of a round request")
    fields = config(record, "round")
    numbers = ("protocol", "run", "round", "phase_round", "attempt", "version")
    require(set(fields) == {*numbers, "release", "plan_digest", "projection"}, "the fields of a round request")
    counts = {name: whole(fields[name]) for name in numbers}
    require(counts.pop("protocol") == PROTOCOL, f"protocol {PROTOCOL}")
    release = _release(text(fields["release"]))
    backbone = arrays(record, "backbone", np.float32)
    participants = None
    if "cohort" in record:
        cohort = arrays(record, "cohort", np.int32)
        require(set(cohort) == {"participants"} and cohort["participants"].ndim == 1, "one list of participants")
        participants = cohort["participants"]
        # Compared, not subtracted: a difference of two int32 wraps around.
        rising = bool((participants[1:] > participants[:-1]).all())
        require(len(participants) <= MAX_COHORT and rising, "rising participants")
        require(len(participants) == 0 or participants[0] >= 0, "participants >= 0")
    return RoundRequest(
        release=release, plan_digest=text(fields["plan_digest"]), projection=text(fields["projection"]),
        backbone=backbone, participants=participants, **counts,
    )  # fmt: skip


def request_digest(request: RoundRequest) -> str:
    """SHA-256 over every field of a request to a device, tensors included: two are the same if and only if this is."""
    fields = {
        "run": request.run,
        "round": request.round,
        "phase_round": request.phase_round,
        "attempt": request.attempt,
        "release": request.release.to_dict(),
        "plan_digest": request.plan_digest,
        "projection": request.projection,
        "version": request.version,
    }
    total = hashlib.sha256(b"homespun request 2\n" + canonical_json(fields).encode("ascii") + b"\n")
    for name in sorted(request.backbone):
        tensor = request.backbone[name]
        total.update(f"{name} {tensor.shape}\n".encode("ascii") + tensor.astype("<f4").tobytes())
    return total.hexdigest()


def contribution_to_record(contribution: Contribution) -> RecordDict:
    """The Flower content of a contribution."""
    return RecordDict(
        {
            "contribution": ArrayRecord({"vector": Array(plain(contribution.vector))}),
            "sender": ConfigRecord({"devices": contribution.devices}),
        }
    )


def contribution_from_record(record: RecordDict, *, dimension: int) -> Contribution:
    """Check and read a contribution.

    Raises:
        MalformedMessage: It is not exactly one uint32 vector of ``dimension`` and a count.
    """
    require(set(record) == _REPLY, "the records of a contribution")
    found = arrays(record, "contribution", np.uint32)
    require(set(found) == {"vector"} and found["vector"].shape == (dimension,), "one vector of the release's length")
    fields = config(record, "sender")
    require(set(fields) == {"devices"}, "one count of devices")
    return Contribution(vector=found["vector"], devices=whole(fields["devices"]))


def _release(written: str) -> ReleasePlan:
    try:
        release = ReleasePlan.from_dict(json.loads(written))
    except Exception as error:  # of unrelated classes: the text may hold any JSON, nested at any depth
        raise MalformedMessage("Expected a release plan.") from error
    counts = (release.rounds, release.dimension, release.clip_units, release.population, release.min_survivors)
    positive = all(type(n) is int and n >= 1 for n in counts)
    natural = all(type(n) is int and n >= 0 for n in (release.variance, release.share_variance, release.colluding))
    bounded = math.isfinite(release.clip_norm) and release.clip_norm > 0
    words = isinstance(release.name, str) and isinstance(release.rho, str)
    require(positive and natural and bounded and words, "a release plan's numbers in their ranges")
    return release
