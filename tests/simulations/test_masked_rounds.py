"""Masked rounds of real devices: the same statistics as cells, each device's own ledger, and what left it."""

import runpy
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from homespun.client.lineage import newest_ledger
from homespun.personal import Backbone, Pairs, average_user
from homespun.privacy import NoiseStream, Participation, Plan, PrivacySpec, Relation, Release, Trust, Unit
from homespun.privacy.ledger import Ledger
from homespun.server.checkpoint import Checkpoint
from homespun.server.coordinator import Training
from homespun.simulations import devices, engine, training
from homespun.simulations.dropouts import Dropouts
from homespun.simulations.options import Options
from homespun.simulations.watch import LEAVES, sent

toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
PEOPLE, HONEST, COLLUDING = 15, 8, 2
DIMENSION, ROUNDS = 3000, 4
SEED_OF_A_FAILED_ATTEMPT = 25  # see below: its coins lose too many of 15 people in a first attempt


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """A phase to which nobody has anything to say: its sums are noise alone."""

    sums: list[Tensor] = field(default_factory=list)
    name: str = "nothing"
    rounds: int = ROUNDS
    clip_norm: float = 1.0
    dimension: int = DIMENSION

    def statistic(self, backbone: Backbone, data: Pairs, round: int) -> Tensor:
        return torch.zeros(data.users, self.dimension)

    def update(self, backbone: Backbone, mean: Tensor, noise_std: float, round: int) -> Backbone:
        self.sums.append(mean)
        return replace(backbone, version=backbone.version + 1)


def plan_of_nothing() -> Plan:
    nothing = Release(name="nothing", rounds=ROUNDS, share=1.0, clip_norm=1.0, dimension=DIMENSION)
    return PrivacySpec(
        epsilon=8.0,
        delta=1e-5,
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        trust=Trust.DISTRIBUTED,
        participation=Participation.full(),
        population=PEOPLE,
        min_survivors=HONEST,
        colluding=COLLUDING,
        releases=(nothing,),
    ).build()


def noise_of(engine_name: str, folder: Path, *, seed: int, dropout: float) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Sums of noise in lattice steps, one row a round, and how many people are in each."""
    plan, phase, pairs = plan_of_nothing(), Nothing(), toy["toy_pairs"](PEOPLE)
    phases, counts = {"nothing": phase}, []
    dropouts = Dropouts(seed=seed, chance=dropout, people=PEOPLE)
    folder.mkdir()
    faithful = engine_name == "faithful"
    if faithful:
        at_node = devices.simulated_devices(folder, plan, pairs, phases, seed=seed)
    else:
        at_node = engine.contributors(pairs, phases, cell_size=6, seed=seed, dropouts=dropouts)
    task = Training(
        plan=plan,
        phases=(phase,),
        initial=average_user(toy["DIM"], 1, projection="0" * 64),
        members=engine.members(engine_name, PEOPLE, 6),
        roster=devices.roster(PEOPLE, seed=seed) if faithful else None,
        noise=lambda run, round: NoiseStream(),
    )
    with toy["toy_ledger"](folder, plan) as ledger:
        engine.train(
            task,
            at_node,
            ledger,
            folder / "checkpoints",
            engine=engine_name,
            observe=lambda report: counts.append(report.checkpoint.devices),
            dropouts=dropouts if faithful else None,
        )
    release = plan["nothing"]
    return torch.stack(phase.sums).numpy() * release.divisor / release.step, counts


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_sums_of_the_protocol_and_of_cells_are_distributed_alike(dropout: float, tmp_path: Path) -> None:
    """12,000 coordinates each; seeds are fixed, so a pass stays one. Each test would fail one in 1,000 of other seeds."""
    release = plan_of_nothing()["nothing"]
    found = {name: noise_of(name, tmp_path / name, seed=11, dropout=dropout) for name in ("faithful", "vectorised")}
    (protocol, people), (cells, likewise) = found["faithful"], found["vectorised"]
    assert people == likewise
    assert (min(people) < PEOPLE) == (dropout > 0)
    for rounds in (protocol, cells):
        for sums, devices_ in zip(rounds, people, strict=True):
            scale = devices_ * release.share_variance
            spread = float((sums**2).sum()) / scale
            assert stats.chi2.sf(spread, DIMENSION) > 1e-3
            assert stats.chi2.cdf(spread, DIMENSION) > 1e-3
            assert stats.kstest(sums / scale**0.5, "norm").pvalue > 1e-3
            assert scale >= release.variance
    assert stats.ks_2samp(protocol.ravel(), cells.ravel()).pvalue > 1e-3
    assert abs(np.corrcoef(np.vstack([protocol, cells]))[~np.eye(2 * ROUNDS, dtype=bool)]).max() < 5 / DIMENSION**0.5


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A toy training over devices, some of which dropped out."""

    folder: Path
    plan: Plan
    dropouts: Dropouts
    rounds: list[Checkpoint]

    def there(self, round: int, attempt: int = 0) -> np.ndarray[Any, Any]:
        return self.dropouts.contributing(0, round, attempt)

    def entries(self, place: int) -> Counter[str]:
        with Ledger.open(newest_ledger(self.folder / "devices" / "fold-0" / f"{place:05d}"), None) as own:
            return Counter(entry.kind.value for entry in own.entries())

    def server(self, kind: str) -> list[Any]:
        with toy["toy_ledger"](self.folder, self.plan) as ledger:
            return [entry.body for entry in ledger.entries() if entry.kind.value == kind]


