"""The ledgers of guarantee A that a device's folder holds, one after another: the first, and a new one after each fork.

A ledger that was forked cannot go on: the witness would rightly never countersign it again. The owner acknowledges, and a
ledger of a new name begins, whose first entry says what counts as spent.
"""

import importlib.metadata
import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from homespun.client.witnessed import origin_of
from homespun.privacy import LedgerError, Relation, Unit
from homespun.privacy.ledger import Genesis, Ledger, SigningKey
from homespun.privacy.policy import Policy

__all__ = ["ACCOUNT", "begin_after_fork", "begin_first", "newest_ledger", "sync"]

ACCOUNT = "device"  # one for everything that leaves, whatever the number of projects and runs
_ASIDE = ".next.sqlite"


def begin_first(folder: Path, name: str, key: SigningKey, policy: Policy) -> None:
    """Make the first ledger of a device."""
    Ledger.create(folder / "ledger-1.sqlite", key, _genesis(name, 1, policy, policy.cap)).close()


def begin_after_fork(
    old: Ledger, name: str, key: SigningKey, policy: Policy, *, number: int, spent: Decimal, rounds: int
) -> None:
    """Make the ledger that a device goes on with, in the folder of the forked one.

    Args:
        old: The forked ledger; it stays as it is.
        name: The device's.
        key: Signs the ledger.
        policy: What the owner allows now.
        number: Of the new ledger, above every one that was seen.
        spent: What counts as spent, rho.
        rounds: Rounds that were paid for.
    Guarantees:
        * whole or not at all: under its own name it holds what is spent from the beginning.
        * nothing forgotten: what is spent may be more than the policy allows now; then it begins with the larger cap,
          and the policy's own follows as an entry.
    """
    folder, head = old.path.parent, old.head
    for file in folder.glob(f"{_ASIDE}*"):
        file.unlink()
    declared = {"continues": f"{old.genesis.origin} {head.size} {head.root}", "rounds": str(rounds)}
    cap = None if policy.cap is None else max(policy.cap, spent)
    with Ledger.create(folder / _ASIDE, key, _genesis(name, number, policy, cap, declared)) as begun:
        begun.record("acknowledge", {"incident": "ledger-forked", "spent_after": {ACCOUNT: f"{spent:.18f}"}})
        if cap != policy.cap:
            begun.record("policy", {"policy": policy.to_dict(), "cap": f"{policy.cap:.18f}"})
    (folder / _ASIDE).rename(folder / f"ledger-{number}.sqlite")
    sync(folder)


def newest_ledger(folder: Path) -> Path:
    """The ledger that a device's folder goes on with.

    Raises:
        LedgerError: There is none.
    """
    ledgers = sorted(folder.glob("ledger-*.sqlite"), key=lambda path: int(path.stem.split("-")[1]))
    if not ledgers:
        raise LedgerError(f"Expected a ledger in {folder}; without it, nobody knows what was spent.")
    return ledgers[-1]


def sync(folder: Path) -> None:
    """Make what was renamed in a folder last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _genesis(
    name: str, number: int, policy: Policy, cap: Decimal | None, declared: Mapping[str, str] | None = None
) -> Genesis:
    return Genesis(
        origin=origin_of(name, number),
        guarantee="backbone",
        holder="device",
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        delta=policy.delta,
        cap=cap,
        policy=policy.to_dict(),
        declared=declared or {},
        software={"homespun": importlib.metadata.version("homespun")},
    )
