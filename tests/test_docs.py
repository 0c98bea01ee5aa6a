"""The documents say what the program does: commands, options, defaults, links, examples, exit codes."""

import dataclasses
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.main import get_command

from homespun.cli.app import app
from homespun.cli.errors import ExitCode
from homespun.preferences import Dataset, read
from homespun.simulations.options import Options

ROOT = Path(__file__).parents[1]
README, SIMULATE, DATA, AUDIT = (
    ROOT / name for name in ("README.md", "docs/simulate.md", "docs/data.md", "docs/audit.md")
)
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def commands(group: click.Command, path: str = "homespun") -> Iterator[tuple[str, click.Command]]:
    """Every command that can be seen, with its words."""
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            if not command.hidden:
                yield from commands(command, f"{path} {name}")
    else:
        yield path, group


COMMANDS = dict(commands(get_command(app)))


def flags(command: click.Command) -> Iterator[click.Option]:
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden and "--help" not in option.opts:
            yield option


def name_of(option: click.Option) -> str:
    return max(option.opts, key=len)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_documented_and_helps(path: str) -> None:
    assert path in text(SIMULATE) + text(README) + text(AUDIT)
    assert COMMANDS[path].help, "a command without a docstring"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_is_documented_where_its_command_is(path: str) -> None:
    about = text(README) + text(SIMULATE) + text(AUDIT)
    if path != "homespun simulate":  # an option of another command counts only in the paragraphs that name the command
        blocks = re.split(r"\n\n|\n(?=\* )", about)
        about = "\n".join(block for block in blocks if re.search(re.escape(path) + r"\b", block))
    missing = [name_of(option) for option in flags(COMMANDS[path]) if not re.search(name_of(option) + r"\b", about)]
    assert not missing


def test_no_option_is_documented_that_is_not_there() -> None:
    known = {
        name
        for command in COMMANDS.values()
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
    }
    known |= {name for option in get_command(app).params for name in option.opts} | {"--help"}
    known |= {"--format"}  # rewritten to --json before the command line is parsed
    for page in PAGES:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", re.sub(r"(?m)^.*(pip|git|mypy).*$", "", text(page))))
        assert named <= known, page.name


def row(option: click.Option) -> str:
    """What the README's table must say of an option of `simulate`."""
    defaults = {field.name: field.default for field in dataclasses.fields(Options)}
    default = defaults.get(name_of(option)[2:].replace("-", "_"))
    if name_of(option) == "--data":
        shown = "the embedded people"
    elif default is None or default is False:
        shown = ""
    elif isinstance(default, tuple):
        shown = ",".join(map(str, default))
    else:
        shown = format(default, "g") if isinstance(default, float) else str(default)
    label = name_of(option) if option.is_flag else f"{name_of(option)} {option.metavar}"
    return f"| `{label.replace('|', chr(92) + '|')}` | {shown} | {option.help} |"


def test_the_table_of_options_is_what_the_command_says() -> None:
    rows = [row(option) for option in flags(COMMANDS["homespun simulate"])]
    table = [line for line in text(README).splitlines() if line.startswith("| `--")]
    assert table == rows, "copy these rows into README.md:\n" + "\n".join(rows)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.+)$", text(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_resolves(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert ROOT in found.parents, target
        assert not anchor or anchor in anchors(found), target


def test_the_index_names_every_page() -> None:
    index = text(ROOT / "docs/index.md")
    for page in ROOT.glob("docs/**/*.md"):
        assert page.name == "index.md" or f"({page.relative_to(ROOT / 'docs').as_posix()})" in index, page.name


def test_the_targets_that_the_documents_name_are_in_the_makefile() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):.*## ", text(ROOT / "Makefile")))
    assert {"help", "install", "demo", "test", "check", "study", "bench"} == targets
    named = {name for page in PAGES for name in re.findall(r"(?:^\$ |`)make ([a-z]+)", text(page), flags=re.MULTILINE)}
    assert {"install", "demo", "test", "check"} <= named <= targets


def test_make_alone_prints_every_target() -> None:
    printed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[1] for line in printed.splitlines()] == (
        re.findall(r"(?m)^([a-z]+):.*## ", text(ROOT / "Makefile"))
    )


def test_every_exit_code_is_documented() -> None:
    section = text(SIMULATE).split("## Exit codes")[1].split("\n## ")[0]
    assert {int(code) for code in ExitCode} <= {int(number) for number in re.findall(r"\b\d+\b", section)}


def test_the_readme_says_that_nothing_phones_home_and_nothing_does() -> None:
    assert "**No telemetry.** homespun sends nothing to anyone" in text(README)
    quiet = ROOT / "shared/homespun/wire/quiet.py"
    names = "FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK", "RAY_USAGE_STATS_ENABLED"
    code = f"import os, runpy; runpy.run_path({str(quiet)!r}); print(*map(os.environ.get, {names!r}))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.split() == ["0", "1", "0"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", text(page))


def examples() -> Iterator[tuple[str, dict[str, str]]]:
    """Every example of data in the documents, as files by name."""
    for page in (README, DATA):
        for place, block in enumerate(blocks(page, "json")):
            for line, one in enumerate(block.splitlines()):  # a file holds one shape
                yield f"{page.name} {place}.{line}", {"rows.jsonl": one + "\n"}
        tables = iter(blocks(page, "csv"))
        for place, (votes, items) in enumerate(zip(tables, tables, strict=True)):
            yield f"{page.name} votes {place}", {"votes.csv": votes, "items.csv": items}


EXAMPLES = dict(examples())


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_data_can_be_read(example: str, tmp_path: Path) -> None:
    for name, content in EXAMPLES[example].items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    files = list(EXAMPLES[example])
    dataset: Dataset = read(tmp_path / files[0] if len(files) == 1 else tmp_path)
    assert dataset.skipped_rows == 0
    assert {record.user for record in (*dataset.preferences, *dataset.feedback)} <= {"ann", "bob"}


def test_the_readme_has_an_example_of_each_kind() -> None:
    assert len([name for name in EXAMPLES if name.startswith("README")]) == 5  # two pairs, two answers, one folder


def test_the_lock_pins_everything_that_is_declared() -> None:
    lines = [line for line in text(ROOT / "requirements.lock").splitlines() if line and not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    for line in project["dependencies"] + project["optional-dependencies"]["dev"]:
        wanted = Requirement(line)
        assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, line
    assert f"TORCH := {pinned['torch']}\n" in text(ROOT / "Makefile")
    assert not any("+" in version for version in pinned.values()), "a local tag is served by one index alone"
