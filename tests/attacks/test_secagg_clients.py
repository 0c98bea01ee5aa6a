"""Parties of a masked sum that cheat: each message is refused with its word and changes nothing, and the honest sum is right."""

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homespun import secagg
from homespun.secagg import Fault, Kind, Stage
from homespun.secagg.derivations import advert_content, share_check

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_masked_sum.py"))
refused = lab["refused"]
PEOPLE = lab["identities"](7)
MALLORY, ALICE = 6, 1
STAGES = (Stage.ADVERTISE, Stage.SHARE, Stage.MASK, Stage.CONSENT, Stage.REVEAL)


class Session:
    """Seven parties and an honest server, step by step; four shares give a secret, so five survivors may be few enough."""

    def __init__(self, **changes: Any) -> None:
        self.terms = lab["terms_of"](PEOPLE, min_survivors=5, **changes)
        self.server = secagg.Server(self.terms)
        self.clients = [secagg.Client(self.terms, person) for person in PEOPLE]
        self.vectors = [lab["random_vector"](self.terms.dimension, seed) for seed in range(7)]
        self.answers: dict[Stage, dict[int, Any]] = {stage: {} for stage in STAGES}

    def answer(self, index: int, stage: Stage) -> Any:
        """What a party answers honestly."""
        client = self.clients[index]
        if stage is Stage.ADVERTISE:
            return client.advert
        if stage is Stage.SHARE:
            return client.share(self.adverts)
        if stage is Stage.MASK:
            return client.mask(self.vectors[index], self.inboxes[index])
        if stage is Stage.CONSENT:
            return client.consent(self.survivors)
        return client.reveal(self.server.reveal_request(index))

    def close(self, stage: Stage) -> None:
        if stage is Stage.ADVERTISE:
            self.adverts = self.server.close_adverts()
        elif stage is Stage.SHARE:
            self.inboxes = self.server.close_shares()
        elif stage is Stage.MASK:
            self.survivors = self.server.close_masked()
        elif stage is Stage.CONSENT:
            self.server.close_consents()

    def walk(self, until: Stage, silent: tuple[int, ...] = ()) -> "Session":
        """Go through all steps before ``until``; the silent ones are silent in the last one of these."""
        for stage in STAGES[: STAGES.index(until)]:
            for index in sorted(self.server.waiting):
                if not (index in silent and STAGES.index(stage) == STAGES.index(until) - 1):
                    self.give(index, stage)
            self.close(stage)
        return self

    def give(self, index: int, stage: Stage) -> None:
        self.answers[stage][index] = message = self.answer(index, stage)
        self.server.receive(message, sender=index)

    def finish(self) -> np.ndarray:
        """Everybody who has not answered yet does; then the sum is opened."""
        for stage in STAGES[STAGES.index(self.server.stage) :]:
            for index in sorted(self.server.waiting):
                self.give(index, stage)
            self.close(stage)
        return self.server.close()

    def plain_sum(self) -> np.ndarray:
        return np.sum([self.vectors[index] for index in self.server.survivors], axis=0, dtype=np.uint32)

    def comes_right(self) -> bool:
        return np.array_equal(self.finish(), self.plain_sum())


