"""The report: everything that may be said about privacy, as one function of ledgers and evidence.

No clock, no host, no settings: the same bytes give the same report anywhere, so that a check makes it again and compares.
Whatever no ledger can compute is copied from what its keeper signed, and stands under ``declared``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from homespun.audit import sentences
from homespun.audit.budgets import budgets, events, timeline
from homespun.audit.quantities import ACCOUNTANT, company, guarantee_numbers
from homespun.audit.sources import Source, Sources
from homespun.audit.spends import Spends, read_spends
from homespun.privacy.guarantees import Guarantee, adapter, backbone, figures, joint
from homespun.privacy.terms import Trust

__all__ = ["SCHEMA_VERSION", "build_report", "to_bytes"]

SCHEMA_VERSION = 1
_ASKED = (
    "name", "purpose", "curators", "region", "contact", "legal-basis", "people-and-devices", "aggregation-weights",
    "tuning", "data-refresh", "justification", "retention", "impact-assessment", "incidents", "code",
)  # fmt: skip
"""What a privacy officer asks and no ledger computes; what nobody declared is listed as not declared."""
_AUDIT = (
    "kind", "title", "claim_epsilon", "claim_mu", "delta", "confidence", "canaries", "guesses", "bounds", "control",
    "estimates", "checks", "beaten", "failed", "commitment",
)  # fmt: skip
_ATTACK = ("name", "title", "metric", "figure", "control", "bound", "sentence")


def build_report(sources: Sources) -> dict[str, Any]:
    """The report of one run, server ledger or device.

    Args:
        sources: Checked ledgers, without problems.
    Returns:
        JSON-able; floats are rounded up, see `homespun.audit.rounding`.
    """
    own, further = _own(sources), [read_spends(source.checked, source.role) for source in sources.further]
    found = _guarantees(own, further)
    first = sources.ledgers[0].checked
    declared = _declared(sources)
    sampled = any(spends.sampled for spends in own.values())
    trust = set().union(*(spends.trust for spends in own.values()))
    return {
        "schema_version": SCHEMA_VERSION,
        "message_type": "audit_report",
        "identity": {
            "name": declared["texts"].get("name", first.genesis.origin if first.genesis else ""),
            "holder": first.genesis.holder if first.genesis else "",
            "first": min(spends.first for spends in own.values()),
            "last": max(spends.last for spends in own.values()),
            "software": dict(sorted(first.genesis.software.items())) if first.genesis else {},
        },
        "ledgers": [_ledger(source) for source in sources.ledgers],
        "guarantees": found,
        "unit_and_adjacency": _adjacency(own),
        "trust": {"models": sorted(trust), "assumed": _assumed(trust)},
        "mechanisms": [row for spends in own.values() for row in spends.mechanisms()],
        "sampling": _sampling(own),
        "composition": _composition(own, further),
        "accountant": {
            "proven": ACCOUNTANT,
            "second": "continuous equivalent, exact or by privacy loss distribution (dp-accounting)",
            "rounding": "up, six decimals",
        },
        "budgets": {role: budgets(spends) for role, spends in own.items()},
        "over_time": {role: timeline(spends) for role, spends in own.items()},
        "events": {spends.role: events(spends) for spends in (*own.values(), *further)},
        "post_processing": list(sentences.POST_PROCESSING),
        "evidence": _evidence(sources),
        "hazards": [{"hazard": hazard, "measure": measure} for hazard, measure in sentences.HAZARDS],
        "security": _security(sources),
        "declared": declared,
        "not_claimed": sentences.limits(set(found), trust=trust, sampled=sampled, declared=declared["texts"]),
    }


def to_bytes(report: Mapping[str, Any]) -> bytes:
    """The one text of a report.

    Raises:
        ValueError: NaN or infinity in it.
    """
    return (json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def _own(sources: Sources) -> dict[str, Spends]:
    own = {role: read_spends(source.checked) for role in ("backbone", "adapter") if (source := sources.of(role))}
    if not own:
        raise ValueError("Expected a backbone or an adapter ledger among the sources.")
    return own


def _guarantees(own: Mapping[str, Spends], further: list[Spends]) -> dict[str, Any]:
    """A, B and C as far as the ledgers speak of them."""
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
    against = "A server" if name == "A" and spends is not None and spends.hidden_from_server else name
    window = spends.window if spends is not None else "the life of the preference"
    return {
        "name": name,
        "title": sentences.TITLES[name],
        "basis": basis,
        "adversary": sentences.ADVERSARIES[against],
        "window": window,
        "claim": sentences.claim(name, numbers, adversary=sentences.ADVERSARIES[against], window=window),
        "odds": sentences.odds(numbers, what=sentences.of(name), unit=unit),
        "test": sentences.test(numbers, unit=unit),
        **numbers,
    }


def _ledger(source: Source) -> dict[str, Any]:
    seen = source.checked
    genesis = seen.genesis
    assert genesis is not None  # sources with problems make no report
    kinds: dict[str, int] = {}
    for entry in seen.entries:
        kinds[entry.kind.value] = kinds.get(entry.kind.value, 0) + 1
    return {
        "role": source.role,
        "origin": genesis.origin,
        "guarantee": genesis.guarantee,
        "holder": genesis.holder,
        "size": seen.head.size,
        "root": seen.head.root,
        "signer": "" if seen.key is None else seen.key.text,
        "ledger_sha256": source.digest,
        "checkpoint_sha256": hashlib.sha256(source.checkpoint).hexdigest(),
        "plan_sha256": None if genesis.plan is None else genesis.plan.digest,
        "unit": genesis.unit.value,
        "relation": genesis.relation.value,
        "entries": dict(sorted(kinds.items())),
        "first": seen.entries[0].time,
        "last": seen.entries[-1].time,
    }


def _adjacency(own: Mapping[str, Spends]) -> list[dict[str, Any]]:
    told = {
        "backbone": "One device's data is there, or the device contributes zero. Who takes part is public. The exact sum then "
        "moves by at most the clip bound C; replacing a device's data would move it by 2C and is another relation.",
        "adapter": "One preference counts, or its place is blank. How many places there are is public; a preference lies in "
        "exactly one block and is charged once in its life.",
    }
    return [
        {
            "guarantee": role,
            "unit": spends.unit,
            "relation": spends.relation,
            "meaning": told[role],
            "unprotected": spends.unprotected,
        }
        for role, spends in own.items()
    ]


def _assumed(trust: set[str]) -> list[str]:
    said = {
        Trust.DISTRIBUTED.value: "Every device adds its share of the noise; the server sees the sum alone, for which secure "
        "aggregation is assumed; at least the promised number of honest devices answers.",
        Trust.CENTRAL.value: "The server sees the exact sum of clipped vectors and adds all the noise itself; it is trusted "
        "with them.",
        "device": "The device adds the noise itself before anything is shown.",
    }
    return [said[word] for word in sorted(trust) if word in said]


def _sampling(own: Mapping[str, Spends]) -> list[dict[str, Any]]:
    return [
        {
            "guarantee": role,
            "implemented": spends.participation,
            "assumed": spends.participation if spends.sampled else "none: no amplification is claimed",
            "verified_by": "nobody outside: a coin leaves no proof" if spends.sampled else "nothing to verify",
        }
        for role, spends in own.items()
    ]


def _composition(own: Mapping[str, Spends], further: list[Spends]) -> dict[str, Any]:
    return {
        "within": "Renyi divergences add up over the releases of an account, adaptively chosen ones included.",
        "blocks": "Blocks of preferences are disjoint: a preference is charged for its own block alone (parallel composition).",
        "joint": "C counts the backbone's releases at twice their clip bound: one changed preference moves a device's clipped "
        "vector from one point of the ball to another.",
        "accounts": {role: len(spends.accounts) for role, spends in own.items()},
        "releases": {role: spends.releases for role, spends in own.items()},
        "further_ledgers": [
            {"role": spends.role, "origin": spends.origin, "releases": spends.releases} for spends in further
        ],
        "refits": "A refresh is new data under the same budget; no budget is ever reset.",
    }


def _evidence(sources: Sources) -> dict[str, Any]:
    """Attacks and lower bounds, without the coins and scores that a check computes them from again."""
    if sources.evidence is None:
        return {"sha256": None, "note": "No attack was run, so nothing was looked for.", "audits": [], "attacks": []}
    digest = hashlib.sha256(sources.evidence).hexdigest()
    entries = sources.ledgers[0].checked.entries
    committed = [e.seq for e in entries if e.kind.value == "audit" and e.body.get("evidence_sha256") == digest]
    try:
        content = json.loads(sources.evidence)
        audits = [{name: audit[name] for name in _AUDIT} for audit in content["audits"]]
        attacks = [{name: attack[name] for name in _ATTACK} for attack in content["attacks"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "Expected evidence.json with audits and attacks, as `homespun audit attack` writes it."
        ) from error
    return {
        "sha256": digest,
        "in_ledger": committed,
        "note": "A lower bound finds bugs; it does not prove safety. Coins and scores are in evidence.json.",
        "audits": audits,
        "attacks": attacks,
    }


def _security(sources: Sources) -> dict[str, Any]:
    witnessed = [
        entry.seq for source in sources.ledgers for entry in source.checked.entries if entry.kind.value == "witness"
    ]
    rotated = sum(entry.kind.value == "key_rotate" for source in sources.ledgers for entry in source.checked.entries)
    return {
        "signed_by": sorted({source.checked.key.text for source in sources.ledgers if source.checked.key}),
        "keys_rotated": rotated,
        "witness_receipts": len(witnessed),
        "how_to_verify": "homespun audit verify FOLDER --key KEY",
    }


def _declared(sources: Sources) -> dict[str, Any]:
    """Texts that the keepers signed; the last one of a name counts, and all of them are in the ledger."""
    texts: dict[str, str] = {}
    for source in sources.ledgers:
        if source.role.startswith("with-"):
            continue
        if source.checked.genesis is not None:
            texts.update(source.checked.genesis.declared)
        for entry in source.checked.entries:
            if entry.kind.value == "declare":
                texts[entry.body["name"]] = entry.body["text"]
    return {
        "note": "Signed by whoever kept the ledger; nothing here was computed or checked.",
        "texts": dict(sorted(texts.items())),
        "not_declared": [name for name in _ASKED if name not in texts],
    }
