"""Guarantees A, B and C as a report states them: figures, whom they hold against, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homespun.audit import sentences
from homespun.audit.mechanisms import assumed
from homespun.audit.quantities import company, guarantee_numbers
from homespun.audit.spends import Spends
from homespun.privacy.guarantees import Guarantee, adapter, backbone, figures, joint

__all__ = ["guarantee_sections"]


def guarantee_sections(own: Mapping[str, Spends], further: list[Spends]) -> dict[str, Any]:
    """A, B and C as far as the ledgers speak of them.

    Args:
        own: The report's ledgers by role, ``backbone`` and ``adapter``; at least one of them.
        further: Ledgers that are charged to the same people: they count in ``A.together`` alone.
    Returns:
        JSON-able; figures, and the sentences that follow from them.
    """
    shared, records = own.get("backbone"), own.get("adapter")
    found: dict[str, Any] = {}
    if shared is not None:
        found["A"] = _backbone(shared, further)
    planned = shared.planned_record if shared is not None and records is None else None
    if records is not None:
        found["B"] = _section("B", adapter(records.worst.events, delta=records.delta), basis="ledger", spends=records)
        found["B"]["claimed"] = records.claimed
    elif planned is not None:
        found["B"] = _section("B", adapter([planned.event], delta=planned.delta), basis="plan", spends=None)
    if shared is not None and "B" in found:
        own_events = records.worst.events if records is not None else (planned.event,) if planned is not None else ()
        delta = shared.delta if records is None else min(shared.delta, records.delta)
        basis = found["B"]["basis"]
        found["C"] = _section("C", joint(shared.worst.events, own_events, delta=delta), basis=basis, spends=shared)
    return found


def _backbone(shared: Spends, further: list[Spends]) -> dict[str, Any]:
    section = _section("A", backbone(shared.worst.events, delta=shared.delta), basis="ledger", spends=shared)
    section["claimed"] = shared.claimed
    charged = [account.events for spends in (shared, *further) for account in spends.accounts]
    if len(charged) > 1:
        together = backbone([event for part in charged for event in part], delta=shared.delta)
        total = figures(together, second=False)
        section["together"] = {
            "accounts": len(charged),
            "ledgers": 1 + len(further),
            **company(total.points[0].epsilon, together, reason=total.reason),
        }
    return section


def _section(name: str, guarantee: Guarantee, *, basis: str, spends: Spends | None) -> dict[str, Any]:
    numbers = guarantee_numbers(guarantee)
    unit = numbers["privacy_unit"]
    trust, sampled = (spends.trust, spends.sampled) if spends is not None else ({"device"}, False)
    against = sentences.adversary(name, trust=trust, sampled=sampled)
    window = spends.window if spends is not None else "the life of the preference"
    return {
        "name": name,
        "title": sentences.TITLES[name],
        "basis": basis,
        "adversary": against,
        "assumed": assumed(trust | {"device"} if name == "C" else trust),
        "window": window,
        "claim": sentences.claim(name, numbers, adversary=against, window=window),
        "odds": sentences.odds(numbers, what=sentences.of(name), unit=unit),
        "test": sentences.test(numbers, unit=unit),
        **numbers,
    }
