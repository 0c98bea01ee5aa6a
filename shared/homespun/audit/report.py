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
from homespun.audit.guarantee_sections import guarantee_sections
from homespun.audit.masking import read_masking
from homespun.audit.mechanisms import adjacency, assumed, composition, mechanisms, sampling
from homespun.audit.quantities import ACCOUNTANT
from homespun.audit.sources import Source, Sources
from homespun.audit.spends import Spends, read_spends

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
    found = guarantee_sections(own, further)
    first = sources.ledgers[0].checked
    declared = _declared(sources)
    sampled = any(spends.sampled for spends in own.values())
    trust = set().union(*(spends.trust for spends in own.values()))
    masks = read_masking(own["backbone"]) if "backbone" in own else None
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
        "unit_and_adjacency": adjacency(own),
        "trust": {"models": sorted(trust), "assumed": assumed(trust, masks), "masks": masks and masks.to_dict()},
        "mechanisms": [row for spends in own.values() for row in mechanisms(spends)],
        "sampling": sampling(own),
        "composition": composition(own, further),
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
        "not_claimed": sentences.limits(
            set(found), trust=trust, sampled=sampled, masks=masks, declared=declared["texts"]
        ),
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
