"""A simulation that is killed anywhere goes on as if it had not been, and pays for no round twice."""

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from homespun.privacy import LedgerDamaged, LedgerError, ReservationError
from homespun.privacy.ledger import LEDGER_NAME, Ledger
from homespun.simulations import commands, training, world
from homespun.simulations.options import Options
from homespun.simulations.run_folder import RunFolder, RunFolderInUse

DRIVER = Path(__file__).parent / "kill_driver.py"
toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
Case = dict[str, Any]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """What became of some sixty killed runs; see the driver."""
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "HOMESPUN_HOME": str(folder / "home")}
    ran = subprocess.run(
        [sys.executable, str(DRIVER), str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture(scope="module")
def unharmed(cases: list[Case]) -> Case:
    return cases[0]


@pytest.fixture(scope="module")
def killed(cases: list[Case]) -> list[Case]:
    return [case for case in cases if isinstance(case["case"], list)]


def test_every_run_was_killed_and_ended(cases: list[Case], killed: list[Case], unharmed: Case) -> None:
    assert unharmed["ended"] == [0]
    assert len(killed) > 50
    for case in killed:
        assert case["ended"] == [-signal.SIGKILL, 0], case["case"]
    (again,) = (case for case in cases if case["case"] == "again and again")
    assert again["ended"][-1] == 0
    assert set(again["ended"][:-1]) == {-signal.SIGKILL}
    assert len(again["ended"]) > 5


def test_same_backbones(cases: list[Case], unharmed: Case) -> None:
    assert len(set(unharmed["digests"])) == 2
    for case in cases:
        assert case["digests"] == unharmed["digests"], case["case"]


def test_same_summary(cases: list[Case], unharmed: Case) -> None:
    assert unharmed["summary"]["epsilon"] <= 2.0
    assert all(phase["signal_to_noise"] > 0 for phase in unharmed["summary"]["phases"])
    for case in cases:
        assert case["summary"] == unharmed["summary"], case["case"]


def test_each_round_is_told_once(cases: list[Case], unharmed: Case) -> None:
    rounds = [(line["fold"], line["round"]) for line in unharmed["metrics"]]
    assert rounds == [(fold, round_) for fold in (0, 1) for round_ in (0, 1, 2)]
    for case in cases:
        assert case["metrics"] == unharmed["metrics"], case["case"]
        assert case["sent"] == unharmed["sent"], case["case"]


def test_no_round_is_paid_for_twice(cases: list[Case]) -> None:
    for case in cases:
        assert case["reserved"] == [[fold, round_] for fold in (0, 1) for round_ in (0, 1, 2)], case["case"]
        assert case["kinds"] == ["genesis", *["reserve", "commit"] * 6], case["case"]
        assert case["problems"] == [], case["case"]


def test_the_ledger_is_never_shorter(cases: list[Case], killed: list[Case]) -> None:
    """Every entry of the killed process stands where it stood."""
    lengths = set()
    for case in [*killed, *(case for case in cases if case["case"] == "finished")]:
        before, whole = case["before"], case["ledger"]
        assert before == whole[: len(before)], case["case"]
        lengths.add(len(before))
    assert lengths == set(range(14))


def test_nothing_half_written_is_left(cases: list[Case]) -> None:
    for case in cases:
        assert case["left_over"] == [], case["case"]


def test_two_processes_on_one_run_folder(cases: list[Case]) -> None:
    """The second is refused (RunFolderInUse, exit code 14) while the first one stands still, and the first one ends."""
    (case,) = (case for case in cases if case["case"] == "two at once")
    assert case["ended"] == [14, 0]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Options of a small run of the toy learner, in this process."""
    monkeypatch.setenv("HOMESPUN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(world, "load", toy["stand_in_encoder"])
    monkeypatch.setattr(world, "embed", toy["stand_in_embed"])
    monkeypatch.setattr(training, "preference_learner", toy["toy_learner"])
    monkeypatch.setattr(commands, "reference_methods", lambda *_: ({}, {}))
    monkeypatch.setattr(commands, "render", lambda _: None)
    return {"users": 120, "dim": 8, "rank": 2, "shots": (0, 5), "out": str(tmp_path / "runs")}


class Silent:
    def stage(self, name: str, total: int | None = None) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def round(self, status: Any) -> None: ...
    def note(self, text: str) -> None: ...


def head(run: Path) -> object:
    with Ledger.open(run / LEDGER_NAME, None) as ledger:
        return ledger.head


def test_another_operators_key_does_not_go_on(stand_in: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path(commands.simulate(stand_in, None, Silent())["run"])
    monkeypatch.setenv("HOMESPUN_HOME", str(run / "elsewhere"))
    with pytest.raises(LedgerError, match="Expected the key that signs"):
        commands.simulate({"resume": run}, None, Silent())


def test_a_ledger_whose_log_was_left_behind_is_not_begun_anew(stand_in: dict[str, Any]) -> None:
    run = Path(commands.simulate(stand_in, None, Silent())["run"])
    (run / LEDGER_NAME).rename(run / f"{LEDGER_NAME}-wal")
    with pytest.raises(LedgerDamaged, match="was lost"):
        commands.simulate({"resume": run}, None, Silent())


def test_a_finished_run_may_be_resumed_with_the_same_options(stand_in: dict[str, Any]) -> None:
    first = commands.simulate(stand_in, None, Silent())
    second = commands.simulate(
        {"resume": first["run"], "users": 120, "shots": [0, 5], "out": "elsewhere"}, None, Silent()
    )
    assert second["accuracy"] == first["accuracy"]
    assert second["run"] == first["run"]


def test_other_options_are_refused(stand_in: dict[str, Any]) -> None:
    run = commands.simulate(stand_in, None, Silent())["run"]
    before = head(Path(run))
    with pytest.raises(ValueError, match="cell-size, epsilon"):
        commands.simulate({"resume": run, "cell_size": 7, "epsilon": 8.0, "users": 120}, None, Silent())
    with pytest.raises(ValueError, match="known options"):
        commands.simulate({"resume": run, "colour": "red"}, None, Silent())
    assert head(Path(run)) == before
    commands.simulate({"resume": run}, None, Silent())  # the lock was let go


def test_a_lost_ledger_is_not_begun_anew(stand_in: dict[str, Any]) -> None:
    """What was spent would be forgotten: epsilon never resets."""
    run = Path(commands.simulate(stand_in, None, Silent())["run"])
    (run / LEDGER_NAME).rename(run / "kept")
    with pytest.raises(LedgerDamaged, match="checkpoints of 3 rounds"):
        commands.simulate({"resume": run}, None, Silent())


def test_a_lost_checkpoint_is_not_paid_for_again(stand_in: dict[str, Any]) -> None:
    run = Path(commands.simulate(stand_in, None, Silent())["run"])
    (run / "checkpoints/fold-0/round-0002").rename(run / "kept")
    before = head(run)
    with pytest.raises(ReservationError, match="reserved once"):
        commands.simulate({"resume": run}, None, Silent())
    assert head(run) == before


def test_a_changed_config_does_not_meet_the_ledger(stand_in: dict[str, Any]) -> None:
    run = Path(commands.simulate(stand_in, None, Silent())["run"])
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("epsilon = 2.0", "epsilon = 50.0"))
    with pytest.raises(LedgerError, match="changed plan"):
        commands.simulate({"resume": run}, None, Silent())


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run folder"):
        commands.simulate({"resume": tmp_path}, None, Silent())
    (tmp_path / "config.toml").write_text("epsilon = [")
    with pytest.raises(ValueError):
        commands.simulate({"resume": tmp_path}, None, Silent())
    (tmp_path / "config.toml").write_text("epsilon = 1.0\n")
    folder, options = RunFolder.reopen(tmp_path)  # nothing holds it
    assert options == Options(epsilon=1.0)
    with pytest.raises(RunFolderInUse, match="free"):
        RunFolder.reopen(tmp_path)
    folder.close()


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    folder = RunFolder.create(Options(out=str(tmp_path)))
    assert folder.path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(RunFolderInUse):
        RunFolder.reopen(folder.path)
    folder.close()
    RunFolder.reopen(folder.path)[0].close()


def test_run_folders_of_one_second_do_not_meet(tmp_path: Path) -> None:
    folders = [RunFolder.create(Options(out=str(tmp_path))) for _ in range(4)]
    assert len({folder.path for folder in folders}) == 4
    for folder in folders:
        folder.close()


def test_killed_from_outside(tmp_path: Path) -> None:
    """The command itself, the learner that ships, and a SIGKILL that comes when it comes."""
    script = (
        "import sys, runpy; from homespun.simulations import commands, world; from homespun.cli.app import run;"
        f"toy = runpy.run_path({str(DRIVER.parents[1] / 'toy.py')!r});"
        "world.load, world.embed = toy['stand_in_encoder'], toy['stand_in_embed'];"
        "commands.reference_methods = lambda *_: ({}, {}); sys.exit(run(sys.argv[1:]))"
    )
    asked = ["simulate", "--users", "120", "--dim", "8", "--rank", "2", "--shots", "0,5", "--repeats", "2", "--json"]
    environment = {**os.environ, "HOMESPUN_HOME": str(tmp_path / "home")}

    def command(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=tmp_path,
        )

    with command(*asked, "--out", "killed") as process:
        assert process.stdout is not None
        process.stdout.readline()  # the first round is over
        process.kill()
    (run,) = (tmp_path / "killed").iterdir()
    with command("simulate", "--resume", str(run), "--json") as resumed:
        out, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0
    summary = json.loads(out.splitlines()[-1])
    options = Options.resolve(
        {"users": 120, "dim": 8, "rank": 2, "shots": (0, 5), "repeats": 2, "out": str(tmp_path / "whole")}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "load", toy["stand_in_encoder"])
        patch.setattr(world, "embed", toy["stand_in_embed"])
        patch.setattr(commands, "reference_methods", lambda *_: ({}, {}))
        whole = commands.simulate(vars(options), None, Silent())
    for key in ("accuracy", "epsilon", "phases", "gain", "plan_digest"):
        assert summary[key] == whole[key]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(row["fold"], row["round"]) for row in metrics] == [
        (fold, round_) for fold in (0, 1) for round_ in range(summary["rounds"])
    ]
    assert (run / "report.html").is_file()
