"""A party of a masked sum: five answers, each given once, to a server that is not trusted.

::

    advert -> share(adverts) -> mask(vector, inbox) -> [consent(survivors)] -> reveal(request)

Call `Client.close` to drop out early. Nothing here waits, sends or stores.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar, final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from homespun.secagg.crypto import (
    Identity,
    Tag,
    Unique,
    add_mask,
    agree,
    open_box,
    public_key,
    seal_box,
    subtract_mask,
)
from homespun.secagg.derivations import (
    ack_key,
    ack_tag,
    advert_content,
    commitment,
    consent_content,
    field_bytes,
    mask_private,
    pair_key,
    seal_context,
    seal_key,
    self_key,
    share_check,
    transcript_of,
)
from homespun.secagg.errors import Fault, Refused, Stage
from homespun.secagg.graph import Graph, draw_committee, draw_graph
from homespun.secagg.judging import check_adverts, check_consents, check_list, check_neighbour, vouched_for
from homespun.secagg.messages import (
    Ack,
    Advert,
    Adverts,
    Consent,
    Inbox,
    Kind,
    MaskedVector,
    Revealed,
    RevealRequest,
    Sealed,
    SealedShares,
    Share,
    Survivors,
    write_acks,
)
from homespun.secagg.shares import PRIME, split
from homespun.secagg.terms import Terms

__all__ = ["Client"]

SecretT = TypeVar("SecretT")


@dataclass(frozen=True, kw_only=True)
class _Fresh:
    """Secrets before they are shared."""

    mask_secret: int = field(repr=False)
    self_secret: int = field(repr=False)
    mask_private: X25519PrivateKey = field(repr=False)
    seal_private: X25519PrivateKey = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class _Public:
    """What a party knows from the adverts on."""

    transcript: bytes
    graph: Graph
    neighbours: frozenset[int]
    mask_keys: dict[int, bytes]


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """Keys from sharing to masking; of the seals only what is derived from them."""

    mask_private: X25519PrivateKey = field(repr=False)
    self_key: bytes = field(repr=False)
    opens: dict[int, bytes] = field(repr=False)
    acks_to: dict[int, bytes] = field(repr=False)
    acks_from: dict[int, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class _Held:
    """Shares of others, mask share first, and whom the own vector was masked with."""

    masked_with: frozenset[int]
    shares: dict[int, tuple[bytes, bytes]] = field(repr=False)
    acks_from: dict[int, bytes] = field(repr=False)


@final
class Client(Unique):
    """One party in one session. It is a class because it must answer each step once and forget its secrets then.

    Args:
        terms: What is summed, and among whom.
        identity: This party's key; its public half is on the roster.
    Guarantees:
        * one kind: of each neighbour at most one share is revealed, once, for one list that a quorum signed under the
          transcript that this party saw.
        * nothing before its time: no answer but `mask` depends on the vector, and `mask` is uniform to whoever lacks one
          of its masks.
        * refused means unchanged: a call that raises `Refused` leaves the party as it was.
        * forgetful: secrets are dropped as soon as no later step needs them, all of them after `reveal` or `close`.
        * not copied, not pickled, not printed.
    Raises:
        Refused: ``UNKNOWN_PARTY``, the identity is not on the roster.
    """

    def __init__(self, terms: Terms, identity: Identity) -> None:
        """Make fresh keys and the advert."""
        if identity.public not in terms.roster:
            raise Refused(Fault.UNKNOWN_PARTY, "Expected an identity on the roster of the terms.")
        self.terms = terms
        self.index = terms.roster.index(identity.public)
        self.stage = Stage.SHARE
        self._identity: Identity | None = identity
        self._committee = draw_committee(terms.parties, terms.shape, terms.digest)
        mask_secret, self_secret = secrets.randbelow(PRIME), secrets.randbelow(PRIME)
        self._fresh: _Fresh | None = _Fresh(
            mask_secret=mask_secret,
            self_secret=self_secret,
            mask_private=mask_private(terms, self.index, mask_secret),
            seal_private=X25519PrivateKey.generate(),
        )
        self._public: _Public | None = None
        self._keys: _Keys | None = None
        self._held: _Held | None = None
        self._signed: Survivors | None = None
        self.advert = _advertise(terms, self.index, identity, self._fresh)

    @property
    def transcript(self) -> bytes:
        """Digest of terms and adverts, 32 bytes.

        Raises:
            Refused: ``WRONG_STAGE``, the adverts are not known yet.
        """
        if self._public is None:
            raise Refused(Fault.WRONG_STAGE, "Expected the adverts before the transcript.")
        return self._public.transcript

    @property
    def is_committee(self) -> bool:
        """Whether this party is asked for its consent."""
        return self.index in self._committee

    def share(self, adverts: Sequence[Advert]) -> SealedShares:
        """Check everybody's keys, and split both secrets among the neighbours.

        Args:
            adverts: All adverts that the server says arrived, by rising index.
        Raises:
            Refused: ``TOO_FEW`` adverts, ``UNKNOWN_PARTY``, ``OWN_ADVERT_CHANGED``, ``KEY_REUSED``, and of a neighbour
                ``BAD_SIGNATURE`` or ``WEAK_KEY``.
        """
        fresh = self._at(Stage.SHARE, self._fresh)
        found = Adverts(adverts=tuple(adverts)).adverts
        check_adverts(self.terms, found, self.advert)
        transcript = transcript_of(self.terms, found)
        graph = draw_graph([advert.index for advert in found], self.terms.shape, transcript)
        row = graph.neighbours(self.index)
        by_index = {advert.index: advert for advert in found}
        for peer in row:
            check_neighbour(self.terms, by_index[peer])
        agreed = {peer: agree(fresh.seal_private, by_index[peer].seal_key) for peer in row}
        mask_shares = split(fresh.mask_secret, threshold=self.terms.shape.threshold, holders=row)
        self_shares = split(fresh.self_secret, threshold=self.terms.shape.threshold, holders=row)
        sealed = SealedShares(
            sender=self.index,
            rows=tuple(
                [
                    _seal(transcript, self.index, peer, agreed[peer], mask_shares[peer], self_shares[peer])
                    for peer in row
                ]
            ),
        )
        self._public = _Public(
            transcript=transcript,
            graph=graph,
            neighbours=frozenset(row),
            mask_keys={peer: by_index[peer].mask_key for peer in row},
        )
        acked = row if self.terms.sparse else ()
        self._keys = _Keys(
            mask_private=fresh.mask_private,
            self_key=self_key(fresh.self_secret, transcript, self.index),
            opens={peer: seal_key(agreed[peer], transcript, peer, self.index) for peer in row},
            acks_to={peer: ack_key(agreed[peer], transcript, self.index, peer) for peer in acked},
            acks_from={peer: ack_key(agreed[peer], transcript, peer, self.index) for peer in acked},
        )
        self._fresh = None
        self.stage = Stage.MASK
        return sealed

    def check_inbox(self, inbox: Inbox) -> None:
        """Return if `mask` would take this inbox now: for whoever pays for a vector before it is computed.

        Raises:
            Refused: What `mask` refuses of an inbox; nothing changes either way.
        """
        self._open(inbox, self._at(Stage.MASK, self._keys), self._known())

    def mask(self, vector: NDArray[np.uint32], inbox: Inbox) -> MaskedVector:
        """Hide the vector under the self mask and a mask with each neighbour that shared.

        Args:
            vector: uint32, shape ``(dimension,)``, modulo 2^32; it is not changed.
            inbox: What the neighbours sealed to this party. A row that cannot be opened still names a neighbour to mask with.
        Raises:
            Refused: ``OUT_OF_RANGE``, ``NOT_ADDRESSED``, ``UNKNOWN_PARTY``, or ``TOO_FEW`` rows that open: the neighbours
                that remove this party's self mask might not be among those that it masks with.
        """
        keys = self._at(Stage.MASK, self._keys)
        public = self._known()
        shape = (self.terms.dimension,)
        if not isinstance(vector, np.ndarray) or vector.dtype != np.uint32 or vector.shape != shape:
            raise Refused(Fault.OUT_OF_RANGE, f"Expected a vector of uint32 and shape {shape}.")
        shares = self._open(inbox, keys, public)
        senders = [row.sender for row in inbox.rows]
        masked = np.array(vector, dtype=np.uint32, order="C")
        add_mask(masked, keys.self_key)
        for peer in senders:
            key = pair_key(keys.mask_private, public.mask_keys[peer], public.transcript, self.index, peer)
            (add_mask if peer > self.index else subtract_mask)(masked, key)
        acks = [Ack(peer, ack_tag(keys.acks_to[peer], senders)) for peer in senders if peer in keys.acks_to]
        self._held = _Held(masked_with=frozenset(senders), shares=shares, acks_from=keys.acks_from)
        self._keys = None
        self.stage = Stage.CONSENT
        return MaskedVector(sender=self.index, vector=masked, acks=write_acks(acks))

    def consent(self, survivors: Survivors) -> Consent:
        """Sign the list of survivors: one list, once.

        Raises:
            Refused: ``NOT_ADDRESSED`` outside the committee, ``LIST_CHANGED`` for a second list, ``TOO_FEW``,
                ``NOT_A_SUBSET``, ``NOT_IN_LIST``.
        """
        if self._signed is not None and self._signed != survivors:
            raise Refused(Fault.LIST_CHANGED, "Expected the list of survivors that was signed: no second one is.")
        held = self._at(Stage.CONSENT, self._held)
        if not self.is_committee or self._identity is None:
            raise Refused(Fault.NOT_ADDRESSED, f"Expected party {self.index} to be asked for no consent.")
        self._check_list(survivors, held)
        content = consent_content(self.terms, self.transcript, survivors)
        signature = self._identity.sign(Tag.CONSENT, content)
        self._signed = survivors
        self.stage = Stage.REVEAL
        return Consent(sender=self.index, signature=signature)

    def reveal(self, request: RevealRequest) -> Revealed:
        """Hand over one share of each neighbour: of the self mask if it survived, of the mask key if it dropped.

        Of a neighbour whose shares could not be opened, or whose ack does not hold, there is no row.

        Raises:
            Refused: ``LIST_CHANGED`` if another list was signed, ``NO_QUORUM``, ``UNKNOWN_PARTY`` or ``BAD_SIGNATURE`` of
                the consents, and what `consent` refuses of a list.
        """
        held = self._at(Stage.REVEAL if self._signed is not None else Stage.CONSENT, self._held)
        if not isinstance(request, RevealRequest):
            raise Refused(Fault.MALFORMED, "Expected a request to reveal.")
        if self._signed is not None and self._signed != request.survivors:
            raise Refused(Fault.LIST_CHANGED, "Expected the list of survivors that this party signed.")
        self._check_list(request.survivors, held)
        check_consents(self.terms, self.transcript, self._committee, request)
        living = frozenset(request.survivors.indices)
        vouched = self._vouched(request, held)
        rows = [
            Share(dealer, Kind.SELF if dealer in living else Kind.MASK, pair[dealer in living])
            for dealer, pair in sorted(held.shares.items())
            if dealer not in living or dealer in vouched
        ]
        revealed = Revealed(sender=self.index, rows=tuple(rows))
        self.close()
        return revealed

    def close(self) -> None:
        """Drop out, or be done: whatever is secret is gone, and every later call is refused."""
        self._identity = self._fresh = self._keys = self._held = None
        self.stage = Stage.DONE

    def __repr__(self) -> str:
        """Say who it is and where it stands."""
        return f"Client(index={self.index}, stage={self.stage.value!r})"

    def _at(self, stage: Stage, secret: SecretT | None) -> SecretT:
        """Return the secret that a step needs."""
        if self.stage is not stage or secret is None:
            raise Refused(Fault.WRONG_STAGE, f"Expected what belongs to the step {self.stage.value!r}.")
        return secret

    def _known(self) -> _Public:
        if self._public is None:
            raise Refused(Fault.WRONG_STAGE, "Expected the adverts first.")
        return self._public

    def _open(self, inbox: Inbox, keys: _Keys, public: _Public) -> dict[int, tuple[bytes, bytes]]:
        if not isinstance(inbox, Inbox):
            raise Refused(Fault.MALFORMED, "Expected an inbox.")
        if inbox.to != self.index:
            raise Refused(Fault.NOT_ADDRESSED, f"Expected an inbox to={inbox.to} for party {self.index}.")
        shares = {}
        for sender, box in inbox.rows:
            if sender not in public.neighbours:
                raise Refused(Fault.UNKNOWN_PARTY, f"Expected shares of neighbours alone, not of party {sender}.")
            content = open_box(keys.opens[sender], box, seal_context(public.transcript, sender, self.index))
            if content is not None:
                shares[sender] = (content[:32], content[32:])
        if len(shares) < self.terms.shape.threshold:
            raise Refused(
                Fault.TOO_FEW, f"Expected opened={len(shares)} in [threshold={self.terms.shape.threshold}, parties]."
            )
        return shares

    def _check_list(self, survivors: Survivors, held: _Held) -> None:
        check_list(self.terms, self._known().graph, survivors, self.index, held.masked_with)

    def _vouched(self, request: RevealRequest, held: _Held) -> frozenset[int]:
        """Return of whom a self mask may be removed."""
        if self.terms.sparse:
            return vouched_for(self._known().graph, request, held.acks_from)
        if request.dropped or request.acks:
            raise Refused(Fault.MALFORMED, "Expected no acks where the graph is complete.")
        return held.masked_with


def _advertise(terms: Terms, index: int, identity: Identity, fresh: _Fresh) -> Advert:
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


def _seal(transcript: bytes, sender: int, to: int, agreed: bytes, mask_share: int, self_share: int) -> Sealed:
    mask_bytes, self_bytes = field_bytes(mask_share), field_bytes(self_share)
    key, context = seal_key(agreed, transcript, sender, to), seal_context(transcript, sender, to)
    return Sealed(
        to,
        seal_box(key, mask_bytes + self_bytes, context),
        share_check(transcript, sender, to, Kind.MASK, mask_bytes),
        share_check(transcript, sender, to, Kind.SELF, self_bytes),
    )
