"""The cohort of a round: who is drawn, what they are asked, and which of their answers count.

Nothing that a node sends can end a round or weigh more than was asked of it: an answer that does not fit is left out and
logged without its content.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from homespun.privacy import CohortTooSmall, NoiseStream, ReleasePlan
from homespun.wire import (
    TRAIN,
    Contribution,
    MalformedMessage,
    RoundRequest,
    contribution_from_record,
    request_to_record,
)

LOG = logging.getLogger("homespun.server")
NODES_POLL_SECONDS = 0.5
NODES_TIMEOUT_SECONDS = 600.0
ROUND_TIMEOUT_SECONDS = 3600.0

Cohort = Sequence[npt.NDArray[np.int32]]
"""Per node, the people who were drawn: rising places within the node."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a cohort answered."""

    contributions: tuple[Contribution, ...] = field(repr=False)
    """At most one a node, of people who were asked there; in a masked round one alone, the sum."""
    messages: int
    """How many nodes were asked."""
    reply_bytes: int
    """Bytes of the vectors, and in a masked round of every other reply to the attempt that was opened."""
    attempts: int = 1
    """How often the round was tried; more than once only where it is masked."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """How many answered each step of a masked round."""

    @property
    def devices(self) -> int:
        """How many people's vectors there are."""
        return sum(contribution.devices for contribution in self.contributions)


def wait_for_nodes(grid: Grid, expected: int) -> list[int]:
    """Node ids, in the order of the Grid; it may still be filling up when a run starts.

    Raises:
        CohortTooSmall: Fewer than ``expected`` nodes came in time.
    """
    deadline = time.monotonic() + NODES_TIMEOUT_SECONDS
    while True:
        nodes = list(grid.get_node_ids())
        if len(nodes) >= expected:
            return nodes[:expected]
        if time.monotonic() > deadline:
            raise CohortTooSmall(f"Expected {expected} nodes, {len(nodes)} came within {NODES_TIMEOUT_SECONDS:g} s.")
        time.sleep(NODES_POLL_SECONDS)


def draw_cohort(release: ReleasePlan, members: Sequence[int], stream: NoiseStream) -> Cohort | None:
    """Draw who is asked in a round.

    Args:
        release: Says how people take part.
        members: How many people stand behind each node.
        stream: Source of the coins.

    Returns:
        ``None`` for everybody; with Poisson participation, per node the people whose coins came up.

    Guarantees:
        * independent coins: a person's chance is q whoever else is drawn, rounded down to a multiple of 2^-64.
    """
    rate = release.participation.sampling_probability
    if rate is None:
        return None
    coins = np.frombuffer(stream.read(8 * sum(members)), dtype="<u8") < int(rate * 2**64)
    return [np.flatnonzero(part).astype(np.int32) for part in np.split(coins, np.cumsum(members)[:-1])]


def exchange(
    grid: Grid, message_type: str, contents: Mapping[int, RecordDict], *, group: str, timeout: float
) -> Iterator[tuple[int, RecordDict]]:
    """Ask nodes, and yield what each answers as it comes, until all have answered or the time is over.

    Args:
        grid: Flower Grid of the nodes.
        message_type: Flower message type.
        contents: What is asked, by node id.
        group: Flower group of the messages.
        timeout: Seconds. A message that nobody fetched until then is not delivered later.

    Guarantees:
        * one answer a node: later ones, and answers to nothing that was asked, are ignored.
        * from the node that was asked: another's answer is left out, and does not take its place.
        * no crash: errors are left out, and logged without their text.
    """
    messages = [
        Message(content=content, dst_node_id=node, message_type=message_type, ttl=timeout, group_id=group)
        for node, content in contents.items()
    ]
    waiting = dict(zip(grid.push_messages(messages), contents, strict=True))
    deadline = time.monotonic() + timeout
    while waiting:
        for reply in grid.pull_messages(list(waiting)):
            node = waiting.get(reply.metadata.reply_to_message_id)
            if node is None:
                continue  # an answer to nothing that was asked, or a second answer
            # Flower does not bind a reply to the node that was asked (flwr 1.41); an error may come from the server.
            if not reply.has_error() and reply.metadata.src_node_id != node:
                LOG.warning("a reply was refused: it is not from the node that was asked")
                continue
            del waiting[reply.metadata.reply_to_message_id]
            if reply.has_error():
                LOG.info("a node refused: error %s", reply.error.code)  # dropouts are expected, and counted
            else:
                yield node, reply.content
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(NODES_POLL_SECONDS)


def ask(
    grid: Grid, nodes: Sequence[int], members: Sequence[int], request: RoundRequest, cohort: Cohort | None
) -> Answers:
    """Send a request to the cohort's nodes and gather what fits.

    Args:
        grid: Flower Grid of the nodes.
        nodes: Node ids.
        members: How many people stand behind each node.
        request: What is asked; its ``participants`` are filled in here for cells.
        cohort: Who was drawn, ``None`` for everybody.

    Guarantees:
        * one answer a node, of the node that was asked: see `exchange`.
        * no forged weight: a device's answer counts as one person. A cell of a simulation says how many of the people
          who were asked stayed, never more; where nobody did, its vector is zero.
        * no crash: errors and malformed answers are left out.
    """
    everybody = request_to_record(request)
    contents: dict[int, RecordDict] = {}
    asked: dict[int, range] = {}
    for place, (node, count) in enumerate(zip(nodes, members, strict=True)):
        people = count if cohort is None else len(cohort[place])
        if people == 0:
            continue
        asked[node] = range(0 if count > 1 else 1, people + 1)
        contents[node] = everybody
        if cohort is not None and count > 1:  # one person is their own cohort; a cell is told who of its people it is
            contents[node] = request_to_record(replace(request, participants=cohort[place]))
    contributions: list[Contribution] = []
    answers = exchange(grid, TRAIN, contents, group=str(request.round), timeout=ROUND_TIMEOUT_SECONDS)
    for node, content in answers:
        contribution = _read(content, request.release, asked[node])
        if contribution is not None:
            contributions.append(contribution)
    size = sum(contribution.vector.nbytes for contribution in contributions)
    return Answers(contributions=tuple(contributions), messages=len(contents), reply_bytes=size)


def _read(content: RecordDict, release: ReleasePlan, devices: range) -> Contribution | None:
    try:
        contribution = contribution_from_record(content, dimension=release.dimension)
    except MalformedMessage as error:
        LOG.warning("a reply was refused: %s", error)
        return None
    if contribution.devices not in devices or (contribution.devices == 0 and contribution.vector.any()):
        LOG.warning("a reply was refused: it stands for another number of people than was asked")
        return None
    return contribution
