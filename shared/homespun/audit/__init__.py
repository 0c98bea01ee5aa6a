"""The audit: what was spent, what may be claimed, what attacks could show, and whether a report of it holds.

::

    sources = find_sources(Path("runs/20260314T091500Z-planted"))      # ledgers, checkpoints, evidence
    write_report(sources, Path("audit"))                               # a pure function of them
    verify_report(Path("audit")).findings                              # empty where everything holds

A report is made again by whoever checks it; see ``docs/design/08-audit.md``.
"""

from homespun.audit.report import build_report
from homespun.audit.sources import Source, Sources, find_sources
from homespun.audit.verify import Finding, Verdict, verify_report
from homespun.audit.writing import write_report

__all__ = [
    "Finding",
    "Source",
    "Sources",
    "Verdict",
    "build_report",
    "find_sources",
    "verify_report",
    "write_report",
]
