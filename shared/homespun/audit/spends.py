"""A ledger's spends by account, in the words that a report needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

from homespun.audit.rounding import up
from homespun.privacy.accountant import GaussianEvent
from homespun.privacy.cost import cost_text
from homespun.privacy.curves import is_sampled, merge, renyi_curve
from homespun.privacy.ledger import Checked, Entry, Genesis, Kind
from homespun.privacy.ledger.entries import event_from_body
from homespun.privacy.record_plan import RecordPlan

__all__ = ["Release", "Spends", "Spent", "read_spends"]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one account paid."""

    name: str
    events: tuple[GaussianEvent | None, ...]
    """One a release; None without noise. Acknowledged spends are events of the same rho."""
    rho: Decimal


@dataclass(frozen=True, kw_only=True)
class Release:
    """One reservation, as a timeline and a table need it."""

    seq: int
    account: str
    event: GaussianEvent | None
    subject: Mapping[str, Any]
    time: str


@dataclass(frozen=True, kw_only=True)
class Spends:
    """A checked ledger, read for its spends."""

    role: str
    genesis: Genesis
    entries: tuple[Entry, ...] = field(repr=False)
    accounts: tuple[Spent, ...]
    order: tuple[Release, ...] = field(repr=False)
    """Every reservation, as they came."""

    @property
    def origin(self) -> str:
        """Name of the ledger."""
        return self.genesis.origin

    @property
    def delta(self) -> float:
        """The claim's own."""
        return self.genesis.delta

    @property
    def unit(self) -> str:
        """Word of the unit."""
        return self.genesis.unit.value

    @property
    def relation(self) -> str:
        """Word of the neighbouring relation."""
        return self.genesis.relation.value

    @property
    def first(self) -> str:
        """Time of the first entry."""
        return self.entries[0].time

    @property
    def last(self) -> str:
        """Time of the last entry."""
        return self.entries[-1].time

    @property
    def releases(self) -> int:
        """Number of reservations."""
        return len(self.order)

    @cached_property
    def worst(self) -> Spent:
        """The account that spent most epsilon; an account with nothing where there is none."""
        if not self.accounts:
            return Spent(name="", events=(), rho=Decimal(0))
        kinds: dict[tuple[GaussianEvent, ...], Spent] = {}
        for account in self.accounts:
            if None in account.events:
                return account
            key = tuple(sorted(merge(event for event in account.events if event), key=repr))
            kinds.setdefault(key, account)
        return kinds[max(kinds, key=self._epsilon)]

    def _epsilon(self, events: tuple[GaussianEvent, ...]) -> float:
        bound = renyi_curve(events).epsilon(self.delta)
        return math.inf if bound is None else bound.epsilon

    @cached_property
    def events(self) -> tuple[GaussianEvent, ...]:
        """Every kind of event that was released."""
        return tuple(dict.fromkeys(release.event for release in self.order if release.event is not None))

    @property
    def sampled(self) -> bool:
        """Whether a Poisson sample's amplification is counted."""
        return any(is_sampled(event) for event in self.events)

    @property
    def participation(self) -> str:
        """Sampling as it was implemented."""
        rates = sorted({event.sampling_probability for event in self.events if event.sampling_probability is not None})
        if rates:
            return "poisson: " + ", ".join(f"{rate:g}" for rate in rates)
        return (
            "none: every device is asked"
            if self.genesis.guarantee == "backbone"
            else "none: every place of a block counts"
        )

    @property
    def trust(self) -> set[str]:
        """Trust models of the releases."""
        if self.genesis.guarantee == "adapter":
            return {"device"}
        if self.genesis.plan is not None:
            return {release.trust.value for release in self.genesis.plan.releases}
        named = {str(release.subject["trust"]) for release in self.order if "trust" in release.subject}
        return named or {"distributed" if event.shares > 1 else "central" for event in self.events}

    @property
    def window(self) -> str:
        """What a claim covers, in words."""
        count = len(self.worst.events)
        releases = f"{count:,} release" + ("" if count == 1 else "s")
        if self.genesis.guarantee == "adapter":
            return "the life of the preference"
        if self.genesis.holder == "device":
            return f"all {releases} that this device took part in, over all projects and runs"
        return f"all {releases} of one training"

    @property
    def unprotected(self) -> list[str]:
        """What is public under the relation."""
        if self.genesis.guarantee == "adapter":
            return ["how many places for preferences there are", "the sizes of the blocks", "when a block was released"]
        return [
            "which devices take part, and which drop out of a round",
            "the plan with every clip bound",
            "when rounds ran and how many answered",
        ]

    @property
    def claimed(self) -> dict[str, Any] | None:
        """What was promised before anything was spent."""
        genesis = self.genesis
        if genesis.plan is not None:
            claim = genesis.plan.claim
            return {
                "by": "plan",
                "epsilon": up(claim.epsilon),
                **({"epsilon_reason": claim.reason} if claim.epsilon is None else {}),
                "delta": claim.delta,
                "privacy_unit": claim.unit.value,
                "neighboring_relation": claim.relation.value,
                "accountant": claim.accountant,
            }
        if genesis.cap is None:
            return None
        return {"by": "cap", "rho": str(genesis.cap), **self._at_cap(genesis.cap)}

    @property
    def planned_record(self) -> RecordPlan | None:
        """The plan for preferences that a backbone's ledger names; None where adapters are exact or not spoken of."""
        if self.genesis.adapter is None or "clip_units" not in self.genesis.adapter:
            return None
        return RecordPlan.from_dict(self.genesis.adapter)

    def _at_cap(self, cap: Decimal) -> dict[str, Any]:
        """What an account that spends its cap would have."""
        words = {"delta": self.delta, "privacy_unit": self.unit, "neighboring_relation": self.relation}
        if self.genesis.order is not None or not cap:
            reason = "the cap is kept at one order" if cap else "the cap is zero"
            return {"epsilon": None, "epsilon_reason": reason, **words, "accountant": "cap"}
        bound = renyi_curve([_of_rho(cap)]).epsilon(self.delta)
        return {"epsilon": None if bound is None else up(bound.epsilon), **words, "accountant": "rho to epsilon"}


