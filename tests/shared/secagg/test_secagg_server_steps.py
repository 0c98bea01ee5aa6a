from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from homespun.secagg import (
    Aborted,
    Advert,
    Client,
    Consent,
    Fault,
    Identity,
    Kind,
    MaskedVector,
    Refused,
    Revealed,
    SealedShares,
    Server,
    Share,
    Stage,
)
from homespun.secagg.crypto import Tag
from homespun.secagg.derivations import advert_content, share_check

Begin = Callable[..., Any]


@pytest.fixture
def refuses(fingerprint: Callable[[object], str]) -> Callable[..., Any]:
    """Function of a server and a fault: a block that must be refused for it, and leave the server as it was."""

    @contextmanager
    def check(server: Server, fault: Fault) -> Iterator[None]:
        before = fingerprint(server)
        with pytest.raises(Refused) as error:
            yield
        assert error.value.fault is fault
        assert fingerprint(server) == before

    return check


def _aborts(close: Callable[[], object], fault: Fault, stage: Stage) -> Aborted:
    with pytest.raises(Aborted) as error:
        close()
    assert (error.value.fault, error.value.stage) == (fault, stage)
    return error.value


def _resign(session: Any, identity: Identity, advert: Advert, **changes: Any) -> Advert:
    changed = dataclasses.replace(advert, **changes)
    content = advert_content(session.terms, changed.index, changed.mask_key, changed.seal_key, changed.commitment)
    return dataclasses.replace(changed, signature=identity.sign(Tag.ADVERT, content))


def test_adverts_that_are_refused(begin: Begin, refuses: Any, identities: list[Identity]) -> None:
    session = begin(6)
    server, first, second = session.server, session.clients[0].advert, session.clients[1].advert
    server.receive(first)
    with refuses(server, Fault.DUPLICATE):
        server.receive(first)
    with refuses(server, Fault.DUPLICATE):
        server.receive(begin(6).clients[0].advert)
    with refuses(server, Fault.BAD_SIGNATURE):
        server.receive(dataclasses.replace(second, signature=bytes(64)))
    with refuses(server, Fault.BAD_SIGNATURE):
        server.receive(dataclasses.replace(first, index=1))
    with refuses(server, Fault.BAD_SIGNATURE):
        server.receive(begin(6, context=b"y" * 32).clients[1].advert)
    with refuses(server, Fault.UNKNOWN_PARTY):
        server.receive(dataclasses.replace(second, index=6))
    with refuses(server, Fault.WRONG_SENDER):
        server.receive(second, sender=2)
    for name in ("mask_key", "seal_key", "commitment"):
        with refuses(server, Fault.KEY_REUSED):
            server.receive(_resign(session, identities[1], second, **{name: getattr(first, name)}))
    with refuses(server, Fault.KEY_REUSED):
        server.receive(_resign(session, identities[1], second, seal_key=second.mask_key))
    for name in ("mask_key", "seal_key"):
        with refuses(server, Fault.WEAK_KEY):
            server.receive(_resign(session, identities[1], second, **{name: bytes(32)}))
    with refuses(server, Fault.MALFORMED):
        server.receive(first.encode())
    server.receive(second, sender=1)
    assert server.waiting == {2, 3, 4, 5}
    assert np.array_equal(session.finish(), session.plain_sum(range(6)))


def test_sealed_shares_that_are_refused(begin: Begin, refuses: Any) -> None:
    session = begin(6).advertise(drop=[5])
    server = session.server
    shares = session.clients[1].share(session.adverts)
    server.receive(shares)
    with refuses(server, Fault.DUPLICATE):
        server.receive(shares)
    other = session.clients[2].share(session.adverts)
    with refuses(server, Fault.NOT_ADDRESSED):
        server.receive(dataclasses.replace(other, rows=other.rows[:-1]))
    with refuses(server, Fault.NOT_ADDRESSED):
        server.receive(dataclasses.replace(other, rows=(*other.rows, other.rows[0]._replace(to=5))))
    with refuses(server, Fault.NOT_ADDRESSED):  # rows to itself
        server.receive(dataclasses.replace(shares, sender=2))
    with refuses(server, Fault.NOT_ADDRESSED):  # it never advertised
        server.receive(dataclasses.replace(other, sender=5))
    with refuses(server, Fault.WRONG_STAGE):
        server.receive(session.clients[0].advert)
    session.clients[1].close()
    server.receive(other)
    for index in (0, 3, 4):
        server.receive(session.clients[index].share(session.adverts))
    assert set(server.close_shares()) == {0, 1, 2, 3, 4}


