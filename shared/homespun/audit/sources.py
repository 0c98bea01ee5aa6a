"""What a report is made from: exported ledgers, their checkpoints, and the evidence of attacks.

A run's folder, a device's folder, a ``*.sqlite`` ledger or an exported ``ledger.jsonl`` all end as the same bytes, so that
a report does not depend on where it was made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from homespun.privacy.errors import LedgerDamaged, LedgerError
from homespun.privacy.ledger import Checked, Head, PublicKey, check, parse_checkpoint, parse_note
from homespun.privacy.ledger.store import Store

__all__ = ["CHECKPOINT", "EVIDENCE", "LEDGER", "REPORT", "Source", "Sources", "find_sources", "read_kept"]

REPORT, EVIDENCE, LEDGER, CHECKPOINT = "report.json", "evidence.json", "ledger.jsonl", "checkpoint.txt"
_OWN = ("backbone", "adapter")
_NO_LEDGERS = frozenset({"vault.sqlite", "witness.sqlite"})
_NUMBERED = re.compile(r"ledger-([0-9]+)\.sqlite\Z")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One ledger as bytes, and what a check says of it."""

    role: str
    """``backbone``, ``adapter``, or ``with-1``, ``with-2`` ... for further ledgers that are charged."""
    lines: bytes = field(repr=False)
    checkpoint: bytes = field(repr=False)
    checked: Checked

    @property
    def digest(self) -> str:
        """SHA-256 of the lines."""
        return self.digest_of(self.lines)

    @staticmethod
    def digest_of(content: bytes) -> str:
        """SHA-256 in hexadecimal."""
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Everything that a report is a function of."""

    ledgers: tuple[Source, ...]
    evidence: bytes | None = field(repr=False)

    def of(self, role: str) -> Source | None:
        """The ledger in this role."""
        return next((source for source in self.ledgers if source.role == role), None)

    @property
    def further(self) -> tuple[Source, ...]:
        """Ledgers that are charged besides the report's own."""
        return tuple(source for source in self.ledgers if source.role not in _OWN)


def find_sources(path: Path, also: Sequence[Path] = ()) -> Sources:
    """Read the ledgers at ``path``, and further ones whose spends are charged to the same people.

    Args:
        path: A run's or a device's folder, a ``*.sqlite`` ledger, or an exported ``*.jsonl`` with its
            ``checkpoint.txt`` beside it.
        also: Ledgers of further runs on the same people, tuning runs among them; each is one backbone ledger.
    Raises:
        LedgerError: there is no ledger, or two that claim the same role.
        LedgerDamaged: a ledger does not hold what its signatures and rules promise.
    """
    own: dict[str, Source] = {}
    for lines, checkpoint in _exports(path):
        source = _checked(lines, checkpoint)
        if source.role in own:
            raise LedgerError(f"Expected one {source.role} ledger in {path}, found two; name one of them.")
        own[source.role] = source
    further = []
    for number, place in enumerate(also, start=1):
        exports = _exports(place)
        found = [_checked(lines, checkpoint, role=f"with-{number}") for lines, checkpoint in exports]
        found = [
            source for source in found if source.checked.genesis and source.checked.genesis.guarantee == "backbone"
        ]
        if len(found) != 1:
            raise LedgerError(f"Expected one backbone ledger in {place}, found {len(found)}.")
        further.append(found[0])
    roots = [source.checked.head.root for source in (*own.values(), *further)]
    if len(set(roots)) < len(roots):
        raise LedgerError("Expected every ledger once: one of them was named twice.")
    ordered = [own[role] for role in _OWN if role in own]
    return Sources(ledgers=(*ordered, *further), evidence=_evidence(path))


