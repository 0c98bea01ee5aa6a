from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from homespun.secagg import (
    Advert,
    Client,
    Consent,
    Fault,
    Identity,
    Inbox,
    Kind,
    Note,
    Refused,
    RevealRequest,
    Share,
    Stage,
    Survivors,
)
from homespun.secagg.crypto import Tag
from homespun.secagg.derivations import advert_content

Begin = Callable[..., Any]


@pytest.fixture
def refuses(fingerprint: Callable[[object], str]) -> Callable[..., Any]:
    """Function of a machine and a fault: a block that must be refused for it, and leave the machine as it was."""

    @contextmanager
    def check(machine: object, fault: Fault) -> Iterator[None]:
        before = fingerprint(machine)
        with pytest.raises(Refused) as error:
            yield
        assert error.value.fault is fault
        assert fingerprint(machine) == before

    return check


def _resign(session: Any, identity: Identity, advert: Advert, **changes: Any) -> Advert:
    changed = dataclasses.replace(advert, **changes)
    content = advert_content(session.terms, changed.index, changed.mask_key, changed.seal_key, changed.commitment)
    return dataclasses.replace(changed, signature=identity.sign(Tag.ADVERT, content))


def _swap(adverts: tuple[Advert, ...], place: int, advert: Advert) -> list[Advert]:
    return [*adverts[:place], advert, *adverts[place + 1 :]]


def test_an_identity_must_be_on_the_roster(begin: Begin, identities: list[Identity]) -> None:
    with pytest.raises(Refused) as error:
        Client(begin(4).terms, identities[7])
    assert error.value.fault is Fault.UNKNOWN_PARTY


def test_adverts_that_are_refused(begin: Begin, refuses: Any, identities: list[Identity]) -> None:
    session = begin(7).advertise()
    client, adverts = session.clients[2], session.adverts
    other = begin(7).clients
    with refuses(client, Fault.TOO_FEW):
        client.share(adverts[:4])
    with refuses(client, Fault.OWN_ADVERT_CHANGED):
        client.share(adverts[:2] + adverts[3:])
    with refuses(client, Fault.OWN_ADVERT_CHANGED):
        client.share(_swap(adverts, 2, other[2].advert))
    with refuses(client, Fault.MALFORMED):
        client.share(adverts[::-1])
    with refuses(client, Fault.MALFORMED):
        client.share([*adverts, adverts[6]])
    with refuses(client, Fault.UNKNOWN_PARTY):
        client.share([*adverts[:6], dataclasses.replace(adverts[6], index=7)])
    for name in ("mask_key", "seal_key", "commitment"):
        changed = dataclasses.replace(adverts[5], **{name: bytes([getattr(adverts[5], name)[0] ^ 1]) + bytes(31)})
        with refuses(client, Fault.BAD_SIGNATURE):
            client.share(_swap(adverts, 5, changed))
        reused = _resign(session, identities[5], adverts[5], **{name: getattr(adverts[4], name)})
        with refuses(client, Fault.KEY_REUSED):
            client.share(_swap(adverts, 5, reused))
    with refuses(client, Fault.KEY_REUSED):
        client.share(_swap(adverts, 5, _resign(session, identities[5], adverts[5], seal_key=adverts[5].mask_key)))
    with refuses(client, Fault.BAD_SIGNATURE):  # signed by the right identity for the wrong index
        moved = dataclasses.replace(other[5].advert, index=6)
        client.share(_swap(adverts, 6, moved))
    with refuses(client, Fault.BAD_SIGNATURE):  # signed for terms of another context
        client.share(_swap(adverts, 6, begin(7, context=b"x" * 32).clients[6].advert))
    assert np.array_equal(session.finish(), session.plain_sum(range(7)))


@pytest.mark.parametrize("name", ["mask_key", "seal_key"])
def test_keys_that_agree_with_everybody_are_refused(
    begin: Begin, refuses: Any, identities: list[Identity], name: str
) -> None:
    session = begin(5).advertise()
    client = session.clients[0]
    # 1, p - 1 and p + 1 are weak, and so is 1 with the bit that X25519 ignores
    for number in (1, 2**255 - 20, 2**255 - 18, 2**255 + 1):
        weak = _resign(session, identities[3], session.adverts[3], **{name: number.to_bytes(32, "little")})
        with refuses(client, Fault.WEAK_KEY):
            client.share(_swap(session.adverts, 3, weak))