def test_masked_vectors_that_are_refused(begin: Begin, refuses: Any) -> None:
    session = begin(6).advertise().share(drop=[5])
    server = session.server
    masked = session.clients[0].mask(session.vectors[0], session.inboxes[0])
    server.receive(masked)
    with refuses(server, Fault.DUPLICATE):
        server.receive(masked)
    with refuses(server, Fault.NOT_ADDRESSED):  # it did not share
        server.receive(MaskedVector(sender=5, vector=session.vectors[5]))
    with refuses(server, Fault.UNKNOWN_PARTY):
        server.receive(MaskedVector(sender=6, vector=session.vectors[5]))
    with refuses(server, Fault.OUT_OF_RANGE):
        server.receive(MaskedVector(sender=1, vector=np.zeros(4, dtype=np.uint32)))
    for wrong in (np.zeros(3, dtype=np.int32), np.zeros((3, 1), dtype=np.uint32), np.zeros(3), [0, 0, 0]):
        with refuses(server, Fault.OUT_OF_RANGE):
            server.receive(MaskedVector(sender=1, vector=wrong))  # type: ignore[arg-type]
    with refuses(server, Fault.NOT_ADDRESSED):
        server.receive(MaskedVector(sender=1, vector=session.vectors[1], acks=bytes(20)))
    for index in (1, 2, 3, 4):
        server.receive(session.clients[index].mask(session.vectors[index], session.inboxes[index]))
    session.survivors = server.close_masked()
    assert np.array_equal(session.finish(), session.plain_sum(range(5)))


def test_consents_that_are_refused(begin: Begin, refuses: Any, identities: list[Identity]) -> None:
    session = begin(6).advertise().share().mask(drop=[5])
    server = session.server
    good = session.clients[0].consent(session.survivors)
    with refuses(server, Fault.BAD_SIGNATURE):
        server.receive(dataclasses.replace(good, sender=1))
    with refuses(server, Fault.BAD_SIGNATURE):
        server.receive(Consent(sender=0, signature=identities[0].sign(Tag.CONSENT, bytes(32))))
    with refuses(server, Fault.NOT_ADDRESSED):
        server.receive(dataclasses.replace(good, sender=5))
    server.receive(good)
    with refuses(server, Fault.DUPLICATE):
        server.receive(good)
    assert server.committee == {0, 1, 2, 3, 4}
    assert server.waiting == {1, 2, 3, 4}
    assert np.array_equal(session.finish(), session.plain_sum(range(5)))


def test_revealed_shares_that_are_refused(begin: Begin, refuses: Any) -> None:
    session = begin(8).advertise().share(drop=[7]).mask(drop=[6]).consent()
    server = session.server
    revealed = session.clients[0].reveal(session.request(0))
    assert [row.dealer for row in revealed.rows] == [1, 2, 3, 4, 5, 6]
    both = tuple(row._replace(kind=1 - row.kind) for row in revealed.rows)
    for wrong in (both, (*revealed.rows[:5], both[5]), (both[0], *revealed.rows[1:])):
        with refuses(server, Fault.BAD_SHARE):
            server.receive(dataclasses.replace(revealed, rows=wrong))
    for dealer in (0, 7, 900):  # itself, one that did not share, nobody
        with refuses(server, Fault.UNKNOWN_PARTY):
            server.receive(Revealed(sender=0, rows=(Share(dealer, Kind.SELF, bytes(32)),)))
    with refuses(server, Fault.NOT_ADDRESSED):
        server.receive(dataclasses.replace(revealed, sender=6))
    with refuses(server, Fault.NOT_ADDRESSED):
        server.reveal_request(6)
    server.receive(revealed)
    with refuses(server, Fault.DUPLICATE):
        server.receive(revealed)
    assert np.array_equal(session.finish(), session.plain_sum(range(6)))


