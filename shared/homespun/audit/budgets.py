"""Budgets, refusals, the spend over time and the table of events, for a report."""

from __future__ import annotations

from collections import Counter
from typing import Any

from homespun.audit.rounding import up
from homespun.audit.spends import Spends
from homespun.privacy.accountant import GaussianEvent
from homespun.privacy.cost import event_cost
from homespun.privacy.curves import epsilon_over_time
from homespun.privacy.ledger import Kind

__all__ = ["budgets", "events", "timeline"]

BINS = 10
"""Public bins of the share of the cap: tenths."""


def budgets(spends: Spends) -> dict[str, Any]:
    """What accounts spent of their cap, what was refused, and what was burned."""
    cap = spends.genesis.cap
    refused = Counter(entry.body["reason"] for entry in spends.entries if entry.kind is Kind.REFUSE)
    burned = Counter(entry.body["reason"] for entry in spends.entries if entry.kind is Kind.BURN)
    ended = {entry.body["reservation"] for entry in spends.entries if entry.kind in (Kind.COMMIT, Kind.BURN)}
    bins = [0] * BINS
    for account in spends.accounts:
        if not cap:
            break
        # exact decimals: an account at its cap lies in the last bin, never beyond
        bins[min(BINS - 1, int(account.rho * BINS / cap))] += 1
    return {
        "kept_in": "rho (zCDP)"
        if spends.genesis.order is None
        else f"Renyi divergence over order {spends.genesis.order:g}",
        "cap": None if cap is None else str(cap),
        "largest": str(max((account.rho for account in spends.accounts), default=0)),
        "largest_account": spends.worst.name,
        "accounts": len(spends.accounts),
        "at_cap": sum(1 for account in spends.accounts if cap is not None and account.rho >= cap),
        "histogram": [
            {
                "share_of_cap": f"{index * 100 // BINS}-{(index + 1) * 100 // BINS} %",
                "accounts": count,
                "devices": count * _devices(spends),
            }
            for index, count in enumerate(bins)
        ]
        if cap
        else [],
        "refused": dict(sorted(refused.items())),
        "burned": dict(sorted(burned.items())),
        "open": sum(1 for release in spends.order if release.seq not in ended),
        "spend_depends_on_data": False,
    }


def _devices(spends: Spends) -> int:
    """How many devices an account stands for: the plan's population, as if each took part in every round."""
    plan = spends.genesis.plan
    return 1 if plan is None else max(release.population for release in plan.releases)


def timeline(spends: Spends) -> list[dict[str, Any]]:
    """Proven epsilon of the account that spent most, after each of its releases (at most 200 places)."""
    rows = [release for release in spends.order if release.account == spends.worst.name]
    known = [release.event for release in rows if release.event is not None]
    if len(known) < len(rows):
        return []
    return [
        {
            "releases": number,
            "seq": rows[number - 1].seq,
            "time": rows[number - 1].time,
            "epsilon": up(epsilon),
            "delta": spends.delta,
        }
        for number, epsilon in epsilon_over_time(known, delta=spends.delta)
    ]


def events(spends: Spends) -> dict[str, Any]:
    """Every event, grouped: from here anybody can compute all figures with an accountant of their own."""
    number = {event: index for index, event in enumerate(spends.events)}
    groups: dict[tuple[tuple[int, int], ...], list[str]] = {}
    silent: Counter[str] = Counter()
    for account in spends.accounts:
        counts: Counter[int] = Counter()
        for event in account.events:
            if event is None:
                silent[account.name] += 1
            else:
                counts[number.setdefault(event, len(number))] += 1
        groups.setdefault(tuple(sorted(counts.items())), []).append(account.name)
    return {
        "kinds": [_event(event, index, spends.genesis.order) for event, index in number.items()],
        "accounts": [
            {
                "accounts": len(names),
                "named": names[:10],
                "releases": [{"kind": kind, "count": count} for kind, count in counts],
            }
            for counts, names in groups.items()
        ],
        "without_noise": dict(sorted(silent.items())),
    }


def _event(event: GaussianEvent, index: int, order: float | None) -> dict[str, Any]:
    return {"kind": index, "type": "discrete-gaussian", **vars(event), "cost": str(event_cost(event, order))}
