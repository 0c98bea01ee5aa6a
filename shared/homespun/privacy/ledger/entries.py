"""What a ledger's entries hold: the kinds, the fields that each may have, and nothing else.

Every field is named here, so that nobody can write a user's id, a norm or a loss into a ledger by accident. Numbers are
whole or decimal strings.

>>> check_body(Kind.BURN, {"reservation": 1, "reason": "crash"})
>>> check_body(Kind.BURN, {"reservation": 1, "reason": "crash", "loss": "0.3"})
Traceback (most recent call last):
    ...
ValueError: Expected the fields of a burn: ['loss'] differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from homespun.privacy.accountant import GaussianEvent
from homespun.privacy.ledger import fields
from homespun.privacy.terms import Relation, Unit

__all__ = [
    "Entry",
    "Kind",
    "check_body",
    "event_from_body",
    "event_to_body",
]

DISCRETE_GAUSSIAN = "discrete-gaussian"


class Kind(StrEnum):
    """Closed set: what an accountant or a verifier does not know must not be guessed at."""

    GENESIS = "genesis"
    RESERVE = "reserve"
    COMMIT = "commit"
    BURN = "burn"
    REFUSE = "refuse"
    POLICY = "policy"
    KEY_ROTATE = "key_rotate"
    WITNESS = "witness"
    EXPORT = "export"
    ERASE = "erase"
    AUDIT = "audit"
    DECLARE = "declare"
    ACKNOWLEDGE = "acknowledge"
    OPEN = "open"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry, as its signed line says it."""

    v: int
    """Version of the format: 1."""
    origin: str
    """Name of the ledger, the same in every entry and checkpoint."""
    seq: int
    """Place in the ledger, from 0."""
    prev: str
    """SHA-256 of the line before, 64 hexadecimal digits; zeros before the first."""
    kind: Kind
    time: str
    """UTC, to the second. Informative: nothing is decided by it."""
    body: Mapping[str, Any]
    """Fields of the kind; see `check_body`."""

    @cached_property
    def event(self) -> GaussianEvent | None:
        """What a reservation pays for; None without noise.

        Raises:
            ValueError: the entry is no reservation, or its event is none that is proven.
        """
        if self.kind is not Kind.RESERVE:
            raise ValueError(f"Expected a reserve, not a {self.kind.value}.")
        return event_from_body(self.body["event"])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without floats."""
        return {**{name: getattr(self, name) for name in _ENTRY_FIELDS}, "kind": self.kind.value}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Entry:
        """Inverse of `to_dict`; checks every field, but not whether the entry may follow another.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        if content.keys() != _ENTRY_FIELDS:
            raise ValueError(f"Expected the fields of an entry: {sorted(content.keys() ^ _ENTRY_FIELDS)} differ.")
        if content["v"] != 1 or type(content["v"]) is not int:
            raise ValueError(f"Expected an entry of version 1, got {str(content['v'])[:16]!r}.")
        for name, good in (
            ("origin", fields.short),
            ("seq", fields.count),
            ("prev", fields.digest),
            ("time", fields.time),
            ("body", fields.mapping),
        ):
            if not good(content[name]):
                raise ValueError(f"Expected {name} of an entry as {good.__doc__}.")
        try:
            kind = Kind(content["kind"])
        except ValueError:
            raise ValueError(f"Expected kind={str(content['kind'])[:32]!r} among {[k.value for k in Kind]}.") from None
        check_body(kind, content["body"])
        return cls(**{**content, "kind": kind})


_ENTRY_FIELDS = frozenset(Entry.__dataclass_fields__)


def event_to_body(event: GaussianEvent, unit: Unit, relation: Relation) -> dict[str, Any]:
    """What happened, in whole numbers, with what it protects."""
    rate = event.sampling_probability
    return {
        "type": DISCRETE_GAUSSIAN,
        **vars(event),
        "sampling_probability": None if rate is None else repr(float(rate)),
        "unit": unit.value,
        "relation": relation.value,
    }


def event_from_body(body: Mapping[str, Any] | None) -> GaussianEvent | None:
    """Inverse of `event_to_body`; None for a release without noise.

    Raises:
        ValueError: an event of another type, or fields that are no event's.
    """
    if body is None:
        return None
    parts = dict(body)
    if parts.pop("type", None) != DISCRETE_GAUSSIAN:
        raise ValueError(f"Expected an event of type {DISCRETE_GAUSSIAN}: no other is proven.")
    parts.pop("unit", None)
    parts.pop("relation", None)
    rate = parts.get("sampling_probability")
    if any(isinstance(value, int) and not fields.count(value) for value in parts.values()):
        raise ValueError("Expected whole numbers in [0, 2^63) in an event.")
    try:
        if rate is not None:
            parts["sampling_probability"] = float(rate)
        return GaussianEvent(**parts)
    except TypeError:
        raise ValueError("Expected the fields of an event.") from None


def check_body(kind: Kind, body: Mapping[str, Any]) -> None:
    """Refuse a body with other fields than its kind has, or with values that they may not have.

    Raises:
        ValueError: see above.
    """
    rules = _BODIES[kind]
    wrong = body.keys() ^ rules.keys()
    if wrong - _OPTIONAL.get(kind, frozenset()):
        raise ValueError(f"Expected the fields of a {kind.value}: {sorted(wrong)} differ.")
    for name, good in rules.items():
        if name in body and not good(body[name]):
            raise ValueError(f"Expected {name} of a {kind.value} as {good.__doc__}.")


_BODIES: dict[Kind, dict[str, Callable[[object], bool]]] = {
    Kind.GENESIS: {
        "key": fields.key,
        "guarantee": fields.word,
        "holder": fields.word,
        "unit": fields.word,
        "relation": fields.word,
        "delta": fields.real,
        "order": fields.real_or_none,
        "cap": fields.cost_or_none,
        "plan": fields.mapping_or_none,
        "adapter": fields.mapping_or_none,
        "policy": fields.mapping_or_none,
        "declared": fields.texts,
        "software": fields.texts,
    },
    Kind.RESERVE: {
        "account": fields.word,
        "event": fields.mapping_or_none,
        "rho": fields.cost_or_none,
        "spent_after": fields.cost,
        "cap": fields.cost_or_none,
        "subject": fields.subject,
    },
    Kind.COMMIT: {"reservation": fields.count, "artifact_sha256": fields.digest, "facts": fields.facts},
    Kind.BURN: {"reservation": fields.count, "reason": fields.word},
    Kind.REFUSE: {"reason": fields.word, "subject": fields.subject},
    Kind.POLICY: {"policy": fields.mapping, "cap": fields.cost_or_none},
    Kind.KEY_ROTATE: {"key": fields.key},
    Kind.WITNESS: {"witness": fields.key, "receipt": fields.text},
    Kind.EXPORT: {"to": fields.short, "size": fields.count, "root": fields.digest},
    Kind.ERASE: {"what": fields.word, "reason": fields.word},
    Kind.AUDIT: {"title": fields.short, "commitment": fields.digest, "evidence_sha256": fields.digest},
    Kind.DECLARE: {"name": fields.word, "text": fields.text},
    Kind.ACKNOWLEDGE: {"incident": fields.word, "spent_after": fields.costs},
    Kind.OPEN: {
        "reservation": fields.count,
        "attempt": fields.count,
        "survivors": fields.count,
        "transcript_sha256": fields.digest,
    },
}
"""Fields of each kind and what they may hold."""

_OPTIONAL = {Kind.AUDIT: frozenset({"title", "commitment", "evidence_sha256"})}
"""An audit writes its commitment before it begins and its evidence when it ends."""
