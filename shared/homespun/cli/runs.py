"""``homespun runs``: what was run here, and runs side by side. Reads ``summary.json`` alone."""

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from homespun.cli import tables, voice
from homespun.cli.errors import ExitCode

__all__ = ["RunFolder", "find_runs", "runs"]

runs = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    help="List run folders, or compare them.",
)
_PRIVACY = ("epsilon", "epsilon_reason", "delta", "privacy_unit", "neighboring_relation", "accountant")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """A run folder: ``summary`` is None while it is unfinished, or if it cannot be read (``state`` says which)."""

    path: Path
    state: str
    summary: Mapping[str, Any] | None


@runs.callback()
def _group() -> None:
    """List run folders, or compare them."""


def read_run(path: Path) -> RunFolder:
    """Look at one run folder; a missing or damaged summary is a state, not an error."""
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return RunFolder(path=path, state="unfinished", summary=None)
    except (OSError, ValueError):
        return RunFolder(path=path, state="unreadable", summary=None)
    if not isinstance(summary, dict):
        return RunFolder(path=path, state="unreadable", summary=None)
    return RunFolder(path=path, state="finished", summary=summary)


def find_runs(folder: Path) -> list[RunFolder]:
    """All run folders directly in ``folder``, oldest first; other folders are left out."""
    if not folder.is_dir():
        return []
    marks = ("summary.json", "config.toml", "privacy_ledger.sqlite")
    found = [path for path in folder.iterdir() if path.is_dir() and any((path / mark).is_file() for mark in marks)]
    return [read_run(path) for path in sorted(found)]


@runs.command("list")
@runs.command("ls", hidden=True)
def list_runs(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the run folders are.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the runs, the newest last."""
    found = find_runs(out)
    if as_json:
        voice.document({"message_type": "runs", "runs": [_row(run) for run in found]})
        return
    if not found:
        voice.say(f"no runs in {out}")
        voice.say("next: homespun simulate")
        return
    names = ["run", "data", "labels", "personal %", "global %", "privacy", "harmed", "seconds"]
    table = tables.columns(names=names)
    for run in found:
        table.add_row(*(_escape(cell) for cell in _cells(run)))
    tables.show(table)
    for run in found:
        if run.state == "unfinished":
            voice.say(f"unfinished: go on with homespun simulate --resume {run.path}")


def _cells(run: RunFolder) -> list[str]:
    if run.summary is None:
        return [run.path.name, run.state, *["-"] * 6]
    accuracy = run.summary.get("accuracy") or {}
    shots = headline_shots(accuracy)
    cell = accuracy.get(shots, {})
    return [
        run.path.name,
        str((run.summary.get("data") or {}).get("name", "-")),
        shots,
        tables.interval(cell.get("personal")),
        tables.interval(cell.get("global")),
        voice.epsilon_in_words(run.summary),
        tables.share(run.summary.get("harmed_share")),
        _seconds(run.summary),
    ]


def headline_shots(accuracy: Mapping[str, Any]) -> str:
    """The count that a headline is about: 20 labels where measured, else the most."""
    return "20" if "20" in accuracy else max(accuracy, key=int, default="-")


def _row(run: RunFolder) -> dict[str, Any]:
    row: dict[str, Any] = {"run": str(run.path), "state": run.state}
    if run.summary is None:
        return row
    kept = ("name", "started", "seconds", "split", "seed", "accuracy", "gain", "harmed_share", "improved_share")
    row.update({key: run.summary.get(key) for key in (*kept, *_PRIVACY) if key in run.summary})
    row["data"] = (run.summary.get("data") or {}).get("name")
    return row


@runs.command("compare", no_args_is_help=True)
def compare(
    chosen: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", show_default=False)] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Also draw accuracy against epsilon over the runs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show a traceback if it fails.")] = False,
) -> None:
    """Put run folders (RUN) side by side, at the numbers of labels that all of them have.

    Example:  homespun runs compare runs/A runs/B --figure privacy.svg
    """
    del verbose  # read by the entry point
    if not chosen:
        raise click.UsageError("missing RUN: name two or more run folders")
    found = [read_run(path) for path in chosen]
    for run in found:
        if run.summary is None:
            error = ValueError(f"Expected {run.path} to be a finished run, found it {run.state}.")
            error.add_note(f"finish it with: homespun simulate --resume {run.path}")
            raise error
    summaries = [run.summary for run in found if run.summary is not None]
    shots = common_shots(summaries)
    remarks = differences(summaries)
    if figure is not None:
        drawing = importlib.import_module("homespun.simulations.figures")
        figure.write_text(drawing.accuracy_against_epsilon(summaries), encoding="utf-8")
    if as_json:
        drawn = {"figure": str(figure)} if figure is not None else {}
        rows = [_row(run) for run in found]
        content = {"message_type": "comparison", "shots": [int(n) for n in shots], "runs": rows, "notes": remarks}
        voice.document({**content, **drawn})
        return
    table = tables.columns(names=["", *_names(found)])
    for shot in shots:
        for method in ("global", "personal", "gated"):
            cells = [tables.interval(summary["accuracy"][shot].get(method)) for summary in summaries]
            table.add_row(f"{method}, {shot} labels", *cells)
        gains = [tables.interval(((s.get("gain") or {}).get(shot) or {}).get("personal"), sign=True) for s in summaries]
        table.add_row(f"gain, {shot} labels", *gains, end_section=True, style="bold")
    table.add_row("privacy", *(_escape(voice.epsilon_in_words(summary)) for summary in summaries))
    table.add_row("harmed, gated", *(tables.share(summary.get("harmed_share")) for summary in summaries))
    table.add_row("seconds", *(_seconds(summary) for summary in summaries))
    tables.show(table, title="accuracy in % on people never seen [95 % interval]")
    for remark in remarks:
        voice.say(f"note: {remark}")
    if figure is not None:
        voice.say(f"figure: {figure}")
    if not shots:
        voice.say("note: these runs have no number of labels in common")
        raise typer.Exit(ExitCode.PARTIAL)


def common_shots(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Shot counts that every run measured, ascending."""
    kept = set.intersection(*(set(summary.get("accuracy") or {}) for summary in summaries))
    return sorted(kept, key=int)


def differences(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on what else differs, so that nobody reads a difference of data as one of privacy."""
    remarks = []
    for name, of in {
        "data": [(summary.get("data") or {}).get("name") for summary in summaries],
        "split": [summary.get("split") for summary in summaries],
        "features": [summary.get("features") for summary in summaries],
        "encoder": [(summary.get("encoder") or {}).get("digest") for summary in summaries],
        "seed": [summary.get("seed") for summary in summaries],
    }.items():
        if len({str(value) for value in of}) > 1:
            remarks.append(f"the runs differ in {name}, not in privacy alone")
    return remarks


def _names(found: Sequence[RunFolder]) -> list[str]:
    return [run.path.resolve().name for run in found]


def _seconds(summary: Mapping[str, Any]) -> str:
    value = summary.get("seconds")
    return f"{value:.0f}" if isinstance(value, (int, float)) else "-"


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
