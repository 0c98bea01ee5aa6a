"""The real path from people's rows to the released mean, as the rows of the checklist walk it; loaded by path.

    rows -> clip -> lattice -> sum -> noise shares -> ring        `integers`, `contribute`
    request -> node -> reply -> open -> update -> checkpoint      `walk`: coordinator, Flower messages, ClientApp, Cell

A bug is put in by replacing one function of that path; everything else stays what ships.
"""

import runpy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Message
from numpy.typing import NDArray
from torch import Tensor

from homespun.client.app import client_app
from homespun.client.device import Device, Installation
from homespun.client.vault import GivenKey
from homespun.personal import Backbone, Pairs, RefinePhase, average_user, preference_learner
from homespun.privacy import (
    NoiseStream,
    Participation,
    Phase,
    Plan,
    PrivacySpec,
    Relation,
    Release,
    ReleasePlan,
    Trust,
    Unit,
    from_ring,
    private_sum,
)
from homespun.privacy.ledger import Ledger, SigningKey
from homespun.privacy.policy import Policy
from homespun.server import coordinator
from homespun.server.coordinator import Training
from homespun.server.run_ledger import open_run_ledger, run_genesis
from homespun.simulations.cell import Cell
from homespun.simulations.grid import InProcessGrid
from homespun.simulations.workload import geometry_of
from homespun.wire import RoundRequest
from homespun.wire.flower import in_process_identity

toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
torch.set_num_threads(1)
PROJECTION = "0" * 64


def plan_of(*releases: Release, **changes: Any) -> Plan:
    """A calibrated plan: 50 people, of whom 40 must answer, epsilon 2."""
    fields: dict[str, Any] = {
        "epsilon": 2.0,
        "delta": 1e-4,
        "unit": Unit.DEVICE,
        "relation": Relation.ADD_OR_REMOVE,
        "trust": Trust.DISTRIBUTED,
        "participation": Participation.full(),
        "population": 50,
        "min_survivors": 40,
    }
    return PrivacySpec(**{**fields, **changes}, releases=releases).build()


def one_release(*, dimension: int = 64, clip_norm: float = 1.0, rounds: int = 1, **changes: Any) -> ReleasePlan:
    """The only release of such a plan."""
    release = Release(name="one", rounds=rounds, share=1.0, clip_norm=clip_norm, dimension=dimension)
    return plan_of(release, **changes)["one"]


def silence(variance: int, size: int) -> NDArray[np.int64]:
    """No noise: what is left is what people moved."""
    return np.zeros(size, np.int64)


def integers(rows: Tensor, release: ReleasePlan) -> NDArray[np.int64]:
    """The exact integer sum of the real path."""
    return from_ring(private_sum.contribute(rows, release, devices=release.population, noise=silence))


def squares(vector: NDArray[np.int64]) -> int:
    """Squared L2 norm, exactly."""
    return sum(int(value) ** 2 for value in vector)


def some_rows(users: int, dimension: int = 64, *, seed: int = 0) -> Tensor:
    """Rows well above any clip norm."""
    return torch.randn(users, dimension, generator=torch.Generator().manual_seed(seed)) * 3


@dataclass(frozen=True, kw_only=True)
class Given:
    """A phase whose statistic is whatever a test gives, and which remembers what its update was told."""

    answer: Callable[[Pairs, int], Tensor]
    dimension: int = 64
    clip_norm: float = 1.0
    rounds: int = 1
    name: str = "one"
    told: list[tuple[Tensor, float]] = field(default_factory=list)

    def statistic(self, backbone: Backbone, data: Pairs, round: int) -> Tensor:
        """What the test says."""
        return self.answer(data, round)

    def update(self, backbone: Backbone, mean: Tensor, noise_std: float, round: int) -> Backbone:
        """The direction follows the first numbers of the mean."""
        self.told.append((mean.clone(), noise_std))
        return replace(backbone, w=mean[: backbone.dim].float(), version=backbone.version + 1)


def nothing(data: Pairs, round: int) -> Tensor:
    """Nobody has anything to say: 64 zeros each."""
    return torch.zeros(data.users, 64)


