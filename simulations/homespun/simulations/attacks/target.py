"""A finished run as an attacker with the data would see it: people, plan, and the backbone that was released."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import torch

from homespun.audit.path import claimed_mu
from homespun.personal import Backbone
from homespun.server.checkpoint import latest
from homespun.simulations.options import Options
from homespun.simulations.training import Course, FoldData, fold_data, plan_course
from homespun.simulations.world import World, prepare


@dataclass(frozen=True, kw_only=True)
class Target:
    """The first fold of a run."""

    options: Options
    world: World = field(repr=False)
    fold: FoldData = field(repr=False)
    course: Course = field(repr=False)
    backbone: Backbone = field(repr=False)
    """What was released."""

    @property
    def mu(self) -> float | None:
        """Gaussian mu of the noise; None without noise or with Poisson participation: then attacks have no bound."""
        return None if self.course.plan.claim.epsilon is None else claimed_mu(self.course.plan)


def load_target(run: Path) -> Target:
    """Make a run's people and plan again from its settings, and read what it released.

    Raises:
        ValueError: It is not a finished run, its data is gone, or its features are other ones than then.
    """
    config = run / "config.toml"
    if not config.is_file():
        raise ValueError(f"Expected {run} to be a run folder with a config.toml; see `homespun runs list`.")
    torch.set_num_threads(1)  # a second thread makes these small products slower
    options = Options.from_toml(tomllib.loads(config.read_text(encoding="utf-8")))
    world = prepare(options)
    folds = list(fold_data(world, options))
    course = plan_course(world, folds, options)
    found = latest(run / "checkpoints" / f"fold-{folds[0].number}", Backbone)
    rounds = sum(phase.rounds for phase in course.phases.values())
    if found is None or found[1].round != rounds - 1:
        raise ValueError(f"Expected {run} to be finished; go on with `homespun simulate --resume {run}`.")
    if found[0].projection != course.initial.projection:
        raise ValueError(
            f"Expected the features that {run} was trained on, to the last bit: attack it on the machine and with the "
            "version, encoder and data that made it."
        )
    return Target(options=options, world=world, fold=folds[0], course=course, backbone=found[0])
