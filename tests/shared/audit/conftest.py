"""Small real ledgers: a server's run and a device with both of its ledgers."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch

from homespun.audit.bounds import Interval
from homespun.audit.claims import AuditedClaim, path_claim
from homespun.audit.evidence import Attack, Audit
from homespun.audit.game import throw
from homespun.audit.sources import EVIDENCE, Source, find_sources
from homespun.audit.writing import write_report
from homespun.privacy import Participation, PrivacySpec, Relation, Release, Trust, Unit
from homespun.privacy.calibration import release_event
from homespun.privacy.ledger import Genesis, Ledger, SigningKey
from homespun.privacy.plan import Plan
from homespun.privacy.record_plan import RecordPlan, build_record_plan

torch.set_num_threads(1)

DELTA = 1e-6
EVERYBODY = Participation.full()
DECLARED = {
    "name": "Reading club",
    "purpose": "Rank texts for each member.",
    "curators": "Example Foundation; Second Example",
    "curator-type": "Nonprofit",
    "region": "Nowhere",
    "tuning": "Settings were chosen on planted preferences.",
    "markup": "<script>alert(1)</script>",
}


def small_plan(
    epsilon: float = 2.0,
    *,
    trust: Trust = Trust.DISTRIBUTED,
    participation: Participation = EVERYBODY,
    colluding: int = 0,
) -> Plan:
    return PrivacySpec(
        epsilon=epsilon,
        delta=DELTA,
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        trust=trust,
        participation=participation,
        population=500,
        min_survivors=400,
        colluding=colluding,
        releases=(
            Release(name="mean", rounds=1, share=0.4, clip_norm=1.0, dimension=8),
            Release(name="directions", rounds=2, share=0.6, clip_norm=1.0, dimension=16),
        ),
    ).build()


def write_run(
    folder: Path,
    *,
    key: SigningKey | None = None,
    folds: int = 2,
    plan: Plan | None = None,
    records: RecordPlan | None = None,
    opens: Callable[[int, int], int] = lambda fold, round: 0,
) -> Path:
    """A run folder whose ledger holds ``folds`` trainings; ``opens`` is how many sums of a round were unmasked."""
    folder.mkdir(parents=True)
    plan = plan or small_plan()
    key = key or SigningKey.generate("example.org/operator")
    genesis = Genesis(
        origin=f"example.org/{folder.name}",
        guarantee="backbone",
        holder="server",
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        delta=DELTA,
        order=None if plan.spec.participation.sampling_probability is None else plan.claim.order,
        cap=sum((Decimal(release.rho) * release.rounds for release in plan.releases), Decimal(0)),
        plan=plan,
        adapter=None if records is None else records.to_dict(),
        declared=DECLARED,
        software={"homespun": "0.1.0"},
    )
    with Ledger.create(folder / "privacy_ledger.sqlite", key, genesis) as ledger:
        for fold in range(folds):
            number = 0
            for release in plan.releases:
                for _ in range(release.rounds):
                    subject = {"run": fold, "round": number, "phase": release.name}
                    paid = ledger.reserve(f"run-{fold}", release_event(release, count=1), subject)
                    for attempt in range(opens(fold, number)):
                        ledger.opened(paid, attempt=attempt, survivors=480 - number, transcript=bytes(32))
                    ledger.commit(paid, "ab" * 32, {"asked": 500, "answered": 480})
                    number += 1
    return folder


def write_device(folder: Path, **asked: int) -> Path:
    """A device's folder: guarantee A over two projects with a crash and refusals, guarantee B over three blocks."""
    folder.mkdir(parents=True)
    key = SigningKey.generate("device-7f")
    release = small_plan()["mean"]
    shared = Genesis(
        origin="device-7f/a",
        guarantee="backbone",
        holder="device",
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        delta=DELTA,
        cap=Decimal("0.9"),
    )
    with Ledger.create(folder / "ledger.sqlite", key, shared) as ledger:
        for number in range(5):
            subject = {"project": f"p{number % 2}", "run": 0, "round": number, "trust": "distributed", **asked}
            paid = ledger.reserve("device", release_event(release, count=1), subject)
            if number == 3:
                ledger.burn(paid, "crash")
            else:
                ledger.commit(paid, "cd" * 32)
        for reason in ("cap", "cohort", "cohort"):
            ledger.refuse(reason, {"project": "p0"})
    plan = build_record_plan(2.0, DELTA, dimension=8)
    own = Genesis(
        origin="device-7f/b",
        guarantee="adapter",
        holder="device",
        unit=Unit.RECORD,
        relation=Relation.ZERO_OUT,
        delta=DELTA,
        cap=Decimal("0.2"),
        adapter=plan.to_dict(),
    )
    with Ledger.create(folder / "adapter.sqlite", key, own) as ledger:
        for block in range(3):
            ledger.commit(ledger.reserve(f"block-{block}", plan.event, {"block": block}), "ef" * 32)
    return folder


def add_evidence(run: Path, key: SigningKey, claim: AuditedClaim | None = None, **stated: object) -> None:
    """An audit whose scores know nothing and one attack, committed to by the run's ledger.

    Args:
        run: Run folder.
        key: Of the ledger.
        claim: What it is an audit of; the small plan's by default.
        stated: What the evidence says of the claim instead.
    """
    rng = np.random.default_rng(3)
    audit = Audit(
        **{**vars(claim or path_claim(small_plan())), **stated},
        confidence=0.95,
        guesses=10,
        coins=throw(100),
        scores=np.round(rng.normal(size=100), 6),
        control_scores=np.round(rng.normal(size=100), 6),
        checks=(),
    )
    attack = Attack(
        name="membership",
        title="Membership in the backbone",
        metric="share found at 1 % false alarms",
        figure=Interval(value=0.012, low=0.0, high=0.03),
        control=Interval(value=0.01, low=0.0, high=0.03),
        bound=0.033,
        sentence="No better than chance.",
    )
    content = json.dumps({"schema_version": 1, "audits": [audit.to_dict()], "attacks": [attack.to_dict()]}).encode()
    (run / "audit").mkdir(exist_ok=True)
    (run / "audit" / EVIDENCE).write_bytes(content)
    with Ledger.open(run / "privacy_ledger.sqlite", key) as ledger:
        ledger.record("audit", {"title": "canaries", "commitment": audit.coins.commitment})
        ledger.record("audit", {"title": "canaries", "evidence_sha256": Source.digest_of(content)})


@pytest.fixture(scope="session")
def operator() -> SigningKey:
    return SigningKey.generate("example.org/operator")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, operator: SigningKey) -> Path:
    """A run with evidence and its report. Copy it before changing anything."""
    run = write_run(tmp_path_factory.mktemp("runs") / "20260314T091500Z-planted", key=operator)
    add_evidence(run, operator)
    write_report(find_sources(run), run / "audit")
    return run


@pytest.fixture(scope="session")
def device_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device with its report. Copy it before changing anything."""
    device = write_device(tmp_path_factory.mktemp("devices") / "device")
    write_report(find_sources(device), device / "audit")
    return device


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, **changes: object) -> Path:
        return write_run(tmp_path / name, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def make_device() -> Callable[..., Path]:
    return write_device


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., Plan]:
    return small_plan


@pytest.fixture(scope="session")
def sign_evidence() -> Callable[..., None]:
    return add_evidence