def read_spends(checked: Checked, role: str | None = None) -> Spends:
    """Read a checked ledger.

    Raises:
        ValueError: it has no genesis.
    """
    if checked.genesis is None:
        raise ValueError("Expected a ledger with a genesis.")
    released: dict[str, list[GaussianEvent | None]] = {name: [] for name in checked.accounts}
    order = []
    known: dict[str, GaussianEvent | None] = {}
    for entry in checked.entries:
        if entry.kind is not Kind.RESERVE:
            continue
        body = entry.body["event"]
        event = known.setdefault(repr(body), None if body is None else event_from_body(body))
        released[entry.body["account"]].append(event)
        order.append(
            Release(
                seq=entry.seq,
                account=entry.body["account"],
                event=event,
                subject=entry.body["subject"],
                time=entry.time,
            )
        )
    for name, account in checked.accounts.items():
        if account.acknowledged:
            released[name].append(
                None if checked.genesis.order is not None else _of_rho(Decimal(cost_text(account.acknowledged)))
            )
    return Spends(
        role=role or checked.genesis.guarantee,
        genesis=checked.genesis,
        entries=checked.entries,
        accounts=tuple(
            Spent(name=name, events=tuple(released[name]), rho=Decimal(cost_text(account.spent)))
            for name, account in checked.accounts.items()
        ),
        order=tuple(order),
    )


def _of_rho(rho: Decimal) -> GaussianEvent:
    """A release that costs at least ``rho``, for spends that nobody can show the events of."""
    units = 10**12
    return GaussianEvent(
        clip_units=units, variance=max(1, math.floor(Fraction(units**2, 2) / Fraction(rho))), count=1, dimension=1
    )
