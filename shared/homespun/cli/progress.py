"""Three ways to follow a long command: bars on a terminal, plain lines in a log, JSON Lines for a program."""

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

from homespun.cli import voice
from homespun.cli.tables import print_result

__all__ = ["Bars", "JsonLines", "Plain"]


def status_line(status: Mapping[str, Any]) -> str:
    """One round in one line, with epsilon beside the metric and never alone."""
    number = status.get("round")
    told = number + 1 if isinstance(number, int) else "?"  # the files count from 0, people from 1
    parts = [f"round {told}/{status.get('rounds', '?')} {status.get('phase', '')}".rstrip()]
    accuracy, beside = status.get("accuracy"), status.get("global_accuracy")
    if isinstance(accuracy, float):
        against = f" (global {beside:.1%})" if isinstance(beside, float) else ""
        parts.append(f"accuracy {accuracy:.1%}{against}")
    if "epsilon" in status:
        parts.append(voice.epsilon_in_words(status))
    if isinstance(devices := status.get("devices"), int) and devices < status.get("asked", devices):
        parts.append(f"{devices} of {status['asked']} devices in the sum")
    if isinstance(fold := status.get("fold"), int) and fold > 0:
        parts.insert(0, f"fold {fold + 1}")
    return ", ".join(parts)


class Plain:
    """One status line a round on stderr; with ``quiet`` nothing but the result."""

    def __init__(self, *, quiet: bool) -> None:
        """With ``quiet``, stderr stays empty and stdout holds the run folder alone."""
        self._quiet = quiet
        self._shown: set[str] = set()

    def stage(self, name: str, total: int | None = None) -> None:
        """See ``Reporter``."""
        del total
        self._write(f"homespun: {name} ...")

    def advance(self, n: int = 1) -> None:
        """See ``Reporter``: a log has no use for steps."""

    def round(self, status: Mapping[str, Any]) -> None:
        """See ``Reporter``."""
        self._write(f"homespun: {status_line(status)}")

    def note(self, text: str) -> None:
        """See ``Reporter``."""
        self._write(f"homespun: note: {text}")

    def table(self, summary: Mapping[str, Any]) -> None:
        """See ``Reporter``."""
        if str(summary.get("run")) in self._shown:
            return
        self._shown.add(str(summary.get("run")))
        if self._quiet:
            voice.say(str(summary.get("run", "")))
        else:
            print_result(summary)

    def _write(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


class JsonLines:
    """``status`` lines and one ``summary`` on stdout; notes on stderr, for the person who watches the log."""

    def __init__(self, *, stream: TextIO, quiet: bool) -> None:
        """Write to ``stream``; with ``quiet`` the summary alone."""
        self._stream = stream
        self._quiet = quiet
        self._shown: set[str] = set()

    def stage(self, name: str, total: int | None = None) -> None:
        """See ``Reporter``: stages have no JSON of their own."""

    def advance(self, n: int = 1) -> None:
        """See ``Reporter``."""

    def round(self, status: Mapping[str, Any]) -> None:
        """See ``Reporter``."""
        if not self._quiet:
            voice.document({"message_type": "status", **status}, stream=self._stream)

    def note(self, text: str) -> None:
        """See ``Reporter``."""
        print(f"homespun: note: {text}", file=sys.stderr, flush=True)

    def table(self, summary: Mapping[str, Any]) -> None:
        """See ``Reporter``."""
        if str(summary.get("run")) not in self._shown:
            self._shown.add(str(summary.get("run")))
            voice.document({"success": True, **summary, "message_type": "summary"}, stream=self._stream)


class Bars:
    """A Rich bar a stage on stderr; the round's accuracy and epsilon stand beside the bar."""

    def __init__(self) -> None:
        """Rich is loaded here, so that short commands do without it."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
            console=Console(stderr=True, highlight=False),
        )
        self._total: int | None = None
        self._task: Any = None
        self._shown: set[str] = set()

    def __enter__(self) -> Self:
        """Draw from here on."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back, also after an error."""
        if kind is None:
            self._finish()
        self._progress.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """See ``Reporter``."""
        self._finish()
        self._total = total
        self._task = self._progress.add_task(name, total=total, detail="")

    def advance(self, n: int = 1) -> None:
        """See ``Reporter``."""
        if self._task is not None:
            self._progress.advance(self._task, n)

    def round(self, status: Mapping[str, Any]) -> None:
        """See ``Reporter``."""
        if self._task is not None:
            self._progress.update(self._task, detail=status_line(status))

    def note(self, text: str) -> None:
        """See ``Reporter``."""
        self._progress.console.print(f"homespun: note: {text}", markup=False)

    def table(self, summary: Mapping[str, Any]) -> None:
        """See ``Reporter``."""
        if str(summary.get("run")) in self._shown:
            return
        self._shown.add(str(summary.get("run")))
        self._finish()
        self._progress.stop()
        print_result(summary)

    def _finish(self) -> None:
        if self._task is not None:
            total = self._total if self._total is not None else 1
            self._progress.update(self._task, total=total, completed=total)
            self._task = None