def test_vectors_and_inboxes_that_are_refused(begin: Begin, refuses: Any) -> None:
    session = begin(7, 4).advertise().share()
    client, inbox, vector = session.clients[0], session.inboxes[0], session.vectors[0]
    wrong: list[Any] = [
        vector.astype(np.int32), vector.astype(np.float64), vector[:3], vector[None], vector.tolist(),
        vector.astype(">u4"), np.zeros(5, dtype=np.uint32), None,
    ]  # fmt: skip
    for bad in wrong:
        with refuses(client, Fault.OUT_OF_RANGE):
            client.mask(bad, inbox)
    with refuses(client, Fault.NOT_ADDRESSED):
        client.mask(vector, session.inboxes[1])
    with refuses(client, Fault.UNKNOWN_PARTY):  # itself
        client.mask(vector, Inbox(to=0, rows=(Note(0, bytes(80)), *inbox.rows)))
    with refuses(client, Fault.TOO_FEW):
        client.mask(vector, Inbox(to=0, rows=inbox.rows[:3]))
    garbled = tuple(Note(row.sender, row.box[::-1]) for row in inbox.rows)
    with refuses(client, Fault.TOO_FEW):  # enough rows, too few that open
        client.mask(vector, Inbox(to=0, rows=inbox.rows[:3] + garbled[3:]))
    with refuses(client, Fault.TOO_FEW):  # rows under each other's names do not open
        names = [row.sender for row in inbox.rows]
        turned = inbox.rows[1:] + inbox.rows[:1]
        client.mask(vector, Inbox(to=0, rows=tuple(Note(n, row.box) for n, row in zip(names, turned, strict=True))))
    assert np.array_equal(session.finish(), session.plain_sum(range(7)))


def test_a_masked_vector_shows_nothing_of_the_vector(begin: Begin) -> None:
    session = begin(5, 20_000).advertise().share()
    vector = np.zeros(20_000, dtype=np.uint32)
    masked = session.clients[0].mask(vector, session.inboxes[0]).vector
    assert not vector.any()
    counts = np.bincount(masked >> 28, minlength=16)
    assert ((counts - 1250) ** 2 / 1250).sum() < 60  # chi-squared, 15 degrees of freedom: 2e-7


def test_lists_that_are_refused(begin: Begin, refuses: Any) -> None:
    session = begin(7).advertise(drop=[6]).share(drop=[5]).mask()
    client = session.clients[0]
    assert session.survivors.indices == (0, 1, 2, 3, 4)
    for step in (client.consent, lambda list_: client.reveal(RevealRequest(survivors=list_, consents=()))):
        with refuses(client, Fault.TOO_FEW):
            step(Survivors(indices=(0, 1, 2, 3)))
        with refuses(client, Fault.NOT_IN_LIST):
            step(Survivors(indices=(1, 2, 3, 4, 5)))
        with refuses(client, Fault.NOT_A_SUBSET):  # never advertised
            step(Survivors(indices=(0, 1, 2, 3, 4, 6)))
        with refuses(client, Fault.NOT_A_SUBSET):  # advertised, and never shared
            step(Survivors(indices=(0, 1, 2, 3, 4, 5)))
        with refuses(client, Fault.NOT_A_SUBSET):  # not on the roster
            step(Survivors(indices=(0, 1, 2, 3, 4, 700)))
    with refuses(client, Fault.MALFORMED):
        client.consent((0, 1, 2, 3, 4))
    with refuses(client, Fault.MALFORMED):
        client.reveal(session.survivors)
    assert np.array_equal(session.finish(), session.plain_sum(range(5)))


def test_one_list_is_signed_once(begin: Begin, refuses: Any) -> None:
    session = begin(7).advertise().share().mask()
    client = session.clients[0]
    shorter = Survivors(indices=(0, 1, 2, 3, 4, 5))
    session.server.receive(client.consent(session.survivors))
    with refuses(client, Fault.LIST_CHANGED):
        client.consent(shorter)
    with refuses(client, Fault.WRONG_STAGE):
        client.consent(session.survivors)
    with refuses(client, Fault.LIST_CHANGED):
        client.reveal(RevealRequest(survivors=shorter, consents=()))
    assert np.array_equal(session.finish(), session.plain_sum(range(7)))


def _forged(request: RevealRequest, place: int, consent: Consent) -> RevealRequest:
    consents = list(request.consents)
    consents[place] = consent
    return dataclasses.replace(request, consents=tuple(consents))


