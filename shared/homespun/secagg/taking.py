"""What the server asks of an answer before it takes it, and what it keeps of one; `Refused` says which rule is broken.

Nothing here changes anything: what is refused here leaves the server as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from homespun.secagg.crypto import Tag, is_weak_key
from homespun.secagg.derivations import check_signature, consent_content, share_check, transcript_of
from homespun.secagg.errors import Fault, Refused, Stage
from homespun.secagg.graph import Graph, draw_graph
from homespun.secagg.identity import verify
from homespun.secagg.messages import (
    Ack,
    Advert,
    Consent,
    Kind,
    MaskedVector,
    Message,
    Revealed,
    SealedShares,
    Survivors,
    read_acks,
)
from homespun.secagg.shares import PRIME
from homespun.secagg.terms import Terms

__all__ = [
    "Joined",
    "acks_of",
    "check_consent",
    "check_kinds",
    "check_sealed",
    "join_all",
    "keys_in",
    "party_of",
    "right_points",
]

_STEPS: dict[type, Stage] = {
    Advert: Stage.ADVERTISE,
    SealedShares: Stage.SHARE,
    MaskedVector: Stage.MASK,
    Consent: Stage.CONSENT,
    Revealed: Stage.REVEAL,
}


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What follows from the adverts, for all parties."""

    transcript: bytes
    graph: Graph
    rows: Mapping[int, tuple[int, ...]] = field(repr=False)
    """Neighbours of each."""


def join_all(terms: Terms, adverts: Sequence[Advert]) -> Joined:
    """Draw the graph of those that advertised; adverts by rising index."""
    transcript = transcript_of(terms, adverts)
    graph = draw_graph([advert.index for advert in adverts], terms.shape, transcript)
    return Joined(transcript=transcript, graph=graph, rows={index: graph.neighbours(index) for index in graph.present})


def party_of(message: Message, terms: Terms, stage: Stage, sender: int | None) -> int:
    """Return who answers, if the answer belongs to this step and to the party that the transport names, if it names one."""
    if type(message) not in _STEPS:
        raise Refused(Fault.MALFORMED, "Expected a message of a party.")
    if _STEPS[type(message)] is not stage:
        raise Refused(Fault.WRONG_STAGE, f"Expected what belongs to the step {stage.value!r}.")
    party = message.index if isinstance(message, Advert) else message.sender
    if sender is not None and sender != party:
        raise Refused(Fault.WRONG_SENDER, f"Expected a message of party {sender}, not of party {party}.")
    if party >= terms.parties:
        raise Refused(Fault.UNKNOWN_PARTY, f"Expected party={party} in [0, parties={terms.parties}).")
    return party


def keys_in(terms: Terms, advert: Advert, taken: Collection[bytes]) -> frozenset[bytes]:
    """Return keys and commitment of a signed advert, if they are sound and none of them is taken."""
    check_signature(terms, advert)
    if is_weak_key(advert.mask_key) or is_weak_key(advert.seal_key):
        raise Refused(Fault.WEAK_KEY, f"Expected keys of large order of party {advert.index}.")
    keys = frozenset({advert.mask_key, advert.seal_key, advert.commitment})
    if len(keys) != 3 or not keys.isdisjoint(taken):
        raise Refused(Fault.KEY_REUSED, f"Expected keys of party {advert.index} that nobody else has.")
    return keys


def check_sealed(joined: Joined, shares: SealedShares) -> None:
    """Return if there is a row for each neighbour of the dealer, and no other."""
    if tuple([row.to for row in shares.rows]) != joined.rows[shares.sender]:
        raise Refused(Fault.NOT_ADDRESSED, f"Expected a row of party {shares.sender} for each neighbour alone.")


def acks_of(terms: Terms, joined: Joined, shared: Collection[int], masked: MaskedVector) -> tuple[Ack, ...]:
    """Return the acks beside a vector of the right length: one for each in the party's inbox, and no other."""
    if masked.vector.shape != (terms.dimension,):
        raise Refused(Fault.OUT_OF_RANGE, f"Expected dimension={terms.dimension} of a masked vector.")
    acks = read_acks(masked.acks)
    told = joined.rows[masked.sender] if terms.sparse else ()
    if [ack.party for ack in acks] != [peer for peer in told if peer in shared]:
        raise Refused(Fault.NOT_ADDRESSED, f"Expected an ack of party {masked.sender} for each in its inbox alone.")
    return acks


def check_consent(terms: Terms, joined: Joined, survivors: Survivors, consent: Consent) -> None:
    """Return if the party signed this list under this transcript."""
    content = consent_content(terms, joined.transcript, survivors)
    if not verify(terms.roster[consent.sender], consent.signature, Tag.CONSENT, content):
        raise Refused(Fault.BAD_SIGNATURE, f"Expected the consent of party {consent.sender} to this list.")


def check_kinds(revealed: Revealed, dealers: Collection[int], living: Collection[int]) -> None:
    """Return if all shares are of these dealers, and each of the kind that was asked for: never both secrets of one."""
    for share in revealed.rows:
        if share.dealer not in dealers:
            raise Refused(Fault.UNKNOWN_PARTY, f"Expected shares of neighbours that shared, not of {share.dealer}.")
        if share.kind != (Kind.SELF if share.dealer in living else Kind.MASK):
            raise Refused(Fault.BAD_SHARE, f"Expected the other kind of share of party {share.dealer}.")


def right_points(
    terms: Terms,
    joined: Joined,
    revealed: Revealed,
    checks: Mapping[int, Mapping[int, tuple[bytes, bytes]]],
    points: Mapping[int, Mapping[int, int]],
) -> dict[int, int]:
    """Return, by dealer, the value of each share that its dealer announced; wrong ones are passed over.

    Args:
        terms: The session's.
        joined: What follows from its adverts.
        revealed: Shares of the kinds that were asked for.
        checks: What each dealer announced of its shares, by holder.
        points: What arrived before, by dealer and holder.
    """
    holder, right = revealed.sender, {}
    for dealer, number, value in revealed.rows:
        if len(points[dealer]) >= terms.shape.threshold:
            continue  # more are not needed, and checking them would take a tenth of the server's time
        kind = Kind(number)
        if share_check(joined.transcript, dealer, holder, kind, value) == checks[dealer][holder][kind]:
            point = int.from_bytes(value, "little")
            if point < PRIME:
                right[dealer] = point
    return right
