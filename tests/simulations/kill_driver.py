"""Kills simulations and goes on with them; run as a script: ``kill_driver.py FOLDER``, one JSON line a case on stdout.

Every run is a process of its own, forked from this one after its slow imports, and dies by SIGKILL: nothing is flushed,
no ``finally`` runs. What does not depend on where a run is killed (data, folds, encoder, figures) is made once or stood
in for, so that a case takes a fraction of a second.
"""

import contextlib
import hashlib
import inspect
import json
import os
import runpy
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from homespun.personal import Backbone
from homespun.privacy.ledger import CHECKPOINT_NAME, EXPORT_NAME, LEDGER_NAME, Ledger, check
from homespun.privacy.ledger.envelope import take_apart
from homespun.privacy.ledger.store import Store
from homespun.server import checkpoint, coordinator
from homespun.server.checkpoint import latest
from homespun.simulations import commands, training, world
from homespun.simulations.run_folder import RunFolder, RunFolderInUse

toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
OPTIONS = {"users": 120, "dim": 8, "rank": 2, "shots": (0, 5), "repeats": 2, "seed": 3}
ROUNDS = 3  # of the toy learner
MOMENTS: dict[str, tuple[Any, str, int]] = {  # where to kill: owner and name of a function, and its calls in a run
    "create": (Store, "create", 1),
    "reserve": (Ledger, "reserve", 2 * ROUNDS),
    "save": (coordinator, "save", 2 * ROUNDS),
    "save_file": (checkpoint, "save_file", 2 * ROUNDS),
    "commit": (Ledger, "commit", 2 * ROUNDS),
    "append": (RunFolder, "append", 4 * ROUNDS),
    "write": (Store, "append", 4 * ROUNDS),  # within a transaction of the ledger
    "export": (Ledger, "export", 1),
}


class Silent:
    """Somebody who does not listen."""

    def stage(self, name: str, total: int | None = None) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def round(self, status: Any) -> None: ...
    def note(self, text: str) -> None: ...


def stand_in() -> None:
    """Replace what takes long and is tested elsewhere."""
    torch.set_num_threads(1)
    world.load = toy["stand_in_encoder"]  # type: ignore[attr-defined]
    world.embed = toy["stand_in_embed"]  # type: ignore[attr-defined]
    training.preference_learner = toy["toy_learner"]
    commands.reference_methods = lambda *_: ({}, {})
    commands.render = lambda _: None  # type: ignore[assignment]
    commands.prepare = once(commands.prepare, lambda *_, **__: "")  # type: ignore[assignment]
    commands.fold_data = once(lambda *args: list(training.fold_data(*args)), lambda *_: "")  # type: ignore[assignment]
    commands.plan_course = once(commands.plan_course, lambda *_: "")
    commands.evaluate = once(commands.evaluate, lambda backbone, *_, seed, **__: (backbone.digest, seed))


def once(function: Callable[..., Any], key: Callable[..., object]) -> Callable[..., Any]:
    """Remember what a function gave for a key; processes that are forked later know it too."""
    known: dict[object, Any] = {}

    def remembered(*args: Any, **named: Any) -> Any:
        if key(*args, **named) not in known:
            known[key(*args, **named)] = function(*args, **named)
        return known[key(*args, **named)]

    return remembered


