"""Attempts at a masked round: each with new keys, and with a number that no device has seen before.

A number is on disk as taken before anybody is asked, so that a server that was killed does not use it again, whether or
not it came to opening the sum::

    checkpoints/fold-0/attempts.json    {"0": 1, "1": 2}    rounds, and how many attempts each has had
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from flwr.serverapp import Grid

from homespun.privacy import CohortTooSmall
from homespun.privacy.ledger import Ledger, Reservation
from homespun.privacy.ledger.files import sync_folder, write_atomically
from homespun.secagg import Aborted, Fault
from homespun.server.cohort import Answers
from homespun.server.masked import masked_sum, terms_of
from homespun.wire import RoundRequest, request_digest

LOG = logging.getLogger("homespun.server")
ATTEMPTS = 3
FILE = "attempts.json"


def open_masked(
    grid: Grid,
    nodes: Sequence[int],
    roster: Sequence[bytes],
    request: RoundRequest,
    *,
    ledger: Ledger,
    reservation: Reservation,
    folder: Path,
) -> Answers:
    """Try a masked round until a sum is opened, at most `ATTEMPTS` times.

    A node that failed at one attempt is asked again at the next, but for one whose shares gave another secret than it had
    announced: no accident does that, and it could spoil every attempt. Devices pay for each attempt that they send a vector
    to.

    Args:
        grid: Flower Grid of the nodes.
        nodes: Node ids.
        roster: Identities behind the nodes, in their order.
        request: What is asked; its ``attempt`` is filled in here.
        ledger: Takes an ``open`` before anybody is asked for what opens a sum.
        reservation: What pays for the round.
        folder: Of the run's checkpoints; remembers the attempts.

    Raises:
        CohortTooSmall: No attempt came to a sum. The reservation stays open, for whoever takes the round up again.
    """
    failed, party_nodes = [], dict(zip(roster, nodes, strict=True))
    for _ in range(ATTEMPTS):
        attempt = take_attempt(folder, request.round, least=reservation.attempts)
        asked = replace(request, attempt=attempt)
        opening = partial(_record, ledger, reservation, attempt)
        terms = terms_of(request.release, list(party_nodes), context=bytes.fromhex(request_digest(asked)))
        try:
            answers = masked_sum(grid, list(party_nodes.values()), terms, asked, opening=opening)
        except Aborted as error:
            LOG.warning("attempt %s at round %s was given up: %s", attempt, request.round, error)
            failed.append(f"Attempt {attempt} ended at step {error.stage.value}: {error}")
            if (
                error.fault is Fault.BAD_DEALER
                and error.party is not None
                and len(party_nodes) > request.release.fewest
            ):
                del party_nodes[terms.roster[error.party]]
        else:
            return replace(answers, attempts=attempt + 1)
    raise CohortTooSmall(
        f"Expected round {request.round} to be opened within {ATTEMPTS} attempts. {' '.join(failed)} Run again when more "
        "devices are there: the round is taken up where it stands, and is not paid for again."
    )


def take_attempt(folder: Path, round: int, *, least: int) -> int:
    """The number of the next attempt at a round, from 0; it is on disk as taken when this returns.

    Args:
        folder: Where attempts are remembered; made where it is not there.
        round: Number of the round within the run.
        least: The lowest that the ledger leaves free.
    Raises:
        ValueError: The file is not what was written.
    """
    path = folder / FILE
    taken = _read(path) if path.exists() else {}
    attempt = max(least, taken.get(str(round), 0))
    if not folder.exists():
        folder.mkdir(parents=True)
        sync_folder(folder.parent)
    write_atomically(path, json.dumps({**taken, str(round): attempt + 1}, sort_keys=True).encode("ascii") + b"\n")
    return attempt


def _read(path: Path) -> dict[str, int]:
    try:
        taken = json.loads(path.read_bytes())
        if isinstance(taken, dict) and all(type(count) is int and count >= 0 for count in taken.values()):
            return taken
    except (ValueError, RecursionError):
        pass
    # Beginning again at 0 would repeat numbers that devices have seen, and they would refuse.
    raise ValueError(
        f"Expected {path} to hold the attempts that were written; it is damaged. Restore it from a copy, or start a new run."
    )


def _record(ledger: Ledger, reservation: Reservation, attempt: int, transcript: bytes, survivors: int) -> None:
    ledger.opened(reservation, attempt=attempt, survivors=survivors, transcript=transcript)