class Overheard(InProcessGrid):
    """A Grid that keeps every message and lets a test change replies."""

    def __init__(self, *args: Any, tamper: Callable[[Message], Message | None]) -> None:
        super().__init__(*args)
        self.requests: list[Message] = []
        self.replies: list[Message] = []
        self._tamper = tamper

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As they are sent."""
        kept = list(messages)
        self.requests += kept
        return super().push_messages(kept)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As they arrive; a reply that the test drops never does."""
        arrived = [reply for reply in map(self._tamper, super().pull_messages(message_ids)) if reply is not None]
        self.replies += arrived
        return arrived


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What one training did, and what crossed the edge."""

    state: Backbone
    reports: list[Any]
    grid: Overheard
    folder: Path

    @property
    def vectors(self) -> list[NDArray[np.int64]]:
        """Every vector that arrived, centred, in the order of arrival."""
        good = [reply for reply in self.grid.replies if not reply.has_error()]
        return [from_ring(reply.content["contribution"]["vector"].numpy()) for reply in good]


def walk(
    plan: Plan,
    phases: Iterable[Phase[Backbone, Any]],
    pairs: Pairs,
    folder: Path,
    *,
    members: tuple[int, ...] | None = None,
    run: int = 0,
    noise: Callable[[int, int, int], Any] | None = None,
    server_noise: Callable[[int, int], NoiseStream] | None = None,
    tamper: Callable[[Message], Message | None] = lambda reply: reply,
    contributor: Callable[..., Any] = Cell,
) -> Walk:
    """Run, or go on with, a training through the coordinator, Flower's messages, the ClientApp and Cells.

    Args:
        plan: The promise.
        phases: The learner.
        pairs: Everybody's preferences.
        folder: Of the run.
        members: How many people stand behind each node; one each where nothing is said.
        run: Its number.
        noise: Noise of a node from (run, round, place); fresh streams where nothing is said.
        server_noise: The server's, from (run, round).
        tamper: Applied to every reply; None loses it.
        contributor: Stands at a node.
    """
    members = (1,) * pairs.users if members is None else members
    edges = np.cumsum([0, *members])
    phases = tuple(phases)
    shares = noise or (lambda run, round, place: NoiseStream())

    def at_node(context: Any) -> Any:
        place = int(context.node_config["partition-id"])
        return contributor(
            pairs=pairs.select(slice(int(edges[place]), int(edges[place + 1]))),
            phases={phase.name: phase for phase in phases},
            noise=lambda run, round: shares(run, round, place),
        )

    training = Training(
        plan=plan,
        phases=phases,
        initial=average_user(pairs.dim, 1, projection=PROJECTION),
        members=members,
        run=run,
        noise=server_noise or (lambda run, round: NoiseStream()),
    )
    reports: list[Any] = []
    folder.mkdir(parents=True, exist_ok=True)
    with in_process_identity() as flower, run_ledger(folder, plan) as ledger:
        grid = Overheard(client_app(at_node), len(members), flower, tamper=tamper)
        state = coordinator.coordinate(training, grid, ledger, folder / "checkpoints", reports.append)
    return Walk(state=state, reports=reports, grid=grid, folder=folder)


def run_ledger(folder: Path, plan: Plan) -> Ledger:
    """The run's ledger, open."""
    key = SigningKey.load_or_create(folder.parent / "operator.key", "tests")
    return open_run_ledger(folder, key, run_genesis(plan, origin="tests/run"))


def people(users: int, *, labels: int = 12, dim: int = 8, seed: int = 0) -> Pairs:
    """People who chose at random among 30 items; some padding, one person without a label."""
    pairs: Pairs = toy["toy_pairs"](users, labels=labels, dim=dim, seed=seed)
    return pairs


def shipped(pairs: Pairs) -> list[Phase[Backbone, Pairs]]:
    """Every phase that the project has, over these people's features."""
    geometry = geometry_of(pairs, seed=0)
    learner = preference_learner(geometry, rank=3, epsilon=2.0, delta=1e-5)
    return [*learner.phases, RefinePhase(geometry=geometry, rank=3, clip_norm=0.1, step=0.5, rounds=4)]


def taught(dim: int = 8, rank: int = 3) -> Backbone:
    """A backbone in the middle of a training."""
    draw = torch.Generator().manual_seed(100)
    return Backbone(
        w=torch.randn(dim, generator=draw),
        basis=torch.linalg.qr(torch.randn(dim, rank, generator=draw))[0],
        prior=torch.linspace(2.0, 0.3, rank),
        projection=PROJECTION,
        version=2,
    )


KEK = GivenKey(bytes(range(32)))
FEDERATION = toy["toy_plan"](120, epsilon=4.0, min_survivors=100)
"""Two rounds of nudge and one of spread, shares sized for 100 of 120."""
HOSTED = toy["toy_plan"](120, epsilon=4.0, min_survivors=100, trust=Trust.CENTRAL)
"""The same where the server adds the noise: what devices are asked for where it matters what they write down, and not how
their vectors travel."""
ROUNDS = ("nudge", "nudge", "spread")


def policy(**changes: Any) -> Policy:
    """What an owner allows who trusts the server, and knows no witness."""
    return Policy(**{"witness_required": False, "trust": (Trust.CENTRAL,), **changes})


def device(folder: Path, *, allows: Policy | None = None, **around: Any) -> Device:
    """A person's device: made with preferences if it is not there, opened if it is."""
    fields: dict[str, Any] = {"project": "tests", "phases": toy["toy_phases"](), **around}
    if folder.exists():
        return Device.open(folder, KEK, Installation(**fields))
    made = Device.create(folder, KEK, allows or policy(witness_required="witness" in around), Installation(**fields))
    made.learn(toy["toy_pairs"](3).select(slice(0, 1)), [{"prompt": "say", "chosen": "a", "rejected": "b"}])
    return made


def request(round: int, *, run: int = 0, **changes: Any) -> RoundRequest:
    """Round 0, 1 or 2 of the plan in which the server adds the noise."""
    made: RoundRequest = toy["toy_request"](
        HOSTED, name=ROUNDS[round], run=run, round=round, phase_round=int(round == 1), **changes
    )
    return made
