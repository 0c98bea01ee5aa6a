"""What a party holds from one step to the next, and how each of these is made of the one before.

::

    Fresh  --adverts-->  View, Keys  --inbox-->  Held  --request-->  rows of shares

A step replaces what it used up, so that a secret is gone as soon as no later step needs it. Nothing here remembers which step
comes next: that is for `Client`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from homespun.secagg.crypto import Tag, agree, open_box, public_key, seal_box
from homespun.secagg.derivations import (
    ack_key,
    ack_tag,
    advert_content,
    commitment,
    field_bytes,
    mask_private,
    seal_context,
    seal_key,
    self_key,
    share_check,
    transcript_of,
)
from homespun.secagg.errors import Fault, Refused
from homespun.secagg.graph import Graph, draw_graph
from homespun.secagg.identity import Identity
from homespun.secagg.judging import check_neighbour
from homespun.secagg.messages import Ack, Advert, Inbox, Kind, Sealed, SealedShares, Share, write_acks
from homespun.secagg.shares import split
from homespun.secagg.terms import Terms

__all__ = [
    "Fresh",
    "Held",
    "Keys",
    "View",
    "acks_for",
    "advertise",
    "agree_with_all",
    "begin",
    "join",
    "keys_of",
    "open_inbox",
    "rows_to_reveal",
    "seal_shares",
]


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """Secrets before they are shared."""

    mask_secret: int = field(repr=False)
    self_secret: int = field(repr=False)
    mask_private: X25519PrivateKey = field(repr=False)
    seal_private: X25519PrivateKey = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class View:
    """What a party knows from the adverts on; all of it is public."""

    terms: Terms
    index: int
    transcript: bytes
    graph: Graph
    neighbours: Mapping[int, Advert]
    """Their adverts, indices rising."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Keys from sharing to masking; of the seals only what is derived from them."""

    mask_private: X25519PrivateKey = field(repr=False)
    self_key: bytes = field(repr=False)
    opens: dict[int, bytes] = field(repr=False)
    acks_to: dict[int, bytes] = field(repr=False)
    acks_from: dict[int, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Held:
    """Shares of others, mask share first, and whom the own vector was masked with."""

    masked_with: frozenset[int]
    shares: dict[int, tuple[bytes, bytes]] = field(repr=False)
    acks_from: dict[int, bytes] = field(repr=False)


def begin(terms: Terms, index: int, *, mask_secret: int, self_secret: int) -> Fresh:
    """Put the two secrets of a session, uniform field elements, beside their keys; that of the seals is drawn here."""
    return Fresh(
        mask_secret=mask_secret,
        self_secret=self_secret,
        mask_private=mask_private(terms, index, mask_secret),
        seal_private=X25519PrivateKey.generate(),
    )


def advertise(terms: Terms, index: int, identity: Identity, fresh: Fresh) -> Advert:
    """Return the signed advert of the public halves."""
    mask_key, seal_key = public_key(fresh.mask_private), public_key(fresh.seal_private)
    committed = commitment(terms, index, fresh.self_secret)
    content = advert_content(terms, index, mask_key, seal_key, committed)
    return Advert(
        index=index,
        mask_key=mask_key,
        seal_key=seal_key,
        commitment=committed,
        signature=identity.sign(Tag.ADVERT, content),
    )


def join(terms: Terms, index: int, adverts: Sequence[Advert]) -> View:
    """Find the own neighbours among those that advertised; `Refused` if they are too few, or an advert is not theirs."""
    transcript = transcript_of(terms, adverts)
    graph = draw_graph([advert.index for advert in adverts], terms.shape, transcript)
    by_index = {advert.index: advert for advert in adverts}
    neighbours = {peer: by_index[peer] for peer in graph.neighbours(index)}
    if len(neighbours) < terms.shape.threshold:  # edges that were drawn twice
        raise Refused(
            Fault.TOO_FEW, f"Expected neighbours={len(neighbours)} in [threshold={terms.shape.threshold}, degree]."
        )
    for advert in neighbours.values():
        check_neighbour(terms, advert)
    return View(terms=terms, index=index, transcript=transcript, graph=graph, neighbours=neighbours)


def agree_with_all(view: View, fresh: Fresh) -> dict[int, bytes]:
    """Return what each neighbour and this party alone know; boxes and acks have their keys of it."""
    return {peer: agree(fresh.seal_private, advert.seal_key) for peer, advert in view.neighbours.items()}


def seal_shares(view: View, fresh: Fresh, agreed: Mapping[int, bytes]) -> SealedShares:
    """Split both secrets among the neighbours."""
    row, threshold = tuple(view.neighbours), view.terms.shape.threshold
    mask_shares = split(fresh.mask_secret, threshold=threshold, holders=row)
    self_shares = split(fresh.self_secret, threshold=threshold, holders=row)
    return SealedShares(
        sender=view.index,
        rows=tuple([_seal(view, peer, agreed[peer], mask_shares[peer], self_shares[peer]) for peer in row]),
    )


def keys_of(view: View, fresh: Fresh, agreed: Mapping[int, bytes]) -> Keys:
    """Derive what is needed once the secrets are shared. Acks are for sparse graphs alone."""
    transcript, index = view.transcript, view.index
    acked = agreed if view.terms.sparse else {}
    return Keys(
        mask_private=fresh.mask_private,
        self_key=self_key(fresh.self_secret, transcript, index),
        opens={peer: seal_key(secret, transcript, peer, index) for peer, secret in agreed.items()},
        acks_to={peer: ack_key(secret, transcript, index, peer) for peer, secret in acked.items()},
        acks_from={peer: ack_key(secret, transcript, peer, index) for peer, secret in acked.items()},
    )


def open_inbox(view: View, keys: Keys, inbox: Inbox) -> dict[int, tuple[bytes, bytes]]:
    """Return the shares of each neighbour whose box opens, mask share first.

    Raises:
        Refused: ``NOT_ADDRESSED``, ``UNKNOWN_PARTY``, or ``TOO_FEW`` that open.
    """
    if not isinstance(inbox, Inbox):
        raise Refused(Fault.MALFORMED, "Expected an inbox.")
    if inbox.to != view.index:
        raise Refused(Fault.NOT_ADDRESSED, f"Expected an inbox to={inbox.to} for party {view.index}.")
    shares = {}
    for sender, box in inbox.rows:
        if sender not in view.neighbours:
            raise Refused(Fault.UNKNOWN_PARTY, f"Expected shares of neighbours alone, not of party {sender}.")
        content = open_box(keys.opens[sender], box, seal_context(view.transcript, sender, view.index))
        if content is not None:
            shares[sender] = (content[:32], content[32:])
    threshold = view.terms.shape.threshold
    if len(shares) < threshold:
        raise Refused(Fault.TOO_FEW, f"Expected opened={len(shares)} in [threshold={threshold}, parties].")
    return shares


def acks_for(keys: Keys, senders: Sequence[int]) -> bytes:
    """Tell each of those in the inbox that this party masked with all of them; nothing where the graph is complete."""
    return write_acks(Ack(peer, ack_tag(keys.acks_to[peer], senders)) for peer in senders if peer in keys.acks_to)


def rows_to_reveal(held: Held, living: Container[int], vouched: Container[int]) -> tuple[Share, ...]:
    """Return one share of each dealer: of its self mask if it lives and is vouched for, of its mask key if it dropped."""
    return tuple(
        [
            Share(dealer, Kind.SELF if dealer in living else Kind.MASK, pair[dealer in living])
            for dealer, pair in sorted(held.shares.items())
            if dealer not in living or dealer in vouched
        ]
    )


def _seal(view: View, to: int, agreed: bytes, mask_share: int, self_share: int) -> Sealed:
    transcript, sender = view.transcript, view.index
    mask_bytes, self_bytes = field_bytes(mask_share), field_bytes(self_share)
    key, context = seal_key(agreed, transcript, sender, to), seal_context(transcript, sender, to)
    return Sealed(
        to,
        seal_box(key, mask_bytes + self_bytes, context),
        share_check(transcript, sender, to, Kind.MASK, mask_bytes),
        share_check(transcript, sender, to, Kind.SELF, self_bytes),
    )
