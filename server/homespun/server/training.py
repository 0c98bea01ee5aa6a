"""What a coordinator is asked to do, and what it tells after each round."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic

from homespun.privacy import NoiseStream, Phase, Plan, ReleasePlan, Trust
from homespun.secagg import Refused
from homespun.server.checkpoint import Checkpoint, State
from homespun.server.masked import terms_of
from homespun.wire import MAX_PARTIES

__all__ = ["RoundReport", "Training"]


@dataclass(frozen=True, kw_only=True)
class Training(Generic[State]):
    """What the coordinator is asked to do. Frozen: everything that decides a run's privacy is in ``plan``."""

    plan: Plan
    phases: tuple[Phase[State, Any], ...]
    """In order; names, clip norms, dimensions and rounds as in the plan."""
    initial: State
    members: tuple[int, ...]
    """How many people stand behind each node, in the order of node ids: all 1 but for simulated cells."""
    roster: tuple[bytes, ...] | None = None
    """Identities of the devices behind the nodes, in the order of nodes: sums are masked, and the server sees no vector.

    ``None``: sums are plain, as of a simulation's cells, or where everybody trusts the server."""
    run: int = 0
    """Number of the run; folds of a simulation are runs."""
    noise: Callable[[int, int], NoiseStream] = field(repr=False)
    """Randomness of the server for a run and a round: its own noise where trust is central, and cohort coins."""

    def __post_init__(self) -> None:
        """Refuse phases that are not the plan's, people it was not made for, and a roster that cannot be masked."""
        asked = [(phase.name, phase.rounds, phase.clip_norm, phase.dimension) for phase in self.phases]
        planned = [(r.name, r.rounds, r.clip_norm, r.dimension) for r in self.plan.releases]
        if asked != planned:
            raise ValueError(
                f"Expected phases={asked} as the plan has them (name, rounds, clip norm, dimension): {planned}."
            )
        if min(self.members, default=0) < 1:
            raise ValueError(f"Expected members={min(self.members, default=0)} >= 1 behind each node.")
        people, spec = sum(self.members), self.plan.spec
        if not spec.min_survivors + spec.colluding <= people <= spec.population:
            raise ValueError(
                f"Expected people={people} behind the nodes in [min_survivors + colluding="
                f"{spec.min_survivors + spec.colluding}, population={spec.population}]: fewer open no sum."
            )
        if self.roster is not None:
            _check_roster(self.roster, self.members, self.plan)

    def schedule(self) -> Iterator[tuple[int, Phase[State, Any], ReleasePlan, int]]:
        """Every round of the run: (round, phase, release, round within the phase)."""
        number = 0
        for phase, release in zip(self.phases, self.plan.releases, strict=True):
            for phase_round in range(phase.rounds):
                yield number, phase, release, phase_round
                number += 1


@dataclass(frozen=True, kw_only=True)
class RoundReport(Generic[State]):
    """What the server knows after a round.

    With Poisson participation the size of the cohort is a secret that amplification by sampling rests on: the claim then
    holds only against those who do not see ``devices``, ``messages`` and ``reply_bytes`` of the checkpoint.
    """

    run: int
    rounds: int
    """Rounds of the whole run."""
    checkpoint: Checkpoint
    state: State = field(repr=False)


def _check_roster(roster: tuple[bytes, ...], members: tuple[int, ...], plan: Plan) -> None:
    """Refuse, before anything is paid, a roster under which some release could not be masked."""
    if plan.spec.trust is not Trust.DISTRIBUTED:
        raise ValueError("Expected roster=None with trust='central': the server adds the noise, to a sum that it sees.")
    if len(roster) != len(members) or set(members) != {1} or len(roster) > MAX_PARTIES:
        raise ValueError(
            f"Expected roster of {len(members)} identities, one behind each node, at most {MAX_PARTIES}; "
            f"it has {len(roster)}."
        )
    for release in plan.releases:
        try:
            terms_of(release, roster, context=bytes(32))
        except Refused as error:
            raise ValueError(f"Expected a roster that can be masked. {error}") from error
