"""A party of a masked sum: five answers, each given once, to a server that is not trusted.

::

    advert -> share(adverts) -> mask(vector, inbox) -> [consent(survivors)] -> reveal(request)

Call `Client.close` to drop out early. Nothing here waits, sends or stores.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TypeVar, final

import numpy as np
from numpy.typing import NDArray

from homespun.secagg.crypto import Tag, add_mask, subtract_mask
from homespun.secagg.derivations import consent_content, pair_key
from homespun.secagg.errors import Fault, Refused, Stage
from homespun.secagg.graph import draw_committee
from homespun.secagg.holdings import (
    Fresh,
    Held,
    Keys,
    View,
    acks_for,
    advertise,
    agree_with_all,
    begin,
    join,
    keys_of,
    open_inbox,
    rows_to_reveal,
    seal_shares,
)
from homespun.secagg.identity import Identity, Unique
from homespun.secagg.judging import check_adverts, check_consents, check_list, vouched_for
from homespun.secagg.messages import (
    Advert,
    Adverts,
    Consent,
    Inbox,
    MaskedVector,
    Revealed,
    RevealRequest,
    SealedShares,
    Survivors,
)
from homespun.secagg.shares import PRIME
from homespun.secagg.terms import Terms

__all__ = ["Client"]

SecretT = TypeVar("SecretT")


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
        * one caller at a time: that is left to whoever calls; two threads in one step could make it answer twice.
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
        self._fresh: Fresh | None = begin(terms, self.index, mask_secret=mask_secret, self_secret=self_secret)
        self._view: View | None = None
        self._keys: Keys | None = None
        self._held: Held | None = None
        self._signed: Survivors | None = None
        self.advert = advertise(terms, self.index, identity, self._fresh)

    @property
    def transcript(self) -> bytes:
        """Digest of terms and adverts, 32 bytes.

        Raises:
            Refused: ``WRONG_STAGE``, the adverts are not known yet.
        """
        if self._view is None:
            raise Refused(Fault.WRONG_STAGE, "Expected the adverts before the transcript.")
        return self._view.transcript

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
        view = join(self.terms, self.index, found)
        agreed = agree_with_all(view, fresh)
        sealed = seal_shares(view, fresh, agreed)
        self._view, self._keys, self._fresh = view, keys_of(view, fresh, agreed), None
        self.stage = Stage.MASK
        return sealed

    def check_inbox(self, inbox: Inbox) -> None:
        """Return if `mask` would take this inbox now: for whoever pays for a vector before it is computed.

        Raises:
            Refused: What `mask` refuses of an inbox; nothing changes either way.
        """
        keys = self._at(Stage.MASK, self._keys)
        open_inbox(self._known(), keys, inbox)

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
        view = self._known()
        shape = (self.terms.dimension,)
        if not isinstance(vector, np.ndarray) or vector.dtype != np.uint32 or vector.shape != shape:
            raise Refused(Fault.OUT_OF_RANGE, f"Expected a vector of uint32 and shape {shape}.")
        shares = open_inbox(view, keys, inbox)
        senders = [row.sender for row in inbox.rows]
        masked = np.array(vector, dtype=np.uint32, order="C")
        add_mask(masked, keys.self_key)
        for peer in senders:
            key = pair_key(keys.mask_private, view.neighbours[peer].mask_key, view.transcript, self.index, peer)
            (add_mask if peer > self.index else subtract_mask)(masked, key)
        acks = acks_for(keys, senders)
        self._held = Held(masked_with=frozenset(senders), shares=shares, acks_from=keys.acks_from)
        self._keys = None
        self.stage = Stage.CONSENT
        return MaskedVector(sender=self.index, vector=masked, acks=acks)

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
        revealed = Revealed(sender=self.index, rows=rows_to_reveal(held, living, self._vouched(request, held)))
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

    def _known(self) -> View:
        if self._view is None:
            raise Refused(Fault.WRONG_STAGE, "Expected the adverts first.")
        return self._view

    def _check_list(self, survivors: Survivors, held: Held) -> None:
        check_list(self.terms, self._known().graph, survivors, self.index, held.masked_with)

    def _vouched(self, request: RevealRequest, held: Held) -> frozenset[int]:
        """Return of whom a self mask may be removed."""
        if self.terms.sparse:
            return vouched_for(self._known().graph, request, held.acks_from)
        if request.dropped or request.acks:
            raise Refused(Fault.MALFORMED, "Expected no acks where the graph is complete.")
        return held.masked_with
