"""``homespun audit``: reports from signed ledgers, and checks of reports by anybody."""

import importlib
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from homespun.cli import voice
from homespun.cli.attack import attack
from homespun.cli.errors import ExitCode

__all__ = ["audit"]

audit = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    help="Report what was spent of anybody's privacy, check such reports, and attack what was released.",
)
_PRIVACY = ("epsilon", "epsilon_reason", "delta", "privacy_unit", "neighboring_relation", "accountant")


@audit.callback()
def _group() -> None:
    """Report what was spent of anybody's privacy, and check such reports."""


audit.command("attack", no_args_is_help=True)(attack)


@audit.command("report", no_args_is_help=True)
def report(
    source: Annotated[Path | None, typer.Argument(metavar="RUN|LEDGER", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write it [RUN/audit].")] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="LEDGER", help="Charge a further run on the same people, such as tuning."),
    ] = None,
    show_page: Annotated[bool, typer.Option("--open", help="Open report.html.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show a traceback if it fails.")] = False,
) -> None:
    """Write the privacy report of a run, of a device's folder or of a ledger. It needs no key.

    Example:  homespun audit report runs/20260314T091500Z-planted --open
    """
    del verbose  # read by the entry point
    if source is None:
        raise click.UsageError("missing RUN or LEDGER: name a run folder, a device's folder, or a ledger")
    sources = _part("sources").find_sources(source, also or ())
    folder = out or (source if source.is_dir() else source.parent) / "audit"
    made = _part("writing").write_report(sources, folder)
    page = folder / "report.html"
    if as_json:
        content = {"message_type": "audit_report", "success": True, "folder": str(folder), "page": str(page)}
        voice.document({**content, "guarantees": _claims(made)})
    else:
        for line in _said(made):
            voice.say(line)
        voice.say(f"report: {page}")
        voice.say(f"next: homespun audit verify {folder}")
    if show_page:
        webbrowser.open(page.resolve().as_uri())


@audit.command("verify", no_args_is_help=True)
def verify(
    path: Annotated[Path | None, typer.Argument(metavar="REPORT", show_default=False)] = None,
    ledger: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ledger as you have it [ledger.jsonl beside the report].")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(metavar="FILE", help="Its checkpoint [checkpoint.txt].")] = None,
    key: Annotated[
        list[str] | None, typer.Option(metavar="VKEY", help="Key that you know the keeper by; may be repeated.")
    ] = None,
    remembered: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A checkpoint or receipt that you kept; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show a traceback if it fails.")] = False,
) -> None:
    """Check a report (REPORT: its folder or report.json): signatures, chain, caps and every figure. It needs no key.

    Example:  homespun audit verify runs/20260314T091500Z-planted/audit --key 'NAME+ID+KEY'
    """
    del verbose  # read by the entry point
    if path is None:
        raise click.UsageError("missing REPORT: name the folder of a report, or report.json")
    if path.is_dir() and not (path / "report.json").exists() and (path / "audit").is_dir():
        path = path / "audit"  # the run folder itself was named
    keys = [_public_key(text) for text in key] if key else None
    kept = [place.read_bytes() for place in remembered or ()]
    verdict = _part("verify").verify_report(path, ledger=ledger, checkpoint=checkpoint, keys=keys, remembered=kept)
    good = not verdict.findings
    if as_json:
        content = {
            "message_type": "audit_verdict",
            "success": good,
            "exit_code": int(ExitCode.OK if good else ExitCode.LEDGER_DAMAGED),
            "problems": [vars(finding) for finding in verdict.findings],
            "notes": list(verdict.notes),
            "checked": list(verdict.checked),
        }
        voice.document({**content, "guarantees": _claims(verdict.report) if good and verdict.report else []})
    else:
        for finding in verdict.findings:
            voice.say(f"wrong: {finding.where}: {finding.rule}")
            if finding.expected or finding.found:
                voice.say(f"       expected {finding.expected or 'nothing'}, found {finding.found or 'nothing'}")
        for note in verdict.notes:
            voice.say(f"note: {note}")
        if good and verdict.report:
            for line in _said(verdict.report):
                voice.say(line)
        count = len(verdict.findings)
        voice.say(f"{'everything holds' if good else f'{count} problem' + ('s' if count > 1 else '')}: {path}")
    if not good:
        raise typer.Exit(ExitCode.LEDGER_DAMAGED)


@audit.command("show", no_args_is_help=True)
def show(
    source: Annotated[Path | None, typer.Argument(metavar="LEDGER", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines, one an entry.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show a traceback if it fails.")] = False,
) -> None:
    """Show the entries of a ledger (LEDGER: a run's or device's folder, *.sqlite or ledger.jsonl)."""
    del verbose  # read by the entry point
    if source is None:
        raise click.UsageError("missing LEDGER: name a ledger, or the folder that it is in")
    for kept in _part("sources").find_sources(source).ledgers:
        entries = kept.checked.entries
        if as_json:
            for entry in entries:
                voice.document({"message_type": "entry", "ledger": kept.role, **entry.to_dict()})
            continue
        voice.say(
            f"{kept.checked.genesis.origin}: {kept.role}, {len(entries)} entries, signed by {kept.checked.key.text}"
        )
        for entry in entries:
            voice.say(f"{entry.seq:>6}  {entry.time}  {entry.kind.value:<11}  {', '.join(_about(entry.body))}")


def _part(name: str) -> Any:
    """A module of the audit, loaded only when its command runs: accountants take a second to import."""
    return importlib.import_module(f"homespun.audit.{name}")


def _public_key(text: str) -> Any:
    return importlib.import_module("homespun.privacy.ledger").PublicKey.parse(text)


def _claims(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each guarantee's epsilon with everything that belongs to it."""
    return [
        {"guarantee": name, "basis": one["basis"], **{word: one[word] for word in _PRIVACY if word in one}}
        for name, one in made["guarantees"].items()
    ]


def _said(made: Mapping[str, Any]) -> Iterator[str]:
    for name, one in made["guarantees"].items():
        planned = " (as planned)" if one["basis"] == "plan" else ""
        yield f"{name}{planned}: {voice.epsilon_in_words(one)}"
        yield f"   {one['odds']}"


def _about(body: Mapping[str, Any]) -> Iterator[str]:
    """What an entry says, without the parts that only an accountant reads."""
    for name, value in body.items():
        if name in ("event", "plan", "adapter", "policy", "receipt", "key", "software", "declared", "cap"):
            continue
        if isinstance(value, Mapping):
            yield from (f"{part} {text}" for part, text in value.items())
        elif isinstance(value, str) and len(value) == 64 and name.endswith(("sha256", "root")):
            yield f"{name} {value[:12]}..."
        elif value is not None:
            yield f"{name} {value}"