def trained(folder: Path, *, seed: int, least: int, trust: Trust = Trust.DISTRIBUTED) -> Trained:
    """Each device drops out of a fifth of the rounds; a sum is opened from ``least`` of them."""
    plan = toy["toy_plan"](PEOPLE, min_survivors=least, trust=trust)
    dropouts = Dropouts(seed=seed, chance=0.2, people=PEOPLE)
    found: list[Checkpoint] = []
    task = replace(
        toy["toy_training"](plan, (1,) * PEOPLE),
        roster=devices.roster(PEOPLE, seed=seed) if trust is Trust.DISTRIBUTED else None,
    )
    folder.mkdir(exist_ok=True)
    at_node = devices.simulated_devices(folder, plan, toy["toy_pairs"](PEOPLE), toy["toy_phases"](), seed=seed)
    with toy["toy_ledger"](folder, plan) as ledger:
        engine.train(
            task,
            at_node,
            ledger,
            folder / "checkpoints",
            engine="faithful",
            observe=lambda report: found.append(report.checkpoint),
            dropouts=dropouts,
        )
    return Trained(folder=folder, dropouts=dropouts, rounds=found, plan=plan)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three masked rounds that all came to a sum at once."""
    return trained(tmp_path_factory.mktemp("run"), seed=4, least=9)


def test_who_sent_a_vector_paid_and_nobody_else_did(run: Trained) -> None:
    there = np.stack([run.there(round_) for round_ in range(3)])
    assert [done.devices for done in run.rounds] == there.sum(1).tolist()
    assert [done.attempts for done in run.rounds] == [1, 1, 1]
    assert there.min() == 0
    for place in range(PEOPLE):
        paid, found = int(there[:, place].sum()), run.entries(place)
        assert (found["reserve"], found["commit"], found["burn"], found["refuse"]) == (paid, paid, 0, 0)
    opened = run.server("open")
    assert [(entry["attempt"], entry["survivors"]) for entry in opened] == [(0, n) for n in there.sum(1)]


def test_an_attempt_that_failed_is_made_again_with_other_coins_and_paid_again(tmp_path: Path) -> None:
    """So few may be missing that a first attempt fails: whoever sent a vector to it stays paid."""
    run = trained(tmp_path, seed=SEED_OF_A_FAILED_ATTEMPT, least=12)
    attempts = [done.attempts for done in run.rounds]
    assert max(attempts) > 1
    assert [done.devices for done in run.rounds] == [run.there(n, k - 1).sum() for n, k in enumerate(attempts)]
    assert min(done.devices for done in run.rounds) >= 12
    all_attempts = [(n, attempt) for n, count in enumerate(attempts) for attempt in range(count)]
    for place in range(PEOPLE):
        assert run.entries(place)["commit"] == sum(run.there(n, attempt)[place] for n, attempt in all_attempts)
    assert [entry["attempt"] for entry in run.server("open")] == [count - 1 for count in attempts]
    assert len(run.server("reserve")) == 3  # the server's own budget is of what it opens


def test_what_left_a_device_is_told(run: Trained) -> None:
    for done in run.rounds:
        row = sent(done, sender="device")
        assert row["fields"] == ["keys", "sealed shares", "masked vector", "signature", "shares"]
        steps = run.dropouts.steps(0, done.round)
        assert row["steps"] == {name: int((steps > n).sum()) for n, name in enumerate(LEAVES)}
        keys, shares, vector, signature = 164, 128, 4 * run.plan.releases[0].dimension, 64
        answers = list(row["steps"].values())
        least = keys * answers[0] + vector * answers[2] + signature * answers[3]
        assert least < row["bytes"] < least + 64 * PEOPLE + 2 * shares * PEOPLE * (PEOPLE - 1)


def test_trust_in_the_server_needs_no_masks(tmp_path: Path) -> None:
    run = trained(tmp_path, seed=4, least=4, trust=Trust.CENTRAL)
    assert run.server("open") == []
    for done in run.rounds:
        assert done.devices == run.there(done.round).sum()
        row = sent(done, sender="device")
        assert (row["fields"], row["bytes"], "steps" in row) == (
            ["vector"],
            4 * toy["DIM"] * done.devices,
            False,
        )


def test_more_colluding_people_need_more_noise() -> None:
    """Shares are sized for the honest ones that are left: 200 people, a fifth missing, a tenth colluding."""
    plain = Options.resolve({"max_dropout": 0.2})
    assert training.survivors(plain, smallest=200, largest=200) == (160, 0)
    assert training.survivors(Options.resolve({}), smallest=190, largest=200) == (190, 0)
    hostile = Options.resolve({"max_dropout": 0.2, "colluding": 0.1})
    assert training.survivors(hostile, smallest=200, largest=200) == (140, 20)
    uneven = Options.resolve({"max_dropout": 0.1, "colluding": 0.1})
    assert training.survivors(uneven, smallest=195, largest=201) == (176 - 21, 21)