def test_consents_that_are_refused(begin: Begin, refuses: Any, identities: list[Identity]) -> None:
    session = begin(7).advertise().share().mask(drop=[6]).consent()
    client, request = session.clients[5], session.request(5)
    assert len(request.consents) == session.terms.shape.quorum == 4
    with refuses(client, Fault.NO_QUORUM):
        client.reveal(dataclasses.replace(request, consents=request.consents[:3]))
    first = request.consents[0]
    forged = [
        dataclasses.replace(first, signature=bytes(64)),
        dataclasses.replace(first, signature=request.consents[1].signature),
        dataclasses.replace(first, signature=identities[0].sign(Tag.ADVERT, session.terms.digest)),
    ]
    for consent in forged:
        with refuses(client, Fault.BAD_SIGNATURE):
            client.reveal(_forged(request, 0, consent))
    other = begin(7).advertise().share().mask(drop=[6]).consent()  # same parties and list, other keys
    with refuses(client, Fault.BAD_SIGNATURE):
        client.reveal(other.request(5))
    with refuses(client, Fault.UNKNOWN_PARTY):
        client.reveal(_forged(request, 3, Consent(sender=90, signature=bytes(64))))
    with refuses(client, Fault.MALFORMED):
        client.reveal(dataclasses.replace(request, dropped=(6,)))
    assert np.array_equal(session.finish(), session.plain_sum(range(6)))


def test_a_quorum_for_another_list_is_no_quorum(begin: Begin, refuses: Any) -> None:
    session = begin(9).advertise().share().mask()
    shorter = Survivors(indices=tuple(range(8)))
    signed = [session.clients[index].consent(shorter) for index in range(1, 8)]
    request = RevealRequest(survivors=session.survivors, consents=tuple(signed))
    with refuses(session.clients[0], Fault.BAD_SIGNATURE):
        session.clients[0].reveal(request)


def test_one_kind_of_share_of_each_neighbour_once(begin: Begin, refuses: Any) -> None:
    session = begin(7).advertise().share().mask(drop=[1]).consent()
    client = session.clients[3]
    revealed = client.reveal(session.request(3))
    assert [(row.dealer, row.kind) for row in revealed.rows] == [
        (dealer, Kind.MASK if dealer == 1 else Kind.SELF) for dealer in (0, 1, 2, 4, 5, 6)
    ]
    with refuses(client, Fault.WRONG_STAGE):
        client.reveal(session.request(3))


def test_a_share_that_does_not_open_is_not_revealed(begin: Begin) -> None:
    session = begin(7).advertise().share()
    inbox = session.inboxes[0]
    session.inboxes[0] = Inbox(to=0, rows=(Note(1, bytes(80)), *inbox.rows[1:]))
    session.mask().consent()
    revealed = session.clients[0].reveal(session.request(0))
    assert [row.dealer for row in revealed.rows] == [2, 3, 4, 5, 6]
    session.server.receive(revealed)
    assert np.array_equal(session.finish(), session.plain_sum(range(7)))  # it was masked with all the same


def test_steps_out_of_order(begin: Begin, refuses: Any) -> None:
    session = begin(5)
    client = session.clients[0]
    survivors = Survivors(indices=(0, 1, 2, 3, 4))
    request = RevealRequest(survivors=survivors, consents=())
    empty = Inbox(to=0, rows=())
    later = [
        lambda: client.mask(session.vectors[0], empty),
        lambda: client.consent(survivors),
        lambda: client.reveal(request),
        lambda: client.transcript,
    ]
    for step in later:
        with refuses(client, Fault.WRONG_STAGE):
            step()
    session.advertise().share()
    assert client.transcript == session.server.transcript
    with refuses(client, Fault.WRONG_STAGE):
        client.share(session.adverts)
    session.mask()
    with refuses(client, Fault.WRONG_STAGE):
        client.mask(session.vectors[0], session.inboxes[0])
    assert client.stage is Stage.CONSENT


def _secrets(client: Client) -> list[object]:
    return [vars(client)[name] for name in ("_identity", "_fresh", "_keys", "_held")]


def test_secrets_go_when_they_are_no_longer_needed(begin: Begin) -> None:
    session = begin(5)
    client = session.clients[0]
    assert [part is None for part in _secrets(client)] == [False, False, True, True]
    session.advertise().share()
    assert [part is None for part in _secrets(client)] == [False, True, False, True]
    session.mask()
    assert [part is None for part in _secrets(client)] == [False, True, True, False]
    session.consent().reveal()
    assert [part is None for part in _secrets(client)] == [True] * 4


