"""``homespun bench ledger``: what a long ledger costs to write, to open, to check, to report on and to verify.

One device writes its ledger in a folder for temporary files, entry by entry, each synced to disk; then it is opened,
checked, reported on and verified as ``homespun audit`` does it. Bare writes with a sync are taken between the appends,
so that their ratio holds on another disk. Reports of 200 rounds that all differ in their noise stand beside: accountants
merge equal events, and there these have nothing to merge. Rows but the appends are taken once, and are noisy.
"""

import importlib
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from homespun.audit import find_sources, verify_report, write_report
from homespun.privacy import GaussianEvent, Relation, Unit
from homespun.privacy.ledger import Genesis, Ledger, SigningKey, check, event_cost
from homespun.simulations.bench import Reporter, machine

__all__ = ["LedgerOptions", "ledger"]

LEVELS = 200  # of noise, all different: the hard case of a report
CLIP_UNITS, DIMENSION, SHARES = 1024, 600, 1000
SAMPLED, ORDER = 0.1, 16.0  # chance of being drawn, and the order at which a ledger counts Poisson samples
DELTA = 1e-6
LINE_BYTES = 1000  # of a bare write; a line of a ledger has about as many
BARE_EVERY, BARE_MOST = 10, 500  # appends between two bare writes, at least; bare writes, at most
LAST = 1000  # appends at the end, to see whether they grow with the ledger
NOISY = "noisy: all but appends and syncs are taken once, beside whatever else the machine did; rows of one run compare"


@dataclass(frozen=True, kw_only=True)
class LedgerOptions:
    """What is measured."""

    entries: int = 20_000
    """Of the long ledger beside its first one; a round is two, so an odd number is rounded down."""

    def __post_init__(self) -> None:
        """Refuse a ledger without a round."""
        if self.entries < 2:
            raise ValueError(f"Expected entries={self.entries} in [2, inf): a round is two entries.")


@dataclass(frozen=True, kw_only=True)
class Took:
    """One piece of work: seconds on the clock and of this processor."""

    wall: float
    cpu: float


