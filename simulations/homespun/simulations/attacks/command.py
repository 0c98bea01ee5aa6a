"""``homespun audit attack RUN``: audit the path with the run's plans, attack what it released, keep the evidence."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from homespun.audit.evidence import Attack, Audit
from homespun.audit.path import audit_path
from homespun.audit.record_path import audit_blocks
from homespun.cli.places import places
from homespun.privacy import LedgerError
from homespun.privacy.ledger import EXPORT_NAME, LEDGER_NAME, Ledger, SigningKey
from homespun.privacy.ledger.files import write_atomically
from homespun.server.run_ledger import OPERATOR
from homespun.simulations.attacks.attributes import infer_attributes
from homespun.simulations.attacks.membership import infer_membership
from homespun.simulations.attacks.reconstruction import reconstruct
from homespun.simulations.attacks.target import Target, load_target
from homespun.simulations.record_adapters import asked_plan
from homespun.simulations.run_record import KEY_NAME

CONFIDENCE = 0.975  # of each of at most two audits, so that no bound of a correct build beats its claim in 95 of 100
SHADOWS = 12
EVIDENCE = Path("audit") / "evidence.json"


class Reporter(Protocol):
    """Who is told how far it is; see ``homespun.cli.voice``."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of ``total`` steps."""

    def advance(self, n: int = 1) -> None:
        """Steps of the stage are done."""

    def note(self, text: str) -> None:
        """Something worth knowing, in one sentence."""


def attack_run(run: Path, reporter: Reporter, *, canaries: int = 2000, shadows: int = SHADOWS) -> dict[str, Any]:
    """Audit and attack a finished run, write ``audit/evidence.json``, and say so in the run's ledger.

    Args:
        run: Run folder.
        reporter: Told what happens.
        canaries: Of each audit; even.
        shadows: Trainings behind the membership attack.
    Returns:
        What ``evidence.json`` holds, without coins and scores, and ``beaten`` and ``failed`` over all audits.
    Raises:
        ValueError: It is not a finished run.
        LedgerError: The ledger is not one that this machine's operator signs.
    """
    reporter.stage("read")
    target = load_target(run)
    with _ledger(run) as ledger:
        if ledger.genesis.plan != target.course.plan:
            raise LedgerError(
                f"Expected the plan of {run / LEDGER_NAME} to follow from the settings and data beside it."
            )
        audits = _audits(target, ledger, reporter, canaries)
        attacks = _attacks(target, reporter, shadows)
        played = [audit.to_dict() for audit in audits]
        found = [attack.to_dict() for attack in attacks]
        text = json.dumps({"schema_version": 1, "audits": played, "attacks": found}, allow_nan=False).encode() + b"\n"
        (run / EVIDENCE).parent.mkdir(mode=0o700, exist_ok=True)
        write_atomically(run / EVIDENCE, text)
        ledger.record("audit", {"title": "attacks: evidence", "evidence_sha256": hashlib.sha256(text).hexdigest()})
        ledger.export(run, EXPORT_NAME)
    return {
        "message_type": "attack",
        "run": str(run),
        "evidence": str(run / EVIDENCE),
        "beaten": sorted({f"{audit.kind}:{name}" for audit in audits for name in audit.beaten}),
        "failed": sorted({f"{audit.kind}:{name}" for audit in audits for name in audit.failed}),
        "audits": [_without_scores(row) for row in played],
        "attacks": found,
    }


def _ledger(run: Path) -> Ledger:
    key = places()["data"] / KEY_NAME
    if not (run / LEDGER_NAME).is_file() or not key.is_file():
        raise LedgerError(
            f"Expected {run / LEDGER_NAME} and the key that signs it in {key}: the coins of an audit are committed to "
            "before they are used. Run this where the run was made."
        )
    return Ledger.open(run / LEDGER_NAME, SigningKey.load_or_create(key, OPERATOR))


def _audits(target: Target, ledger: Ledger, reporter: Reporter, canaries: int) -> list[Audit]:
    plan, records = target.course.plan, asked_plan(target.options, target.course.geometry.dim)
    found = []
    if plan.claim.epsilon is None:
        reporter.note(f"The backbone has no bound to beat: {plan.claim.reason}.")
    else:
        reporter.stage("audit the path of devices", total=2 * sum(release.rounds for release in plan.releases))
        found.append(
            audit_path(
                plan, canaries=canaries, confidence=CONFIDENCE,
                announce=_announce(ledger, "attacks: path"), progress=reporter.advance,
            )
        )  # fmt: skip
    if records is None:
        reporter.note("Adapters of this run are exact: nothing is claimed of single records, so nothing can be beaten.")
    else:
        reporter.stage("audit the path of records", total=4)
        found.append(
            audit_blocks(
                records, canaries=canaries, confidence=CONFIDENCE,
                announce=_announce(ledger, "attacks: block"), progress=reporter.advance,
            )
        )  # fmt: skip
    return found


def _announce(ledger: Ledger, title: str) -> Any:
    def write(commitment: str) -> None:
        ledger.record("audit", {"title": title, "commitment": commitment})

    return write


def _attacks(target: Target, reporter: Reporter, shadows: int) -> list[Attack]:
    reporter.stage("infer membership", total=shadows + 1)
    found = infer_membership(target, count=shadows, seed=target.options.seed, progress=reporter.advance)
    reporter.stage("infer attributes")
    found += infer_attributes(target, seed=target.options.seed)
    reporter.stage("reconstruct")
    return found + reconstruct(target)


def _without_scores(audit: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in audit.items() if name not in ("coins", "salt", "scores", "control_scores")}
