"""The ledger of a training run: its plan in the genesis, an account for each run, and the operator's key."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from homespun.privacy import LedgerDamaged, LedgerError, Plan
from homespun.privacy.ledger import LEDGER_NAME, Genesis, Ledger, SigningKey

__all__ = ["account_of", "open_run_ledger", "run_genesis"]

OPERATOR = "homespun-operator"
"""Name of the key of whoever runs a server."""


def account_of(run: int) -> str:
    """Account that pays for a run; a fold of a simulation is a run."""
    return f"run-{run}"


def run_genesis(
    plan: Plan,
    *,
    origin: str,
    adapter: Mapping[str, Any] | None = None,
    declared: Mapping[str, str] | None = None,
    software: Mapping[str, str] | None = None,
) -> Genesis:
    """Genesis of a server's ledger: guarantee A, and as cap what all rounds of the plan cost.

    Args:
        plan: What every run of the ledger does; without noise there is no cap and no promise.
        origin: Name of the ledger and of no other.
        adapter: What the private adapters beside it are planned to spend (`RecordPlan.to_dict`).
        declared: What a report must say and no ledger can compute.
        software: Versions by name.
    """
    noisy = plan.claim.epsilon is not None
    return Genesis(
        origin=origin,
        guarantee="backbone",
        holder="server",
        unit=plan.claim.unit,
        relation=plan.claim.relation,
        delta=plan.spec.delta,
        order=plan.claim.order if plan.spec.participation.sampling_probability is not None else None,
        cap=sum((release.rounds * Decimal(release.rho) for release in plan.releases), Decimal(0)) if noisy else None,
        plan=plan,
        adapter=adapter,
        declared=declared or {},
        software=software or {},
    )


def open_run_ledger(folder: Path, key: SigningKey, genesis: Genesis) -> Ledger:
    """Open the ledger of a run folder, or begin it.

    Args:
        folder: Run folder; the file in it is ``privacy_ledger.sqlite``.
        key: The operator's.
        genesis: What a new ledger says; an old one must have been begun with the same plan and adapter.
    Raises:
        LedgerDamaged: An entry was edited, dropped or moved.
        LedgerError: The ledger is of another plan, or signed by another key.
    """
    path = folder / LEDGER_NAME
    if not path.exists():
        if path.with_name(f"{LEDGER_NAME}-wal").exists():
            # SQLite would give the log of a lost ledger to the new one.
            raise LedgerDamaged(f"Expected {path} beside its write-ahead log: the ledger was lost.")
        return Ledger.create(path, key, genesis)
    ledger = Ledger.open(path, key)
    if (ledger.genesis.plan, ledger.genesis.adapter) != (genesis.plan, genesis.adapter):
        ledger.close()
        raise LedgerError(f"Expected the plan that {path} was begun with: a changed plan is a new run folder.")
    return ledger
