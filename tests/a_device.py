"""A device of the toy learner with a witness and an anchor; loaded by path, as tests are no package."""

import runpy
import sqlite3
from pathlib import Path
from typing import Any

from homespun.client import Declined, Device, FileAnchor, Installation
from homespun.client.vault import GivenKey
from homespun.privacy.ledger import KeyRole, SigningKey
from homespun.privacy.policy import Policy
from homespun.server.witness import WitnessBook

toy = runpy.run_path(str(Path(__file__).parent / "toy.py"))
KEY = GivenKey(b"k" * 32)
PLAN = toy["toy_plan"](1000)
POLICY = Policy(max_epsilon=8.0, delta=1e-6)


def witness(folder: Path) -> WitnessBook:
    """The witness that every device of a test shares."""
    return WitnessBook(folder / "witness.sqlite", SigningKey.from_bytes("w", b"w" * 32, role=KeyRole.COSIGNER))


def installation(folder: Path, **changes: Any) -> Installation:
    """What is installed: the toy learner, the witness, and an anchor outside the device's folder."""
    fields = {"witness": witness(folder), "anchor": FileAnchor(folder / "anchor")}
    return Installation(project="toy", phases=toy["toy_phases"](), **{**fields, **changes})


def create(folder: Path, policy: Policy = POLICY, **changes: Any) -> Device:
    """A new device that knows one person's pairs."""
    device = Device.create(folder / "device", KEY, policy, installation(folder, **changes))
    device.learn(toy["toy_pairs"](3).select(slice(0, 1)))
    return device


def reopen(folder: Path, name: str = "device", **changes: Any) -> Device:
    """Open it again."""
    return Device.open(folder / name, KEY, installation(folder, **changes))


def request(number: int = 0, **changes: Any) -> Any:
    """A round of the plan."""
    return toy["toy_request"](PLAN, round=number, **changes)


def reason(device: Device, asked: Any) -> str:
    """Why a device declines."""
    try:
        device.contribute(asked)
    except Declined as error:
        return error.reason.value
    return "answered"


def refusals(device: Device) -> list[str]:
    """What the device's ledger says that it refused."""
    return [str(entry.body["reason"]) for entry in device.ledger.entries() if entry.kind == "refuse"]


def copy(source: Path, target: Path) -> None:
    """What a backup does: the files of a closed device."""
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


def damage(path: Path, name: str) -> None:
    """Change a byte of a sealed item."""
    database = sqlite3.connect(path)
    with database:
        (body,) = database.execute("SELECT body FROM items WHERE name = ?", (name,)).fetchone()
        database.execute("UPDATE items SET body = ? WHERE name = ?", (body[:-1] + bytes([body[-1] ^ 1]), name))
    database.close()
