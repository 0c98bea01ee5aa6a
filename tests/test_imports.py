"""Imports point down only; the contract is in ``pyproject.toml``."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def test_the_import_contract_is_kept(tmp_path: Path) -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    ran = subprocess.run([str(lint), "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 kept, 0 broken" in ran.stdout


@pytest.mark.parametrize("module", ["homespun.client", "homespun.simulations.commands"])
def test_flower_is_silent_before_it_is_imported(module: str) -> None:
    """Telemetry is on unless a variable is set before flwr is imported, whatever the caller's environment says."""
    script = f"import {module}; from flwr.supercore import telemetry; print(telemetry.FLWR_TELEMETRY_ENABLED)"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={"FLWR_TELEMETRY_ENABLED": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "0"


def test_a_table_of_runs_needs_no_learner() -> None:
    """What reads a run folder loads neither torch nor Flower: seconds of waiting."""
    script = "import sys, homespun.simulations.recorded; print(sorted({'torch', 'flwr'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