def test_wrong_shares_are_ignored_while_enough_are_right(begin: Begin) -> None:
    session = begin(9).advertise().share().mask(drop=[8]).consent()
    lies = [bytes(32), b"\xff" * 32]
    for liar in (0, 1):  # threshold 5; each survivor has 7 holders left
        revealed = session.clients[liar].reveal(session.request(liar))
        rows = tuple(row._replace(value=lies[liar]) for row in revealed.rows)
        session.server.receive(dataclasses.replace(revealed, rows=rows))
    assert np.array_equal(session.finish(), session.plain_sum(range(8)))


def test_too_many_wrong_shares_end_it(begin: Begin) -> None:
    session = begin(5).advertise().share().mask().consent()
    for liar in (0, 1):
        revealed = session.clients[liar].reveal(session.request(liar))
        rows = tuple(row._replace(value=bytes(32)) for row in revealed.rows)
        session.server.receive(dataclasses.replace(revealed, rows=rows))
    session.reveal()
    error = _aborts(session.server.close, Fault.TOO_FEW, Stage.REVEAL)
    assert error.party in range(5)
    assert session.server.stage is Stage.DONE


def _cheat(session: Any, dealer: int, kind: Kind) -> SealedShares:
    """Shares of another secret than the announced one, sealed and checked as they should be."""
    client = session.clients[dealer]
    fresh = vars(client)["_fresh"]
    name = "mask_secret" if kind is Kind.MASK else "self_secret"
    vars(client)["_fresh"] = dataclasses.replace(fresh, **{name: getattr(fresh, name) ^ 1})
    shares: SealedShares = client.share(session.adverts)
    return shares


@pytest.mark.parametrize(("kind", "drop"), [(Kind.SELF, []), (Kind.MASK, [2])])
def test_a_dealer_that_cheats_is_named(begin: Begin, kind: Kind, drop: list[int]) -> None:
    session = begin(7).advertise()
    session.server.receive(_cheat(session, 2, kind))
    session.share().mask(drop=drop).consent().reveal()
    error = _aborts(session.server.close, Fault.BAD_DEALER, Stage.REVEAL)
    assert error.party == 2
    assert "party 2" in str(error)


def test_a_secret_that_is_not_needed_is_not_judged(begin: Begin) -> None:
    session = begin(7).advertise()
    session.server.receive(_cheat(session, 2, Kind.MASK))
    session.share()
    assert np.array_equal(session.finish(), session.plain_sum(range(7)))


def test_a_dealer_whose_shares_contradict_each_other_is_named(begin: Begin) -> None:
    session = begin(7).advertise()
    shares = session.clients[2].share(session.adverts)
    server, transcript = session.server, session.server.transcript
    rows = []
    for row in shares.rows:  # what it says that it sealed is a share that nobody has: no holder can be right
        wrong = share_check(transcript, 2, row.to, Kind.SELF, hashlib.sha256(b"%d" % row.to).digest())
        rows.append(row._replace(self_check=wrong))
    server.receive(dataclasses.replace(shares, rows=tuple(rows)))
    session.share().mask().consent().reveal()
    assert _aborts(server.close, Fault.TOO_FEW, Stage.REVEAL).party == 2


def test_a_share_outside_the_field_is_ignored(begin: Begin) -> None:
    """A dealer and its holders may agree on one: it must not stop the server with another error."""
    session = begin(7).advertise()
    outside = b"\xff" * 32
    shares, transcript = session.clients[2].share(session.adverts), session.server.transcript
    checks = [share_check(transcript, 2, row.to, Kind.SELF, outside) for row in shares.rows]
    rows = tuple(row._replace(self_check=check) for row, check in zip(shares.rows, checks, strict=True))
    session.server.receive(dataclasses.replace(shares, rows=rows))
    session.share().mask().consent()
    for index in range(7):
        revealed = session.clients[index].reveal(session.request(index))
        given = tuple(row._replace(value=outside) if row.dealer == 2 else row for row in revealed.rows)
        session.server.receive(dataclasses.replace(revealed, rows=given))
    assert _aborts(session.server.close, Fault.TOO_FEW, Stage.REVEAL).party == 2


