"""Check a report without any private key and without trust in whoever made it.

Signatures, chain, rules and caps of every ledger; heads that somebody remembers; then the report is made again from the
ledgers and compared figure by figure and byte by byte, page and registry records as well. Lower bounds of attacks are
computed again from coins and scores. A check does not stop at the first thing that is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jinja2

from homespun.audit.evidence import problems as evidence_problems
from homespun.audit.page import render_page
from homespun.audit.registry import NAMES, registry_texts
from homespun.audit.report import build_report, to_bytes
from homespun.audit.sources import LEDGER, REPORT, Source, Sources, read_kept
from homespun.privacy.accountant import compose
from homespun.privacy.calibration import plan_events
from homespun.privacy.errors import PrivacyError
from homespun.privacy.ledger import Head, PublicKey, parse_checkpoint, parse_note

__all__ = ["PAGE", "Finding", "Verdict", "verify_report"]

PAGE = "report.html"
MOST_FINDINGS = 100
_AGREE = 1e-3  # how far the second accountant may lie above the proven figure: its grid, and arithmetic


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    where: str
    """``report.json: $.guarantees.A.epsilon``, ``ledger.jsonl: line 12``, ``report.html`` ..."""
    rule: str
    expected: str = ""
    found: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check came to."""

    findings: tuple[Finding, ...]
    """None of them: everything that was checked holds."""
    notes: tuple[str, ...]
    """What could not be checked, and what was taken on trust."""
    checked: tuple[str, ...]
    """Names of the files that were compared."""
    report: Mapping[str, Any] | None
    """The report as made again, for what it claims; None where the ledgers do not hold."""


def verify_report(
    path: Path,
    *,
    ledger: Path | None = None,
    checkpoint: Path | None = None,
    keys: Sequence[PublicKey] | None = None,
    remembered: Sequence[bytes] = (),
) -> Verdict:
    """Check a report.

    Args:
        path: ``report.json``, or the folder it is in.
        ledger: Export of the report's first ledger; the one beside the report by default.
        checkpoint: Its checkpoint, likewise.
        keys: Keys that are known from elsewhere; None believes those that the ledgers name.
        remembered: Checkpoints or receipts that somebody kept: the ledgers must contain them.
    Raises:
        OSError: ``path`` or the ledger cannot be read.
    """
    target = path / REPORT if path.is_dir() else path
    written = target.read_bytes()
    folder = target.parent
    findings: list[Finding] = []
    heads = list(_heads(remembered, findings))
    sources = read_kept(folder, ledger=ledger, checkpoint=checkpoint, keys=keys, remembered=heads)
    names = _names(sources, ledger)
    for source, name in zip(sources.ledgers, names, strict=True):
        findings += [
            Finding(where=f"{name}: {problem.where}", rule=problem.rule) for problem in source.checked.problems
        ]
    findings += _unknown_heads(sources, heads)
    again = _again(sources, findings) if all(source.checked.genesis for source in sources.ledgers) else None
    checked = [*names]
    if again is not None:
        findings += _compare(again.texts[REPORT], written)
        findings += _sense(again.report, sources)
        for name in (PAGE, *NAMES.values()):
            findings += _compare_text(folder / name, again.texts.get(name), checked)
        checked.append(REPORT)
    findings += _evidence(sources)
    notes = _notes(sources, folder, keys=keys, remembered=remembered, compared=again is not None)
    return Verdict(
        findings=tuple(findings[:MOST_FINDINGS]),
        notes=notes,
        checked=tuple(checked),
        report=None if again is None else again.report,
    )