def read_kept(
    folder: Path,
    *,
    ledger: Path | None = None,
    checkpoint: Path | None = None,
    keys: Sequence[PublicKey] | None = None,
    remembered: Sequence[tuple[str, Head]] = (),
) -> Sources:
    """Read what lies beside a report, whatever is wrong with it; problems are in ``Source.checked``.

    Args:
        folder: Of the report.
        ledger: Export of its first ledger, if elsewhere.
        checkpoint: Its checkpoint, if elsewhere.
        keys: Keys that are trusted; None believes the ledgers.
        remembered: Origins and heads that somebody kept; each ledger must contain its own.
    """
    places: list[tuple[str | None, Path, Path]] = [(None, ledger or folder / LEDGER, checkpoint or folder / CHECKPOINT)]
    # A device's report may be of an adapter's ledger alone, or have it second; the genesis says which, not the folder.
    places += [(None, folder / "adapter" / LEDGER, folder / "adapter" / CHECKPOINT)]
    number = 1
    while (folder / f"with-{number}" / LEDGER).exists():
        part = folder / f"with-{number}"
        places.append((part.name, part / LEDGER, part / CHECKPOINT))
        number += 1
    sources = []
    for index, (role, place, note) in enumerate(places):
        if index == 1 and not place.exists():
            continue
        lines, signed = place.read_bytes(), note.read_bytes() if note.exists() else b""
        heads = [head for origin, head in remembered if origin == _origin(signed)]
        seen = check(lines, signed, keys=keys, remembered=heads)
        sources.append(Source(role=role or _role(seen), lines=lines, checkpoint=signed, checked=seen))
    evidence = folder / EVIDENCE
    return Sources(ledgers=tuple(sources), evidence=evidence.read_bytes() if evidence.exists() else None)


def _exports(path: Path) -> list[tuple[bytes, bytes]]:
    if path.is_dir():
        stores = _stores(path)
        if stores:
            return [_from_store(store) for store in stores]
        found = [path / name for name in (LEDGER, "privacy_ledger.jsonl") if (path / name).is_file()]
        if not found:
            raise LedgerError(f"Expected a ledger (*.sqlite or {LEDGER}) in {path}.")
        path = found[0]
    if not path.is_file():
        raise LedgerError(f"Expected a ledger at {path}; there is no such file.")
    if path.suffix == ".sqlite":
        return [_from_store(path)]
    note = path.with_name(CHECKPOINT)
    if not note.is_file():
        raise LedgerError(f"Expected {CHECKPOINT} beside {path.name}: without it the end of the ledger is not signed.")
    return [(path.read_bytes(), note.read_bytes())]


def _stores(folder: Path) -> list[Path]:
    """The ledgers of a folder: of a device's numbered ones the newest, which took over what the older ones spent."""
    found = [path for path in sorted(folder.glob("*.sqlite")) if path.name not in _NO_LEDGERS and path.name[0] != "."]
    numbered = {int(match[1]): path for path in found if (match := _NUMBERED.match(path.name))}
    newest = numbered[max(numbered)] if numbered else None
    return [path for path in found if path not in numbered.values() or path == newest]


def _from_store(path: Path) -> tuple[bytes, bytes]:
    """Lines and checkpoint as they are, not yet believed."""
    if not path.is_file():
        raise LedgerError(f"Expected a ledger at {path}; there is no such file.")
    store = Store(path)
    try:
        with store.reading():
            return b"".join(line + b"\n" for line in store.lines()), store.note()
    finally:
        store.close()


def _checked(lines: bytes, checkpoint: bytes, role: str | None = None) -> Source:
    seen = check(lines, checkpoint)
    if seen.problems or seen.genesis is None:
        first = seen.problems[0] if seen.problems else None
        more = f" ({len(seen.problems)} problems in all)" if len(seen.problems) > 1 else ""
        raise LedgerDamaged(f"{first.where}: {first.rule}{more}" if first else "Expected a genesis in the ledger.")
    return Source(role=role or seen.genesis.guarantee, lines=lines, checkpoint=checkpoint, checked=seen)


def _origin(checkpoint: bytes) -> str:
    """Whose checkpoint it says it is."""
    try:
        return parse_checkpoint(parse_note(checkpoint).text)[0]
    except ValueError:
        return ""


def _role(seen: Checked) -> str:
    return "backbone" if seen.genesis is None else seen.genesis.guarantee


def _evidence(path: Path) -> bytes | None:
    folder = path if path.is_dir() else path.parent
    for place in (folder / "audit" / EVIDENCE, folder / EVIDENCE):
        if place.is_file():
            return place.read_bytes()
    return None