def test_an_aborted_session_is_over(begin: Begin, refuses: Any) -> None:
    session = begin(7).advertise().share()
    server = session.server
    masked = session.clients[0].mask(session.vectors[0], session.inboxes[0])
    _aborts(server.close_masked, Fault.TOO_FEW, Stage.MASK)
    assert server.stage is Stage.DONE
    assert server.waiting == frozenset()
    with refuses(server, Fault.WRONG_STAGE):
        server.receive(masked)
    for close in (server.close_adverts, server.close_shares, server.close_masked, server.close_consents, server.close):
        with refuses(server, Fault.WRONG_STAGE):
            close()


def test_every_step_is_closed_in_its_turn(begin: Begin, refuses: Any) -> None:
    session = begin(5)
    server = session.server
    with refuses(server, Fault.WRONG_STAGE):
        _ = server.transcript
    for close in (server.close_shares, server.close_masked, server.close_consents, server.close):
        with refuses(server, Fault.WRONG_STAGE):
            close()
    with refuses(server, Fault.WRONG_STAGE):
        server.reveal_request(0)
    assert np.array_equal(session.finish(), session.plain_sum(range(5)))
    with refuses(server, Fault.WRONG_STAGE):
        server.close()


@pytest.mark.parametrize(
    ("steps", "close", "fault", "stage"),
    [
        ("", "close_adverts", Fault.TOO_FEW, Stage.ADVERTISE),
        ("advertise", "close_shares", Fault.TOO_FEW, Stage.SHARE),
        ("advertise share", "close_masked", Fault.TOO_FEW, Stage.MASK),
        ("advertise share mask", "close_consents", Fault.NO_QUORUM, Stage.CONSENT),
        ("advertise share mask consent", "close", Fault.TOO_FEW, Stage.REVEAL),
    ],
)
def test_silence_aborts(begin: Begin, steps: str, close: str, fault: Fault, stage: Stage) -> None:
    session = begin(5)
    for step in steps.split():
        getattr(session, step)()
    _aborts(getattr(session.server, close), fault, stage)


def test_sparse_acks_must_be_for_the_inbox(begin: Begin, refuses: Any) -> None:
    session = begin(210, 1, min_survivors=190).advertise().share()
    server, client = session.server, session.clients[0]
    masked = client.mask(session.vectors[0], session.inboxes[0])
    assert len(masked.acks) == 20 * len(session.inboxes[0].rows)
    for acks in (b"", masked.acks[20:], masked.acks[:-20]):
        with refuses(server, Fault.NOT_ADDRESSED):
            server.receive(MaskedVector(sender=0, vector=masked.vector, acks=acks))
    with pytest.raises(Refused) as error:
        MaskedVector(sender=0, vector=masked.vector, acks=masked.acks[:-1])
    assert error.value.fault is Fault.MALFORMED
    server.receive(masked)


def test_the_server_prints_no_sum(begin: Begin) -> None:
    assert repr(begin(5).server) == "Server(parties=5, stage='advertise')"


def test_a_late_answer_is_refused(begin: Begin, refuses: Any) -> None:
    session = begin(7).advertise().share()
    late = session.clients[6].mask(session.vectors[6], session.inboxes[6])
    session.mask(drop=[6])
    with refuses(session.server, Fault.WRONG_STAGE):
        session.server.receive(late)
    assert np.array_equal(session.finish(), session.plain_sum(range(6)))


def test_no_message_of_another_attempt_fits(begin: Begin, refuses: Any) -> None:
    """A retry has another context, so everything that is signed, sealed or hashed in it differs."""
    first, second = begin(5), begin(5, context=b"2" * 32)
    with refuses(second.server, Fault.BAD_SIGNATURE):
        second.server.receive(first.clients[0].advert)
    first.advertise().share().mask()
    second.advertise().share().mask()
    with refuses(second.server, Fault.BAD_SIGNATURE):
        second.server.receive(first.clients[0].consent(first.survivors))
    assert isinstance(second.clients[0], Client)
    assert np.array_equal(second.finish(), second.plain_sum(range(5)))
