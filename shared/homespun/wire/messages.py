"""What may cross a device's edge, field by field: an allow-list with size caps, checked on the way in and out.

A round request goes down: which release, which backbone. One vector of integers modulo 2^32 comes back. There is no
field for a count of examples, a loss, a metric or a reason in free text, so none can leak. What arrives is checked
before any of it is used, whoever sent it.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, RecordDict

from homespun.privacy import ReleasePlan

PROTOCOL = 1
MAX_TENSORS = 16
MAX_AXES = 4
MAX_TENSOR_VALUES = 2**24  # 64 MiB of float32 a tensor; a backbone of 627 features in 8 directions has 5,651 values
MAX_TEXT = 4096  # characters of a release plan or a digest
MAX_COHORT = 2**20  # participants named to one cell

TRAIN = "train.contribute"  # Flower message type of a round

_REQUEST = {"round", "backbone"}
_REPLY = {"contribution", "sender"}
ScalarT = TypeVar("ScalarT", bound=np.generic)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")


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


class MalformedMessage(ValueError):
    """A message does not fit the schema. The text names the rule, never the content."""


@dataclass(frozen=True, kw_only=True)
class RoundRequest:
    """What the server asks of a node in a round."""

    run: int
    round: int
    """Number of the release within the run, from 0."""
    phase_round: int
    """Number of the release within its phase, from 0."""
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
    """How many people's vectors are summed: 1 for a device, the sampled people of a simulated cell."""


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
                    "release": json.dumps(request.release.to_dict(), sort_keys=True),
                    "plan_digest": request.plan_digest,
                    "projection": request.projection,
                    "version": request.version,
                }
            ),
            "backbone": ArrayRecord({name: Array(_plain(value)) for name, value in request.backbone.items()}),
        }
    )
    if request.participants is not None:
        record["cohort"] = ArrayRecord({"participants": Array(_plain(request.participants))})
    return record


def request_from_record(record: RecordDict) -> RoundRequest:
    """Check and read a request.

    Raises:
        MalformedMessage: Any field is missing, unknown, of another type, too large or not finite.
    """
    _require(set(record) in (_REQUEST, _REQUEST | {"cohort"}), "the records of a round request")
    fields = _config(record, "round")
    names = {"protocol", "run", "round", "phase_round", "release", "plan_digest", "projection", "version"}
    _require(set(fields) == names, "the fields of a round request")
    numbers = {name: _whole(fields[name]) for name in ("protocol", "run", "round", "phase_round", "version")}
    _require(numbers.pop("protocol") == PROTOCOL, f"protocol {PROTOCOL}")
    release = _release(_text(fields["release"]))
    backbone = _arrays(record, "backbone", np.float32)
    participants = None
    if "cohort" in record:
        cohort = _arrays(record, "cohort", np.int32)
        _require(set(cohort) == {"participants"} and cohort["participants"].ndim == 1, "one list of participants")
        participants = cohort["participants"]
        # Compared, not subtracted: a difference of two int32 wraps around.
        rising = bool((participants[1:] > participants[:-1]).all())
        _require(len(participants) <= MAX_COHORT and rising, "rising participants")
        _require(len(participants) == 0 or participants[0] >= 0, "participants >= 0")
    return RoundRequest(
        release=release, plan_digest=_text(fields["plan_digest"]), projection=_text(fields["projection"]),
        backbone=backbone, participants=participants, **numbers,
    )  # fmt: skip


def contribution_to_record(contribution: Contribution) -> RecordDict:
    """The Flower content of a contribution."""
    return RecordDict(
        {
            "contribution": ArrayRecord({"vector": Array(_plain(contribution.vector))}),
            "sender": ConfigRecord({"devices": contribution.devices}),
        }
    )


def contribution_from_record(record: RecordDict, *, dimension: int) -> Contribution:
    """Check and read a contribution.

    Raises:
        MalformedMessage: It is not exactly one uint32 vector of ``dimension`` and a count.
    """
    _require(set(record) == _REPLY, "the records of a contribution")
    arrays = _arrays(record, "contribution", np.uint32)
    _require(set(arrays) == {"vector"} and arrays["vector"].shape == (dimension,), "one vector of the release's length")
    fields = _config(record, "sender")
    _require(set(fields) == {"devices"}, "one count of devices")
    return Contribution(vector=arrays["vector"], devices=_whole(fields["devices"]))


