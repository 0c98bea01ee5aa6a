"""The first entry: what a ledger protects, whose it is, and how much each of its accounts may spend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from homespun.privacy.cost import cost_text, whole_from_decimal
from homespun.privacy.ledger.entries import Kind, check_body
from homespun.privacy.ledger.keys import PublicKey
from homespun.privacy.plan import Plan
from homespun.privacy.terms import Relation, Unit

__all__ = ["Genesis"]


@dataclass(frozen=True, kw_only=True)
class Genesis:
    """What a ledger says of itself before anything is spent.

    Args:
        origin: Name of this ledger and of no other: printable ASCII without blanks, at most 128 characters.
        guarantee: ``backbone`` (A: what leaves a device) or ``adapter`` (B: what shows a person's own model).
        holder: ``server`` or ``device``: who wrote it.
        unit: What is protected as a whole.
        relation: Which data sets are neighbours.
        delta: In (0, 1).
        order: Renyi order at which Poisson samples are counted, a whole number of at least 2; None where there are none.
        cap: Most that each account may spend, rho with at most 18 decimals; None promises nothing.
        plan: What is to run, where that is known: only its events can then be reserved.
        adapter: `RecordPlan.to_dict()` of guarantee B.
        policy: `Policy.to_dict()` of the owner.
        declared: What a report must say and no ledger can compute, by lower-case word.
        software: Versions by name.
    """

    origin: str
    guarantee: str
    holder: str
    unit: Unit
    relation: Relation
    delta: float
    order: float | None = None
    cap: Decimal | None
    plan: Plan | None = None
    adapter: Mapping[str, Any] | None = field(default=None, repr=False)
    policy: Mapping[str, Any] | None = field(default=None, repr=False)
    declared: Mapping[str, str] = field(default_factory=dict, repr=False)
    software: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse words that are not known, and numbers out of range."""
        if not 0 < len(self.origin) <= 128 or not all("!" <= character <= "~" for character in self.origin):
            raise ValueError(f"Expected origin={self.origin[:64]!r} of 1 to 128 printable ASCII characters.")
        if self.guarantee not in ("backbone", "adapter"):
            raise ValueError(f"Expected guarantee={self.guarantee[:32]!r} as 'backbone' or 'adapter'.")
        if self.holder not in ("server", "device"):
            raise ValueError(f"Expected holder={self.holder[:32]!r} as 'server' or 'device'.")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"Expected delta={self.delta!r} in (0, 1).")
        if self.order is not None and not (self.order >= 2 and float(self.order).is_integer()):
            raise ValueError(f"Expected order={self.order!r} as a whole number of at least 2, or None.")
        if self.cap is not None:
            whole_from_decimal(self.cap)

    def to_body(self, key: PublicKey) -> dict[str, Any]:
        """Body of the genesis entry of a ledger that ``key`` signs.

        Raises:
            ValueError: a declared text or another part cannot stand in an entry.
        """
        body = {
            "key": key.text,
            "guarantee": self.guarantee,
            "holder": self.holder,
            "unit": self.unit.value,
            "relation": self.relation.value,
            "delta": repr(float(self.delta)),
            "order": None if self.order is None else repr(float(self.order)),
            "cap": None if self.cap is None else cost_text(whole_from_decimal(self.cap)),
            "plan": None if self.plan is None else self.plan.to_dict(),
            "adapter": None if self.adapter is None else dict(self.adapter),
            "policy": None if self.policy is None else dict(self.policy),
            "declared": dict(self.declared),
            "software": dict(self.software),
        }
        check_body(Kind.GENESIS, body)
        return body

    @classmethod
    def from_body(cls, origin: str, body: Mapping[str, Any]) -> Genesis:
        """Inverse of `to_body`, but for the key.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        fields = {name: value for name, value in body.items() if name != "key"}
        try:
            plan = None if body["plan"] is None else Plan.from_dict(body["plan"])
        except (LookupError, TypeError, AttributeError, ArithmeticError):  # what a stranger may put in a plan's place
            raise ValueError("Expected the fields of a Plan in the genesis.") from None
        return cls(
            **{
                **fields,
                "origin": origin,
                "unit": Unit(body["unit"]),
                "relation": Relation(body["relation"]),
                "delta": float(body["delta"]),
                "order": None if body["order"] is None else float(body["order"]),
                "cap": None if body["cap"] is None else Decimal(body["cap"]),
                "plan": plan,
            }
        )
