"""Check a report without any private key and without trust in whoever made it.

Signatures, chain, rules and caps of every ledger; heads that somebody remembers; then the report is made again from the
ledgers and compared figure by figure and byte by byte, page and registry records as well. Lower bounds of attacks are
computed again from coins and scores, and are of the claims of the signed plans. A check does not stop at the first thing
that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from homespun.audit.comparison import compare_report, compare_text
from homespun.audit.consistency import contradictions
from homespun.audit.evidence_check import check_evidence
from homespun.audit.findings import Finding
from homespun.audit.page import render_page
from homespun.audit.registry import NAMES, registry_texts
from homespun.audit.report import build_report, to_bytes
from homespun.audit.sources import LEDGER, REPORT, Sources, read_kept
from homespun.privacy.errors import PrivacyError
from homespun.privacy.ledger import Head, PublicKey, parse_checkpoint, parse_note

__all__ = ["PAGE", "Finding", "Verdict", "verify_report"]

PAGE = "report.html"
MOST_FINDINGS = 100


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
        findings += compare_report(again.texts[REPORT], written)
        findings += contradictions(again.report, sources)
        for name in (PAGE, *NAMES.values()):
            if (folder / name).exists():
                findings += compare_text(folder / name, again.texts.get(name))
                checked.append(name)
        checked.append(REPORT)
    findings += check_evidence(sources)
    notes = _notes(sources, folder, keys=keys, remembered=remembered, compared=again is not None)
    return Verdict(
        findings=tuple(findings[:MOST_FINDINGS]),
        notes=notes,
        checked=tuple(checked),
        report=None if again is None else again.report,
    )


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
