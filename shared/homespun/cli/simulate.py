"""``homespun simulate``: settings in, run folder out. The work is in ``homespun.simulations.commands``."""

import importlib
import os
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from homespun.cli import voice
from homespun.cli.errors import ExitCode
from homespun.cli.places import places
from homespun.cli.settings import SETTINGS, parse, read_config

__all__ = ["gather", "simulate"]


def gather(flags: dict[str, object], config: Path | None, *, ambient: bool = True) -> dict[str, object]:
    """Lay flags over the environment, CONFIG.toml, the project file and the user file.

    Args:
        flags: Text of the flags by kebab-case name; None where not given.
        config: The file named on the command line, or None.
        ambient: Whether the environment, the project file and the user file count. Not when a run is resumed: it goes
            on as it began, whatever is set here today.
    Returns:
        What was given, checked, by snake_case name. What nobody gave is absent: the simulation owns the defaults.
    Raises:
        ValueError: A value breaks its rule, or a file holds an unknown key.
    """
    where = places()
    values: dict[str, object] = {}
    if ambient:
        for path in (where["user_config"], where["project_config"]):
            if path.is_file():
                values.update(read_config(path))
    if config is not None:
        values.update(read_config(config))
    for name, setting in SETTINGS.items():
        if ambient and (text := os.environ.get(setting.variable)):
            values[name] = parse(name, text, source=setting.variable)
    for name, value in flags.items():
        if value is not None:
            try:
                values[name] = parse(name, value, source=f"--{name}")
            except ValueError as error:
                raise click.UsageError(str(error)) from None
    return {SETTINGS[name].key: value for name, value in values.items()}


def simulate(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.toml]", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Preferences: JSONL, Parquet, CSV, a Polis export.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="What is held out: new-items, known-items or new-topic.")
    ] = None,
    shots: Annotated[
        str | None, typer.Option(metavar="N,N", help="Labels a new person gives before being tested: 0,5,10,20,40,80.")
    ] = None,
    epsilon: Annotated[
        str | None,
        typer.Option(metavar="E|inf", help="Privacy loss of the backbone, for one device, add-or-remove."),
    ] = None,
    delta: Annotated[str | None, typer.Option(metavar="D", help="The delta beside that epsilon.")] = None,
    dim: Annotated[str | None, typer.Option(metavar="D", help="Dimension of the features.")] = None,
    rank: Annotated[str | None, typer.Option(metavar="K", help="Directions in which people may differ.")] = None,
    users: Annotated[str | None, typer.Option(metavar="N", help="At most so many people.")] = None,
    participation: Annotated[
        str | None, typer.Option(metavar="full|poisson:Q", help="Who takes part in a round.")
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who adds the noise: distributed (the devices) or central (the server)."),
    ] = None,
    dropout: Annotated[
        str | None, typer.Option(metavar="P", help="Chance that a device falls silent in a round.")
    ] = None,
    max_dropout: Annotated[
        str | None, typer.Option(metavar="F", help="Share of people that a sum may lack; twice the dropout.")
    ] = None,
    colluding: Annotated[
        str | None, typer.Option(metavar="F", help="Share of people that may collude with the server.")
    ] = None,
    adapter_privacy: Annotated[
        str | None, typer.Option(metavar="exact|record:E", help="Privacy loss of an adapter, for one label; or exact.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="How the rounds are run: vectorised, faithful or ray.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(metavar="NAME", help="What a text is described by: text, item or text+item.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="Sentence encoder; by default the one that is built in.")
    ] = None,
    user_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column that says whose preference a row is.")
    ] = None,
    skip_bad_rows: Annotated[
        bool | None, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be read; exit code 3.")
    ] = None,
    cell_size: Annotated[
        str | None, typer.Option(metavar="N", help="Simulated people that answer as one node.")
    ] = None,
    seed: Annotated[str | None, typer.Option(metavar="S", help="Same seed, same result.")] = None,
    repeats: Annotated[str | None, typer.Option(metavar="R", help="How often to split and train anew.")] = None,
    compare: Annotated[
        bool | None, typer.Option("--compare", help="Also run Ditto, FedRep and LoRe on the same people.")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where the run folder is made; ./runs.")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run folder; its ledger goes on too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines on stdout, the summary last.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the run folder alone.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show a traceback if it fails.")] = False,
) -> None:
    """Train a private backbone on many people, give each new person an adapter, and report what it gained.

    CONFIG.toml holds settings in the words of the flags below (epsilon = 1.0, cell-size = 500); a flag wins over the
    environment (HOMESPUN_EPSILON), which wins over the file.

    Everything runs on this machine. The run folder holds report.html, summary.json, the privacy ledger and all figures.

    Example:  homespun simulate --epsilon 1 --shots 0,5,20,80
    """
    flags: dict[str, object] = {
        "data": data,
        "split": split,
        "shots": shots,
        "epsilon": epsilon,
        "delta": delta,
        "dim": dim,
        "rank": rank,
        "users": users,
        "participation": participation,
        "trust": trust,
        "dropout": dropout,
        "max-dropout": max_dropout,
        "colluding": colluding,
        "adapter-privacy": adapter_privacy,
        "engine": engine,
        "features": features,
        "encoder": encoder,
        "user-column": user_column,
        "skip-bad-rows": skip_bad_rows,
        "cell-size": cell_size,
        "seed": seed,
        "repeats": repeats,
        "compare": compare,
        "out": out,
    }
    options = gather(flags, config, ambient=resume is None)
    if resume is not None:
        options["resume"] = resume
    with voice.reporter(as_json=as_json, quiet=quiet) as reporter:
        commands = importlib.import_module("homespun.simulations.commands")
        summary: dict[str, Any] = commands.simulate(options, config, reporter)
        reporter.table(summary)
    if (summary.get("data") or {}).get("skipped_rows"):
        raise typer.Exit(ExitCode.PARTIAL)
