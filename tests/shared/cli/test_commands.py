"""The command line as a person and as a program meet it: in this process through `run`, and as a real process."""

import io
import ipaddress
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from homespun.cli import progress
from homespun.cli.app import app, run
from homespun.cli.errors import ExitCode

HOMESPUN = Path(sys.executable).parent / "homespun"
SUMMARY = {
    "run": "runs/x",
    "epsilon": 1.0,
    "delta": 1e-5,
    "privacy_unit": "device",
    "neighboring_relation": "add-or-remove",
    "accountant": "RDP",
    "accuracy": {"20": {"global": {"mean": 0.6, "low": 0.59, "high": 0.61}, "personal": {"mean": 0.68}}},
    "harmed_share": 0.04,
    "improved_share": 0.5,
    "data": {"name": "d", "skipped_rows": 0},
    "warnings": [],
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests is read, and nothing is written outside the test's folder."""
    for name in [name for name in os.environ if name.startswith("HOMESPUN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOMESPUN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Put a stand-in for the simulation where the command looks for it."""

    def install(function: Callable[..., Any]) -> None:
        module = types.ModuleType("homespun.simulations.commands")
        module.simulate = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "homespun.simulations.commands", module)

    return install


def commands() -> list[list[str]]:
    found: list[list[str]] = [[]]

    def walk(command: Any, path: list[str]) -> None:
        for name, child in getattr(command, "commands", {}).items():
            found.append([*path, name])
            walk(child, [*path, name])

    walk(get_command(app), [])
    return found


@pytest.mark.parametrize("path", commands(), ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(path: list[str], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, flag]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: {' '.join(['homespun', *path])}")
    assert len(out.splitlines()) > 4
    assert err == ""


def test_the_tree_is_the_promised_one() -> None:
    promised = {
        "simulate",
        "doctor",
        "paths",
        "runs list",
        "runs ls",
        "runs compare",
        "bench rounds",
        "bench ledger",
        "bench secagg",
        "config list",
    }
    assert promised | {"config init", "config ls"} <= {" ".join(path) for path in commands()}


def test_the_alias_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    run(["runs", "--help"])
    assert "  ls" not in capsys.readouterr().out
    assert run(["runs", "ls"]) == 0


def test_no_typer_shows_local_variables() -> None:
    """Typer 0.20.1 prints them by default, and with them the texts of people."""

    def walk(one: typer.Typer) -> list[typer.Typer]:
        return [one, *(child for group in one.registered_groups for child in walk(group.typer_instance))]  # type: ignore[arg-type]

    assert len(walk(app)) == 5
    assert not any(one.pretty_exceptions_show_locals for one in walk(app))


@pytest.mark.parametrize("path", [[], ["runs"], ["bench"], ["config"], ["runs", "compare"]], ids=" ".join)
def test_a_command_without_its_argument_prints_help(path: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(path) == ExitCode.USAGE
    assert "Usage: homespun" in capsys.readouterr().err


def test_json_even_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "compare", "--json"]) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["error_message"] == "missing RUN: name two or more run folders"


def test_usage_error_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--epsilom", "1"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.strip().splitlines()
    assert first.startswith("homespun: error: no such option")
    assert second.startswith("homespun: hint: ")


def test_a_broken_rule_names_value_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--epsilon", "-1"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "homespun: error: expected epsilon=-1 to be a number > 0, or inf (--epsilon)" in err


@pytest.mark.parametrize("spelling", [["--json"], ["--format", "json"], ["--format=json"]])
def test_failure_is_json_too(spelling: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--shots", "5,x", *spelling]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    document = json.loads(line)
    assert document["success"] is False
    assert document["message_type"] == "error"
    assert document["exit_code"] == 2
    assert document["error_message"] and document["hint"] and document["schema_version"] == 1
    assert "homespun: error: " in err


def test_simulate_passes_what_was_given(simulation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag > environment > CONFIG.toml > project file; what nobody gave is left to the simulation."""
    seen: dict[str, Any] = {}

    def simulate(options: dict[str, object], config: Path | None, reporter: Any) -> dict[str, Any]:
        seen.update(options=options, config=config)
        return SUMMARY

    simulation(simulate)
    (tmp_path / "homespun.toml").write_text('seed = 1\ndim = 8\nrank = 2\nsplit = "known-items"\n')
    (tmp_path / "c.toml").write_text('seed = 2\ndim = 9\nrank = 3\nepsilon = "inf"\ncell-size = 7\nshots = [20, 0]\n')
    monkeypatch.setenv("HOMESPUN_SEED", "3")
    monkeypatch.setenv("HOMESPUN_DIM", "10")
    assert run(["simulate", "c.toml", "--seed", "4", "--compare", "--quiet"]) == 0
    assert seen["config"] == Path("c.toml")
    assert seen["options"] == {
        "seed": 4,
        "dim": 10,
        "rank": 3,
        "split": "known-items",
        "epsilon": float("inf"),
        "cell_size": 7,
        "shots": (0, 20),
        "compare": True,
    }
    # A run that is resumed goes on as it began, whatever is set here today.
    assert run(["simulate", "--resume", "runs/x", "--seed", "4", "--quiet"]) == 0
    assert seen["options"] == {"seed": 4, "resume": Path("runs/x")}


def test_settings_are_those_of_the_simulation() -> None:
    """A setting that one side has and the other has not would be refused, or ignored, at run time."""
    import dataclasses

    options = pytest.importorskip("homespun.simulations.options")
    from homespun.cli.settings import SETTINGS

    assert {setting.key for setting in SETTINGS.values()} == {f.name for f in dataclasses.fields(options.Options)}


def test_an_unknown_key_names_the_nearest(simulation: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulation(lambda *_: pytest.fail("must not run"))
    (tmp_path / "c.toml").write_text("cell_sizes = 4\n")
    assert run(["simulate", "c.toml"]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert "found cell_sizes" in err
    assert "homespun: hint: did you mean cell-size?" in err


def test_json_alone_on_stdout(simulation: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def simulate(options: Any, config: Any, reporter: Any) -> dict[str, Any]:
        print("a library talks")
        reporter.stage("train", total=1)
        reporter.round({"round": 1, "rounds": 1, "phase": "mean", "epsilon": float("inf"), "accuracy": None})
        reporter.advance(1)
        reporter.note("a note")
        reporter.table(SUMMARY)
        return SUMMARY

    simulation(simulate)
    assert run(["simulate", "--json"]) == 0
    out, err = capsys.readouterr()
    status, summary = (json.loads(line) for line in out.splitlines())
    assert status["message_type"] == "status" and status["epsilon"] is None
    assert summary["message_type"] == "summary" and summary["success"] is True
    assert "a library talks" in err and "a note" in err


def test_terminal_table(simulation: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def simulate(options: Any, config: Any, reporter: Any) -> dict[str, Any]:
        reporter.round({"round": 0, "rounds": 3, "phase": "mean", **SUMMARY, "accuracy": 0.61, "global_accuracy": 0.6})
        reporter.table(SUMMARY)
        return SUMMARY

    simulation(simulate)
    assert run(["simulate"]) == 0
    out, err = capsys.readouterr()
    assert out.count("personal, exact") == 1  # shown once, though the simulation asked for it as well
    assert "epsilon 1 at delta 1e-5 for one device, add-or-remove" in out
    assert "60.0 [59.0, 61.0]" in out
    assert "4.0%" in out
    assert "report: runs/x/report.html" in out
    assert "next: homespun runs compare runs/x" in out
    assert "round 1/3 mean, accuracy 61.0% (global 60.0%), epsilon 1 at delta 1e-5 for one device" in err
    assert "\x1b[" not in out + err


def test_bars_follow_a_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with progress.Bars() as bars:
        bars.stage("encode")
        bars.stage("train", total=2)
        bars.round({"round": 0, "rounds": 2, "phase": "mean", "epsilon": 0.5, "delta": 1e-5})
        bars.advance()
        bars.note("[odd] a note")
        bars.table(SUMMARY)
        bars.table(SUMMARY)
    out, err = capsys.readouterr()
    assert out.count("personal, exact") == 1
    assert "train" in err and "2/2" in err
    assert "round 1/2 mean, epsilon 0.5 at delta 1e-5 for one device" in err
    assert "note: [odd] a note" in err


def test_skipped_rows_are_partial(simulation: Any) -> None:
    simulation(lambda *_: {**SUMMARY, "data": {"name": "d", "skipped_rows": 3}})
    assert run(["simulate", "--skip-bad-rows", "--quiet"]) == ExitCode.PARTIAL


def _raising(module: str, name: str, base: type[Exception] = Exception) -> Callable[..., Any]:
    kind = type(name, (base,), {"__module__": module})

    def simulate(*_: Any) -> Any:
        raise kind("Expected spent=2 in [0, 1].")

    return simulate


@pytest.mark.parametrize(
    ("module", "name", "code"),
    [
        ("homespun.privacy.errors", "PrivacyBudgetExhausted", 10),
        ("flwr.serverapp.exception", "PrivacyBudgetExhausted", 10),
        ("homespun.privacy.errors", "CohortTooSmall", 11),
        ("homespun.privacy.errors", "TooFewDevices", 11),
        ("homespun.privacy.errors", "LedgerDamaged", 13),
        ("homespun.privacy.errors", "LedgerBusy", 14),
        ("homespun.simulations.run_folder", "RunFolderInUse", 14),
        ("homespun.privacy.errors", "SomethingNew", 1),
        ("elsewhere", "LedgerDamaged", 1),
    ],
)
def test_exit_codes(simulation: Any, module: str, name: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    simulation(_raising(module, name))
    assert run(["simulate", "--json"]) == code
    out, err = capsys.readouterr()
    document = json.loads(out.splitlines()[-1])
    assert document["exit_code"] == code
    assert "Traceback" not in err
    if module != "elsewhere":
        assert document["error_message"] == "expected spent=2 in [0, 1]"


def test_the_mapped_errors_exist() -> None:
    privacy = pytest.importorskip("homespun.privacy.errors")
    for name in ("PrivacyBudgetExhausted", "CohortTooSmall", "LedgerDamaged", "LedgerBusy", "AccountantsDisagree"):
        assert isinstance(getattr(privacy, name), type)


def test_a_cause_is_found_behind_a_wrapper(simulation: Any) -> None:
    inner = _raising("homespun.privacy.errors", "PrivacyBudgetExhausted")

    def simulate(*_: Any) -> Any:
        try:
            inner()
        except Exception as error:
            raise RuntimeError("the app failed") from error

    simulation(simulate)
    assert run(["simulate"]) == 10


def test_interrupt(simulation: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def simulate(*_: Any) -> Any:
        raise KeyboardInterrupt

    simulation(simulate)
    assert run(["simulate", "--json"]) == 130
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["exit_code"] == 130


@pytest.mark.parametrize(
    ("stumble", "name"),
    [(lambda: {}["my secret cat"], "KeyError"), (lambda: ipaddress.ip_address("my secret cat"), "ValueError")],
)
def test_text_of_a_foreign_error_is_withheld(
    simulation: Any, stumble: Callable[[], Any], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library may quote what it stumbled on."""
    simulation(lambda *_: stumble())
    assert run(["simulate"]) == 1
    out, err = capsys.readouterr()
    assert "secret" not in out + err
    assert f"unexpected {name}" in err
    assert "Traceback" not in err


def test_verbose_shows_the_traceback_and_no_locals(simulation: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def simulate(*_: Any) -> Any:
        text_of_a_person = " ".join(reversed(("cat", "secret", "my")))
        raise RuntimeError(str(len(text_of_a_person)))

    simulation(simulate)
    assert run(["simulate", "--verbose"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "my secret cat" not in err


def test_missing_file(simulation: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "absent.toml"]) == 1
    assert "homespun: error: no such file or directory: absent.toml" in capsys.readouterr().err


def test_paths_follow_home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["paths", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["cache"] == str(tmp_path / "home" / "cache")
    assert not (tmp_path / "home").exists()


def test_config_init_and_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal: nothing is asked
    assert run(["config", "init", "--epsilon", "2.5"]) == 0
    assert run(["config", "init", "--epsilon", "3"]) == 1  # never silently over a file
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setenv("HOMESPUN_SEED", "9")
    assert run(["config", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["settings"]["epsilon"] == {"value": 2.5, "source": "homespun.toml"}
    assert document["settings"]["seed"]["source"] == "HOMESPUN_SEED"
    assert {"path": "homespun.toml", "read": True} in document["files"]


def test_bench_rounds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = types.ModuleType("homespun.simulations.bench")
    module.rounds = lambda options, reporter: {"us_per_user_update": 41.0, **options}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "homespun.simulations.bench", module)
    assert run(["bench", "rounds", "--users", "50", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["us_per_user_update"], document["users"]) == (41.0, 50)


def _process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(HOMESPUN), *words], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_version_in_a_process() -> None:
    done = _process("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("homespun 0.")


def test_no_color_in_a_process() -> None:
    """Forced colour is refused by NO_COLOR; the errors have none to begin with."""
    done = _process("runs", "list", NO_COLOR="1", FORCE_COLOR="1")
    assert "\x1b[3" not in done.stdout + done.stderr
    assert "\x1b[" not in _process("nonsense", FORCE_COLOR="1").stderr


def test_doctor_in_a_process() -> None:
    done = _process("doctor", "--json", FLWR_TELEMETRY_ENABLED="1")
    document = json.loads(done.stdout)
    checks = {check["name"]: check for check in document["checks"]}
    assert set(checks) >= {"python", "torch", "flwr", "encoder", "telemetry", "folders", "disk", "clock", "extras"}
    assert checks["telemetry"] == {**checks["telemetry"], "ok": True, "found": "off, as flwr reads it"}
    assert document["success"] is all(check["ok"] is not False for check in checks.values())
    assert done.returncode == (0 if document["success"] else 1)


def test_doctor_fails_with_a_fix(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from homespun.cli import doctor

    wrong = doctor.Check(name="clock", ok=False, found="1970", fix="set the clock")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: wrong,))
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "✗ clock" in out and "fix: set the clock" in out


def test_help_starts_quickly_and_lightly() -> None:
    """Nothing heavy may be imported before a command needs it."""
    code = (
        "import sys; from homespun.cli.app import run; run(['simulate', '--help']); "
        "print([m for m in ('torch', 'flwr', 'matplotlib', 'numpy', 'pydantic') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        _process("--help")
        took.append(time.perf_counter() - begin)
    assert min(took) < 0.4


def test_quiet_environment() -> None:
    code = (
        "import os, homespun.cli; print(*(os.environ[n] for n in ('FLWR_TELEMETRY_ENABLED', 'FLWR_DISABLE_UPDATE_CHECK', \
'FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION', 'RAY_USAGE_STATS_ENABLED', 'OMP_NUM_THREADS', 'HF_HUB_OFFLINE')))"
    )
    hostile = {**os.environ, "FLWR_TELEMETRY_ENABLED": "1", "RAY_USAGE_STATS_ENABLED": "1", "OMP_NUM_THREADS": "3"}
    hostile.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=hostile)
    assert done.stdout.split() == ["0", "1", "1", "0", "3", "1"]
