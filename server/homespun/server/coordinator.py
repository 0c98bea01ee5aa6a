"""The round coordinator: which noisy sum comes next, who is asked, and what may be released.

One round is: reserve in the ledger, ask the cohort, open the sum, update the state, write the checkpoint, tell whoever
observes, commit. Each step is on disk before the next begins, so a run that is killed anywhere goes on where it stopped. A
reservation without a checkpoint is taken up again, not paid twice: nothing came out of it but, at most, masked sums that
the ledger names as opened. One with a checkpoint is finished with what the checkpoint holds, and its data is not asked
for again.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import hashlib
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from flwr.serverapp import Grid
from torch import Tensor

from homespun.privacy import LedgerDamaged, Noise, ReleasePlan, Trust, open_sum, release_event
from homespun.privacy.ledger import Ledger, Reservation
from homespun.server.attempts import open_masked
from homespun.server.checkpoint import Checkpoint, State, latest, save
from homespun.server.cohort import ask, draw_cohort, wait_for_nodes
from homespun.server.run_ledger import account_of
from homespun.server.training import RoundReport, Training
from homespun.wire import RoundRequest

__all__ = ["RoundReport", "Training", "coordinate", "pending_round"]


def coordinate(
    training: Training[State],
    grid: Grid,
    ledger: Ledger,
    checkpoints: Path,
    observe: Callable[[RoundReport[State]], None] = lambda report: None,
) -> State:
    """Run, or go on with, a training.

    Args:
        training: What to do.
        grid: Flower Grid whose nodes hold the people.
        ledger: Ledger of this run, open.
        checkpoints: Folder of this run's checkpoints; what is there is taken up.
        observe: Called after each round, before it is committed: a run that was killed in between calls it again.

    Returns:
        The last state.

    Raises:
        CohortTooSmall: Fewer people answered than the noise was sized for, or no attempt at a masked round came to a
            sum; the round was not opened.
        PrivacyBudgetExhausted: The plan does not pay for the round.
        LedgerError: The ledger and the checkpoints tell of different rounds.
    """
    state, done = _take_up(training, ledger, checkpoints, observe)
    nodes = wait_for_nodes(grid, len(training.members))
    for number, phase, release, phase_round in training.schedule():
        if number < done:
            continue
        started = time.monotonic()
        reservation = _reserve(training, ledger, state, number, release)
        stream = training.noise(training.run, number)
        request = _request(training, state, number, release, phase_round)
        if training.roster is None:
            answers = ask(grid, nodes, training.members, request, draw_cohort(release, training.members, stream))
        else:
            answers = open_masked(
                grid, nodes, training.roster, request, ledger=ledger, reservation=reservation, folder=checkpoints
            )
        vectors = (contribution.vector for contribution in answers.contributions)
        central: Noise | None = stream if release.trust is Trust.CENTRAL and release.variance > 0 else None
        mean, noise_std = open_sum(vectors, release, devices=answers.devices, noise=central)
        state = phase.update(state, mean, noise_std, phase_round)
        checkpoint = Checkpoint(
            round=number,
            phase=phase.name,
            devices=answers.devices,
            messages=answers.messages,
            reply_bytes=answers.reply_bytes,
            attempts=answers.attempts,
            steps=answers.steps,
            seconds=time.monotonic() - started,
            state_digest=state.digest,
            release_digest=hashlib.sha256(mean.numpy().tobytes()).hexdigest(),
            noise_std=noise_std,
            signal_to_noise=_signal_to_noise(mean, noise_std),
        )
        save(checkpoints, state, checkpoint)
        _finish(training, ledger, reservation, state, checkpoint, observe)
    return state


def _take_up(
    training: Training[State],
    ledger: Ledger,
    checkpoints: Path,
    observe: Callable[[RoundReport[State]], None],
) -> tuple[State, int]:
    """State to go on from, and the number of rounds done; finishes a round that was killed after its checkpoint."""
    found = latest(checkpoints, type(training.initial))
    if found is None:
        return training.initial, 0
    state, checkpoint = found
    paid = sum(Decimal(release.rho) for number, _, release, _ in training.schedule() if number <= checkpoint.round)
    spent = ledger.spent(account_of(training.run))
    if spent < paid:
        raise LedgerDamaged(
            f"Expected spent={spent} in [{paid}, inf) (rho) in run {training.run}: there are "
            f"checkpoints of {checkpoint.round + 1} rounds. The ledger beside them is not theirs."
        )
    pending = pending_round(ledger, training.run, checkpoint.round)
    if pending is not None:
        _finish(training, ledger, pending, state, checkpoint, observe)
    return state, checkpoint.round + 1


def pending_round(ledger: Ledger, run: int, round: int) -> Reservation | None:
    """The reservation of a round that was paid for and not committed; None where there is none."""
    for reservation in ledger.open_reservations():
        if reservation.account == account_of(run) and reservation.subject["round"] == round:
            return reservation
    return None


def _reserve(training: Training[State], ledger: Ledger, state: State, number: int, release: ReleasePlan) -> Reservation:
    """Pay for a round, unless it is paid for already and nothing came out of it."""
    pending = pending_round(ledger, training.run, number)
    if pending is not None:
        return pending
    event = release_event(release, count=1) if release.variance > 0 else None
    subject: dict[str, str | int] = {
        "run": training.run,
        "round": number,
        "phase": release.name,
        "plan_sha256": training.plan.digest,
        "backbone_sha256": state.digest,
    }
    return ledger.reserve(account_of(training.run), event, subject)


def _finish(
    training: Training[State],
    ledger: Ledger,
    reservation: Reservation,
    state: State,
    checkpoint: Checkpoint,
    observe: Callable[[RoundReport[State]], None],
) -> None:
    """What is left of a round once its checkpoint is on disk. Each step may be repeated."""
    rounds = sum(phase.rounds for phase in training.phases)
    observe(RoundReport(run=training.run, rounds=rounds, checkpoint=checkpoint, state=state))
    sampled = training.plan.spec.participation.sampling_probability is not None
    # The size of a Poisson sample is what amplification by sampling keeps secret: it has no place in a ledger.
    facts = {} if sampled else {"asked": sum(training.members), "answered": checkpoint.devices}
    if training.roster is not None:
        facts["attempts"] = checkpoint.attempts
    ledger.commit(reservation, checkpoint.release_digest, facts)


def _request(
    training: Training[State], state: State, number: int, release: ReleasePlan, phase_round: int
) -> RoundRequest:
    return RoundRequest(
        run=training.run,
        round=number,
        phase_round=phase_round,
        release=release,
        plan_digest=training.plan.digest,
        projection=state.projection,
        version=state.version,
        backbone={name: tensor.numpy() for name, tensor in state.tensors().items()},
    )


def _signal_to_noise(mean: Tensor, noise_std: float) -> float | None:
    return float(mean.norm() / (noise_std * mean.numel() ** 0.5)) if noise_std > 0 else None
