"""Kills and races real processes over a ledger; run as a script: ``ledger_driver.py FOLDER KILLS RACES SEED``.

Processes are forked from this one after its slow imports. A kill is SIGKILL at a random line of the ledger's own code;
what a process was told before it died, it wrote to a pipe. One JSON line a case on stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

from homespun.privacy import GaussianEvent, LedgerError, PrivacyBudgetExhausted, Relation, ReservationError, Unit
from homespun.privacy.ledger import Genesis, Ledger, SigningKey, check

KEY = SigningKey.from_bytes("example.org/device", bytes(range(32)))
EVENT = GaussianEvent(clip_units=1024, variance=1024**2, count=1, dimension=16)  # rho = 0.5
CODE = str(Path(sys.modules[Ledger.__module__].__file__ or "").parent)
ROUNDS = 3


def genesis(cap: str) -> Genesis:
    return Genesis(
        origin="example.org/device/1",
        guarantee="backbone",
        holder="device",
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        delta=1e-5,
        cap=Decimal(cap),
    )


def fork(task: Callable[[], None]) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        task()
    except BaseException:  # noqa: BLE001  (the parent goes on)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def spend(path: Path, tell: Callable[[str], None]) -> None:
    """What a device does: begin or go on, burn what is open, pay for rounds, commit or burn them, export."""
    ledger = Ledger.open(path, KEY) if path.exists() else Ledger.create(path, KEY, genesis("100"))
    tell("open")
    for paid in ledger.open_reservations():
        ledger.burn(paid, "crash")
        tell(f"burn {paid.seq}")
    for number in range(ROUNDS):
        with contextlib.suppress(ReservationError):  # committed by a process that was killed
            paid = ledger.reserve("device", EVENT, {"run": 0, "round": number})
            tell(f"reserve {paid.seq}")
            ledger.commit(paid, "ab" * 32, {"asked": 5})
            tell(f"commit {paid.seq}")
    ledger.export(path.parent)
    tell("export")
    ledger.close()
    tell("close")


def traced(line: int, task: Callable[[], None]) -> int:
    """Run a task; SIGKILL at a line of the ledger's code, counted from 0. Returns the number of lines."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "line":
            if count == line:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
        return trace

    sys.settrace(trace)
    task()
    sys.settrace(None)
    return count


def killed(folder: Path, line: int) -> dict[str, Any]:
    """Kill a process at a line, look at what it left, and go on with it."""
    folder.mkdir()
    path, told = folder / "ledger.sqlite", []
    reader, writer = os.pipe()
    child = fork(
        lambda: traced(line, lambda: spend(path, lambda word: os.write(writer, f"{word}\n".encode()) and None)) and None
    )
    os.close(writer)
    with os.fdopen(reader) as stream:
        told = stream.read().splitlines()
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found: dict[str, Any] = {"line": line, "ended": ended, "told": told, "left": look(path)}
    spend(path, lambda word: None)
    found["after"] = look(path)
    checked = check((folder / "ledger.jsonl").read_bytes(), (folder / "checkpoint.txt").read_bytes())
    found["problems"] = [f"{problem.where}: {problem.rule}" for problem in checked.problems]
    return found


def look(path: Path) -> list[str] | None:
    """Kind and reservation of each entry, and the sum; None where there is no ledger."""
    if not path.exists():
        return None
    with Ledger.open(path, None) as ledger:
        found = []
        for entry in ledger.entries():
            number = entry.seq if entry.kind == "reserve" else entry.body.get("reservation", "")
            found.append(f"{entry.kind.value} {number}".strip())
        return [*found, str(ledger.spent("device"))]


def race(folder: Path, processes: int) -> dict[str, Any]:
    """Several processes want the last unit of a budget."""
    folder.mkdir()
    path = folder / "ledger.sqlite"
    Ledger.create(path, KEY, genesis("1")).close()
    with Ledger.open(path, KEY) as ledger:
        ledger.commit(ledger.reserve("device", EVENT, {"run": 0, "round": 0}), "ab" * 32)
    go_reader, go_writer = os.pipe()
    reader, writer = os.pipe()

    def want(number: int) -> None:
        with Ledger.open(path, KEY) as ledger:
            os.write(writer, b"ready\n")
            os.read(go_reader, 1)
            try:
                ledger.reserve("device", EVENT, {"run": 0, "round": 1 + number})
                os.write(writer, b"won\n")
            except PrivacyBudgetExhausted:
                os.write(writer, b"lost\n")
            except LedgerError as error:
                os.write(writer, f"{type(error).__name__}\n".encode())

    children = [fork(lambda number=number: want(number)) for number in range(processes)]  # type: ignore[misc]
    os.close(writer)
    with os.fdopen(reader) as stream:
        for _ in children:
            stream.readline()
        os.write(go_writer, b"." * processes)
        words = sorted(stream.read().split())
    for child in children:
        os.waitpid(child, 0)
    os.close(go_reader)
    os.close(go_writer)
    return {"race": words, "left": look(path)}


def main(folder: Path, kills: int, races: int, seed: int) -> None:
    coin = random.Random(seed)
    (folder / "whole").mkdir()
    lines = traced(-1, lambda: spend(folder / "whole" / "ledger.sqlite", lambda word: None))
    print(json.dumps({"lines": lines, "left": look(folder / "whole" / "ledger.sqlite")}), flush=True)
    for number in range(kills):
        # one line out of every stretch of equal length, so that every part of the way is met
        line = lines * number // kills + coin.randrange(max(1, lines // kills))
        print(json.dumps(killed(folder / f"kill-{number}", line)), flush=True)
    for number in range(races):
        print(json.dumps(race(folder / f"race-{number}", 2)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
