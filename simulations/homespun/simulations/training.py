"""From options and data to trainings: the plan that all folds share, and each fold's people behind nodes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from homespun.encoder import sample_differences
from homespun.personal import Backbone, Geometry, Pairs, PublicMoments, average_user, preference_learner
from homespun.personal.bounds import universal_directions
from homespun.preferences import Fold
from homespun.privacy import NoiseStream, Participation, Phase, Plan, PrivacySpec, Relation, Trust, Unit
from homespun.secagg import choose_shape
from homespun.secagg.shape import MAX_PARTIES
from homespun.server.coordinator import Training
from homespun.simulations.devices import roster
from homespun.simulations.engine import members
from homespun.simulations.evaluation import Evidence
from homespun.simulations.options import Options
from homespun.simulations.world import World

UNIVERSAL_DIRECTIONS = 1  # most peculiar to the tier-3 texts, kept out of every taste


@dataclass(frozen=True, kw_only=True)
class FoldData:
    """One fold as tensors."""

    number: int
    held_out: str
    seen: Pairs = field(repr=False)
    evidence: Evidence = field(repr=False)
    evaluated_users: tuple[int, ...] = field(repr=False)
    labels: Tensor = field(repr=False)
    """How many labels each evaluated person gave in all, int64, shape ``(people,)``."""
    dropped_shots: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Course:
    """What every fold of a run has in common: geometry, phases, plan, and where a training starts."""

    geometry: Geometry = field(repr=False)
    public: PublicMoments = field(repr=False)
    plan: Plan
    phases: Mapping[str, Phase[Backbone, Pairs]] = field(repr=False)
    initial: Backbone = field(repr=False)

    def training(self, fold: FoldData, options: Options) -> Training[Backbone]:
        """The training of one fold."""

        def noise(run: int, round: int) -> NoiseStream:
            return NoiseStream.seeded(options.seed, "server", run, round)

        return Training(
            plan=self.plan,
            phases=tuple(self.phases.values()),
            initial=self.initial,
            members=members(options.engine, fold.seen.users, options.cell_size),
            roster=self._roster(fold, options),
            run=fold.number,
            noise=noise,
        )

    def _roster(self, fold: FoldData, options: Options) -> tuple[bytes, ...] | None:
        """Who the devices of a fold are, where vectors are masked; a cell answers with a sum and masks nothing."""
        if options.engine != "faithful" or self.plan.spec.trust is not Trust.DISTRIBUTED:
            return None
        return roster(fold.seen.users, seed=options.seed, fold=fold.number)


def fold_data(world: World, options: Options) -> Iterator[FoldData]:
    """The folds of a run as tensors, made one after the other."""
    given = np.bincount(world.labels.choice_user, minlength=len(world.labels.users))
    given += np.bincount(world.labels.vote_user, minlength=len(world.labels.users))
    for fold in world.folds(options):
        yield FoldData(
            number=fold.number,
            held_out=fold.held_out,
            seen=world.pairs(fold.seen),
            evidence=_evidence(world, fold),
            evaluated_users=fold.evaluated_users,
            labels=torch.from_numpy(given[list(fold.evaluated_users)]),
            dropped_shots=fold.dropped_shots,
        )


def plan_course(world: World, folds: list[FoldData], options: Options) -> Course:
    """Fix geometry, phases and privacy plan before any label is used.

    The folds of a run share one plan: its public population is that of the largest fold, and noise shares are sized
    for what is left of the smallest if as many are missing or dishonest as is allowed.

    Raises:
        ValueError: The privacy asked for cannot be had.
    """
    largest = max(fold.seen.users for fold in folds)
    smallest = min(fold.seen.users for fold in folds)
    geometry = geometry_of(world, options, population=largest)
    learner = preference_learner(geometry, rank=options.rank, epsilon=options.epsilon, delta=options.delta)
    honest, colluding = survivors(options, smallest=smallest, largest=largest)
    spec = PrivacySpec(
        epsilon=options.epsilon,
        delta=options.delta,
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        trust=Trust(options.trust),
        participation=Participation.parse(options.participation),
        population=largest,
        min_survivors=honest,
        colluding=colluding,
        releases=learner.releases(),
    )
    return Course(
        geometry=geometry,
        public=PublicMoments.of(geometry, world.public.features.mean(0)),
        plan=spec.build(),
        phases={phase.name: phase for phase in learner.phases},
        initial=average_user(geometry.dim, 1, projection=world.projection.digest),
    )


def survivors(options: Options, *, smallest: int, largest: int) -> tuple[int, int]:
    """How many honest people a sum must hold to be opened, and how many of a cohort may be dishonest beside them.

    Raises:
        ValueError: More may be missing or collude than masks and noise can bear.
    """
    fewest = smallest - int(options.max_dropout * smallest)
    colluding = math.ceil(options.colluding * largest)
    if fewest <= colluding:
        raise ValueError(
            f"Expected more than colluding={colluding} of the fewest people in a sum, which are {fewest} of {smallest}: "
            "no honest person's noise would be promised. Write a lower --colluding or --max-dropout."
        )
    if options.trust == Trust.DISTRIBUTED.value:
        for people in {smallest, largest}:
            _check_masks(people, fewest=fewest, colluding=colluding)
    return fewest - colluding, colluding


def _check_masks(people: int, *, fewest: int, colluding: int) -> None:
    """Refuse sums that no masked round could open, whichever engine stands for it; of more people none is masked at once."""
    if people > MAX_PARTIES:
        return
    try:
        choose_shape(people, min_survivors=fewest, colluding=colluding)
    except ValueError as error:
        raise ValueError(
            f"Expected sums that can be masked of at least {fewest} of {people} people, of whom colluding={colluding}: "
            f"{error} Write a lower --max-dropout or --colluding, or --trust central."
        ) from error


def geometry_of(world: World, options: Options, *, population: int) -> Geometry:
    """Facts about a world's public items alone: covariance of differences, tier-3 directions."""
    public = world.public
    differences = sample_differences(public.features, public.groups)
    tier3 = public.tiers == 3
    covariance = differences.T @ differences / max(1, len(differences))
    return Geometry(
        covariance=covariance,
        universal=universal_directions(
            sample_differences(public.features[torch.from_numpy(tier3)], public.groups[tier3]),
            covariance,
            count=UNIVERSAL_DIRECTIONS,
        ),
        items=public.features if options.features != "text" else public.features[:0],
        text=0 if options.features == "item" else world.projection.features,
        texts=len(public.features),
        population=population,
    )


def _evidence(world: World, fold: Fold) -> Evidence:
    return Evidence(
        shots={n: world.pairs(part) for n, part in fold.shots.items()},
        shuffled={n: world.pairs(part) for n, part in fold.shuffled.items()},
        test=world.pairs(fold.test),
        records=world.records(fold.answers),
    )