def differences(expected: object, found: object, path: str = "$") -> Iterator[Finding]:
    """Where two JSON values differ, as paths."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for name in expected.keys() | found.keys():
            place = f"{path}.{name}"
            if name not in found:
                yield Finding(where=place, rule="Expected this field.", expected=_short(expected[name]))
            elif name not in expected:
                yield Finding(where=place, rule="Expected no such field.", found=_short(found[name]))
            else:
                yield from differences(expected[name], found[name], place)
    elif isinstance(expected, list) and isinstance(found, list):
        for index, (one, other) in enumerate(zip(expected, found, strict=False)):
            yield from differences(one, other, f"{path}[{index}]")
        if len(expected) != len(found):
            yield Finding(
                where=path, rule="Expected another number of rows.", expected=str(len(expected)), found=str(len(found))
            )
    elif type(expected) is not type(found) or expected != found:
        rule = "Expected the value that follows from the ledgers."
        yield Finding(where=path, rule=rule, expected=_short(expected), found=_short(found))


@dataclass(frozen=True, kw_only=True)
class _Again:
    """The report as it follows from what lies here, and every file that follows from it."""

    report: dict[str, Any]
    texts: dict[str, bytes]


def _again(sources: Sources, findings: list[Finding]) -> _Again | None:
    """Make everything again; None where nothing follows."""
    try:
        report = build_report(sources)
        texts = {REPORT: to_bytes(report), PAGE: render_page(report).encode("utf-8")}
        texts |= {name: text.encode("utf-8") for name, text in registry_texts(report).items()}
    except (PrivacyError, ValueError, KeyError, TypeError, jinja2.TemplateError) as error:
        # whatever an edited file makes of the page is its own fault; that it makes none is the finding
        text = str(error) if isinstance(error, (PrivacyError, ValueError)) else type(error).__name__
        findings.append(Finding(where=LEDGER, rule=f"Expected ledgers and evidence that make a report. {text}"))
        return None
    return _Again(report=report, texts=texts)


def _compare(own: bytes, written: bytes) -> list[Finding]:
    if own == written:
        return []
    try:
        read = json.loads(written.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return [Finding(where=REPORT, rule=f"Expected one JSON document. {str(error)[:200]}")]
    found = sorted(differences(json.loads(own), read), key=lambda finding: finding.where)
    found = [Finding(**{**vars(finding), "where": f"{REPORT}: {finding.where}"}) for finding in found]
    return found or [Finding(where=REPORT, rule="Expected the one spelling of this report: same values, other bytes.")]


def _compare_text(path: Path, own: bytes | None, checked: list[str]) -> list[Finding]:
    if not path.exists():
        return []
    checked.append(path.name)
    if own is None:
        return [Finding(where=path.name, rule="Expected no such file: the report supports none.")]
    written = path.read_bytes()
    if written == own:
        return []
    lines, others = own.split(b"\n"), written.split(b"\n")
    for number, (one, other) in enumerate(zip(lines, others, strict=False), start=1):
        if one != other:
            place = f"{path.name}: line {number}"
            return [
                Finding(where=place, rule="Expected the line that follows.", expected=_text(one), found=_text(other))
            ]
    return [Finding(where=path.name, rule=f"Expected {len(lines)} lines, found {len(others)}.")]


def _sense(report: Mapping[str, Any], sources: Sources) -> list[Finding]:
    """What must hold between figures, whoever computed them."""
    findings = []
    for name, one in report["guarantees"].items():
        claimed = one.get("claimed") or {}
        same = claimed.get("delta") == one["delta"]
        if (
            same
            and claimed.get("epsilon") is not None
            and (one["epsilon"] is None or one["epsilon"] > claimed["epsilon"])
        ):
            findings.append(
                Finding(
                    where=f"guarantee {name}",
                    rule="Expected the spend not to exceed what was promised.",
                    expected=f"at most {claimed['epsilon']}",
                    found=str(one["epsilon"]),
                )
            )
        for point in one.get("points", ()):
            if point["discrepancy"] is not None and point["discrepancy"] < -_AGREE:
                findings.append(
                    Finding(
                        where=f"guarantee {name}, delta {point['delta']:g}",
                        rule="Expected the second accountant to lie below the proven epsilon.",
                        expected=f"at most {point['epsilon']}",
                        found=str(point["second_epsilon"]),
                    )
                )
    for source in sources.ledgers:
        plan = source.checked.genesis.plan if source.checked.genesis else None
        if plan is not None and plan.claim.epsilon is not None:
            proven = compose(plan_events(plan.releases), delta=plan.spec.delta).epsilon
            if proven > plan.claim.epsilon + 1e-9 or plan.claim.epsilon > plan.spec.epsilon:
                findings.append(
                    Finding(
                        where=f"plan in ledger {source.role}",
                        rule="Expected a plan whose noise proves what it claims.",
                        expected=f"at least {proven!r}",
                        found=repr(plan.claim.epsilon),
                    )
                )
    return findings


def _evidence(sources: Sources) -> list[Finding]:
    if sources.evidence is None:
        return []
    try:
        content = json.loads(sources.evidence, object_pairs_hook=_once, parse_constant=_refuse)
        audits = list(content["audits"])
    except (ValueError, KeyError, TypeError):
        return [
            Finding(where="evidence.json", rule="Expected audits and attacks, as `homespun audit attack` writes them.")
        ]
    findings = []
    for index, audit in enumerate(audits):
        place = f"evidence.json: $.audits[{index}]"
        findings += [Finding(where=place, rule=rule) for rule in evidence_problems(audit)]
        for bound in audit.get("beaten", ()) if isinstance(audit, Mapping) else ():
            findings.append(Finding(where=place, rule=f"Expected lower bounds below the claim: {bound} is above it."))
    told = [entry for source in sources.ledgers for entry in source.checked.entries if entry.kind.value == "audit"]
    coins = {entry.body.get("commitment") for entry in told}
    for index, audit in enumerate(audits):
        if isinstance(audit, Mapping) and audit.get("commitment") not in coins:
            rule = (
                "Expected its coins to be committed to in an `audit` entry: coins that are chosen later prove nothing."
            )
            findings.append(Finding(where=f"evidence.json: $.audits[{index}]", rule=rule))
    digest = Source.digest_of(sources.evidence)
    if not any(entry.body.get("evidence_sha256") == digest for entry in told):
        rule = "Expected its SHA-256 in an `audit` entry of a ledger: it is not the evidence that was signed."
        findings.append(Finding(where="evidence.json", rule=rule))
    return findings


def _heads(remembered: Sequence[bytes], findings: list[Finding]) -> Iterator[tuple[str, Head]]:
    """Heads that somebody kept; their signatures are theirs to know."""
    for number, note in enumerate(remembered, start=1):
        try:
            yield parse_checkpoint(parse_note(note).text)
        except ValueError as error:
            findings.append(Finding(where=f"remembered {number}", rule=str(error)))


def _unknown_heads(sources: Sources, heads: Sequence[tuple[str, Head]]) -> list[Finding]:
    known = {source.checked.genesis.origin for source in sources.ledgers if source.checked.genesis}
    return [
        Finding(where=f"remembered {number}", rule=f"Expected a head of one of these ledgers, not of {origin}.")
        for number, (origin, _) in enumerate(heads, start=1)
        if origin not in known
    ]


def _names(sources: Sources, ledger: Path | None) -> list[str]:
    names = []
    for index, source in enumerate(sources.ledgers):
        if index == 0:
            names.append(str(ledger) if ledger else LEDGER)
        else:
            names.append(f"{source.role}/{LEDGER}")
    return names


def _notes(
    sources: Sources, folder: Path, *, keys: Sequence[PublicKey] | None, remembered: Sequence[bytes], compared: bool
) -> tuple[str, ...]:
    told = []
    if keys is None:
        told.append("the signer's key comes from the ledger itself: nobody vouches for it; give --key")
    if not remembered:
        told.append("no head is remembered: an old copy of the whole folder would pass; give --remembered")
    if not any(entry.kind.value == "witness" for source in sources.ledgers for entry in source.checked.entries):
        told.append("no witness countersigned: a second ledger beside this one would not show")
    if sources.evidence is None:
        told.append("there is no evidence of attacks")
    if not (folder / PAGE).exists():
        told.append(f"there is no {PAGE} here to compare")
    if not compared:
        told.append("the figures were not compared: the ledgers do not hold")
    told.append("declared texts are signed, not checked")
    return tuple(told)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("Expected every field once.")
    return dict(pairs)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"Expected finite numbers, found {text}.")


def _short(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:120]


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").strip()[:120]