@pytest.mark.parametrize("stage", STAGES)
class TestAnyStep:
    """What is wrong in every step alike. All others answer honestly before and after it."""

    def test_twice(self, stage: Stage) -> None:
        session = Session().walk(stage)
        session.give(MALLORY, stage)
        with refused(Fault.DUPLICATE, session.server):
            session.server.receive(session.answers[stage][MALLORY])
        assert session.comes_right()

    def test_in_the_name_of_another(self, stage: Stage) -> None:
        session = Session().walk(stage)
        message = session.answer(ALICE, stage)
        with refused(Fault.WRONG_SENDER, session.server):
            session.server.receive(message, sender=MALLORY)
        session.server.receive(message, sender=ALICE)
        assert session.comes_right()

    def test_from_nobody_on_the_roster(self, stage: Stage) -> None:
        session = Session().walk(stage)
        message = session.answer(MALLORY, stage)
        name = "index" if stage is Stage.ADVERTISE else "sender"
        with refused(Fault.UNKNOWN_PARTY, session.server):
            session.server.receive(replace(message, **{name: 7}))
        session.server.receive(message)
        assert session.comes_right()

    def test_too_late(self, stage: Stage) -> None:
        session = Session().walk(stage)
        message = session.answer(MALLORY, stage)
        for index in session.server.waiting - {MALLORY}:
            session.give(index, stage)
        session.close(stage)
        if stage is Stage.REVEAL:
            assert np.array_equal(session.server.close(), session.plain_sum())
        with refused(Fault.WRONG_STAGE, session.server):
            session.server.receive(message)
        assert stage is Stage.REVEAL or session.comes_right()

    def test_after_it_was_silent(self, stage: Stage) -> None:
        """Who was silent in a step is out, whatever it says in the next."""
        if stage in (Stage.ADVERTISE, Stage.REVEAL):  # nobody was silent before; who signed nothing may still reveal
            return
        session = Session().walk(stage, silent=(MALLORY,))
        message = {
            Stage.SHARE: secagg.SealedShares(sender=MALLORY, rows=()),
            Stage.MASK: secagg.MaskedVector(sender=MALLORY, vector=session.vectors[0]),
            Stage.CONSENT: secagg.Consent(sender=MALLORY, signature=bytes(64)),
        }[stage]
        with refused(Fault.NOT_ADDRESSED, session.server):
            session.server.receive(message)
        assert session.comes_right()

    def test_cut_or_longer(self, stage: Stage) -> None:
        if stage is Stage.MASK:  # it travels as an array
            return
        session = Session().walk(stage)
        message = session.answer(MALLORY, stage)
        encoded, read = message.encode(), type(message).decode
        for data in (encoded[:-1], encoded + b"\0", encoded[: len(encoded) // 2], b"", b"\xff" * len(encoded), None, 7):
            with refused(Fault.MALFORMED):
                read(data)
        session.server.receive(read(encoded))
        assert session.comes_right()


@pytest.mark.parametrize("message", [None, b"", 7, {}, secagg.Survivors(indices=(0,))], ids=repr)
def test_what_is_no_message_of_a_party(message: Any) -> None:
    with refused(Fault.MALFORMED):
        Session().server.receive(message)


class TestStale:
    """What an honest party said in another session, sent again by somebody who kept it."""

    @pytest.mark.parametrize(
        ("stage", "fault"),
        [(Stage.ADVERTISE, Fault.BAD_SIGNATURE), (Stage.CONSENT, Fault.BAD_SIGNATURE)],
    )
    def test_signed(self, stage: Stage, fault: Fault) -> None:
        old, session = Session(context=b"1" * 32).walk(stage), Session().walk(stage)
        with refused(fault, session.server):
            session.server.receive(old.answer(ALICE, stage))
        assert session.comes_right()

    def test_shares_of_another_session_open_for_nobody(self) -> None:
        """They are no reason to refuse: their holders find out, hold nothing, and the rest is enough to go on."""
        old, session = Session(context=b"1" * 32).walk(Stage.SHARE), Session().walk(Stage.SHARE)
        session.server.receive(old.answer(MALLORY, Stage.SHARE))
        for index in range(6):
            session.give(index, Stage.SHARE)
        session.close(Stage.SHARE)
        for index in range(6):  # party 6 drops out with this, and its mask key can be put together by nobody
            session.give(index, Stage.MASK)
        session.close(Stage.MASK)
        with pytest.raises(secagg.Aborted) as caught:
            session.finish()
        assert (caught.value.fault, caught.value.party) == (Fault.TOO_FEW, MALLORY)

    def test_reveals_of_another_session_are_no_shares_here(self) -> None:
        old, session = Session(context=b"1" * 32).walk(Stage.REVEAL), Session().walk(Stage.REVEAL)
        session.server.receive(old.answer(MALLORY, Stage.REVEAL))
        assert session.comes_right()


class TestEquivocation:
    """A party that says two things."""

    @pytest.mark.parametrize("stage", [Stage.ADVERTISE, Stage.MASK])
    def test_the_first_word_counts(self, stage: Stage) -> None:
        session = Session().walk(stage)
        session.give(MALLORY, stage)
        other = (
            secagg.Client(session.terms, PEOPLE[MALLORY]).advert
            if stage is Stage.ADVERTISE
            else secagg.MaskedVector(sender=MALLORY, vector=np.full(16, 7, np.uint32))
        )
        with refused(Fault.DUPLICATE, session.server):
            session.server.receive(other)
        assert session.comes_right()

    def test_a_signature_on_another_list(self) -> None:
        session = Session().walk(Stage.CONSENT)
        other = secagg.Survivors(indices=(0, 1, 2, 3, 4, 6))
        content = secagg.derivations.consent_content(session.terms, session.server.transcript, other)
        signature = PEOPLE[MALLORY].sign(secagg.crypto.Tag.CONSENT, content)
        with refused(Fault.BAD_SIGNATURE, session.server):
            session.server.receive(secagg.Consent(sender=MALLORY, signature=signature))
        assert session.comes_right()


class TestAdverts:
    """Keys that are not the party's own, or are good for nothing."""

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (lambda keys, alice: (bytes(32), *keys[1:]), Fault.WEAK_KEY),
            (lambda keys, alice: (keys[0], (1).to_bytes(32, "little"), keys[2]), Fault.WEAK_KEY),
            (lambda keys, alice: (alice.mask_key, *keys[1:]), Fault.KEY_REUSED),
            (lambda keys, alice: (keys[0], keys[1], alice.commitment), Fault.KEY_REUSED),
            (lambda keys, alice: (keys[0], keys[0], keys[2]), Fault.KEY_REUSED),
        ],
    )
    def test_signed_by_a_cheat(self, change: Callable[..., Any], fault: Fault) -> None:
        session = Session()
        session.give(ALICE, Stage.ADVERTISE)
        own = session.clients[MALLORY].advert
        keys = change((own.mask_key, own.seal_key, own.commitment), session.clients[ALICE].advert)
        signature = PEOPLE[MALLORY].sign(secagg.crypto.Tag.ADVERT, advert_content(session.terms, MALLORY, *keys))
        advert = secagg.Advert(
            index=MALLORY, mask_key=keys[0], seal_key=keys[1], commitment=keys[2], signature=signature
        )
        with refused(fault, session.server):
            session.server.receive(advert)
        assert session.comes_right()

    def test_in_alices_place(self) -> None:
        session = Session()
        with refused(Fault.BAD_SIGNATURE, session.server):
            session.server.receive(replace(session.clients[MALLORY].advert, index=ALICE))
        assert session.comes_right()


