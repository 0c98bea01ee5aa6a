"""What is told of a round while a run goes on: how well it learns, what it spent, and what left the people's devices."""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from homespun.personal import Backbone, TierCaps, fit, predict
from homespun.privacy import compose
from homespun.privacy.ledger import Ledger
from homespun.server.checkpoint import Checkpoint
from homespun.server.coordinator import RoundReport
from homespun.server.run_ledger import account_of
from homespun.simulations.evaluation import correct, per_person
from homespun.simulations.options import Options
from homespun.simulations.run_folder import RunFolder
from homespun.simulations.training import Course, FoldData

WATCHED_SHOTS = 20  # labels behind the accuracy that is shown while a run goes on
WATCHED_PEOPLE = 300

LEAVES = {
    "advertise": "keys",
    "share": "sealed shares",
    "mask": "masked vector",
    "consent": "signature",
    "reveal": "shares",
}
"""What leaves a device at each step of a masked round."""


class Reporter(Protocol):
    """Who is told how far a run is; see ``homespun.cli.voice``."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of ``total`` steps."""

    def advance(self, n: int = 1) -> None:
        """Steps of the stage are done."""

    def round(self, status: Mapping[str, Any]) -> None:
        """A round ended; ``status`` is its line of ``metrics.jsonl``."""

    def note(self, text: str) -> None:
        """Something worth knowing, in one sentence."""


class Watch:
    """Turns a round's report into lines of ``metrics.jsonl`` and ``sent.jsonl``, and a word to whoever is watching.

    It is a class because it holds on to the labels that the accuracy of a running training is measured with.
    """

    def __init__(
        self,
        *,
        folder: RunFolder,
        fold: FoldData,
        course: Course,
        ledger: Ledger,
        reporter: Reporter,
        options: Options,
    ) -> None:
        """Watch the training of one fold."""
        self._folder, self._fold, self._course, self._ledger = folder, fold, course, ledger
        self._reporter, self._options = reporter, options
        n = min(fold.evidence.shots, key=lambda shots: abs(shots - WATCHED_SHOTS))
        people = slice(0, WATCHED_PEOPLE)
        self._shots, self._test = fold.evidence.shots[n].select(people), fold.evidence.test.select(people)

    def observe(self, report: RoundReport[Backbone]) -> None:
        """One round is over."""
        done = report.checkpoint
        own = predict(report.state, fit(report.state, self._shots), self._test, caps=TierCaps())
        claim = self._course.plan.claim
        events = self._ledger.events(account_of(report.run))
        noisy = claim.epsilon is not None
        status = {
            "schema_version": 1,
            "message_type": "status",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "fold": report.run,
            "round": done.round,
            "rounds": report.rounds,
            "phase": done.phase,
            "accuracy": float(per_person(correct(own.total), self._test).mean()),
            "global_accuracy": float(per_person(correct(own.shared), self._test).mean()),
            "epsilon": compose(events, delta=claim.delta).epsilon if noisy else None,
            **({} if noisy else {"epsilon_reason": claim.reason}),
            "delta": claim.delta,
            "privacy_unit": claim.unit.value,
            "neighboring_relation": claim.relation.value,
            "accountant": claim.accountant,
            "devices": done.devices,
            "asked": self._fold.seen.users,
            "attempts": done.attempts,
            "seconds": round(done.seconds, 6),
            "signal_to_noise": done.signal_to_noise,
        }
        self._folder.append("metrics.jsonl", status)
        sender = "device" if self._options.engine == "faithful" else "cell"
        self._folder.append("sent.jsonl", {"fold": report.run, **sent(done, sender=sender)})
        self._reporter.round(status)
        self._reporter.advance()


def sent(done: Checkpoint, *, sender: str) -> dict[str, Any]:
    """What left devices or cells in a round: a line of ``sent.jsonl`` but for its fold.

    Of a masked round it tells of the attempt that was opened: who answered which step, and the bytes of all steps.
    """
    masked = bool(done.steps)
    return {
        "round": done.round,
        "phase": done.phase,
        "from": sender,
        "messages": done.messages,
        "fields": list(LEAVES.values()) if masked else ["vector"],
        **({"steps": dict(done.steps)} if masked else {}),
        "bytes": done.reply_bytes,
    }