def killing(place: str, call: int, when: str) -> Callable[[], None]:
    """Arm a trap: SIGKILL before, after or in the middle of the given call (from 0) of a function."""
    owner, name, _ = MOMENTS[place]
    real = getattr(owner, name)
    static = inspect.ismethod(real)  # a class method: what takes its place is given no class
    calls = 0

    def trap(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls, here = calls + 1, calls == call
        if here and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if here and when == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if here and when == "torn":
            tear(*args)
        result = real(*args, **named)
        if here and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return lambda: setattr(owner, name, staticmethod(trap) if static else trap)


def tear(folder: RunFolder, name: str, row: object) -> None:
    """Write half a line, as a process does that is killed in the middle of it."""
    with (folder.path / name).open("a") as stream:
        stream.write(json.dumps(row)[:40])
        stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def fork(task: Callable[[], object]) -> int:
    """Run a task in a process of its own; returns its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        task()
        code = 0
    except RunFolderInUse:
        code = 14
    except BaseException:  # noqa: BLE001  (the parent goes on)
        traceback.print_exc()
    finally:
        os._exit(code)


def status(child: int) -> int:
    """How a process ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def simulate(out: Path, trap: Callable[[], None] = lambda: None) -> int:
    """Start a run in a new process, or go on with the one in ``out``; returns how it ended."""
    begun = sorted(out.glob("*/config.toml"))
    given = {"resume": begun[0].parent} if begun else {**OPTIONS, "out": str(out)}

    def task() -> None:
        trap()
        commands.simulate(given, None, Silent())

    return status(fork(task))


def result(out: Path) -> dict[str, Any]:
    """Everything that must not depend on having been killed, and what the ledger holds."""
    (run,) = (path.parent for path in out.glob("*/config.toml"))
    lines = ledger_lines(run)
    rows = [take_apart(line).read() for line in lines]
    found: dict[str, Any] = {"ledger": [hashlib.sha256(line).hexdigest() for line in lines]}
    found["reserved"] = [
        [row["body"]["subject"][name] for name in ("run", "round")] for row in rows if row["kind"] == "reserve"
    ]
    if not (run / "summary.json").is_file():
        return found
    checked = check((run / EXPORT_NAME).read_bytes(), (run / CHECKPOINT_NAME).read_bytes())
    found["problems"] = [problem.rule for problem in checked.problems]
    summary = json.loads((run / "summary.json").read_text())
    found["kinds"] = [row["kind"] for row in rows]
    found["digests"] = [latest(run / "checkpoints" / f"fold-{fold}", Backbone)[0].digest for fold in (0, 1)]  # type: ignore[index]
    told = ("accuracy", "gain", "epsilon", "phases", "harm", "calibration", "noise_multiplier", "plan_digest")
    found["summary"] = {key: summary[key] for key in told}
    for name in ("metrics", "sent"):
        lines = [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]
        found[name] = [{k: v for k, v in line.items() if k not in ("time", "seconds")} for line in lines]
    found["left_over"] = sorted(path.name for path in run.rglob("*.part"))
    return found


def ledger_lines(run: Path) -> list[bytes]:
    """Lines of a ledger as a process would find it now; the files themselves are left as they are."""
    if not (run / LEDGER_NAME).is_file():
        return []
    with tempfile.TemporaryDirectory() as name:
        for path in run.glob(f"{LEDGER_NAME}*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, name)
        with contextlib.closing(Store(Path(name) / LEDGER_NAME)) as store:
            return list(store.lines())


def cases() -> list[tuple[str, int, str]]:
    """Before each step of each round, after the first and the last of each kind, in the middle of every kind of write."""
    steps = ("reserve", "save_file", "commit")
    chosen = [(place, call, "before") for place in steps for call in range(2 * ROUNDS)]
    chosen += [("append", call, "before") for call in range(2 * ROUNDS)] + [("save", 0, "before")]
    chosen += [(place, call, "after") for place in MOMENTS for call in sorted({0, MOMENTS[place][2] - 1})]
    chosen += [("append", call, "torn") for call in (0, 1, 4 * ROUNDS - 1)]
    chosen += [("write", call, when) for call in (1, 2, 3, 6) for when in ("before", "after")]
    return [*chosen, ("create", 0, "before"), ("export", 0, "before")]


def main(folder: Path) -> None:
    stand_in()
    commands.simulate({**OPTIONS, "out": str(folder / "first")}, None, Silent())

    def tell(**content: Any) -> None:
        print(json.dumps(content), flush=True)

    def place(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    out = place("unharmed")
    tell(case="unharmed", ended=[simulate(out)], **result(out))
    for case in cases():
        out = place("-".join(map(str, case)))
        killed = simulate(out, killing(*case))
        before = result(out)["ledger"]
        tell(case=list(case), before=before, ended=[killed, simulate(out)], **result(out))
    out, ended = place("again and again"), []
    while not ended or ended[-1] != 0:  # every process gets no further than its third entry
        ended.append(simulate(out, killing("write", 2, "before")))
    tell(case="again and again", ended=ended, **result(out))
    out = place("finished")
    ended = [simulate(out)]
    before = result(out)["ledger"]
    tell(case="finished", before=before, ended=[*ended, simulate(out)], **result(out))
    out = place("two at once")
    trap = killing("save", 1, "stop")

    def first() -> None:
        trap()
        commands.simulate({**OPTIONS, "out": str(out)}, None, Silent())

    child = fork(first)
    os.waitpid(child, os.WUNTRACED)
    second = simulate(out)
    os.kill(child, signal.SIGCONT)
    tell(case="two at once", ended=[second, status(child)], **result(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