class TestVectors:
    """A vector of another kind. What is *in* a masked vector nobody can see: bounds on it are for whoever clips and masks."""

    @pytest.mark.parametrize("bad", [np.zeros(16), np.zeros(16, np.int32), np.zeros(16, np.uint64), np.zeros((16, 1), np.uint32),
                                     np.zeros(16, ">u4"), [0] * 16, None], ids=lambda bad: str(getattr(bad, "dtype", bad)))  # fmt: skip
    def test_of_another_type(self, bad: Any) -> None:
        with refused(Fault.OUT_OF_RANGE):
            secagg.MaskedVector(sender=MALLORY, vector=bad)

    @pytest.mark.parametrize("length", [0, 1, 15, 17])
    def test_of_another_length(self, length: int) -> None:
        session = Session().walk(Stage.MASK)
        with refused(Fault.OUT_OF_RANGE, session.server):
            session.server.receive(secagg.MaskedVector(sender=MALLORY, vector=np.ones(length, np.uint32)))
        assert session.comes_right()

    def test_with_acks_that_nobody_asked_for(self) -> None:
        session = Session().walk(Stage.MASK)
        masked = session.answer(MALLORY, Stage.MASK)
        with refused(Fault.NOT_ADDRESSED, session.server):
            session.server.receive(replace(masked, acks=bytes(20)))
        session.server.receive(masked)
        assert session.comes_right()


