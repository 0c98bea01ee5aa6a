"""The server of a masked sum: it collects what parties answer, and opens one sum or none.

::

    receive(Advert)*       close_adverts()   -> adverts, for everybody who sent one
    receive(SealedShares)* close_shares()    -> an inbox for each who shared
    receive(MaskedVector)* close_masked()    -> survivors, for `Server.committee`
    receive(Consent)*      close_consents()  -> then reveal_request(index), for each survivor
    receive(Revealed)*     close()           -> the sum

Whoever moves the messages decides when a step has waited long enough. A party that is silent in one step is out from then
on; what it sends later is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from homespun.secagg.crypto import add_mask, subtract_mask
from homespun.secagg.errors import Aborted, Fault, Refused, Stage
from homespun.secagg.graph import draw_committee
from homespun.secagg.messages import (
    Ack,
    Advert,
    Consent,
    Inbox,
    MaskedVector,
    Message,
    Note,
    Revealed,
    RevealRequest,
    SealedShares,
    Survivors,
)
from homespun.secagg.taking import (
    Joined,
    acks_of,
    check_consent,
    check_kinds,
    check_sealed,
    join_all,
    keys_in,
    party_of,
    right_points,
)
from homespun.secagg.terms import Terms
from homespun.secagg.unmasking import Unmasking

__all__ = ["Server"]


@final
class Server:
    """One session's server. It is a class because it must take each message once, and in its step.

    Args:
        terms: What is summed, and among whom.
    Guarantees:
        * refused means unchanged: a message that raises `Refused` leaves the server as it was.
        * exact: the result is the sum modulo 2^32 of the survivors' vectors, or `Aborted`. A party that cheats with the
          content of its own vector or mask changes the sum like any vector would; nobody can point at it.
        * steady: wrong shares of some holders change nothing while enough right ones arrive.
        * one vector of memory, whatever the number of parties.
    """

    def __init__(self, terms: Terms) -> None:
        """Wait for adverts of everybody on the roster."""
        self.terms = terms
        self.stage = Stage.ADVERTISE
        self._roster_committee = draw_committee(terms.parties, terms.shape, terms.digest)
        self._asked = frozenset(range(terms.parties))
        self._answered: set[int] = set()
        self._adverts: dict[int, Advert] = {}
        self._keys: set[bytes] = set()
        self._joined: Joined | None = None
        self._boxes: dict[int, dict[int, bytes]] = {}
        self._checks: dict[int, dict[int, tuple[bytes, bytes]]] = {}
        self._shared: frozenset[int] = frozenset()
        self._total = np.zeros(terms.dimension, dtype=np.uint32)
        self._acks: dict[int, list[Ack]] = {}
        self._survivors = Survivors(indices=())
        self._consents: dict[int, Consent] = {}
        self._request: RevealRequest | None = None
        self._points: dict[int, dict[int, int]] = {}

    @property
    def waiting(self) -> frozenset[int]:
        """Indices of those who may still answer in this step."""
        return self._asked - self._answered if self.stage is not Stage.DONE else frozenset()

    @property
    def transcript(self) -> bytes:
        """Digest of terms and adverts, 32 bytes; `Refused` before the adverts are closed."""
        return self._known().transcript

    @property
    def survivors(self) -> tuple[int, ...]:
        """Indices of those whose vectors are in the sum, rising; empty before the masked vectors are closed."""
        return self._survivors.indices

    @property
    def committee(self) -> frozenset[int]:
        """Indices of the survivors that are asked for consent."""
        return self._roster_committee.intersection(self._survivors.indices)

    def receive(self, message: Message, *, sender: int | None = None) -> None:
        """Take one answer.

        Args:
            message: An advert, sealed shares, a masked vector, a consent or revealed shares.
            sender: Index of the party that the transport says it is from, where it knows.
        Raises:
            Refused: nothing was taken. ``WRONG_STAGE``, ``WRONG_SENDER``, ``UNKNOWN_PARTY``, ``DUPLICATE``,
                ``NOT_ADDRESSED`` for a party that is out already, or what is wrong with the content.
        """
        party = party_of(message, self.terms, self.stage, sender)
        if party in self._answered:
            raise Refused(Fault.DUPLICATE, f"Expected one answer of party {party} in the step {self.stage.value!r}.")
        if party not in self._asked:
            raise Refused(Fault.NOT_ADDRESSED, f"Expected no answer of party {party} in the step {self.stage.value!r}.")
        self._take(message)
        self._answered.add(party)

    def close_adverts(self) -> tuple[Advert, ...]:
        """Go on with those that advertised; return all adverts, for each of them.

        Raises:
            Aborted: ``TOO_FEW``.
            Refused: ``WRONG_STAGE``, as for every other step that is closed.
        """
        self._at(Stage.ADVERTISE)
        self._enough("adverts", len(self._adverts), self.terms.min_survivors)
        adverts = tuple(self._adverts[index] for index in sorted(self._adverts))
        self._joined = join_all(self.terms, adverts)
        self._next(Stage.SHARE, frozenset(self._joined.graph.present))
        return adverts

    def close_shares(self) -> dict[int, Inbox]:
        """Go on with those that shared; return what is for each of them, by index.

        Raises:
            Aborted: ``TOO_FEW``.
        """
        self._at(Stage.SHARE)
        self._enough("dealers", len(self._boxes), self.terms.min_survivors)
        boxes, rows = self._boxes, self._known().rows
        inboxes = {
            to: Inbox(to=to, rows=tuple([Note(peer, boxes[peer][to]) for peer in rows[to] if peer in boxes]))
            for to in sorted(boxes)
        }
        self._shared = frozenset(self._boxes)
        self._boxes = {}
        self._next(Stage.MASK, self._shared)
        return inboxes

    def close_masked(self) -> Survivors:
        """Go on with those whose vectors arrived; return the list that `committee` is asked to sign.

        Raises:
            Aborted: ``TOO_FEW`` survivors, or too few next to one of them; ``NO_QUORUM`` among them.
        """
        self._at(Stage.MASK)
        self._enough("survivors", len(self._answered), self.terms.min_survivors)
        survivors = Survivors(indices=tuple(sorted(self._answered)))
        least = self._known().graph.least_live(survivors.indices)
        self._enough("neighbours of the loneliest survivor", least, self.terms.shape.threshold)
        committee = self._roster_committee & self._answered
        self._enough("committee", len(committee), self.terms.shape.quorum, Fault.NO_QUORUM)
        self._survivors = survivors
        self._next(Stage.CONSENT, committee)
        return survivors

    def close_consents(self) -> RevealRequest:
        """Go on with a quorum; return what is the same in every request to reveal. `reveal_request` adds the acks.

        Raises:
            Aborted: ``NO_QUORUM``.
        """
        self._at(Stage.CONSENT)
        quorum = self.terms.shape.quorum
        self._enough("consents", len(self._consents), quorum, Fault.NO_QUORUM)
        self._request = RevealRequest(
            survivors=self._survivors,
            consents=tuple(self._consents[index] for index in sorted(self._consents)[:quorum]),
            dropped=tuple(sorted(self._shared.difference(self.survivors))) if self.terms.sparse else (),
        )
        self._points = {dealer: {} for dealer in self._shared}
        self._next(Stage.REVEAL, frozenset(self.survivors))
        return self._request

    def reveal_request(self, index: int) -> RevealRequest:
        """Return what to send to one survivor; where the graph is complete, the same for all.

        Raises:
            Refused: ``WRONG_STAGE``, or ``NOT_ADDRESSED``: it is none.
        """
        self._at(Stage.REVEAL)
        if index not in self._asked or self._request is None:
            raise Refused(Fault.NOT_ADDRESSED, f"Expected index={index} of a survivor.")
        return replace(self._request, acks=tuple(sorted(self._acks.get(index, []))))

    def close(self) -> NDArray[np.uint32]:
        """Remove the masks and return the sum of the survivors' vectors modulo 2^32, shape ``(dimension,)``.

        Raises:
            Aborted: ``TOO_FEW`` right shares of a party, or ``BAD_DEALER``: a party's shares do not add up to the secret
                that it announced. `Aborted.party` is its index.
        """
        self._at(Stage.REVEAL)
        joined = self._known()
        unmasking = Unmasking(
            terms=self.terms, transcript=joined.transcript, adverts=self._adverts, rows=joined.rows, points=self._points
        )
        try:
            keys = unmasking.keys(self.survivors, self._shared)
        except Aborted:
            self._end()
            raise
        total = self._total
        for key, positive in keys:
            if positive:
                subtract_mask(total, key)
            else:
                add_mask(total, key)
        self._end()
        return total

    def __repr__(self) -> str:
        """Say where it stands."""
        return f"Server(parties={self.terms.parties}, stage={self.stage.value!r})"

    def _take(self, message: Message) -> None:
        if isinstance(message, Advert):
            self._keys |= keys_in(self.terms, message, self._keys)
            self._adverts[message.index] = message
        elif isinstance(message, SealedShares):
            check_sealed(self._known(), message)
            self._boxes[message.sender] = {row.to: row.box for row in message.rows}
            self._checks[message.sender] = {row.to: (row.mask_check, row.self_check) for row in message.rows}
        elif isinstance(message, MaskedVector):
            acks = acks_of(self.terms, self._known(), self._shared, message)
            np.add(self._total, message.vector, out=self._total)
            for party, tag in acks:
                self._acks.setdefault(party, []).append(Ack(message.sender, tag))
        elif isinstance(message, Consent):
            check_consent(self.terms, self._known(), self._survivors, message)
            self._consents[message.sender] = message
        else:
            self._take_revealed(message)

    def _take_revealed(self, revealed: Revealed) -> None:
        joined = self._known()
        check_kinds(revealed, self._shared.intersection(joined.rows[revealed.sender]), self._asked)
        for dealer, point in right_points(self.terms, joined, revealed, self._checks, self._points).items():
            self._points[dealer][revealed.sender] = point

    def _known(self) -> Joined:
        if self._joined is None:
            raise Refused(Fault.WRONG_STAGE, "Expected the adverts to be closed first.")
        return self._joined

    def _at(self, stage: Stage) -> None:
        if self.stage is not stage:
            raise Refused(Fault.WRONG_STAGE, f"Expected to be at {stage.value!r}, not at {self.stage.value!r}.")

    def _next(self, stage: Stage, asked: frozenset[int]) -> None:
        self.stage, self._asked, self._answered = stage, asked, set()

    def _enough(self, what: str, number: int, least: int, fault: Fault = Fault.TOO_FEW) -> None:
        if number < least:
            stage = self.stage
            self._end()
            raise Aborted(fault, f"Expected {what}={number} in [{least}, {self.terms.parties}].", stage=stage)

    def _end(self) -> None:
        """Be done: nothing that masks were removed from, or could be, stays here."""
        self._next(Stage.DONE, frozenset())
        self._total = np.zeros(0, dtype=np.uint32)
        self._points, self._checks, self._boxes, self._acks = {}, {}, {}, {}
