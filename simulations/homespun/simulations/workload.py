"""Rounds to be timed: random features, planted tastes, the refine phase, and the whole path of a round around it.

    work = refine_workload(users=1000, rounds=4)
    timed = time_rounds(work, engine="vectorised")
    timed.rounds, timed.kernel

A round is timed from the end of one report to the next: ledger, messages, statistics, clipping, lattice, noise, sum,
update and checkpoint. What observers do is not part of it. Run as a module it does the large run alone, in a process
whose peak memory is its own.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from homespun.personal import Backbone, BasisPhase, Geometry, MeanPhase, Pairs, RefinePhase, average_user
from homespun.privacy import NoiseStream, Participation, Phase, Plan, PrivacySpec, Relation, Release, Trust, Unit
from homespun.privacy.ledger import SigningKey
from homespun.server.coordinator import RoundReport, Training
from homespun.server.run_ledger import open_run_ledger, run_genesis
from homespun.simulations.devices import roster, simulated_devices
from homespun.simulations.engine import contributors, members, train
from homespun.simulations.population import benchmark_population

EPSILON, DELTA = 2.0, 1e-6
DIM, RANK, PAIRS, ITEMS = 48, 8, 40, 2000
CELL = 1000  # people behind a node of the vectorised engine
REFINE_CLIP, REFINE_STEP = 0.1, 0.5  # of the size that the learner's own phases have
WARMING = 1000  # people from whom the first backbone is learned
SAMPLED_DIFFERENCES = 4096
PROJECTION = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One training whose rounds are alike: one phase, one population, one plan."""

    phase: Phase[Backbone, Pairs]
    pairs: Pairs = field(repr=False)
    plan: Plan
    initial: Backbone


