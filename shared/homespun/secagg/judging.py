"""What a party asks of adverts, lists and consents before it believes them; `Refused` says which rule is broken."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping, Sequence

from homespun.secagg.crypto import Tag, is_weak_key
from homespun.secagg.derivations import ack_tag, check_signature, consent_content
from homespun.secagg.errors import Fault, Refused
from homespun.secagg.graph import Graph
from homespun.secagg.identity import verify
from homespun.secagg.messages import Advert, RevealRequest, Survivors
from homespun.secagg.terms import Terms

__all__ = ["check_adverts", "check_consents", "check_list", "check_neighbour", "vouched_for"]


def check_adverts(terms: Terms, adverts: Sequence[Advert], own: Advert) -> None:
    """Return if enough parties of the roster advertised, this one unchanged among them, and no key twice."""
    if len(adverts) < terms.min_survivors:
        raise _too_few("adverts", len(adverts), terms)
    if adverts[-1].index >= terms.parties:
        raise Refused(Fault.UNKNOWN_PARTY, f"Expected indices in [0, parties={terms.parties}).")
    if not any(advert == own for advert in adverts if advert.index == own.index):
        raise Refused(Fault.OWN_ADVERT_CHANGED, f"Expected the advert of party {own.index} as it was sent.")
    keys = {key for advert in adverts for key in (advert.mask_key, advert.seal_key, advert.commitment)}
    if len(keys) != 3 * len(adverts):
        raise Refused(Fault.KEY_REUSED, "Expected every key and commitment once.")


def check_neighbour(terms: Terms, advert: Advert) -> None:
    """Return if the neighbour signed its advert, and its keys depend on what is secret.

    Others' signatures are not looked at. Where an advert is forged its honest neighbours refuse, and share nothing under this
    transcript; nobody's masks with them are ever removed, since one list in all has a quorum. Whoever sums the others must
    cut them off from everybody on the list who is forged or refused, and that is a cut like any other: `check_list`.
    """
    check_signature(terms, advert)
    if is_weak_key(advert.mask_key) or is_weak_key(advert.seal_key):
        raise Refused(Fault.WEAK_KEY, f"Expected keys of large order of party {advert.index}.")


def check_list(terms: Terms, graph: Graph, survivors: Survivors, index: int, masked_with: frozenset[int]) -> None:
    """Return if the list may be opened as far as one party sees.

    Args:
        terms: The session's.
        graph: That of the parties that advertised.
        survivors: The list.
        index: The party that is asked; it must be on the list.
        masked_with: Neighbours in its inbox; those on the list must be among them, or masks would be left over.
    """
    if not isinstance(survivors, Survivors):
        raise Refused(Fault.MALFORMED, "Expected a list of survivors.")
    living = frozenset(survivors.indices)
    if len(living) < terms.min_survivors:
        raise _too_few("survivors", len(living), terms)
    if index not in living:
        raise Refused(Fault.NOT_IN_LIST, f"Expected party {index} among the survivors, since it is asked.")
    if not living.issubset(graph.present):
        raise Refused(Fault.NOT_A_SUBSET, "Expected survivors among those that advertised.")
    if not living.intersection(graph.neighbours(index)) <= masked_with:
        raise Refused(Fault.NOT_A_SUBSET, "Expected surviving neighbours among those that shared with this party.")
    threshold = terms.shape.threshold
    if graph.least_live(survivors.indices) < threshold:
        raise Refused(Fault.TOO_FEW, f"Expected threshold={threshold} surviving neighbours of every survivor.")


def check_consents(terms: Terms, transcript: bytes, committee: Collection[int], request: RevealRequest) -> None:
    """Return if a quorum of the committee signed the list under this transcript; more than a quorum is not looked at."""
    quorum = terms.shape.quorum
    if not all(consent.sender in committee for consent in request.consents):
        raise Refused(Fault.UNKNOWN_PARTY, "Expected consents of the committee alone.")
    if len(request.consents) < quorum:
        raise Refused(
            Fault.NO_QUORUM,
            f"Expected consents={len(request.consents)} in [quorum={quorum}, committee={len(committee)}].",
        )
    content = consent_content(terms, transcript, request.survivors)
    for consent in request.consents[:quorum]:
        if not verify(terms.roster[consent.sender], consent.signature, Tag.CONSENT, content):
            raise Refused(Fault.BAD_SIGNATURE, f"Expected the consent of party {consent.sender} to this list.")


def vouched_for(graph: Graph, request: RevealRequest, acks_from: Mapping[int, bytes]) -> frozenset[int]:
    """Return the neighbours that say to have masked with all of theirs that may be on the list.

    Where the graph is sparse, only their self masks may be removed: one that was shown a shorter inbox may have masked
    with nobody whose mask stays, and its vector could be opened alone. An ack that does not hold is no reason to refuse
    the rest, or one party could stop everybody.

    Args:
        graph: That of the parties that advertised; not complete.
        request: Its acks are for this party.
        acks_from: Key of the ack of each neighbour in the inbox.
    """
    if not set(request.dropped).issubset(graph.present):
        raise Refused(Fault.NOT_A_SUBSET, "Expected dropped parties among those that advertised.")
    if not all(ack.party in acks_from for ack in request.acks):
        raise Refused(Fault.UNKNOWN_PARTY, "Expected acks of neighbours alone.")
    shared = frozenset(request.survivors.indices).union(request.dropped)
    return frozenset(
        peer
        for peer, tag in request.acks
        if hmac.compare_digest(
            tag, ack_tag(acks_from[peer], [index for index in graph.neighbours(peer) if index in shared])
        )
    )


def _too_few(what: str, number: int, terms: Terms) -> Refused:
    return Refused(
        Fault.TOO_FEW, f"Expected {what}={number} in [min_survivors={terms.min_survivors}, parties={terms.parties}]."
    )
