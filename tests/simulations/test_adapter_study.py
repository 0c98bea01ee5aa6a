"""The study behind the table of docs/design/07-private-adapters.md: what private adapters keep of the exact gain.

Through the product: the backbones are those of `homespun simulate --seed 0` and `--seed 11` (its engine, its noise), and
the sums are released as there, ten times with other noise. `pytest -s` shows the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from homespun.personal import Adapter, Backbone, PublicMoments, TierCaps, fit, predict, record_dimension
from homespun.privacy.ledger import SigningKey
from homespun.privacy.record_plan import FIRST_BLOCKS, RecordPlan, build_record_plan
from homespun.server.run_ledger import open_run_ledger, run_genesis
from homespun.simulations.engine import contributors, train
from homespun.simulations.evaluation import Evidence, correct, per_person
from homespun.simulations.options import Options
from homespun.simulations.record_adapters import SIDE_BY_SIDE, private_adapters
from homespun.simulations.summary import _kept, _resample
from homespun.simulations.training import fold_data, plan_course
from homespun.simulations.world import prepare

SEEDS = (0, 11)  # with which no constant of the adapters was chosen
DRAWS = 10  # of the noise of the released sums
LABELS = (20, 40, 80)
AT_ONCE, IN_BLOCKS = "at once", "in blocks"
LEAST = {
    (40, AT_ONCE, 1.0): 0.60,
    (40, AT_ONCE, 2.0): 0.75,
    (40, AT_ONCE, 4.0): 0.85,
    (40, IN_BLOCKS, 2.0): 0.65,
}  # the acceptance line: share of the exact gain by labels, way of release and epsilon of a record


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one simulation ends with, before it evaluates anybody."""

    options: Options
    backbone: Backbone
    public: PublicMoments
    evidence: Evidence


def trained(seed: int, folder: Path) -> Trained:
    """The training of `homespun simulate --seed`: plan, ledger, cells and noise of the product."""
    options = Options(seed=seed)
    world = prepare(options)
    (fold,) = fold_data(world, options)
    course = plan_course(world, [fold], options)
    key = SigningKey.generate("homespun-study")
    with open_run_ledger(folder, key, run_genesis(course.plan, origin="homespun/study")) as ledger:
        backbone = train(
            course.training(fold, options),
            contributors(fold.seen, course.phases, cell_size=options.cell_size, seed=seed),
            ledger,
            folder / "checkpoints",
            engine=options.engine,
            observe=lambda report: None,
        )
        claimed = course.plan.claim.epsilon
        assert claimed is not None and claimed <= options.epsilon == 2.0
        assert ledger.spent("run-0") == ledger.genesis.cap
    return Trained(options=options, backbone=backbone, public=course.public, evidence=fold.evidence)


def released(found: Trained, plan: RecordPlan, labels: int) -> Iterator[Adapter]:
    """Adapters of the first ``labels`` records, one for every draw of the noise."""
    evidence = found.evidence
    few = replace(evidence, shots={labels: evidence.shots[labels]}, records=evidence.records.between(0, labels))
    for draw in range(DRAWS):
        seed = 1000 * found.options.seed + draw
        yield private_adapters(found.backbone, found.public, few, plan, seed=seed, fold=0)[labels]


def gains(found: Trained, labels: int) -> Iterator[tuple[str, float, torch.Tensor]]:
    """By way of release and epsilon: gains over the global model, of private (mean over draws) and exact adapters.

    Yields:
        Way, epsilon of a record, and float32 ``(2, people)``.
    """
    test = found.evidence.test

    def accuracy(adapter: Adapter) -> torch.Tensor:
        return per_person(correct(predict(found.backbone, adapter, test, caps=TierCaps()).total), test)

    exact = fit(found.backbone, found.evidence.shots[labels])
    base = accuracy(replace(exact, coefficients=torch.zeros_like(exact.coefficients)))
    whole = accuracy(exact) - base
    for way, blocks in ((AT_ONCE, (labels,)), (IN_BLOCKS, FIRST_BLOCKS)):
        for epsilon in SIDE_BY_SIDE:
            dimension = record_dimension(found.evidence.records.dim)
            plan = build_record_plan(epsilon, found.options.delta, dimension, blocks=blocks)
            own = torch.stack([accuracy(adapter) for adapter in released(found, plan, labels)]).mean(0)
            yield way, epsilon, torch.stack([own - base, whole])


def shares(found: Trained, labels: int) -> Mapping[tuple[str, float], Mapping[str, float]]:
    """Share of the exact gain with its paired 95 % interval over people, and that gain, by way and epsilon."""
    shown = {}
    for way, epsilon, pair in gains(found, labels):
        share = _kept(pair, _resample(pair, seed=0))
        assert share is not None, "an exact adapter gains something"
        shown[way, epsilon] = {**share, "exact": float(pair[1].mean())}
    return shown


def line(labels: int, way: str, seed: int, row: Mapping[tuple[str, float], Mapping[str, float]]) -> str:
    """A row of the table of the design page."""
    blocks = ", ".join(map(str, build_record_plan(2.0, 1e-5, 25).sizes(labels)))
    cells = [
        f"{100 * share['mean']:.0f} [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"
        for (kind, _), share in row.items()
        if kind == way
    ]
    return f"| {labels} | {way if way == AT_ONCE else blocks} | {seed} | {' | '.join(cells)} |"


@pytest.mark.study
def test_private_adapters_keep_what_the_design_page_says(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    found = {}
    for seed in SEEDS:
        (tmp_path / str(seed)).mkdir()
        world = trained(seed, tmp_path / str(seed))
        for labels in LABELS:
            found[labels, seed] = shares(world, labels)
    print("\n| labels | released | seed | " + " | ".join(f"record:{epsilon:g}" for epsilon in SIDE_BY_SIDE) + " |")
    print("|---" * (3 + len(SIDE_BY_SIDE)) + "|")
    for labels in LABELS:
        for way in (AT_ONCE, IN_BLOCKS):
            for seed in SEEDS:
                print(line(labels, way, seed, found[labels, seed]))
    for seed in SEEDS:
        exact = (f"{found[labels, seed][AT_ONCE, 2.0]['exact']:.3f} at {labels}" for labels in LABELS)
        print(f"exact gain, seed {seed}: {', '.join(exact)} labels")
    for (labels, way, epsilon), least in LEAST.items():
        for seed in SEEDS:
            assert found[labels, seed][way, epsilon]["mean"] >= least, (labels, way, epsilon, seed)