@dataclass(frozen=True, kw_only=True)
class Lap:
    """Seconds of one piece of work, for so many people."""

    wall: float
    cpu: float
    """Of this process; less than the wall time where it waited for the disk or for its turn."""
    people: int


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What a training took, round by round, the first round left out."""

    rounds: tuple[Lap, ...]
    kernel: tuple[Lap, ...]
    """The bare statistic of the same people and the same backbone, taken between the rounds; empty if not asked."""
    whole_seconds: float
    """Wall time of all rounds, the first included, without what was taken between them."""
    backbone: Backbone = field(repr=False)


def refine_workload(*, users: int, rounds: int, seed: int = 0) -> Workload:
    """People with random tastes who refine a backbone that already fits them, so that adapters take real steps.

    Args:
        users: People, all of whom take part.
        rounds: Rounds of the refine phase.
        seed: Of everything drawn.
    """
    pairs = benchmark_population(users=users, items=ITEMS, pairs=PAIRS, dim=DIM, rank=RANK, seed=seed)
    geometry = geometry_of(pairs, seed=seed)
    phase = RefinePhase(geometry=geometry, rank=RANK, clip_norm=REFINE_CLIP, step=REFINE_STEP, rounds=rounds)
    plan = plan_of(phase, population=users, participation=Participation.full())
    return Workload(phase=phase, pairs=pairs, plan=plan, initial=_learned(pairs, geometry))


def geometry_of(pairs: Pairs, *, seed: int) -> Geometry:
    """Public facts of random features: covariance of sampled differences, no universal direction, no known items."""
    draw = torch.Generator().manual_seed(seed)
    places = torch.randint(len(pairs.features), (2, SAMPLED_DIFFERENCES), generator=draw)
    differences = pairs.features[places[0]] - pairs.features[places[1]]
    return Geometry(
        covariance=differences.T @ differences / SAMPLED_DIFFERENCES,
        universal=torch.zeros(pairs.dim, 0),
        items=pairs.features[:0],
        text=pairs.dim,
        texts=len(pairs.features),
        population=pairs.users,
    )


def plan_of(phase: Phase[Backbone, Pairs], *, population: int, participation: Participation) -> Plan:
    """The plan of a training that is one phase at epsilon 2."""
    sampled = participation.sampling_probability is not None
    return PrivacySpec(
        epsilon=EPSILON,
        delta=DELTA,
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        trust=Trust.CENTRAL if sampled else Trust.DISTRIBUTED,
        participation=participation,
        population=population,
        min_survivors=population,
        releases=(
            Release(
                name=phase.name, rounds=phase.rounds, share=1.0, clip_norm=phase.clip_norm, dimension=phase.dimension
            ),
        ),
    ).build()


def _learned(pairs: Pairs, geometry: Geometry) -> Backbone:
    """What the mean and basis phases would learn from some of these people if nothing were hidden."""
    some = pairs.select(slice(0, WARMING))
    backbone = average_user(pairs.dim, 1, projection=PROJECTION)
    phases: tuple[Phase[Backbone, Pairs], ...] = (
        MeanPhase(geometry=geometry, clip_norm=1.0, ridge=0.1),
        BasisPhase(geometry=geometry, features=pairs.dim, rank=RANK, clip_norm=1e-3, gain=1.0),
    )
    for phase in phases:
        mean = phase.statistic(backbone, some, 0).double().mean(0)
        backbone = phase.update(backbone, mean, 0.0, 0)
    return backbone


def time_rounds(
    work: Workload,
    *,
    engine: str,
    seed: int = 0,
    kernel: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Timed:
    """Run the training in a folder of its own that is deleted afterwards.

    Args:
        work: What to run.
        engine: ``vectorised`` or ``faithful``.
        seed: Of the noise and of who is drawn; the same seed does the same work.
        kernel: Whether to time the bare statistic before each round but the first: on all people at once, with the
            backbone that the round is about to use.
        advance: Called after every round.
    """
    laps: list[Lap] = []
    bare: list[Lap] = []
    began = _now()

    def observe(report: RoundReport[Backbone]) -> None:
        nonlocal began
        laps.append(_lap(began, report.checkpoint.devices))
        following = report.checkpoint.round + 1
        if kernel and following < report.rounds:
            started = _now()
            work.phase.statistic(report.state, work.pairs, following)
            bare.append(_lap(started, work.pairs.users))
        advance()
        began = _now()

    phases = {work.phase.name: work.phase}
    training = Training(
        plan=work.plan,
        phases=(work.phase,),
        initial=work.initial,
        members=members(engine, work.pairs.users, CELL),
        roster=roster(work.pairs.users, seed=seed) if engine == "faithful" else None,
        noise=lambda run, round: NoiseStream.seeded(seed, "server", run, round),
    )
    with tempfile.TemporaryDirectory(prefix="homespun-bench-") as name:
        folder = Path(name)
        if engine == "faithful":
            at_node = simulated_devices(folder, work.plan, work.pairs, phases, seed=seed)
        else:
            at_node = contributors(work.pairs, phases, cell_size=CELL, seed=seed)
        genesis = run_genesis(work.plan, origin="homespun/bench")
        with open_run_ledger(folder, SigningKey.generate("homespun-bench"), genesis) as ledger:
            began = _now()
            backbone = train(training, at_node, ledger, folder / "checkpoints", engine=engine, observe=observe)
    return Timed(
        rounds=tuple(laps[1:]),
        kernel=tuple(bare),
        whole_seconds=sum(lap.wall for lap in laps),
        backbone=backbone,
    )


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _lap(began: tuple[float, float], people: int) -> Lap:
    wall, cpu = _now()
    return Lap(wall=wall - began[0], cpu=cpu - began[1], people=people)


def peak_memory_gb() -> float:
    """Largest resident size of this process since it began, in 10^9 bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it started this process
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def large_run(*, users: int, rounds: int, seed: int) -> dict[str, float]:
    """Everybody takes part in every round: seconds of the rounds, of making the people, and the peak memory."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    work = refine_workload(users=users, rounds=rounds, seed=seed)
    made = time.perf_counter() - started
    timed = time_rounds(work, engine="vectorised", seed=seed)
    return {"seconds": timed.whole_seconds, "population_seconds": made, "peak_memory_gb": peak_memory_gb()}


if __name__ == "__main__":
    print(json.dumps(large_run(**json.loads(sys.argv[1]))))
