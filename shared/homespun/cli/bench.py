"""``homespun bench``: speed and accuracy beside other systems, and what a long ledger and a masked sum cost.

The work is in ``homespun.simulations``, in ``bench``, ``bench_ledger`` and ``bench_secagg``, loaded when a command runs.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from homespun.cli import voice

__all__ = ["bench"]

bench = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    help="Measure speed and accuracy beside other systems, and what ledgers and masks cost.",
)


@bench.callback()
def _group() -> None:
    """Measure speed and accuracy beside other systems, and what ledgers and masks cost."""


@bench.command("rounds")
def rounds(
    users: Annotated[int | None, typer.Option(metavar="N", min=1, help="Simulated people in a round.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", min=0, help="Same seed, same work.")] = None,
    scale: Annotated[bool, typer.Option("--scale", help="Also three rounds of 100,000 people; a minute.")] = False,
    pfl_python: Annotated[
        str | None, typer.Option(metavar="PATH", help="A python with pfl[pytorch], to run the common job on it.")
    ] = None,
    ray_python: Annotated[
        str | None, typer.Option(metavar="PATH", help="A python with flwr[simulation], to run the common job on it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document last.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show a traceback if it fails.")] = False,
) -> None:
    """Time a round of training, in microseconds for one person's update."""
    given = {"users": users, "seed": seed, "scale": scale or None, "pfl_python": pfl_python, "ray_python": ray_python}
    options = {name: value for name, value in given.items() if value is not None}
    with voice.reporter(as_json=as_json, quiet=quiet) as reporter:
        work = importlib.import_module("homespun.simulations.bench")
        result: dict[str, Any] = work.rounds(options, reporter)
        if as_json:
            reporter.table(result)
            return
    for line in _lines(result):
        voice.say(line)


@bench.command("ledger")
def ledger(
    entries: Annotated[int | None, typer.Option(metavar="N", min=2, help="Entries of the long ledger [20000].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document last.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show a traceback if it fails.")] = False,
) -> None:
    """Time appends to a ledger, and opening, checking, reporting on and verifying a long one."""
    options = {} if entries is None else {"entries": entries}
    with voice.reporter(as_json=as_json, quiet=quiet) as reporter:
        work = importlib.import_module("homespun.simulations.bench_ledger")
        result: dict[str, Any] = work.ledger(options, reporter)
        if as_json:
            reporter.table(result)
            return
    for line in _ledger_lines(result):
        voice.say(line)


