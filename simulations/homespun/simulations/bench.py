"""``homespun bench rounds``: what one person's update costs, in one run, beside its own kernel and beside other systems.

All rows are taken one after the other in one process with one thread, so that their ratios hold even where other work
slows the machine down; medians over rounds, the first round left out. Wall time is what a user waits for; processor
time beside it says how much of it was work.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import torch

from homespun.simulations import workload
from homespun.simulations.peers.logistic import EXAMPLES, FEATURES, accuracy, logistic_workload, write_job
from homespun.simulations.workload import Lap, refine_workload, time_rounds

__all__ = ["BenchOptions", "Reporter", "machine", "rounds"]

SCALE_ROUNDS = 3
PEERS = (
    ("pfl-research", "pfl_python", "pfl_rounds.py", "pip install 'pfl[pytorch]'", "--pfl-python"),
    ("Flower on Ray", "ray_python", "flower_rounds.py", "pip install 'flwr[simulation]>=1.41,<1.42' torch", "--ray-python"),
)  # fmt: skip
PEER_TIMEOUT_SECONDS = 600


class Reporter(Protocol):
    """Who is told how far the measurements are; see ``homespun.cli.voice``."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of ``total`` steps."""

    def advance(self, n: int = 1) -> None:
        """Steps of the stage are done."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured. Everything but ``users``, ``seed``, ``scale`` and the interpreters is fixed by the workload."""

    users: int = 1000
    """People in a round of the vectorised engine; a fifth of them for the faithful one."""
    seed: int = 0
    rounds: int = 9
    """Timed rounds of the vectorised engine."""
    scale: bool = False
    """Whether to do the large run, which takes up to a minute."""
    scale_users: int = 100_000
    peer_users: int = 1000
    cohort: int = 100
    """Expected cohort of the job that other systems do as well."""
    pfl_python: str | None = None
    """Interpreter of an environment with ``pfl[pytorch]``."""
    ray_python: str | None = None
    """Interpreter of an environment with ``flwr[simulation]``."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name in ("users", "rounds", "scale_users", "peer_users", "cohort"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected {name}={getattr(self, name)} in [1, inf).")
        if self.cohort > self.peer_users:
            raise ValueError(f"Expected cohort={self.cohort} in [1, peer_users={self.peer_users}].")


def rounds(given: Mapping[str, object], reporter: Reporter) -> dict[str, Any]:
    """Measure, and return one row a measurement.

    Args:
        given: Fields of :class:`BenchOptions` that somebody gave.
        reporter: Told what happens.

    Returns:
        JSON-able: ``rows``, each with ``name``, ``status``, ``us_per_user`` (microseconds, median) and
        ``over_kernel``; ``scale``; ``settings``; ``machine``. A row that could not be measured has the status
        ``not installed`` or ``failed``, says what to do in ``note``, and holds null for its figures.

    Raises:
        ValueError: An option is unknown or out of its range.
    """
    unknown = sorted(set(given) - {field.name for field in fields(BenchOptions)})
    if unknown:
        raise ValueError(f"Expected options of BenchOptions, got {', '.join(unknown)}.")
    options = BenchOptions(**given)  # type: ignore[arg-type]  # checked by name above, by value in the class
    torch.set_num_threads(1)
    load = os.getloadavg()
    rows = [*_own(options, reporter)]
    kernel = next(row["us_per_user"] for row in rows if row["name"] == "kernel")
    rows += _common_job(options, reporter)
    for row in rows:
        row["over_kernel"] = None if row["us_per_user"] is None else row["us_per_user"] / kernel
    return {
        "message_type": "summary",
        "success": True,
        "us_per_user_update": next(row["us_per_user"] for row in rows if row["name"] == "vectorised"),
        "rows": rows,
        "scale": _scale(options, reporter) if options.scale else None,
        "settings": {
            "users": options.users, "rounds": options.rounds, "seed": options.seed, "dimension": workload.DIM,
            "rank": workload.RANK, "pairs": workload.PAIRS, "epsilon": workload.EPSILON, "delta": workload.DELTA,
            "privacy_unit": "device", "neighboring_relation": "add-or-remove", "cell": workload.CELL,
            "peer_users": options.peer_users, "cohort": options.cohort, "examples": EXAMPLES, "features": FEATURES,
        },
        "machine": machine(load),
    }  # fmt: skip


def _own(options: BenchOptions, reporter: Reporter) -> Sequence[dict[str, Any]]:
    """The engines on the refine phase, and the kernel between the rounds of the vectorised one."""
    reporter.stage("vectorised", total=options.rounds + 1)
    work = refine_workload(users=options.users, rounds=options.rounds + 1, seed=options.seed)
    timed = time_rounds(work, engine="vectorised", seed=options.seed, kernel=True, advance=reporter.advance)
    people = max(1, options.users // 5)
    few = max(2, options.rounds // 3)
    reporter.stage("faithful", total=few + 1)
    faithful = time_rounds(
        refine_workload(users=people, rounds=few + 1, seed=options.seed),
        engine="faithful",
        seed=options.seed,
        advance=reporter.advance,
    )
    size = f"{workload.PAIRS} pairs, d = {workload.DIM}, k = {workload.RANK}"
    return (
        _row("kernel", f"the statistic alone, {size}", options.users, timed.kernel),
        _row("vectorised", "a round, people in cells", options.users, timed.rounds),
        _row(
            "faithful", "a round, one device a person with vault, ledger and witness, no masks", people, faithful.rounds
        ),
    )


def _common_job(options: BenchOptions, reporter: Reporter) -> list[dict[str, Any]]:
    """The job that every system does: ours in this process, the others in theirs."""
    count = options.rounds + 1
    reporter.stage("common job: homespun", total=count)
    work = logistic_workload(users=options.peer_users, cohort=options.cohort, rounds=count, seed=options.seed)
    timed = time_rounds(work, engine="vectorised", seed=options.seed, advance=reporter.advance)
    about = f"common job, {EXAMPLES} examples x {FEATURES} features"
    ours = _row("homespun", about, options.cohort, timed.rounds)
    ours["accuracy"] = accuracy(work, timed.backbone)
    rows = [ours]
    with tempfile.TemporaryDirectory(prefix="homespun-bench-") as name:
        job = write_job(work, Path(name), cohort=options.cohort, rounds=count, seed=options.seed)
        for title, option, script, install, flag in PEERS:
            reporter.stage(f"common job: {title}")
            row = _row(title, about, options.cohort, ())
            python = getattr(options, option)
            if python is None:
                row |= {
                    "status": "not installed",
                    "note": f"{install} in an environment of its own; {flag} names its python",
                }
            else:
                row |= _peer(python, Path(__file__).parent / "peers" / script, job, options.cohort)
            if row["us_per_user"] is not None:
                row["over_homespun"] = row["us_per_user"] / ours["us_per_user"]
            rows.append(row)
    return rows


def _peer(python: str, script: Path, job: Path, cohort: int) -> dict[str, Any]:
    """Run another system's script in its own interpreter; what it printed, or why it did not."""
    try:
        done = subprocess.run(
            [python, str(script), str(job)], capture_output=True, text=True, timeout=PEER_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"status": "failed", "note": f"{type(error).__name__}: {python} did not run the script"}
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
        seconds = statistics.median(found["seconds"])
        return {
            "us_per_user": 1e6 * seconds / cohort, "rounds": len(found["seconds"]), "note": found["system"],
            "accuracy": found["accuracy"],
        }  # fmt: skip
    except (IndexError, KeyError, TypeError, ValueError):
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        return {"status": "failed", "note": f"exit {done.returncode}: {last[0][:200]}"}