class TestDealers:
    """Shares that are none."""

    @pytest.mark.parametrize(
        "change", [lambda rows: rows[1:], lambda rows: (), lambda rows: (*rows, rows[-1]._replace(to=6))]
    )
    def test_rows_for_others_than_the_neighbours(self, change: Callable[..., Any]) -> None:
        session = Session().walk(Stage.SHARE)
        shares = session.answer(0, Stage.SHARE)
        session_rows = replace(shares, rows=change(shares.rows[:-1]))
        with refused(Fault.NOT_ADDRESSED, session.server):
            session.server.receive(replace(session_rows, rows=session_rows.rows[:4]))
        session.server.receive(shares)
        assert session.comes_right()

    def test_boxes_that_do_not_open_for_a_few(self) -> None:
        """Who cannot open a box masks with its sender all the same; the other shares are enough."""
        session = Session().walk(Stage.SHARE)
        shares = session.answer(MALLORY, Stage.SHARE)
        spoilt = tuple(row._replace(box=bytes(80)) if row.to < 2 else row for row in shares.rows)
        session.server.receive(replace(shares, rows=spoilt))
        assert session.comes_right() and MALLORY in session.server.survivors

    def test_boxes_that_do_not_open_for_many(self) -> None:
        """The session is over, and says whose shares are missing; nothing of anybody is opened."""
        session = Session().walk(Stage.SHARE)
        shares = session.answer(MALLORY, Stage.SHARE)
        session.server.receive(replace(shares, rows=tuple(row._replace(box=bytes(80)) for row in shares.rows)))
        with pytest.raises(secagg.Aborted) as caught:
            session.finish()
        assert (caught.value.fault, caught.value.stage, caught.value.party) == (Fault.TOO_FEW, Stage.REVEAL, MALLORY)
        assert session.server.stage is Stage.DONE and not session.server._total.any()

    @pytest.mark.parametrize("kind", list(Kind))
    def test_shares_of_another_secret(self, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
        """They fit each other and the digests that go with them, and give a secret that was never announced."""
        session = Session().walk(Stage.SHARE)
        fresh = session.clients[MALLORY]._fresh
        name = "mask_secret" if kind is Kind.MASK else "self_secret"
        session.clients[MALLORY]._fresh = replace(fresh, **{name: 12345})
        session.give(MALLORY, Stage.SHARE)
        for index in range(6):
            session.give(index, Stage.SHARE)
        session.close(Stage.SHARE)
        for index in range(7):
            if index != MALLORY or kind is Kind.SELF:
                session.give(index, Stage.MASK)
        session.close(Stage.MASK)
        with pytest.raises(secagg.Aborted) as caught:
            session.finish()
        assert (caught.value.fault, caught.value.party) == (Fault.BAD_DEALER, MALLORY)


class TestRevealed:
    """Wrong shares at the end: they are ignored where enough right ones arrive."""

    def revealed(self, session: Session, change: Callable[[secagg.Share], secagg.Share]) -> secagg.Revealed:
        honest = session.answer(MALLORY, Stage.REVEAL)
        return replace(honest, rows=tuple(change(row) for row in honest.rows))

    @pytest.mark.parametrize(
        "value", [bytes(32), b"\xff" * 32, (2**255 - 19).to_bytes(32, "little"), b"\x01" + bytes(31)], ids=range(4)
    )
    def test_wrong_values_change_nothing(self, value: bytes) -> None:
        session = Session().walk(Stage.REVEAL, silent=())
        session.server.receive(self.revealed(session, lambda row: row._replace(value=value)))
        assert session.comes_right()

    def test_wrong_values_of_all_but_a_threshold_change_nothing(self) -> None:
        session = Session().walk(Stage.REVEAL)
        for index in (4, 5, 6):
            honest = session.answer(index, Stage.REVEAL)
            session.server.receive(replace(honest, rows=tuple(row._replace(value=bytes(32)) for row in honest.rows)))
        with pytest.raises(secagg.Aborted) as caught:  # four shares of others are needed, and three of each are right
            session.finish()
        assert caught.value.fault is Fault.TOO_FEW

    def test_the_other_kind(self) -> None:
        session = Session().walk(Stage.REVEAL)
        with refused(Fault.BAD_SHARE, session.server):
            session.server.receive(self.revealed(session, lambda row: row._replace(kind=1 - row.kind)))
        assert session.server.waiting == frozenset(range(7))  # it may still say the right thing; here it is silent
        for index in range(6):
            session.give(index, Stage.REVEAL)
        assert np.array_equal(session.server.close(), session.plain_sum())

    def test_shares_of_itself_or_of_nobody(self) -> None:
        session = Session().walk(Stage.REVEAL)
        honest = session.answer(MALLORY, Stage.REVEAL)
        for dealer in (MALLORY, 7, 60000):
            strange = secagg.Share(dealer, Kind.SELF, bytes(32))
            with refused(Fault.UNKNOWN_PARTY, session.server):
                session.server.receive(replace(honest, rows=(*honest.rows, strange)))
        session.server.receive(honest)
        assert session.comes_right()

    def test_nothing(self) -> None:
        session = Session().walk(Stage.REVEAL)
        session.server.receive(secagg.Revealed(sender=MALLORY, rows=()))
        assert session.comes_right()

    def test_a_share_that_another_holds(self) -> None:
        """Its digest is bound to its holder: no holder can pass on another's."""
        session = Session().walk(Stage.REVEAL)
        alice = session.answer(ALICE, Stage.REVEAL)
        stolen = tuple(row for row in alice.rows if row.dealer != MALLORY)
        session.server.receive(secagg.Revealed(sender=MALLORY, rows=stolen))
        assert all(MALLORY not in points for points in session.server._points.values())
        session.server.receive(alice)
        assert session.comes_right()
        row = stolen[0]
        checks = {share_check(bytes(32), row.dealer, holder, Kind.SELF, row.value) for holder in (ALICE, MALLORY)}
        assert len(checks) == 2
