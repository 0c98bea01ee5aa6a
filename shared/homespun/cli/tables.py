"""What a run says in a terminal: one small table, who is worse off, where the report is, what to do next."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homespun.cli import voice

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["METHODS", "print_result", "show"]

# In the order of every table: what is claimed first, then what it is compared with, then the controls.
METHODS: dict[str, str] = {
    "personal": "personal, exact",
    "private_8": "personal, record:8",
    "private_4": "personal, record:4",
    "private_2": "personal, record:2",
    "private_1": "personal, record:1",
    "private": "personal, as asked",
    "gated": "personal, gated",
    "global": "global (average user)",
    "local_only": "local only",
    "pooled": "pooled, no privacy",
    "other_user": "control: another user",
    "shuffled": "control: shuffled labels",
    "optimum": "planted truth",
    "ditto": "Ditto",
    "ditto_private": "Ditto, private direction",
    "fedrep": "FedRep",
    "lore": "LoRe",
    "lore_repaired": "LoRe, repaired",
}


def interval(cell: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    """A mean with its 95 % interval, in per cent.

    >>> interval({"mean": 0.681, "low": 0.67, "high": 0.692})
    '68.1 [67.0, 69.2]'
    """
    if not cell or cell.get("mean") is None:
        return "-"
    form = "+.1f" if sign else ".1f"
    text = format(100 * cell["mean"], form)
    if cell.get("low") is None or cell.get("high") is None:
        return text
    return f"{text} [{format(100 * cell['low'], form)}, {format(100 * cell['high'], form)}]"


def share(value: Any) -> str:
    """A share in per cent, or a dash where it was not measured."""
    return f"{value:.1%}" if isinstance(value, (int, float)) else "-"


def show(table: "Table", *, title: str = "") -> None:
    """Print a Rich table on stdout, below its title: wide off a terminal, colour only on one and never with NO_COLOR."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    if title:  # not the table's own title, which would be folded to the width of a narrow table
        console.print(title, style="bold", markup=False)
    console.print(table)


def columns(*, names: Sequence[str]) -> "Table":
    """An empty table whose first column is text and whose others are numbers."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, name in enumerate(names):
        table.add_column(escape(name), justify="left" if position == 0 else "right", no_wrap=position == 0)
    return table


def print_result(summary: Mapping[str, Any]) -> None:
    """Show ``summary.json`` of a finished run."""
    from rich.markup import escape

    accuracy: Mapping[str, Any] = summary.get("accuracy") or {}
    shots = sorted(accuracy, key=int)
    title = f"accuracy in % on people never seen [95 % interval], by labels given; {voice.epsilon_in_words(summary)}"
    table = columns(names=["", *shots])
    for method, label in METHODS.items():
        if any(method in accuracy[shot] for shot in shots):
            cells = [interval(accuracy[shot].get(method)) for shot in shots]
            table.add_row(escape(label), *cells, style="bold" if method == "personal" else None)
    show(table, title=title)
    if summary.get("harmed_share") is not None:
        at = f" with {shots[-1]} labels" if shots else ""
        voice.say(
            f"worse off than with the global model{at}, gated, beyond 2 SE: {share(summary['harmed_share'])}; "
            f"better off: {share(summary.get('improved_share'))}"
        )
    for warning in summary.get("warnings") or ():
        voice.say(f"warning: {warning}")
    run = str(summary.get("run", ""))
    voice.say(f"report: {Path(run) / 'report.html'}")
    voice.say(f"next: homespun runs compare {run} {_neighbour(run)}")


def _neighbour(run: str) -> str:
    """The newest other finished run beside this one, to compare with; a placeholder if there is none."""
    folder = Path(run)
    try:
        others = [path.parent for path in folder.parent.glob("*/summary.json") if path.parent.name != folder.name]
    except OSError:
        others = []
    return str(max(others, key=lambda path: path.name)) if others else "ANOTHER_RUN"