@pytest.mark.parametrize("steps", [(), ("advertise", "share"), ("advertise", "share", "mask")])
def test_dropping_out_forgets_everything(begin: Begin, refuses: Any, steps: tuple[str, ...]) -> None:
    session = begin(5)
    for step in steps:
        getattr(session, step)()
    client = session.clients[0]
    client.close()
    assert _secrets(client) == [None] * 4
    assert client.stage is Stage.DONE
    with refuses(client, Fault.WRONG_STAGE):
        client.share(session.adverts)
    with refuses(client, Fault.WRONG_STAGE):
        client.consent(Survivors(indices=(0, 1, 2, 3, 4)))


def test_nothing_that_holds_keys_is_copied_or_pickled(begin: Begin, identities: list[Identity]) -> None:
    for thing in (begin(4).clients[0], identities[0]):
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="holds keys"):
                make(thing)


def test_nothing_secret_is_printed(begin: Begin, identities: list[Identity]) -> None:
    session = begin(5).advertise().share()
    client = session.clients[0]
    assert repr(client) == "Client(index=0, stage='mask')"
    keys = vars(client)["_keys"]
    text = repr(keys) + repr(client.mask(session.vectors[0], session.inboxes[0])) + repr(vars(client)["_held"])
    text += repr(Share(1, 0, b"secret")) + repr(identities[0]) + repr(session.inboxes[0])
    for secret in (keys.self_key, *keys.opens.values(), b"secret", identities[0].to_bytes()):
        assert repr(secret)[2:-1] not in text
        assert secret.hex() not in text
    assert "X25519" not in text


def test_two_clients_of_one_identity_share_no_key(begin: Begin) -> None:
    one, two = begin(4).clients[0].advert, begin(4).clients[0].advert
    keys = {one.mask_key, one.seal_key, one.commitment, two.mask_key, two.seal_key, two.commitment}
    assert len(keys) == 6


def test_a_sparse_graph_asks_neighbours_for_their_word(begin: Begin, refuses: Any) -> None:
    session = begin(210, 1, min_survivors=190).advertise().share().mask(drop=[7]).consent()
    member = next(iter(session.server.committee))
    outsider = session.clients[next(index for index in range(20, 210) if not session.clients[index].is_committee)]
    request = session.request(outsider.index)
    assert request.dropped == (7,)
    living = [ack.party for ack in request.acks]
    with refuses(outsider, Fault.NOT_ADDRESSED):
        outsider.consent(session.survivors)
    stranger = Consent(sender=outsider.index, signature=bytes(64))
    consents = tuple(sorted([*request.consents[1:], stranger], key=lambda consent: consent.sender))
    with refuses(outsider, Fault.UNKNOWN_PARTY):
        outsider.reveal(dataclasses.replace(request, consents=consents))
    bad = dataclasses.replace(request, acks=(request.acks[0]._replace(tag=bytes(16)), *request.acks[2:]))
    revealed = outsider.reveal(bad)
    told = {row.dealer for row in revealed.rows if row.kind == Kind.SELF}
    assert told == set(living[2:])  # no share of the one whose word is wrong, nor of the one that gave none
    # a neighbour that was kept from masking with somebody on the list is not opened: to others it says who was left out
    other = session.clients[member]
    asked = session.request(member)
    changed = dataclasses.replace(asked, dropped=())
    opened = {row.dealer for row in other.reveal(changed).rows if row.kind == Kind.SELF}
    seven = set(vars(session.server)["_joined"].rows[7])
    assert opened == {ack.party for ack in asked.acks} - seven


def test_a_survivor_without_neighbours_is_on_no_list(begin: Begin, refuses: Any) -> None:
    """A server that cut one off could open the sum of the others, which is smaller than the list says."""
    session = begin(210, 1, min_survivors=180).advertise().share().mask()
    rows = vars(session.server)["_joined"].rows
    lonely = next(index for index in range(210) if len(rows[index]) <= 30)
    kept = Survivors(indices=tuple(index for index in range(210) if index not in rows[lonely][2:]))
    client = next(session.clients[index] for index in kept.indices if session.clients[index].is_committee)
    assert len(kept.indices) >= 180
    with refuses(client, Fault.TOO_FEW):
        client.consent(kept)
