"""Guarantees A, B and C as a report states them: figures, whom they hold against, and the sentences that say so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from homespun.audit import sentences
from homespun.audit.masking import Masking, lost_events, read_masking
from homespun.audit.mechanisms import assumed
from homespun.audit.quantities import company, guarantee_numbers
from homespun.audit.spends import Spends
from homespun.privacy.accountant import GaussianEvent
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
    masks = read_masking(shared)
    if masks is not None and masks.lost > 0:
        section["kept"] = _kept(shared, masks)
    charged = [events for spends in (shared, *further) for events in _with_lost(spends).values()]
    if len(charged) > 1:
        together = backbone([event for part in charged for event in part], delta=shared.delta)
        total = figures(together, second=False)
        section["together"] = {
            "accounts": len(charged),
            "ledgers": 1 + len(further),
            **company(total.points[0].epsilon, together, reason=total.reason),
        }
    return section


def _with_lost(spends: Spends) -> dict[str, tuple[GaussianEvent | None, ...]]:
    """What a server that forgets nothing has of each account: what was paid for, and every sum that was opened and lost."""
    lost = lost_events(spends)
    return {account.name: (*account.events, *lost.get(account.name, ())) for account in spends.accounts}


def _kept(shared: Spends, masks: Masking) -> dict[str, Any]:
    """The worst account against a server that kept the sums that were opened and lost."""
    rows = []
    for events in _with_lost(shared).values():
        one = backbone(events, delta=shared.delta)
        found = figures(one, second=False)
        rows.append(company(found.points[0].epsilon, one, reason=found.reason))
    worst = max(rows, key=lambda row: math.inf if row["epsilon"] is None else row["epsilon"])
    return {"sums": masks.lost, "sentence": sentences.kept(masks, worst), **worst}


def _section(name: str, guarantee: Guarantee, *, basis: str, spends: Spends | None) -> dict[str, Any]:
    numbers = guarantee_numbers(guarantee)
    unit = numbers["privacy_unit"]
    trust, sampled = (spends.trust, spends.sampled) if spends is not None else ({"device"}, False)
    masks = None if spends is None else read_masking(spends)
    against = sentences.adversary(name, trust=trust, sampled=sampled, masks=masks)
    window = spends.window if spends is not None else "the life of the preference"
    return {
        "name": name,
        "title": sentences.TITLES[name],
        "basis": basis,
        "adversary": against,
        "assumed": assumed(trust | {"device"} if name == "C" else trust, masks),
        "window": window,
        "claim": sentences.claim(name, numbers, adversary=against, window=window),
        "odds": sentences.odds(numbers, what=sentences.of(name), unit=unit),
        "test": sentences.test(numbers, unit=unit),
        **numbers,
    }
