"""Parties of a masked sum, and a server that follows no protocol and keeps everything; loaded by path, as tests are no package.

:class:`Table` hands the parties whatever a test likes. :class:`Eve` is that server with the parties that side with her:
`Eve.openable` says which sums of honest vectors are fixed by what she has, and `Eve.residual` takes off all masks that she
knows. That she can do both is shown where she should succeed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare

from homespun import secagg
from homespun.secagg import Fault, Kind
from homespun.secagg.crypto import Tag, add_mask, public_key, subtract_mask
from homespun.secagg.derivations import commitment, consent_content, mask_private, pair_key, self_key, transcript_of
from homespun.secagg.graph import Graph, draw_graph
from homespun.secagg.messages import read_acks
from homespun.secagg.shares import combine

Vector = NDArray[np.uint32]


@contextmanager
def refused(fault: Fault, party: object = None) -> Iterator[None]:
    """Exactly this word; and a party (a `Client` or a `Server`) is at the step where it was."""
    before = getattr(party, "stage", None)
    with pytest.raises(secagg.Refused) as caught:
        yield
    assert caught.value.fault is fault, f"{caught.value.fault}: {caught.value}"
    assert getattr(party, "stage", None) is before


def terms_of(identities: Sequence[secagg.Identity], **changes: Any) -> secagg.Terms:
    roster = tuple(identity.public for identity in identities)
    return secagg.Terms.of(**{"context": bytes(32), "dimension": 16, "roster": roster, **changes})


def sparse_terms(
    identities: Sequence[secagg.Identity], monkeypatch: pytest.MonkeyPatch, shape: secagg.Shape, **changes: Any
) -> secagg.Terms:
    """Terms with a graph that is sparse and small: sound ones start at 201 parties, and what is tested here is no chance."""
    monkeypatch.setattr("homespun.secagg.terms._broken_rule", lambda *_: None)
    roster = tuple(identity.public for identity in identities)
    given = {"context": bytes(32), "dimension": 16, "roster": roster, "colluding": 0, "shape": shape}
    return secagg.Terms(**{**given, **changes})


def random_vector(dimension: int, seed: int) -> Vector:
    return np.random.default_rng(seed).integers(0, 2**32, dimension, dtype=np.uint32)


def looks_uniform(vector: Vector) -> bool:
    """Bytes at random, up to one chance in a million. Of a vector of zeros that a mask still hides, say."""
    return bool(chisquare(np.bincount(vector.view(np.uint8), minlength=256)).pvalue > 1e-6)


@dataclass(frozen=True)
class View:
    """What one party was shown."""

    transcript: bytes
    graph: Graph
    adverts: Mapping[int, secagg.Advert]


@dataclass
class Eve:
    """All that the server has."""

    terms: secagg.Terms
    sybils: set[int] = field(default_factory=set)
    views: dict[int, View] = field(default_factory=dict)
    points: dict[tuple[int, Kind], dict[int, int]] = field(default_factory=dict)
    masked: dict[int, Vector] = field(default_factory=dict)
    masked_with: dict[int, tuple[int, ...]] = field(default_factory=dict)
    secrets: dict[tuple[int, Kind], int] = field(default_factory=dict)
    """Of the parties that side with her, from the start; of others, as soon as shares give them."""

    def corrupt(self, party: secagg.Client) -> None:
        """The party, before it shares, tells its secrets."""
        self.sybils.add(party.index)
        self.secrets[party.index, Kind.MASK] = party._fresh.mask_secret
        self.secrets[party.index, Kind.SELF] = party._fresh.self_secret

    def see_held(self, party: secagg.Client) -> None:
        """A party that sides with her, after its mask, tells every share that it holds."""
        for dealer, pair in party._held.shares.items():
            for kind in Kind:
                self._point(dealer, kind, party.index, pair[kind])

    def see_revealed(self, revealed: secagg.Revealed) -> None:
        for dealer, kind, value in revealed.rows:
            self._point(dealer, Kind(kind), revealed.sender, value)

    def _point(self, dealer: int, kind: Kind, holder: int, value: bytes) -> None:
        self.points.setdefault((dealer, kind), {})[holder] = int.from_bytes(value, "little")

    def solve(self) -> None:
        """Put together every secret of which there are enough shares."""
        threshold = self.terms.shape.threshold
        for (dealer, kind), points in self.points.items():
            if len(points) >= threshold and (dealer, kind) not in self.secrets:
                view = self.views[dealer]
                secret = combine(points, threshold=threshold, holders=view.graph.neighbours(dealer))
                if kind is Kind.SELF:
                    right = commitment(self.terms, dealer, secret) == view.adverts[dealer].commitment
                else:
                    public = public_key(mask_private(self.terms, dealer, secret))
                    right = public == view.adverts[dealer].mask_key
                if right:
                    self.secrets[dealer, kind] = secret

    def masks(self, party: int) -> Iterator[tuple[tuple[object, ...], bytes | None, int]]:
        """The masks in a party's vector: name, key where she knows it, sign."""
        view = self.views[party]
        secret = self.secrets.get((party, Kind.SELF))
        yield ("self", party), None if secret is None else self_key(secret, view.transcript, party), 1
        for peer in self.masked_with[party]:
            name = ("pair", min(party, peer), max(party, peer), view.transcript)
            yield name, self._pair_key(view, party, peer), 1 if peer > party else -1

    def _pair_key(self, view: View, party: int, peer: int) -> bytes | None:
        for known, other in ((party, peer), (peer, party)):
            secret = self.secrets.get((known, Kind.MASK))
            if secret is not None:
                private = mask_private(self.terms, known, secret)
                return pair_key(private, view.adverts[other].mask_key, view.transcript, party, peer)
        return None

    def residual(self, party: int) -> Vector:
        """A masked vector less every mask that she knows."""
        rest = self.masked[party].copy()
        for _, key, sign in self.masks(party):
            if key is not None:
                (subtract_mask if sign > 0 else add_mask)(rest, key)
        return rest

    def openable(self) -> list[frozenset[int]]:
        """The least sets of honest parties whose sum she can compute.

        A combination of masked vectors is known if every unknown mask cancels in it. A mask of one vector never does; one of
        two has both signs, so both vectors count alike. Hence every known combination is one of the sums over the connected
        components without a mask of their own.
        """
        self.solve()
        honest = [party for party in self.masked if party not in self.sybils]
        holders: dict[tuple[object, ...], list[int]] = {}
        for party in honest:
            for name, key, _ in self.masks(party):
                if key is None:
                    holders.setdefault(name, []).append(party)
        group = {party: {party} for party in honest}
        for parties in holders.values():
            union = set().union(*(group[party] for party in parties))
            for party in union:
                group[party] = union
        closed = {party for parties in holders.values() if len(parties) == 1 for party in group[parties[0]]}
        return sorted({frozenset(group[party]) for party in honest if party not in closed}, key=sorted)

    def sum_of(self, parties: Collection[int]) -> Vector:
        """What she computes for a set."""
        self.solve()
        total = np.zeros(self.terms.dimension, np.uint32)
        for party in parties:
            total += self.residual(party)
        return total


