"""The tree of commands, and the one place where an exception becomes an exit code."""

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import click
import typer

from homespun.cli import voice
from homespun.cli.audit import audit
from homespun.cli.bench import bench
from homespun.cli.config import config
from homespun.cli.doctor import doctor
from homespun.cli.errors import ExitCode, Failure, explain
from homespun.cli.places import paths
from homespun.cli.runs import runs
from homespun.cli.simulate import simulate

__all__ = ["app", "run"]

app = typer.Typer(
    name="homespun",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: no colour to switch off, and nothing to load
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,  # Typer 0.20.1 prints local variables, so texts, by default
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        voice.say(f"homespun {version('homespun')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Federated personalization whose private part stays on the device.

    Start with:  homespun simulate
    """


app.command("simulate")(simulate)
app.add_typer(runs, name="runs")
app.add_typer(audit, name="audit")
app.add_typer(bench, name="bench")
app.command("doctor")(doctor)
app.add_typer(config, name="config")
app.command("paths")(paths)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing escapes, not even an interrupt.

    Args:
        arguments: The words after ``homespun``.
    """
    words = _plain_json(arguments)
    as_json, verbose = "--json" in words, "--verbose" in words
    try:
        result = typer.main.get_command(app).main(words, prog_name="homespun", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        if as_json:
            voice.complain(_usage(error), as_json=True)
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        voice.complain(_usage(error), as_json=as_json)
        return int(ExitCode.USAGE if isinstance(error, click.UsageError) else ExitCode.FAILED)
    except (KeyboardInterrupt, click.Abort):
        result = int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more while it closes stdout.
        sys.stdout = io.StringIO()
        return int(ExitCode.FAILED)
    except Exception as error:  # noqa: BLE001  (the last place that can give it an exit code)
        failure = explain(error)
        voice.complain(failure, as_json=as_json, error=error if verbose else None)
        return int(failure.code)
    if result == ExitCode.INTERRUPTED:
        voice.complain(explain(KeyboardInterrupt()), as_json=as_json)
    return result if isinstance(result, int) else int(ExitCode.OK)


def _usage(error: click.ClickException) -> Failure:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "homespun"
    text = "no command given" if isinstance(error, click.exceptions.NoArgsIsHelpError) else error.format_message()
    text = text.strip().splitlines()[0].removesuffix(".")
    return Failure(code=ExitCode.USAGE, message=text[:1].lower() + text[1:], hint=f"see `{path} --help`")


def _plain_json(arguments: Sequence[str]) -> list[str]:
    """``--format json``, as Flower spells it, is ``--json``."""
    plain: list[str] = []
    words = iter(arguments)
    for word in words:
        if word != "--format":
            plain.append("--json" if word == "--format=json" else word)
        elif (value := next(words, None)) == "json":
            plain.append("--json")
        else:
            plain.extend([word] if value is None else [word, value])
    return plain