@bench.command("secagg")
def secagg(
    parties: Annotated[
        str | None, typer.Option(metavar="N,...", help="Numbers of parties to a sum [10,100,1000].")
    ] = None,
    dimension: Annotated[str | None, typer.Option(metavar="D,...", help="Lengths of a vector [1000,100000].")] = None,
    dropout: Annotated[float | None, typer.Option(metavar="P", help="Part of them that drop out [0.1].")] = None,
    max_dropout: Annotated[
        float | None, typer.Option(metavar="P", help="Part of them that a sum may lack; 1.5 times the dropout.")
    ] = None,
    colluding: Annotated[
        float | None, typer.Option(metavar="P", help="Part of them that may side with the server [0.05].")
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="Also Flower's SecAgg+; minutes a row from 100 parties on.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document last.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show a traceback if it fails.")] = False,
) -> None:
    """Time a masked sum, a client's part and the server's, beside Flower's SecAgg+."""
    options: dict[str, object] = {"peers": peers}
    for name, text in (("parties", parties), ("dimension", dimension)):
        if text is not None:
            options[name] = _numbers(name, text)
    parts = {"dropout": dropout, "max_dropout": max_dropout, "colluding": colluding}
    options |= {name: part for name, part in parts.items() if part is not None}
    with voice.reporter(as_json=as_json, quiet=quiet) as reporter:
        work = importlib.import_module("homespun.simulations.bench_secagg")
        result: dict[str, Any] = work.secagg(options, reporter)
        if as_json:
            reporter.table(result)
            return
    for line in _secagg_lines(result):
        voice.say(line)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"Expected {name}={text} as whole numbers with commas between them.") from None


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The rows as aligned columns; then the large run and the machine, because a time means nothing without one."""
    yield f"{'':<15}{'us/update':>11}{'processor':>11}{'x kernel':>10}  "
    for row in result.get("rows", ()):
        if row["us_per_user"] is None:
            yield f"{row['name']:<15}{row['status']}: {row['note']}"
            continue
        cpu = "" if row["cpu_us_per_user"] is None else f"{row['cpu_us_per_user']:,.0f}"
        yield f"{row['name']:<15}{row['us_per_user']:>11,.0f}{cpu:>11}{row['over_kernel']:>10,.1f}  {row['what']}"
    if large := result.get("scale"):
        yield (
            f"{large['users']:,} people, {large['rounds']} rounds: {large['seconds']:.1f} s, "
            f"at most {large['peak_memory_gb']:.2f} GB of memory"
        )
    if machine := result.get("machine"):
        yield f"{_where(machine)}, {machine['threads_used']} used; torch {machine['torch']}"


def _ledger_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The rows as aligned columns, in milliseconds; then how far to believe them, and the machine."""
    yield f"{'':<17}{'entries':>9}{'ms':>11}{'p99':>8}{'processor':>11}{'us/entry':>10}{'x sync':>8}  "
    for row in result.get("rows", ()):
        p99 = "" if row["p99_seconds"] is None else f"{1e3 * row['p99_seconds']:,.2f}"
        ratio = "" if row["over_sync"] is None else f"{row['over_sync']:,.1f}"
        yield (
            f"{row['name']:<17}{row['entries']:>9,}{1e3 * row['seconds']:>11,.2f}{p99:>8}"
            f"{1e3 * row['cpu_seconds']:>11,.2f}{row['us_per_entry']:>10,.0f}{ratio:>8}  {row['what']}"
        )
    if note := result.get("note"):
        yield note
    if machine := result.get("machine"):
        yield f"{_where(machine)}; SQLite {result['settings']['sqlite']} in {result['settings']['folder']}"


def _secagg_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Two lines a row, ours and the other's, below what both had to do; then what they do not share, and the machine."""
    yield f"{'':<10}{'client ms':>11}{'most':>9}{'server s':>10}{'all s':>9}{'up B/coord':>12}{'up KB':>9}{'down KB':>9}{'x ours':>8}"
    for row in result.get("rows", ()):
        leak = "0" if row["leak_log2"] is None else f"2^{row['leak_log2']:.0f}"
        neighbours = "all" if row["complete"] else f"k={row['degree']}"
        yield (
            f"{row['parties']:,} parties, {row['dimension']:,} coordinates, {row['dropped']} of at most {row['parties'] - row['min_survivors']} dropped: {neighbours}, "
            f"t={row['threshold']}, m={row['committee']}, q={row['quorum']}; "
            f"leak {leak}, abort {row['abort_chance']:.1g}"
        )
        for name, side in (("  homespun", row["ours"]), ("  SecAgg+", row["peer"])):
            if side is None:
                continue
            if side["status"] != "measured":
                yield f"{name:<10}{side['note']}"
                continue
            ratio = "" if side is row["ours"] else f"{side['over_ours']:,.1f}"
            yield (
                f"{name:<10}{side['client_ms']:>11,.1f}{side['client_ms_max']:>9,.1f}{side['server_seconds']:>10,.2f}"
                f"{side['total_seconds']:>9,.2f}{side['up_bytes_per_coordinate']:>12,.2f}{side['up_bytes'] / 1e3:>9,.1f}"
                f"{side['down_bytes'] / 1e3:>9,.1f}{ratio:>8}"
            )
    yield from result.get("notes", ())
    if machine := result.get("machine"):
        yield _where(machine)


def _where(machine: Mapping[str, Any]) -> str:
    return f"{machine['processor']}, {machine['cores']} cores with load {machine['load_before']:g} before"
