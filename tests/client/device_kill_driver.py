"""Kills a device at random lines of its own code; run as a script: ``device_kill_driver.py FOLDER KILLS SEED TRUST``.

With ``central`` a vector leaves as it is, and a repeated request gets it again. With ``distributed`` it leaves masked, the
session dies with the process, and the next attempt is paid anew.

One JSON line a case on stdout. Every case is a process of its own, forked from this one after its slow imports, and dies
by SIGKILL just before a line that was drawn from all lines of vault, ledger and device that the work takes. Then the
device is opened again, in this process, and what its files say is told.
"""

import hashlib
import json
import os
import random
import runpy
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import homespun.client
import homespun.privacy.ledger
from homespun.client import Declined, Device, FileAnchor, Installation
from homespun.client.vault import GivenKey
from homespun.privacy import Trust
from homespun.privacy.ledger import KeyRole, Ledger, SigningKey
from homespun.privacy.policy import Policy
from homespun.server.witness import WitnessBook

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_device.py"))
toy = lab["toy"]
TRACED = (str(Path(homespun.client.__file__).parent), str(Path(homespun.privacy.ledger.__file__).parent))
KEY = GivenKey(b"k" * 32)
POLICY = Policy(max_epsilon=6.0, delta=1e-6, min_cohort=4, trust=tuple(Trust))
ROUNDS = 3
Round = Callable[..., Any]
"""Has a device take part in a round and an attempt; what leaves that depends on its data."""


def around(folder: Path) -> Installation:
    return Installation(
        project="toy",
        phases=toy["toy_phases"](),
        witness=WitnessBook(folder / "witness.sqlite", SigningKey.from_bytes("w", b"w" * 32, role=KeyRole.COSIGNER)),
        anchor=FileAnchor(folder / "anchor"),
    )


def plain(device: Device, number: int, attempt: int, **changes: Any) -> Any:
    return device.contribute(lab["request"](number, attempt=attempt, **changes)).vector


def masked(device: Device, number: int, attempt: int, **changes: Any) -> Any:
    cohort = lab["Cohort"](device, lab["masked_request"](number, attempt, **changes))
    cohort.walk(device)
    return cohort.vector


def begin(folder: Path, ask: Round) -> None:
    folder.mkdir(parents=True)
    with Device.create(folder / "device", KEY, POLICY, around(folder)) as device:
        device.learn(toy["toy_pairs"](3).select(slice(0, 1)))
        ask(device, 0, 0)


def work(folder: Path, ask: Round) -> None:
    """Two rounds, with something learnt in between; a vector that left is told before anything else happens."""
    with Device.open(folder / "device", KEY, around(folder)) as device:
        for number in range(1, ROUNDS):
            left = ask(device, number, 0)
            with (folder / "left").open("a") as stream:
                stream.write(f"{number} {hashlib.sha256(left.tobytes()).hexdigest()}\n")
            device.learn(toy["toy_pairs"](3, seed=number).select(slice(0, 1)))


def traced(after: int) -> Callable[[], int]:
    """Count the lines of the device's code from here on, and die before the given one; 0 counts only."""
    seen = 0

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == after:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(TRACED) else None

    sys.settrace(call)
    return lambda: seen


def fork(task: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  (a child must not go on as its parent)
            print(type(error).__name__, error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def lines_of_work(template: Path, folder: Path, ask: Round) -> int:
    shutil.copytree(template, folder)
    told = folder / "lines"

    def count() -> None:
        seen = traced(0)
        work(folder, ask)
        sys.settrace(None)
        told.write_text(str(seen()))

    if fork(count) != 0:
        raise RuntimeError("Expected the work to be done where nothing is killed.")
    return int(told.read_text())


def case(template: Path, folder: Path, at: int, ask: Round) -> dict[str, Any]:
    shutil.copytree(template, folder)

    def killed() -> None:
        traced(at)
        work(folder, ask)

    ended = fork(killed)
    with Ledger.open(folder / "device" / "ledger-1.sqlite", None) as ledger:
        before, size = ledger.spent("device"), ledger.head.size
    left = (
        dict(line.split() for line in (folder / "left").read_text().splitlines()) if (folder / "left").exists() else {}
    )
    again: dict[str, str] = {}
    with Device.open(folder / "device", KEY, around(folder)) as device:
        opened = device.spent
        forked = device.forked
        for number in range(1, ROUNDS):
            for attempt in range(1 if ask is plain else 2):
                try:
                    told = hashlib.sha256(ask(device, number, attempt).tobytes()).hexdigest()
                except Declined as error:
                    told = error.reason.value
                again[str(number) if attempt == 0 else f"{number}, again"] = told
        after, head = device.spent, device.ledger.head.size
        entries = list(device.ledger.entries())
        cap = device.ledger.cap
    reserved = [entry.seq for entry in entries if entry.kind == "reserve"]
    ends = [entry.body["reservation"] for entry in entries if entry.kind in ("commit", "burn")]
    artifacts = [entry.body["artifact_sha256"] for entry in entries if entry.kind == "commit"]
    return {
        "at": at, "ended": ended, "forked": forked, "left": left, "again": again,
        "sizes": [size, head], "spent": [str(before), str(opened), str(after), str(cap)],
        "reserved": reserved, "ends": ends, "artifacts": artifacts, "burned": sum(entry.kind == "burn" for entry in entries),
    }  # fmt: skip


def main(folder: Path, kills: int, seed: int, trust: str) -> None:
    torch.set_num_threads(1)
    ask = plain if trust == "central" else masked
    begin(folder / "template", ask)
    total = lines_of_work(folder / "template", folder / "counted", ask)
    drawn = random.Random(seed)
    for number in range(kills):
        at = drawn.randrange(1, total + 1)
        print(json.dumps({"total": total, **case(folder / "template", folder / str(number), at, ask)}), flush=True)
        shutil.rmtree(folder / str(number))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
