"""One masked sum over a Grid: five steps, of which the server learns who took part, and one total.

The protocol is `homespun.secagg`'s; here its messages meet Flower's. At each step those who are still in are asked, and
until the stage is over their answers are handed to the protocol's server. Whoever is silent, fails, answers for somebody
else or sends what the protocol refuses is left out of what follows; the sum is opened from the rest, or not at all.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import RecordDict
from flwr.serverapp import Grid

from homespun.privacy import ReleasePlan
from homespun.secagg import (
    Aborted,
    Advert,
    Adverts,
    Consent,
    Inbox,
    MaskedVector,
    Refused,
    Revealed,
    RevealRequest,
    SealedShares,
    Server,
    Survivors,
    Terms,
)
from homespun.secagg.messages import Message
from homespun.server.cohort import Answers, exchange
from homespun.wire import (
    ADVERTISE,
    CONSENT,
    MASK,
    REVEAL,
    SHARE,
    Contribution,
    MalformedMessage,
    RoundRequest,
    StepRequest,
    advertise_to_record,
    masked_from_record,
    reply_from_record,
    step_to_record,
)

LOG = logging.getLogger("homespun.server")
STAGE_TIMEOUT_SECONDS = 600.0

_REPLIES: dict[str, Callable[[bytes], Message]] = {
    ADVERTISE: Advert.decode,
    SHARE: SealedShares.decode,
    CONSENT: Consent.decode,
    REVEAL: Revealed.decode,
}


def terms_of(release: ReleasePlan, roster: Sequence[bytes], *, context: bytes) -> Terms:
    """What the parties of a masked round agree on.

    Args:
        release: Says how many must be left, and how many of them may collude.
        roster: Identities of the parties.
        context: Digest of the request, its attempt included: no two attempts have the same terms.
    Raises:
        Refused: The roster is not one of distinct keys, or so few survivors of so many parties cannot be masked.
    """
    return Terms.of(
        context=context,
        dimension=release.dimension,
        roster=tuple(roster),
        min_survivors=release.fewest,
        colluding=release.colluding,
    )


def masked_sum(
    grid: Grid, nodes: Sequence[int], terms: Terms, request: RoundRequest, *, opening: Callable[[bytes, int], None]
) -> Answers:
    """Run one attempt at a masked round.

    Args:
        grid: Flower Grid of the nodes.
        nodes: Node ids, in the order of the roster.
        terms: What is summed, and who takes part; its context is the request's digest.
        request: What is asked of everybody.
        opening: Called with transcript and number of survivors when all that is missing are the shares that open the
            sum. Nobody is asked for one before it returned.

    Returns:
        One contribution: the sum of the survivors' vectors, and how many they are.

    Guarantees:
        * one sum: no vector, and no partial sum, is ever known here without its masks.
        * no reveal of too few: a step that fewer than ``terms.min_survivors`` came through ends the attempt.
        * nobody for another: a message counts for the party behind the node that was asked, or not at all.
        * no crash: silence, errors and messages that do not fit are left out, and logged without their content.
    Raises:
        Aborted: The sum cannot be opened. No key of this attempt may be used again; a new one needs new terms.
    """
    step = _Steps(grid=grid, nodes=nodes, server=Server(terms), terms=terms, group=str(request.round))
    server = step.server
    try:
        asked = advertise_to_record(request, StepRequest(session=terms.digest, payload=terms.encode()))
        step.take(ADVERTISE, dict.fromkeys(sorted(server.waiting), asked))
        step.broadcast(SHARE, Adverts(adverts=server.close_adverts()))
        inboxes = server.close_shares()
        step.take(MASK, {party: step.request(inbox) for party, inbox in inboxes.items()})
        step.broadcast(CONSENT, server.close_masked())
        server.close_consents()
        opening(server.transcript, len(server.survivors))
        step.take(REVEAL, {party: step.request(server.reveal_request(party)) for party in server.survivors})
        total = server.close()
    except Aborted as error:
        came = ", ".join(f"{name} {count}" for name, count in step.came.items())
        text = f"{error} Of {len(nodes)} who were asked, so many answered: {came}."
        raise Aborted(error.fault, text, stage=error.stage, party=error.party) from None
    return Answers(
        contributions=(Contribution(vector=total, devices=len(server.survivors)),),
        messages=len(nodes),
        reply_bytes=step.reply_bytes,
        steps=step.came,
    )


@dataclass(kw_only=True)
class _Steps:
    """Transport of one attempt, and what came through it."""

    grid: Grid
    nodes: Sequence[int]
    server: Server
    terms: Terms
    group: str
    came: dict[str, int] = field(default_factory=dict)
    """How many answers each step took."""
    reply_bytes: int = 0
    """Bytes of those answers."""

    def request(self, message: Adverts | Inbox | Survivors | RevealRequest) -> RecordDict:
        """The content of a later step."""
        return step_to_record(StepRequest(session=self.terms.digest, payload=message.encode()))

    def broadcast(self, message_type: str, message: Adverts | Survivors) -> None:
        """Ask everybody of whom this step wants an answer the same."""
        self.take(message_type, dict.fromkeys(sorted(self.server.waiting), self.request(message)))

    def take(self, message_type: str, contents: Mapping[int, RecordDict]) -> None:
        """Ask parties, and hand on what fits until all have answered or the stage is over."""
        parties = {self.nodes[party]: party for party in contents}
        asked = {self.nodes[party]: content for party, content in contents.items()}
        name = message_type.removeprefix("train.")
        self.came[name] = 0
        answers = exchange(self.grid, message_type, asked, group=self.group, timeout=STAGE_TIMEOUT_SECONDS)
        for node, content in answers:
            try:
                size, message = self._read(message_type, parties[node], content)
                self.server.receive(message, sender=parties[node])
            except (MalformedMessage, Refused) as error:
                LOG.warning("a reply was refused: %s", error)
                continue
            self.came[name] += 1
            self.reply_bytes += size

    def _read(self, message_type: str, party: int, content: RecordDict) -> tuple[int, Message]:
        """Size of an answer in bytes, and what it says."""
        if message_type == MASK:
            vector, acks = masked_from_record(content, dimension=self.terms.dimension, parties=len(self.nodes))
            return vector.nbytes + len(acks), MaskedVector(sender=party, vector=vector, acks=acks)
        payload = reply_from_record(content, message_type, parties=len(self.nodes))
        return len(payload), _REPLIES[message_type](payload)