def ledger(given: Mapping[str, object], reporter: Reporter) -> dict[str, Any]:
    """Measure, and return one row a measurement.

    Args:
        given: Fields of :class:`LedgerOptions` that somebody gave.
        reporter: Told what happens.

    Returns:
        JSON-able: ``rows``, each with ``name``, ``what``, ``entries``, ``repeats``, ``seconds`` (median),
        ``p99_seconds`` and ``over_sync`` (times a bare synced write; both null where the row was taken once),
        ``cpu_seconds`` and ``us_per_entry``; ``note``; ``settings``; ``machine``.

    Raises:
        ValueError: An option is unknown or out of its range.
    """
    unknown = sorted(set(given) - {field.name for field in fields(LedgerOptions)})
    if unknown:
        raise ValueError(f"Expected options of LedgerOptions, got {', '.join(unknown)}.")
    options = LedgerOptions(**given)  # type: ignore[arg-type]  # checked by name above, by value in the class
    load = os.getloadavg()
    importlib.import_module("dp_accounting.pld.pld_privacy_accountant")  # else the first report would pay for it
    with tempfile.TemporaryDirectory(prefix="homespun-bench-") as name:
        folder = Path(name)
        rows = [*_long(folder / "long", options.entries // 2, reporter), *_levels(folder, reporter)]
    return {
        "message_type": "summary",
        "success": True,
        "append_ms": next(1e3 * row["seconds"] for row in rows if row["name"] == "append"),
        "rows": rows,
        "note": NOISY,
        "settings": {
            "entries": options.entries, "levels": LEVELS, "sampling_probability": SAMPLED, "delta": DELTA,
            "dimension": DIMENSION, "line_bytes": LINE_BYTES, "folder": tempfile.gettempdir(),
            "sqlite": sqlite3.sqlite_version,
        },
        "machine": machine(load),
    }  # fmt: skip


def _long(folder: Path, rounds: int, reporter: Reporter) -> Sequence[dict[str, Any]]:
    """A device's ledger from its first entry to a verified report."""
    folder.mkdir()
    path = folder / "ledger.sqlite"
    events = [_event(rounds + number % LEVELS, shares=SHARES) for number in range(rounds)]
    reporter.stage("append", total=rounds)
    appended, bare = _write(path, events, advance=reporter.advance)
    size = 1 + len(appended)
    reporter.stage("open, check, report, verify", total=4)

    def timed(name: str, what: str, work: Callable[[], object]) -> dict[str, Any]:
        row = _row(name, what, [_clocked(work)], entries=size)
        reporter.advance()
        return row

    opened = timed("open", "chain, rules, tree; without signatures of lines", lambda: Ledger.open(path, None).close())
    with Ledger.open(path, None) as written:
        written.export(folder)
    lines, note = (folder / "ledger.jsonl").read_bytes(), (folder / "checkpoint.txt").read_bytes()
    sync = statistics.median(took.wall for took in bare)
    return (
        _row("sync", f"a bare write of {LINE_BYTES} bytes, synced", bare, entries=1, sync=sync),
        _row("append", "sign, add, sync: reserve or commit", appended, entries=1, sync=sync),
        _row("append, last", f"the same, last {LAST} at most", appended[-LAST:], entries=1, sync=sync),
        opened,
        timed("check", "everything, every signature", lambda: _sound(check(lines, note).problems)),
        timed("report", "audit report with its figures and page", lambda: _report(path, folder / "audit")),
        timed("verify", "audit verify of it", lambda: _sound(verify_report(folder / "audit").findings)),
    )


def _levels(folder: Path, reporter: Reporter) -> Iterable[dict[str, Any]]:
    """Reports of few rounds with as many levels of noise."""
    reporter.stage(f"{LEVELS} levels of noise", total=2)
    for name, q, shares in (("levels", None, SHARES), ("levels, Poisson", SAMPLED, 1)):
        place = folder / name
        place.mkdir()
        path = place / "ledger.sqlite"
        # Noise multipliers from 3 to 5, a hundredth apart.
        events = [_event((3 + number / 100) ** 2, shares=shares, q=q) for number in range(LEVELS)]
        appended, _ = _write(path, events, order=None if q is None else ORDER)
        took = _clocked(partial(_report, path, place / "audit"))
        how = "everybody takes part" if q is None else f"a Poisson sample of {q:g}"
        yield _row(name, f"audit report, {LEVELS} rounds, {how}", [took], entries=1 + len(appended))
        reporter.advance()


def _event(square: float, *, shares: int, q: float | None = None) -> GaussianEvent:
    """One round at this square of the noise multiplier."""
    variance = round(CLIP_UNITS**2 * square)
    share = None if shares == 1 else variance // shares
    return GaussianEvent(
        clip_units=CLIP_UNITS, variance=variance, count=1, dimension=DIMENSION, sampling_probability=q, shares=shares,
        share_variance=share,
    )  # fmt: skip


def _write(
    path: Path,
    events: Sequence[GaussianEvent],
    *,
    order: float | None = None,
    advance: Callable[[], None] = lambda: None,
) -> tuple[list[Took], list[Took]]:
    """Reserve and commit every round; what each append took, and the bare writes between them."""
    key = SigningKey.generate("homespun-bench")
    costs = {event: event_cost(event, order) for event in set(events)}
    genesis = Genesis(
        origin="homespun/bench", guarantee="backbone", holder="device", unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE, delta=DELTA, order=order, cap=sum((costs[event] for event in events), Decimal()),
    )  # fmt: skip
    every = max(BARE_EVERY, len(events) // BARE_MOST)
    appended, bare = [], []
    with Ledger.create(path, key, genesis) as log, path.with_name("bare").open("wb", buffering=0) as plain:
        for number, event in enumerate(events):
            began = _now()
            paid = log.reserve("device", event, {"run": 0, "round": number})
            appended.append(_since(began))
            began = _now()
            log.commit(paid, "0" * 64)
            appended.append(_since(began))
            if number % every == 0:
                began = _now()
                plain.write(bytes(LINE_BYTES))
                os.fsync(plain.fileno())
                bare.append(_since(began))
            advance()
    return appended, bare


def _report(path: Path, folder: Path) -> None:
    write_report(find_sources(path), folder)


def _sound(problems: Sequence[object]) -> None:
    """A fast check that finds fault with a good ledger would be no measurement."""
    if problems:
        raise RuntimeError(f"Expected a ledger without problems, found {problems[0]}.")


def _row(name: str, what: str, taken: Sequence[Took], *, entries: int, sync: float | None = None) -> dict[str, Any]:
    wall = sorted(took.wall for took in taken)
    seconds = statistics.median(wall)
    return {
        "name": name,
        "what": what,
        "status": "measured",
        "entries": entries,
        "repeats": len(taken),
        "seconds": seconds,
        "p99_seconds": None if sync is None else wall[min(len(wall) - 1, int(0.99 * len(wall)))],
        "cpu_seconds": statistics.median(took.cpu for took in taken),
        "us_per_entry": 1e6 * seconds / entries,
        "over_sync": None if sync is None else seconds / sync,
    }


def _clocked(work: Callable[[], object]) -> Took:
    began = _now()
    work()
    return _since(began)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> Took:
    wall, cpu = _now()
    return Took(wall=wall - began[0], cpu=cpu - began[1])