def _scale(options: BenchOptions, reporter: Reporter) -> dict[str, Any]:
    """Three rounds of very many people, in a process whose peak memory is its own."""
    reporter.stage(f"{options.scale_users:,} people")
    asked = {"users": options.scale_users, "rounds": SCALE_ROUNDS, "seed": options.seed}
    done = subprocess.run(
        [sys.executable, "-m", "homespun.simulations.workload", json.dumps(asked)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return {**asked, **json.loads(done.stdout.strip().splitlines()[-1])}


def _row(name: str, what: str, users: int, laps: Sequence[Lap]) -> dict[str, Any]:
    laps = [lap for lap in laps if lap.people > 0]
    wall = [1e6 * lap.wall / lap.people for lap in laps]
    return {
        "name": name,
        "what": what,
        "status": "measured",
        "note": "",
        "users": users,
        "rounds": len(laps),
        "us_per_user": statistics.median(wall) if laps else None,
        "least_us_per_user": min(wall, default=None),
        "cpu_us_per_user": statistics.median(1e6 * lap.cpu / lap.people for lap in laps) if laps else None,
        "accuracy": None,
    }


def machine(load: tuple[float, float, float]) -> dict[str, Any]:
    """Where a time was taken, and how busy it was just before: a time means nothing without it."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads_used": torch.get_num_threads(),
        "load_before": round(load[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