class Table:
    """All parties of a session, and Eve, who hands them their messages. ``sybils`` side with her."""

    def __init__(
        self,
        terms: secagg.Terms,
        identities: Sequence[secagg.Identity],
        *,
        sybils: Collection[int] = (),
        zeros: bool = False,
    ) -> None:
        self.terms = terms
        self.clients = [secagg.Client(terms, identity) for identity in identities]
        self.adverts = tuple(client.advert for client in self.clients)
        self.vectors = [
            np.zeros(terms.dimension, np.uint32) if zeros else random_vector(terms.dimension, index)
            for index in range(terms.parties)
        ]
        self.sybils = frozenset(sybils)
        self.eve = Eve(terms)
        for index in self.sybils:
            self.eve.corrupt(self.clients[index])
        self.boxes: dict[int, secagg.SealedShares] = {}
        self.acks: dict[int, tuple[secagg.Ack, ...]] = {}

    def share(self, parties: Collection[int] | None = None, adverts: Sequence[secagg.Advert] | None = None) -> None:
        """These parties (all) are shown these adverts (all), and share."""
        shown = tuple(self.adverts if adverts is None else adverts)
        transcript = transcript_of(self.terms, shown)
        graph = draw_graph([advert.index for advert in shown], self.terms.shape, transcript)
        for index in range(self.terms.parties) if parties is None else parties:
            self.boxes[index] = self.clients[index].share(shown)
            assert self.clients[index].transcript == transcript
            self.eve.views[index] = View(transcript, graph, {advert.index: advert for advert in shown})

    def inbox(self, to: int, senders: Collection[int] | None = None) -> secagg.Inbox:
        """The boxes for a party that its neighbours, or some of them, made."""
        rows = [
            secagg.Note(sender, row.box)
            for sender, shares in sorted(self.boxes.items())
            for row in shares.rows
            if row.to == to and (senders is None or sender in senders)
        ]
        return secagg.Inbox(to=to, rows=tuple(rows))

    def mask(self, parties: Collection[int] | None = None, senders: Collection[int] | None = None) -> None:
        """These parties (all) send their vectors, masked with these senders (all) among their neighbours."""
        for index in sorted(self.boxes) if parties is None else parties:
            known = self.eve.views[index].adverts  # a sender that is not is refused outright
            inbox = self.inbox(index, known if senders is None else senders)
            masked = self.clients[index].mask(self.vectors[index], inbox)
            self.eve.masked[index] = masked.vector
            self.eve.masked_with[index] = tuple(row.sender for row in inbox.rows)
            self.acks[index] = read_acks(masked.acks)
            if index in self.sybils:
                self.eve.see_held(self.clients[index])

    def consents(self, survivors: secagg.Survivors, parties: Collection[int]) -> tuple[secagg.Consent, ...]:
        """What these of the committee sign; Sybils sign anything, and as often as they are asked."""
        return tuple(
            self.forced_consent(index, survivors) if index in self.sybils else self.clients[index].consent(survivors)
            for index in sorted(parties)
        )

    def forced_consent(self, index: int, survivors: secagg.Survivors) -> secagg.Consent:
        """A Sybil's signature on any list under its own transcript."""
        client = self.clients[index]
        content = consent_content(self.terms, client.transcript, survivors)
        return secagg.Consent(sender=index, signature=client._identity.sign(Tag.CONSENT, content))

    def request(
        self,
        to: int,
        survivors: secagg.Survivors,
        consents: Sequence[secagg.Consent],
        dropped: Collection[int] | None = None,
    ) -> secagg.RevealRequest:
        """What a server sends to a survivor; where the graph is sparse with the acks that it has for it."""
        if not self.terms.sparse:
            return secagg.RevealRequest(survivors=survivors, consents=tuple(consents))
        gone = sorted(set(self.boxes) - set(survivors.indices)) if dropped is None else sorted(dropped)
        acks = [secagg.Ack(peer, tag) for peer, rows in self.acks.items() for party, tag in rows if party == to]
        return secagg.RevealRequest(
            survivors=survivors, consents=tuple(consents), dropped=tuple(gone), acks=tuple(sorted(acks))
        )

    def reveal(self, index: int, survivors: secagg.Survivors, consents: Sequence[secagg.Consent], **given: Any) -> None:
        """A survivor hands over its shares, to Eve."""
        revealed = self.clients[index].reveal(self.request(index, survivors, consents, **given))
        self.eve.see_revealed(revealed)

    def committee(self, survivors: Collection[int]) -> list[int]:
        """Those of the survivors that may sign."""
        return [index for index in sorted(survivors) if self.clients[index].is_committee]

    def finish(self, indices: Collection[int]) -> secagg.Survivors:
        """Survivors sign, and all of them reveal: the honest end."""
        survivors = survivors_of(indices)
        consents = self.consents(survivors, self.committee(indices))
        for index in sorted(indices):
            if index not in self.sybils:
                self.reveal(index, survivors, consents)
        return survivors

    def plain_sum(self, parties: Collection[int]) -> Vector:
        return np.sum([self.vectors[party] for party in parties], axis=0, dtype=np.uint32)


def survivors_of(indices: Collection[int]) -> secagg.Survivors:
    return secagg.Survivors(indices=tuple(sorted(indices)))


def identities(count: int) -> list[secagg.Identity]:
    return [secagg.Identity.generate() for _ in range(count)]
