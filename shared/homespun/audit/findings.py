"""What a check finds wrong: one thing, its place, what was expected there and what was found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    where: str
    """``report.json: $.guarantees.A.epsilon``, ``ledger.jsonl: line 12``, ``report.html`` ..."""
    rule: str
    expected: str = ""
    found: str = ""
