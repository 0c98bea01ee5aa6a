"""``homespun audit`` as a person and as a program meet it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from homespun.cli.app import run
from homespun.privacy import GaussianEvent, Relation, Unit
from homespun.privacy.ledger import Genesis, Ledger, SigningKey

HOMESPUN = Path(sys.executable).parent / "homespun"
KEY = SigningKey.generate("device-1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device's folder with one ledger of three spends and a refusal."""
    monkeypatch.chdir(tmp_path)
    genesis = Genesis(
        origin="device-1/a", guarantee="backbone", holder="device", unit=Unit.DEVICE, relation=Relation.ADD_OR_REMOVE,
        delta=1e-6, cap=Decimal("0.5"),
    )  # fmt: skip
    event = GaussianEvent(clip_units=1024, variance=16 * 1024**2, count=1, dimension=4)
    (tmp_path / "device").mkdir()
    with Ledger.create(tmp_path / "device" / "ledger.sqlite", KEY, genesis) as ledger:
        for number in range(3):
            ledger.commit(ledger.reserve("device", event, {"round": number}), "00" * 32)
        ledger.refuse("cohort", {"project": "p"})
    return tmp_path / "device"


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out, _ = capsys.readouterr()
    assert len(out.splitlines()) == 1
    return dict(json.loads(out))


def test_report_then_verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "report", "device"]) == 0
    out, err = capsys.readouterr()
    assert "epsilon 2.07 at delta 1e-6 for one device, add-or-remove" in out
    assert "times as likely" in out
    assert out.splitlines()[-1] == "next: homespun audit verify device/audit"
    assert err == ""
    for name in ("report.json", "report.html", "ledger.jsonl", "checkpoint.txt", "registry-backbone.yaml"):
        assert (folder / "audit" / name).is_file()
    for target in ("device/audit", "device/audit/report.json", "device"):
        assert run(["audit", "verify", target]) == 0
        assert f"everything holds: {'device/audit' if target == 'device' else target}" in capsys.readouterr().out


def test_report_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "report", "device", "--out", "there", "--json"]) == 0
    content = document(capsys)
    assert content["message_type"] == "audit_report"
    assert content["page"] == "there/report.html"
    (claim,) = content["guarantees"]
    assert claim["privacy_unit"] == "device"
    assert {"epsilon", "delta", "neighboring_relation", "accountant"} <= claim.keys()


def test_a_problem_is_exit_code_13(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "report", "device", "--json"]) == 0
    claimed = document(capsys)["guarantees"][0]["epsilon"]
    target = folder / "audit" / "report.json"
    target.write_text(target.read_text().replace(f'"epsilon": {claimed}', '"epsilon": 0.5'))
    assert run(["audit", "verify", "device", "--json"]) == 13
    content = document(capsys)
    assert content["success"] is False
    assert content["exit_code"] == 13
    assert {"where", "rule", "expected", "found"} == content["problems"][0].keys()
    assert content["problems"][0]["expected"] == str(claimed)
    assert content["guarantees"] == []
    assert run(["audit", "verify", "device"]) == 13
    out = capsys.readouterr().out
    assert "wrong: report.json: $.guarantees.A.epsilon" in out
    assert f"expected {claimed}, found 0.5" in out
    assert "at delta" not in out  # a report that does not hold claims nothing


def test_keys_and_remembered_heads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "report", "device", "--json"]) == 0
    shutil.copy(folder / "audit" / "checkpoint.txt", folder.parent / "kept.txt")
    document(capsys)
    assert run(["audit", "verify", "device", "--key", KEY.public.text, "--remembered", "kept.txt", "--json"]) == 0
    notes = " ".join(document(capsys)["notes"])
    assert "vouches" not in notes
    assert "remembered" not in notes
    other = SigningKey.generate("device-1").public.text
    assert run(["audit", "verify", "device", "--key", other, "--json"]) == 13
    assert document(capsys)["problems"][0]["where"] == "ledger.jsonl: line 1"
    assert run(["audit", "verify", "device", "--key", "nonsense"]) == 1


def test_show(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "show", "device"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "device-1/a: backbone, 8 entries" in out[0]
    assert "genesis" in out[1]
    assert "reason cohort" in out[-1]
    assert run(["audit", "show", "device/ledger.sqlite", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["seq"] for row in rows] == list(range(8))
    assert {row["message_type"] for row in rows} == {"entry"}


def test_a_damaged_ledger_is_exit_code_13(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "report", "device"]) == 0
    lines = (folder / "audit" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "audit" / "ledger.jsonl").write_bytes(b"".join([lines[0], *lines[2:]]))
    assert run(["audit", "report", "device/audit/ledger.jsonl"]) == 13
    err = capsys.readouterr().err
    assert "homespun: error: line 2" in err
    assert "homespun: hint:" in err


@pytest.mark.parametrize("command", ["report", "verify", "show"])
def test_without_an_argument_the_help_is_shown(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", command]) == 2
    assert "Usage: homespun audit" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "verify", "show"])
def test_what_is_not_there_is_said(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", command, str(tmp_path / "nothing")]) == 1
    assert "homespun: error:" in capsys.readouterr().err


def test_a_stranger_s_process_needs_no_key(folder: Path) -> None:
    """A real process, another directory, an empty home."""
    assert run(["audit", "report", "device"]) == 0
    away = Path(shutil.copytree(folder / "audit", folder.parent / "away"))
    done = subprocess.run(
        [HOMESPUN, "audit", "verify", ".", "--json"],
        cwd=away,
        env={"HOMESPUN_HOME": str(folder.parent / "home"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["success"] is True
