"""Whether ``evidence.json`` is what was signed, follows from its coins and scores, and is of the ledgers' own claims.

An audit states the claim that it tested. Nothing of that may be believed: a claim that is stated ten times as large as
the run's is beaten by nothing. What was to be tested stands in the signed genesis.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from homespun.audit.claims import AuditedClaim, block_claim, path_claim
from homespun.audit.comparison import read_json
from homespun.audit.evidence import problems
from homespun.audit.findings import Finding
from homespun.audit.sources import EVIDENCE, Source, Sources
from homespun.privacy.plan import Plan
from homespun.privacy.record_plan import RecordPlan

__all__ = ["check_evidence"]

_ROUNDING = 1e-9  # relative; two versions of Python may add the parts of mu up differently in the last bit


def check_evidence(sources: Sources) -> list[Finding]:
    """Check the evidence beside the ledgers; nothing is found where there is none."""
    if sources.evidence is None:
        return []
    try:
        audits = list(read_json(sources.evidence)["audits"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return [Finding(where=EVIDENCE, rule="Expected audits and attacks, as `homespun audit attack` writes them.")]
    told = [entry for source in sources.ledgers for entry in source.checked.entries if entry.kind.value == "audit"]
    coins = {entry.body.get("commitment") for entry in told}
    claims = _claims(sources)
    findings: list[Finding] = []
    for index, audit in enumerate(audits):
        place = f"{EVIDENCE}: $.audits[{index}]"
        findings += [Finding(where=place, rule=rule) for rule in problems(audit)]
        if isinstance(audit, Mapping):
            findings += _of_another_claim(audit, claims, place)
            findings += _beaten(audit, place)
            if audit.get("commitment") not in coins:
                rule = "Expected its coins to be committed to in an `audit` entry: coins that are chosen later prove nothing."
                findings.append(Finding(where=place, rule=rule))
    digest = Source.digest_of(sources.evidence)
    if not any(entry.body.get("evidence_sha256") == digest for entry in told):
        rule = "Expected its SHA-256 in an `audit` entry of a ledger: it is not the evidence that was signed."
        findings.append(Finding(where=EVIDENCE, rule=rule, found=digest))
    return findings


def _claims(sources: Sources) -> dict[str, AuditedClaim]:
    """What the report's own ledgers claim, by the kind of audit that tests it."""
    found = {}
    plan = _plan(sources)
    if plan is not None and plan.claim.epsilon is not None:
        found["path"] = path_claim(plan)
    records = _record_plan(sources)
    if records is not None:
        found["block"] = block_claim(records)
    return found


def _plan(sources: Sources) -> Plan | None:
    source = sources.of("backbone")
    return source.checked.genesis.plan if source and source.checked.genesis else None


def _record_plan(sources: Sources) -> RecordPlan | None:
    """Of the adapter's own ledger; otherwise what the backbone's says that adapters will cost."""
    for role in ("adapter", "backbone"):
        source = sources.of(role)
        content = source.checked.genesis.adapter if source and source.checked.genesis else None
        if content is not None and "clip_units" in content:
            try:
                return RecordPlan.from_dict(content)
            except (ValueError, TypeError):  # the report cannot be made from it either, and that is the finding
                return None
    return None


def _of_another_claim(audit: Mapping[str, Any], claims: Mapping[str, AuditedClaim], place: str) -> Iterator[Finding]:
    kind = audit.get("kind")
    claim = claims.get(kind) if isinstance(kind, str) else None
    if claim is None:
        yield Finding(
            where=f"{place}.kind",
            rule="Expected an audit of what the plan in the genesis claims.",
            expected=" or ".join(claims) or "none: nothing is claimed",
            found=_text(kind),
        )
        return
    for name, expected in vars(claim).items():
        if name not in audit or not _same(expected, audit[name]):
            yield Finding(
                where=f"{place}.{name}",
                rule="Expected the claim of the plan in the genesis: an audit of another claim tests nothing of this one.",
                expected=_text(expected),
                found=_text(audit[name]) if name in audit else "",
            )


def _same(expected: object, found: object) -> bool:
    if isinstance(found, bool):
        return False  # True == 1.0
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(expected, found, rel_tol=_ROUNDING)
    return expected == found


def _beaten(audit: Mapping[str, Any], place: str) -> Iterator[Finding]:
    named = audit.get("beaten")
    for bound in named if isinstance(named, list) else ():
        yield Finding(where=place, rule=f"Expected lower bounds below the claim: {_text(bound)} is above it.")


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:120]
