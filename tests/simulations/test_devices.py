"""Engine faithful: people are devices with vault, ledger and witness, and a run that is killed goes on."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from homespun.client.lineage import newest_ledger
from homespun.privacy.ledger import Ledger
from homespun.privacy.policy_check import check
from homespun.simulations import commands, devices, training, world

toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
PEOPLE = 23


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for runs of the toy learner in this process."""
    folder = tmp_path_factory.mktemp("faithful")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOMESPUN_HOME", str(folder / "home"))
        patch.setattr(world, "load", toy["stand_in_encoder"])
        patch.setattr(world, "embed", toy["stand_in_embed"])
        patch.setattr(training, "preference_learner", toy["toy_learner"])
        patch.setattr(commands, "reference_methods", lambda *_: ({}, {}))
        patch.setattr(commands, "render", lambda _: None)
        yield folder


@pytest.fixture(scope="module")
def whole(home: Path) -> Path:
    """A run that nothing happened to."""
    given = {"users": 110, "dim": 6, "rank": 2, "shots": (0, 5), "engine": "faithful", "out": str(home / "runs")}
    return Path(commands.simulate(given, None, Silent())["run"])


class Silent:
    def stage(self, name: str, total: int | None = None) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def round(self, status: Any) -> None: ...
    def note(self, text: str) -> None: ...


def declared(run: Path) -> list[dict[str, Any]]:
    with Ledger.open(run / "privacy_ledger.sqlite", None) as ledger:
        rows = [entry.body for entry in ledger.entries() if entry.kind == "declare"]
    return [json.loads(row["text"]) for row in rows if row["name"] == "devices"]


def backbone(run: Path, round_: int) -> bytes:
    return (run / "checkpoints" / "fold-0" / f"round-{round_:04d}" / "backbone.safetensors").read_bytes()


def test_every_person_is_a_device_and_the_server_s_ledger_sums_them_up(whole: Path) -> None:
    run = whole
    people = sorted((run / "devices" / "fold-0").iterdir())
    (summary,) = declared(run)
    with Ledger.open(run / "privacy_ledger.sqlite", None) as ledger:
        plan = ledger.genesis.plan
        server = ledger.spent("run-0")
    assert plan is not None
    assert summary == {"devices": len(people), "rho": {str(server): len(people)}, "refused": {}, "burned": 0}
    for folder in people:
        assert {file.name for file in folder.iterdir()} == {"device", "ledger-1.sqlite", "vault.sqlite"}
        with Ledger.open(newest_ledger(folder), None) as own:
            kinds = Counter(entry.kind.value for entry in own.entries())
            assert kinds == {"genesis": 1, "reserve": 3, "witness": 3, "commit": 3}
            assert own.spent("device") == server
            assert own.cap is not None
            assert 2 * server <= own.cap < 2 * server + Decimal("1e-9")
    content = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert not re.search(rb"person-\d", content)
    assert len(people) > 20
    again = commands.simulate({"resume": str(run)}, None, Silent())
    assert again["run"] == str(run)
    assert declared(run) == [summary]  # told once


def test_few_devices_are_not_told_apart() -> None:
    counts = Counter({"0.5": 12, "0.7": 4, "0.9": 1})
    assert devices._grouped(counts) == {"0.5": 12, "fewer": 5}
    many = Counter({str(n): 5 for n in range(60)})
    assert devices._grouped(many)["fewer"] == 5 * 20


@pytest.mark.parametrize("epsilon", [2.0, float("inf")])
@pytest.mark.parametrize("participation", ["full", "poisson:0.5"])
def test_the_owner_s_policy_is_the_plan_s(epsilon: float, participation: str) -> None:
    plan = toy["toy_plan"](200, epsilon=epsilon, participation=participation)
    policy = devices.permitting(plan)
    for release in plan.releases:
        assert check(policy, release, installed=toy["toy_phases"](), spent=Decimal(0), rounds=0) is None
    other = toy["toy_plan"](200, epsilon=epsilon * 1.5 if epsilon < 3 else 30.0, participation=participation)
    if epsilon < 3:
        reasons = {check(policy, r, installed=toy["toy_phases"](), spent=Decimal(0), rounds=0) for r in other.releases}
        assert None not in reasons or len(reasons) > 1


KILLED = """
import os, runpy, sys
from homespun.client import door
from homespun.simulations import commands, training, world
toy = runpy.run_path(sys.argv[1])
world.load, world.embed = toy["stand_in_encoder"], toy["stand_in_embed"]
training.preference_learner = toy["toy_learner"]
commands.reference_methods, commands.render = lambda *_: ({}, {}), lambda _: None
left, original = int(sys.argv[3]), door.contribute
def counted(*arguments, **named):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
    return original(*arguments, **named)
door.contribute = counted
class Silent:
    stage = advance = round = note = lambda *_, **__: None
options = dict(users=110, dim=6, rank=2, shots=(0, 5), engine="faithful", out=sys.argv[2])
commands.simulate(options, None, Silent())
"""


def test_a_killed_run_goes_on_with_a_new_attempt_that_is_paid_for_anew(home: Path, whole: Path) -> None:
    """Killed while the fifth person of the second round computes: four had sent a masked vector, which nobody can open."""
    people = len(list((whole / "devices" / "fold-0").iterdir()))
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1] / "toy.py"), str(home / "killed")]
    environment = {**os.environ, "HOMESPUN_HOME": str(home / "home")}
    ran = subprocess.run([*command, str(people + 5)], check=False, capture_output=True, text=True, env=environment)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    (run,) = (home / "killed").iterdir()
    commands.simulate({"resume": str(run)}, None, Silent())
    rounds = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(row["round"], row["attempts"], row["devices"]) for row in rounds] == [
        (0, 1, people),
        (1, 2, people),
        (2, 1, people),
    ]
    assert backbone(run, 0) == backbone(whole, 0)
    assert backbone(run, 1) != backbone(whole, 1)  # another attempt has other noise
    (summary,) = declared(run)
    assert (summary["devices"], summary["burned"], summary["refused"]) == (people, 1, {})
    assert sorted(summary["rho"].values()) == [5, people - 5]
    for place, folder in enumerate(sorted((run / "devices" / "fold-0").iterdir())):
        with Ledger.open(newest_ledger(folder), None) as own:
            kinds = Counter(entry.kind.value for entry in own.entries())
        assert (kinds["commit"], kinds["burn"]) == (4 if place < 4 else 3, int(place == 4))
    with Ledger.open(run / "privacy_ledger.sqlite", None) as ledger:
        told = [entry.body for entry in ledger.entries() if entry.kind == "open"]
        paid = Counter(entry.kind.value for entry in ledger.entries())["reserve"]
    assert [(entry["attempt"], entry["survivors"]) for entry in told] == [(0, people), (1, people), (0, people)]
    assert paid == 3  # the server opened nothing but what it had paid for
