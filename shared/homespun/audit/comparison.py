"""What lies here against what follows: JSON value by value, text line by line, and nothing but the same bytes passes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from homespun.audit.findings import Finding
from homespun.audit.sources import REPORT

__all__ = ["compare_report", "compare_text", "differences", "read_json"]


def compare_report(own: bytes, written: bytes) -> list[Finding]:
    """Compare ``report.json``: value by value first, so that a finding names the figure, then byte by byte."""
    if own == written:
        return []
    try:
        read = read_json(written)
    except (ValueError, RecursionError) as error:
        return [Finding(where=REPORT, rule=f"Expected one JSON document. {str(error)[:200]}")]
    found = sorted(differences(json.loads(own), read), key=lambda finding: finding.where)
    found = [Finding(**{**vars(finding), "where": f"{REPORT}: {finding.where}"}) for finding in found]
    return found or [Finding(where=REPORT, rule="Expected the one spelling of this report: same values, other bytes.")]


def compare_text(path: Path, own: bytes | None) -> list[Finding]:
    """Compare a file that is there line by line; None where none should be."""
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


def read_json(content: bytes) -> Any:
    """Read one JSON document in which every field stands once and every number is finite.

    Raises:
        ValueError: it is none.
    """
    return json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)


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
