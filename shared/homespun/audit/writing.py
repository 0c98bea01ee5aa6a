"""The folder of a report: everything that a stranger needs to check it, and nothing that is private."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homespun.audit.page import render_page
from homespun.audit.registry import NAMES, registry_texts
from homespun.audit.report import build_report, to_bytes
from homespun.audit.sources import CHECKPOINT, EVIDENCE, LEDGER, REPORT, Sources
from homespun.audit.verify import PAGE
from homespun.privacy.ledger.files import write_atomically

__all__ = ["write_report"]


def write_report(sources: Sources, folder: Path) -> dict[str, Any]:
    """Write the report of checked ledgers, with their exports beside it, each file whole or not at all.

    Args:
        sources: What `homespun.audit.sources.find_sources` returns.
        folder: Made if it is not there. Files of an older report in it are replaced; a registry record that the report
            no longer supports is removed.
    Returns:
        The report.
    """
    report = build_report(sources)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for index, source in enumerate(sources.ledgers):
        place = folder if index == 0 else folder / source.role
        place.mkdir(exist_ok=True, mode=0o700)
        write_atomically(place / LEDGER, source.lines)
        write_atomically(place / CHECKPOINT, source.checkpoint)
    if sources.evidence is not None:
        write_atomically(folder / EVIDENCE, sources.evidence)
    texts = registry_texts(report)
    for name in NAMES.values():
        if name in texts:
            write_atomically(folder / name, texts[name].encode("utf-8"))
        else:
            (folder / name).unlink(missing_ok=True)
    write_atomically(folder / PAGE, render_page(report).encode("utf-8"))
    write_atomically(folder / REPORT, to_bytes(report))
    return report