def _release(text: str) -> ReleasePlan:
    try:
        release = ReleasePlan.from_dict(json.loads(text))
    except Exception as error:  # of unrelated classes: the text may hold any JSON, nested at any depth
        raise MalformedMessage("Expected a release plan.") from error
    counts = (release.rounds, release.dimension, release.clip_units, release.population, release.min_survivors)
    whole = all(type(n) is int and n >= 1 for n in counts)
    squares = all(type(n) is int and n >= 0 for n in (release.variance, release.share_variance))
    bounded = math.isfinite(release.clip_norm) and release.clip_norm > 0
    words = isinstance(release.name, str) and isinstance(release.rho, str)
    _require(whole and squares and bounded and words, "a release plan's numbers in their ranges")
    return release


def _config(record: RecordDict, name: str) -> ConfigRecord:
    part = record[name]
    if not isinstance(part, ConfigRecord):
        raise MalformedMessage(f"Expected {name} as a ConfigRecord.")
    return part


def _arrays(record: RecordDict, name: str, kind: type[ScalarT]) -> dict[str, npt.NDArray[ScalarT]]:
    part = record[name]
    if not isinstance(part, ArrayRecord):
        raise MalformedMessage(f"Expected {name} as an ArrayRecord.")
    _require(1 <= len(part) <= MAX_TENSORS, f"1 to {MAX_TENSORS} tensors in {name}")
    values: dict[str, npt.NDArray[ScalarT]] = {}
    for key, array in part.items():
        _require(_NAME.match(key) is not None, f"lower-case tensor names in {name}")
        values[key] = _values(array, name, kind)
    return values


def _values(array: Array, name: str, kind: type[ScalarT]) -> npt.NDArray[ScalarT]:
    """The tensor that an Array declares: its header must say the same, and exactly its bytes must follow.

    `Array.numpy()` will not do: it believes the header (which may ask for a terabyte), opens zip archives, and fails in
    half a dozen ways.
    """
    dtype, shape = np.dtype(kind).newbyteorder("<"), tuple(array.shape)
    whole = len(shape) <= MAX_AXES and all(type(n) is int and 0 <= n <= MAX_TENSOR_VALUES for n in shape)
    size = math.prod(shape) if whole else -1
    declared = array.stype == "numpy.ndarray" and array.dtype == dtype.name and 0 <= size <= MAX_TENSOR_VALUES
    _require(declared, f"{dtype.name} tensors of at most {MAX_TENSOR_VALUES} values in {name}")
    usual = _header(dtype.str, shape)
    if array.data.startswith(usual):  # what NumPy writes; parsing the same bytes took a tenth of a device's round
        start, same = len(usual), True
    else:
        stream = io.BytesIO(array.data)
        try:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0(stream)
        except Exception as error:  # of unrelated classes: the header is parsed as a Python literal
            raise MalformedMessage(f"Expected a readable tensor in {name}.") from error
        start, same = stream.tell(), version == (1, 0) and header == (shape, False, dtype)
    _require(same and len(array.data) == start + size * dtype.itemsize, f"tensors as declared in {name}")
    value = np.frombuffer(array.data, dtype=dtype, offset=start).reshape(shape).astype(kind)
    _require(dtype.kind != "f" or bool(np.isfinite(value).all()), f"finite tensors in {name}")
    return value


@lru_cache(maxsize=64)
def _header(kind: str, shape: tuple[int, ...]) -> bytes:
    """The bytes with which NumPy begins a file of such an array, rows in order."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _plain(value: npt.NDArray[ScalarT]) -> npt.NDArray[ScalarT]:
    """Rows in order, little-endian: the one layout that is read."""
    return np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise MalformedMessage("Expected a whole number in [0, 2^63).")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise MalformedMessage(f"Expected a text of at most {MAX_TEXT} characters.")
    return value


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise MalformedMessage(f"Expected {rule}.")
