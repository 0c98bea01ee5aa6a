"""Shadow trainings: the run again, in memory, on other members of the same pool of people."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from homespun.personal import Backbone, Pairs
from homespun.privacy import NoiseStream, Trust, contribute, open_sum
from homespun.simulations.training import Course

CHUNK_VALUES = 2**22  # statistics in flight, 16 MiB of float32


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A backbone, and who of the pool it was trained on."""

    backbone: Backbone = field(repr=False)
    members: Tensor = field(repr=False)
    """bool, shape ``(people,)``."""


def shadows(course: Course, people: Pairs, *, members: int, count: int, seed: int) -> Iterator[Shadow]:
    """Train backbones on random members, with the plan and fresh noise of a run's own kind.

    Each person is left out about equally often: members are dealt from shuffled packs.

    Args:
        course: Phases and plan of the run.
        people: The pool.
        members: How many take part in each training.
        count: Number of trainings.
        seed: Of who takes part. The noise is the operating system's.
    """
    generator = torch.Generator().manual_seed(seed)
    left_out: list[int] = []
    for _ in range(count):
        out: list[int] = []
        while len(out) < people.users - members:
            if not left_out:
                left_out = torch.randperm(people.users, generator=generator).tolist()
            candidate = left_out.pop()
            if candidate not in out:
                out.append(candidate)
        inside = torch.ones(people.users, dtype=torch.bool)
        inside[torch.tensor(out, dtype=torch.int64)] = False
        yield Shadow(backbone=train_once(course, people.select(torch.nonzero(inside)[:, 0])), members=inside)


def train_once(course: Course, people: Pairs) -> Backbone:
    """All phases of a course on some people, through the private sum."""
    backbone = course.initial
    for phase in course.phases.values():
        release = course.plan[phase.name]
        rate = release.participation.sampling_probability
        for round in range(phase.rounds):
            here = people if rate is None else people.select(torch.nonzero(torch.rand(people.users) < rate)[:, 0])
            step = max(1, CHUNK_VALUES // phase.dimension)
            with NoiseStream() as noise:
                vectors = []
                for start in range(0, here.users, step):
                    chunk = here.select(slice(start, start + step))
                    statistic = phase.statistic(backbone, chunk, round)
                    vectors.append(contribute(statistic, release, devices=chunk.users, noise=noise))
                central = noise if release.trust is Trust.CENTRAL and release.variance > 0 else None
                mean, std = open_sum(vectors, release, devices=here.users, noise=central)
            backbone = phase.update(backbone, mean, std, round)
    return backbone


def joined(first: Pairs, second: Pairs) -> Pairs:
    """People of both, over the same features; who has fewer pairs gets padding, who has fewer halvings the same again."""
    pairs = max(first.chosen.shape[1], second.chosen.shape[1])
    splits = max(first.half.shape[2], second.half.shape[2])
    first, second = (
        replace(part, half=part.half[:, :, torch.arange(splits) % part.half.shape[2]]) for part in (first, second)
    )
    blank = {"chosen": 0, "rejected": 0, "scale": 1, "weight": 0, "half": -1, "tier": 1}
    return replace(
        first,
        **{
            name: torch.cat([_widened(getattr(part, name), pairs, value) for part in (first, second)])
            for name, value in blank.items()
        },
    )


def _widened(column: Tensor, pairs: int, value: float) -> Tensor:
    missing = pairs - column.shape[1]
    return pad(column, (0, missing) if column.ndim == 2 else (0, 0, 0, missing), value=value)
