"""``homespun simulate`` from end to end: read, encode, train each fold, evaluate, report."""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context
from safetensors.torch import save_file

from homespun.client.app import Contributor
from homespun.encoder import Progress
from homespun.personal import Backbone, TierCaps
from homespun.privacy.ledger import EXPORT_NAME, Ledger
from homespun.server.checkpoint import latest
from homespun.server.coordinator import pending_round
from homespun.simulations.devices import declare_devices, simulated_devices
from homespun.simulations.dropouts import Dropouts
from homespun.simulations.engine import contributors, train
from homespun.simulations.evaluation import Evaluation, evaluate
from homespun.simulations.methods import reference_methods
from homespun.simulations.options import Options
from homespun.simulations.ray_runtime import require_ray
from homespun.simulations.record_adapters import asked_plan, private_adapters, record_plans
from homespun.simulations.report import render
from homespun.simulations.run_folder import RunFolder
from homespun.simulations.run_record import open_ledger
from homespun.simulations.statement import RunFacts, summarise
from homespun.simulations.summary import pool
from homespun.simulations.training import Course, FoldData, fold_data, plan_course
from homespun.simulations.watch import Reporter, Watch
from homespun.simulations.world import World, prepare, read_data


def simulate(given: Mapping[str, object], config: Path | None, reporter: Reporter) -> dict[str, Any]:
    """Run, or go on with, a simulation.

    Args:
        given: Options that somebody gave, by snake_case name; ``resume`` names a run folder to go on with.
        config: The file that some of them came from, for the record.
        reporter: Told what happens.

    Returns:
        The summary, as written to ``summary.json``.

    Raises:
        ValueError: Options or data that cannot be used; nothing was spent.
        RunFolderInUse: Another process is writing the folder.
    """
    values = dict(given)
    resume = values.pop("resume", None)
    if resume is None:
        options = Options.resolve(values)
        if options.engine == "ray":
            require_ray()
        folder = RunFolder.create(options)
    else:
        folder, options = RunFolder.reopen(Path(str(resume)))
    with closing(folder):
        if resume is not None:
            _refuse_changes(options, values)
        return _run(options, folder, reporter)


def _refuse_changes(options: Options, values: Mapping[str, object]) -> None:
    # What a default hangs on may be among the values: those defaults are found again.
    known = {name: value for name, value in vars(options).items() if name not in ("trust", "max_dropout")}
    asked = Options.resolve({**known, **values, "out": options.out})
    changed = sorted(name.replace("_", "-") for name in values if getattr(options, name) != getattr(asked, name))
    if changed:
        raise ValueError(
            f"Expected no options beside --resume, got {', '.join(changed)}: a run goes on as it began. "
            "Start a new run for other options."
        )


def _run(options: Options, folder: RunFolder, reporter: Reporter) -> dict[str, Any]:
    clock = _Clock()
    torch.set_num_threads(1)  # a second thread makes these small products slower
    reporter.stage("read")
    dataset = read_data(options)
    clock.lap("read")
    reporter.stage("encode")
    world = prepare(options, dataset, progress=_encoding(reporter))
    folds = list(fold_data(world, options))
    course = plan_course(world, folds, options)
    asked, plans = asked_plan(options, course.geometry.dim), record_plans(options, course.geometry.dim)
    clock.lap("encode")
    for sentence in course.plan.spec.advice:
        reporter.note(sentence)

    rounds = sum(phase.rounds for phase in course.phases.values())
    reporter.stage("train", total=rounds * len(folds))
    evaluations: list[Evaluation] = []
    backbones: list[Backbone] = []
    with open_ledger(folder, course.plan, None if asked is None else asked.to_dict()) as ledger:
        done = {fold.number: _rounds_done(folder, ledger, fold.number) for fold in folds}
        for name in ("metrics.jsonl", "sent.jsonl"):
            folder.keep_rounds(name, done)
        reporter.advance(sum(done.values()))
        for fold in folds:
            watch = Watch(folder=folder, fold=fold, course=course, ledger=ledger, reporter=reporter, options=options)
            dropouts = Dropouts(seed=options.seed, chance=options.dropout, people=fold.seen.users)
            at_node = _people(options, folder.path, fold, course, world, dropouts)
            backbone = train(
                course.training(fold, options),
                at_node,
                ledger,
                folder.checkpoints(fold.number),
                engine=options.engine,
                observe=watch.observe,
                dropouts=dropouts if options.engine == "faithful" else None,
            )
            backbones.append(backbone)
        if options.engine == "faithful":
            declare_devices(ledger, folder.path)
        ledger.export(folder.path, EXPORT_NAME)
    clock.lap("train")

    reporter.stage("evaluate", total=len(folds))
    notes: dict[str, dict[str, Any]] = {}
    for fold, backbone in zip(folds, backbones, strict=True):
        methods, baselines = reference_methods(world, fold, backbone, course, options)
        notes.update(baselines)
        adapters = {
            name: private_adapters(backbone, course.public, fold.evidence, plan, seed=options.seed, fold=fold.number)
            for name, plan in plans.items()
        }
        evaluations.append(
            evaluate(
                backbone, fold.evidence, methods, adapters=adapters, caps=TierCaps(), seed=options.seed + fold.number
            )
        )
        reporter.advance()
    labels = torch.cat([fold.labels for fold in folds])
    save_file({**pool(evaluations), "labels": labels}, folder.path / "evaluation.safetensors")
    clock.lap("evaluate")

    facts = RunFacts(
        options=options, world=world, course=course, folds=folds, backbones=backbones, evaluations=evaluations,
        baselines=notes, seconds=clock.laps, rounds=folder.rows("metrics.jsonl"), started=clock.started,
    )  # fmt: skip
    summary = summarise(facts, folder.path)
    folder.write_json("summary.json", summary)
    reporter.stage("report")
    render(folder.path)
    clock.lap("report")
    summary["seconds_by_stage"] = clock.laps
    summary["seconds"] = sum(clock.laps.values())
    folder.write_json("summary.json", summary)
    return summary


class _Clock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def _people(
    options: Options, folder: Path, fold: FoldData, course: Course, world: World, dropouts: Dropouts
) -> Callable[[Context], Contributor]:
    """Who answers at the nodes of a fold: devices or cells."""
    if options.engine != "faithful":
        return contributors(fold.seen, course.phases, cell_size=options.cell_size, seed=options.seed, dropouts=dropouts)
    return simulated_devices(
        folder, course.plan, fold.seen, course.phases,
        seed=options.seed, fold=fold.number, texts=world.catalogue.texts,
    )  # fmt: skip


def _rounds_done(folder: RunFolder, ledger: Ledger, fold: int) -> int:
    """Rounds that are committed; one that was killed after its checkpoint is finished, and told of, when it is taken up."""
    found = latest(folder.checkpoints(fold), Backbone)
    if found is None:
        return 0
    last = found[1].round
    return last + 1 if pending_round(ledger, fold, last) is None else last


def _encoding(reporter: Reporter) -> Progress:
    """Progress of the first encoding: a stage of its own, begun when there is something to encode."""
    last = -1

    def report(done: int, total: int) -> None:
        nonlocal last
        if last < 0:
            reporter.stage("encode texts (once; they are kept)", total=total)
            last = 0
        reporter.advance(done - last)
        last = done

    return report
