"""``homespun audit attack``: attacks beside their bounds. The work is in ``homespun.simulations.attacks``."""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from homespun.cli import voice
from homespun.cli.errors import ExitCode

__all__ = ["attack"]

WARNING = (
    "The noise itself is not what was promised, though no bound on epsilon is beaten. A correct build is warned of in 5 of "
    "100 audits: run it again; twice is a bug."
)


def attack(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", show_default=False)] = None,
    canaries: Annotated[
        int,
        typer.Option(metavar="M", min=100, max=20_000, help="Made-up users, and records, that are put in or left out."),
    ] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document last.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show a traceback if it fails.")] = False,
) -> None:
    """Attack a finished run (RUN: its folder): what can be found out, beside the most that its claims allow.

    Canaries go through the real path of every release with fresh noise; what comes out proves a lower bound on epsilon.
    Then membership, attributes and single contributions of the run's own people are attacked. The evidence goes to
    RUN/audit/evidence.json and its digest into the run's ledger.

    Exit code 17 if a bound is above its claim: then the program does not keep what it promised.

    Example:  homespun audit attack runs/20260314T091500Z-embedded-new-items-eps-2
    """
    del verbose  # read by the entry point
    if run is None:
        raise click.UsageError("missing RUN: name a run folder")
    if canaries % 2:
        raise click.UsageError(f"Expected --canaries={canaries} as an even number")
    with voice.reporter(as_json=as_json, quiet=quiet) as reporter:
        work = importlib.import_module("homespun.simulations.attacks")
        found: dict[str, Any] = work.attack_run(run, reporter, canaries=canaries)
    if as_json:
        voice.document(found)
    else:
        for line in lines(found):
            voice.say(line)
    if found["beaten"]:
        raise typer.Exit(ExitCode.ATTACK_BEAT_BOUND)
    if found["failed"]:
        raise typer.Exit(ExitCode.FAILED)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The result for people: audits, then attacks, then what it means."""
    for audit in found["audits"]:
        joint = f"{100 * audit['confidence']:g} %"
        yield f"{audit['title']}: {audit['canaries']:,} canaries"
        yield f"  claimed     epsilon {audit['claim_epsilon']:.3g} at delta {audit['delta']:g}"
        yield f"  proven      at least {max(audit['bounds']['snj'], audit['bounds']['fdp']):.2f} ({joint} confidence)"
        estimate = audit["estimates"]["gauss"]
        yield f"  estimated   {_number(estimate['value'])} ({_number(estimate['low'])} to {_number(estimate['high'])})"
        yield f"  control     at least {max(audit['control']['snj'], audit['control']['fdp']):.2f}, with every canary left out"
        wrong = ", ".join(audit["failed"])
        passed = f"{len(audit['checks'])} of noise and lattice, all passed"
        yield f"  checks      {'failed: ' + wrong if wrong else passed}"
    for row in found["attacks"]:
        bound = "" if row["bound"] is None else f", at most {row['bound']:.3f} under the claim"
        yield f"{row['title']}: {_number(row['figure']['value'])} (control {_number(row['control']['value'])}{bound})"
        yield f"  {row['sentence']}"
    yield f"Evidence: {found['evidence']}"
    if found["beaten"]:
        yield f"A lower bound is above its claim ({', '.join(found['beaten'])}): the program broke its promise."
    elif found["failed"]:
        yield WARNING
    else:
        yield "Nothing beat its bound. That proves no safety: it says that these attacks found no breach."


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"
