"""A server of masked sums that breaks the rules: every step is refused with its word, and nothing is opened but one sum."""

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homespun import secagg
from homespun.secagg import Fault, Stage

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_masked_sum.py"))
Table, refused, survivors_of, looks_uniform = lab["Table"], lab["refused"], lab["survivors_of"], lab["looks_uniform"]
PEOPLE = lab["identities"](9)
ALL = range(9)
LATE = [0, 1, 2, 3, 4, 5, 6]  # parties 7 and 8 drop out


def table(**given: Any) -> Any:
    """Nine parties, all masked with each other; five shares give a secret, five signatures make a quorum."""
    terms = lab["terms_of"](
        PEOPLE, min_survivors=6, **{name: given.pop(name) for name in ("dimension",) if name in given}
    )
    assert (terms.shape.threshold, terms.shape.quorum, terms.shape.degree) == (5, 5, None)
    return Table(terms, PEOPLE, **given)


@pytest.fixture
def shared() -> Any:
    """Everybody has shared."""
    made = table()
    made.share()
    return made


@pytest.fixture
def masked(shared: Any) -> Any:
    """Everybody has sent a masked vector."""
    shared.mask()
    return shared


def test_an_honest_end_opens_one_sum_and_nothing_below_it(shared: Any) -> None:
    """And shows that Eve is no straw woman: what can be computed, she computes."""
    shared.mask(LATE)
    assert shared.eve.openable() == []
    shared.finish(LATE)
    assert shared.eve.openable() == [frozenset(LATE)]
    assert np.array_equal(shared.eve.sum_of(LATE), shared.plain_sum(LATE))


def test_masked_vectors_are_uniform_before_and_after_the_end() -> None:
    made = table(zeros=True, dimension=2**13)
    made.share()
    made.mask(LATE)
    assert all(looks_uniform(made.eve.residual(index)) for index in LATE)
    made.finish(LATE)
    made.eve.solve()
    # Every self mask and every mask with the dropped is gone, those among survivors are not.
    assert all(looks_uniform(made.eve.residual(index)) for index in LATE)
    assert all(looks_uniform(made.eve.sum_of(LATE[:size])) for size in range(1, 7))
    assert not made.eve.sum_of(LATE).any() and not looks_uniform(made.eve.sum_of(LATE))


class TestBothKindsOfShare:
    """The server asks for a party's self mask, as of a survivor, and for its mask key, as of one that dropped."""

    def test_no_list_can_say_both(self) -> None:
        with refused(Fault.MALFORMED):
            survivors_of([0, 1, 2]).__class__(indices=(0, 1, 1))
        with refused(Fault.MALFORMED):
            secagg.RevealRequest(survivors=survivors_of([0, 1, 2]), consents=(), dropped=(2,))
        with refused(Fault.MALFORMED):
            secagg.Revealed(sender=0, rows=(secagg.Share(3, 0, bytes(32)), secagg.Share(3, 1, bytes(32))))

    def test_a_second_list_after_the_first_reveal(self, masked: Any) -> None:
        first, second = survivors_of(LATE), survivors_of([0, 1, 2, 3, 4, 5, 7])
        signed = masked.consents(first, range(5))
        masked.reveal(0, first, signed)
        with refused(Fault.WRONG_STAGE, masked.clients[0]):
            masked.reveal(0, second, signed)
        assert masked.eve.openable() == []

    def test_a_second_list_after_a_consent(self, masked: Any) -> None:
        first, second = survivors_of(LATE), survivors_of([0, 1, 2, 3, 4, 5, 7])
        masked.clients[0].consent(first)
        with refused(Fault.LIST_CHANGED, masked.clients[0]):
            masked.clients[0].consent(second)
        with refused(Fault.LIST_CHANGED, masked.clients[0]):
            masked.reveal(0, second, masked.consents(second, [1, 2, 3, 4, 5]))
        with refused(Fault.WRONG_STAGE, masked.clients[0]):
            masked.clients[0].consent(first)  # the same list again: one answer a step

    def test_two_lists_signed_by_half_of_the_committee_each(self, masked: Any) -> None:
        """What breaks SecAgg+: one half says what it knows of the target's self mask, the other of its mask key."""
        target = 8
        alive, dead = survivors_of(ALL), survivors_of(range(8))
        for some, survivors in (([0, 1, 2, 3], alive), ([4, 5, 6, 7], dead)):
            signed = masked.consents(survivors, some)
            for index in some:
                with refused(Fault.NO_QUORUM, masked.clients[index]):
                    masked.reveal(index, survivors, signed)
        assert masked.eve.openable() == [] and target in masked.eve.masked

    def test_it_would_work_without_signatures(self, masked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """So the test above tests something: with the check gone, the target's vector is open."""
        monkeypatch.setattr("homespun.secagg.client.check_consents", lambda *_: None)
        sybils = [0, 1]
        alive, dead = survivors_of(ALL), survivors_of(range(8))
        for index in [2, 3, 4, *sybils]:
            masked.eve.see_held(masked.clients[index]) if index in sybils else masked.reveal(index, alive, ())
        for index in [5, 6, 7]:
            masked.reveal(index, dead, ())
        assert frozenset({8}) in masked.eve.openable()
        assert np.array_equal(masked.eve.residual(8), masked.vectors[8])


LISTS = {
    "without the one that is asked": ([1, 2, 3, 4, 5, 6], Fault.NOT_IN_LIST),
    "fewer than the terms say": ([0, 1, 2, 3, 4], Fault.TOO_FEW),
    "nobody": ([], Fault.TOO_FEW),
    "the target alone": ([0], Fault.TOO_FEW),
    "somebody who is not on the roster": ([0, 1, 2, 3, 4, 5, 9], Fault.NOT_A_SUBSET),
}


class TestLists:
    """Lists of survivors that nobody honest makes."""

    @pytest.mark.parametrize("name", LISTS)
    def test_neither_signed_nor_answered(self, name: str, masked: Any) -> None:
        indices, fault = LISTS[name]
        survivors = survivors_of(indices)
        with refused(fault, masked.clients[0]):
            masked.clients[0].consent(survivors)
        signed = tuple(masked.forced_consent(index, survivors) for index in range(5))
        with refused(fault, masked.clients[0]):
            masked.reveal(0, survivors, signed)
        masked.finish(ALL)  # whoever refused goes on
        assert np.array_equal(masked.eve.sum_of(ALL), masked.plain_sum(ALL))

    def test_a_survivor_that_never_advertised(self) -> None:
        made = table()
        made.share(range(8), made.adverts[:8])
        made.mask()
        with refused(Fault.NOT_A_SUBSET, made.clients[0]):
            made.clients[0].consent(survivors_of(ALL))

    def test_a_survivor_that_never_shared_with_the_one_that_is_asked(self) -> None:
        made = table()
        made.share(range(8))
        made.mask()
        with refused(Fault.NOT_A_SUBSET, made.clients[0]):
            made.clients[0].consent(survivors_of(ALL))

    def test_a_reveal_before_the_masked_vector(self, shared: Any) -> None:
        with refused(Fault.WRONG_STAGE, shared.clients[0]):
            shared.clients[0].consent(survivors_of(ALL))
        with refused(Fault.WRONG_STAGE, shared.clients[0]):
            shared.reveal(0, survivors_of(ALL), ())


class TestConsents:
    """A quorum that is none."""

    def changed(self, masked: Any, name: str) -> tuple[list[secagg.Consent], Fault]:
        survivors = survivors_of(LATE)
        signed = list(masked.consents(survivors, range(1, 6)))
        stranger = secagg.Identity.generate()
        other = table()
        other.share(range(8), other.adverts[:8])
        if name == "one short":
            return signed[:-1], Fault.NO_QUORUM
        if name == "none":
            return [], Fault.NO_QUORUM
        if name == "a bit flipped":
            first = signed[0].signature
            return [replace(signed[0], signature=bytes([first[0] ^ 1]) + first[1:]), *signed[1:]], Fault.BAD_SIGNATURE
        if name == "another's signature":
            return [replace(signed[0], signature=signed[1].signature), *signed[1:]], Fault.BAD_SIGNATURE
        if name == "a stranger's signature":
            forged = stranger.sign(secagg.crypto.Tag.CONSENT, b"anything")
            return [replace(signed[0], signature=forged), *signed[1:]], Fault.BAD_SIGNATURE
        if name == "on another list":
            elsewhere = masked.forced_consent(6, survivors_of([0, 1, 2, 3, 4, 5]))
            return [*signed[:-1], elsewhere], Fault.BAD_SIGNATURE
        if name == "under another transcript":
            elsewhere = other.forced_consent(6, survivors)
            return [*signed[:-1], elsewhere], Fault.BAD_SIGNATURE
        raise LookupError(name)

    NAMES = ("one short", "none", "a bit flipped", "another's signature", "a stranger's signature", "on another list",
             "under another transcript")  # fmt: skip

    @pytest.mark.parametrize("name", NAMES)
    def test_nothing_is_revealed(self, name: str, masked: Any) -> None:
        consents, fault = self.changed(masked, name)
        for index in (0, 1):  # who did not sign, and who did
            with refused(fault, masked.clients[index]):
                masked.reveal(index, survivors_of(LATE), consents)
        assert masked.eve.points == {} and masked.eve.openable() == []

    def test_one_signature_twice_has_no_spelling(self, masked: Any) -> None:
        survivors = survivors_of(LATE)
        one, two, three, four = masked.consents(survivors, range(4))
        with refused(Fault.MALFORMED):
            masked.request(0, survivors, [one, two, three, four, four])

    def test_a_signer_that_is_not_on_the_roster(self, masked: Any) -> None:
        survivors = survivors_of(LATE)
        signed = [*masked.consents(survivors, range(4)), secagg.Consent(sender=9, signature=bytes(64))]
        with refused(Fault.UNKNOWN_PARTY, masked.clients[0]):
            masked.reveal(0, survivors, signed)


def forged(advert: secagg.Advert, **changes: Any) -> secagg.Advert:
    return replace(advert, **changes)


class TestManInTheMiddle:
    """Keys that are not those of who they are said to be of."""

    def swapped(self, name: str, made: Any) -> tuple[list[secagg.Advert], Fault]:
        adverts = list(made.adverts)
        eve = secagg.Client(made.terms, PEOPLE[3]).advert  # keys that she made; signed as if she had party 3's identity
        other = secagg.Client(lab["terms_of"](PEOPLE, min_survivors=6, context=b"1" * 32), PEOPLE[3]).advert
        weak = bytes(32)
        cases: dict[str, tuple[int, secagg.Advert, Fault]] = {
            "a mask key": (3, forged(adverts[3], mask_key=eve.mask_key), Fault.BAD_SIGNATURE),
            "a seal key": (3, forged(adverts[3], seal_key=eve.seal_key), Fault.BAD_SIGNATURE),
            "a commitment": (3, forged(adverts[3], commitment=eve.commitment), Fault.BAD_SIGNATURE),
            "a signature": (3, forged(adverts[3], signature=adverts[4].signature), Fault.BAD_SIGNATURE),
            "a key of small order": (3, forged(adverts[3], seal_key=weak), Fault.BAD_SIGNATURE),
            "an advert of another session": (3, other, Fault.BAD_SIGNATURE),
            "another's keys under this name": (3, replace(adverts[4], index=3), Fault.KEY_REUSED),
            "one key for both": (3, forged(adverts[3], seal_key=adverts[3].mask_key), Fault.KEY_REUSED),
            "the own mask key": (0, forged(adverts[0], mask_key=eve.mask_key), Fault.OWN_ADVERT_CHANGED),
            "the own signature": (0, forged(adverts[0], signature=bytes(64)), Fault.OWN_ADVERT_CHANGED),
        }
        place, advert, fault = cases[name]
        adverts[place] = advert
        return adverts, fault

    NAMES = ("a mask key", "a seal key", "a commitment", "a signature", "a key of small order", "an advert of another session",
             "another's keys under this name", "one key for both", "the own mask key", "the own signature")  # fmt: skip

    @pytest.mark.parametrize("name", NAMES)
    def test_nobody_shares(self, name: str) -> None:
        made = table()
        adverts, fault = self.swapped(name, made)
        with refused(fault, made.clients[0]):
            made.clients[0].share(adverts)
        made.share()  # and goes on when it is shown the truth
        assert made.clients[0].stage is Stage.MASK

    @pytest.mark.parametrize("name", ["mask_key", "seal_key"])
    def test_a_key_of_small_order_that_its_owner_signed(self, name: str) -> None:
        """A Sybil whose masks or boxes anybody can compute: its honest neighbours do not deal with it."""
        made = table()
        weak = forged(made.adverts[3], **{name: bytes(32)})
        content = secagg.derivations.advert_content(made.terms, 3, weak.mask_key, weak.seal_key, weak.commitment)
        weak = forged(weak, signature=PEOPLE[3].sign(secagg.crypto.Tag.ADVERT, content))
        with refused(Fault.WEAK_KEY, made.clients[0]):
            made.clients[0].share([*made.adverts[:3], weak, *made.adverts[4:]])

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (lambda adverts: adverts[1:], Fault.OWN_ADVERT_CHANGED),
            (lambda adverts: adverts[:5], Fault.TOO_FEW),
            (lambda adverts: adverts[:1], Fault.TOO_FEW),
            (lambda adverts: (), Fault.TOO_FEW),
            (lambda adverts: adverts[::-1], Fault.MALFORMED),
            (lambda adverts: (adverts[0], *adverts), Fault.MALFORMED),
            (lambda adverts: (*adverts[:8], replace(adverts[8], index=9)), Fault.UNKNOWN_PARTY),
        ],
    )
    def test_lists_of_adverts(self, change: Callable[[Any], Any], fault: Fault) -> None:
        made = table()
        with refused(fault, made.clients[0]):
            made.clients[0].share(change(made.adverts))


class TestReplay:
    """What an earlier session left, in this one."""

    @pytest.fixture
    def old(self) -> Any:
        made = Table(lab["terms_of"](PEOPLE, min_survivors=6, context=b"0" * 32), PEOPLE)
        made.share()
        made.mask()
        return made

    def test_adverts(self, old: Any) -> None:
        made = table()
        with refused(Fault.OWN_ADVERT_CHANGED, made.clients[0]):
            made.clients[0].share(old.adverts)
        with refused(Fault.BAD_SIGNATURE, made.clients[0]):
            made.clients[0].share([made.adverts[0], *old.adverts[1:]])

    def test_sealed_shares(self, old: Any, shared: Any) -> None:
        with refused(Fault.TOO_FEW, shared.clients[0]):  # none of them opens
            shared.clients[0].mask(shared.vectors[0], old.inbox(0))

    def test_consents(self, old: Any, masked: Any) -> None:
        survivors = survivors_of(ALL)
        with refused(Fault.BAD_SIGNATURE, masked.clients[0]):
            masked.reveal(0, survivors, old.consents(survivors, range(1, 6)))

    def test_a_party_answers_each_step_once(self, masked: Any) -> None:
        client = masked.clients[0]
        with refused(Fault.WRONG_STAGE, client):
            client.share(masked.adverts)
        with refused(Fault.WRONG_STAGE, client):
            client.mask(masked.vectors[0], masked.inbox(0))
        masked.finish(ALL)
        assert client.stage is Stage.DONE
        for again in (lambda: client.consent(survivors_of(ALL)), lambda: masked.reveal(0, survivors_of(ALL), ())):
            with pytest.raises(secagg.Refused) as caught:
                again()
            assert caught.value.fault in (Fault.WRONG_STAGE, Fault.LIST_CHANGED)
        assert client._fresh is client._keys is client._held is client._identity is None


class TestInboxes:
    """Shares that are withheld, misdelivered or spoilt, so that a party masks with too few."""

    def test_too_few_to_be_masked_with(self, shared: Any) -> None:
        for senders in ((), (1,), (1, 2, 3, 4)):
            with refused(Fault.TOO_FEW, shared.clients[0]):
                shared.clients[0].mask(shared.vectors[0], shared.inbox(0, senders))

    def test_spoilt_boxes_do_not_count(self, shared: Any) -> None:
        inbox = shared.inbox(0)
        spoilt = [row._replace(box=bytes(80)) if row.sender > 4 else row for row in inbox.rows]
        with refused(Fault.TOO_FEW, shared.clients[0]):
            shared.clients[0].mask(shared.vectors[0], secagg.Inbox(to=0, rows=tuple(spoilt)))

    def test_boxes_for_another_or_from_another(self, shared: Any) -> None:
        with refused(Fault.NOT_ADDRESSED, shared.clients[0]):
            shared.clients[0].mask(shared.vectors[0], shared.inbox(1))
        with refused(Fault.UNKNOWN_PARTY, shared.clients[0]):
            shared.clients[0].mask(shared.vectors[0], replace(shared.inbox(1), to=0))  # has a row of party 0 itself
        moved = [secagg.Note(row.sender, other.box) for row, other in zip(shared.inbox(0).rows, shared.inbox(1).rows)]  # noqa: B905
        with refused(Fault.TOO_FEW, shared.clients[0]):  # sealed to party 1, or from another: none opens
            shared.clients[0].mask(shared.vectors[0], secagg.Inbox(to=0, rows=tuple(moved)))

    def test_a_target_with_as_few_as_it_takes_is_not_opened_alone(self, shared: Any) -> None:
        """It masks with five, of whom three are then said to have dropped; the rest give its self mask away."""
        target, few = 0, [4, 5, 6, 7, 8]
        shared.mask([target], senders=few)
        shared.mask(range(1, 9))
        survivors = survivors_of(range(6))
        with refused(
            Fault.NOT_A_SUBSET, shared.clients[target]
        ):  # parties 1 to 3 are listed, and were withheld from it
            shared.clients[target].consent(survivors)
        signed = shared.consents(survivors, range(1, 6))
        for index in range(1, 6):
            shared.reveal(index, survivors, signed)
        assert shared.eve.openable() == []
        assert (target, secagg.Kind.SELF) in shared.eve.secrets  # the attack went as far as that


class TestSplitViews:
    """Other adverts, or other terms, to other parties: they cannot unmask each other."""

    @pytest.mark.parametrize("size", range(1, 9))
    def test_two_lists_of_adverts(self, size: int) -> None:
        """However the parties are divided, one group at most has enough shares that open, and one sum is opened at most."""
        made = table()
        groups = {True: range(size), False: range(size, 9)}
        made.share(groups[True])
        made.share(groups[False], made.adverts[1:])
        large = None
        for name, group in groups.items():
            if len(group) > made.terms.shape.threshold:
                large = name
                continue
            for index in group:
                with refused(Fault.TOO_FEW, made.clients[index]):
                    made.mask([index])
        if large is None:
            assert made.eve.masked == {}
            return
        made.mask(groups[large], senders=groups[large])
        made.finish(groups[large])
        assert made.eve.openable() == [frozenset(groups[large])]

    def test_a_party_under_another_transcript_is_not_opened(self) -> None:
        """Party 8 is hidden from party 0 alone; all the others see everybody, and go on without party 0."""
        made = table()
        made.share(range(1, 9))
        made.share([0], made.adverts[:8])
        with refused(Fault.TOO_FEW, made.clients[0]):
            made.mask([0])
        made.mask(range(1, 9))
        with refused(Fault.WRONG_STAGE, made.clients[0]):
            made.clients[0].consent(survivors_of(ALL))
        made.finish(range(1, 9))
        # They masked with party 0, whose shares of this transcript nobody has: its masks stay on.
        assert made.eve.openable() == []

    def test_other_backbones(self) -> None:
        """The context binds what the parties were told beside the sum; who was told otherwise signs other adverts."""
        mine = Table(lab["terms_of"](PEOPLE, min_survivors=6, context=b"a" * 32), PEOPLE)
        yours = Table(lab["terms_of"](PEOPLE, min_survivors=6, context=b"b" * 32), PEOPLE)
        mixed = [*mine.adverts[:5], *yours.adverts[5:]]
        for made, index in ((mine, 0), (yours, 8)):
            with refused(Fault.BAD_SIGNATURE, made.clients[index]):
                made.clients[index].share(mixed)
        assert mine.terms.digest != yours.terms.digest

    def test_parties_told_of_two_backbones_add_up_to_nothing(self) -> None:
        """Everybody advertises in two sessions, and the server crosses their boxes and lists: nothing opens."""
        mine = Table(lab["terms_of"](PEOPLE, min_survivors=6, context=b"a" * 32), PEOPLE)
        yours = Table(lab["terms_of"](PEOPLE, min_survivors=6, context=b"b" * 32), PEOPLE)
        for made in (mine, yours):
            made.share()
        with refused(Fault.TOO_FEW, mine.clients[0]):
            mine.clients[0].mask(mine.vectors[0], yours.inbox(0))
        mine.mask()
        yours.mask()
        survivors = survivors_of(ALL)
        with refused(Fault.BAD_SIGNATURE, mine.clients[0]):
            mine.reveal(0, survivors, yours.consents(survivors, range(5)))
        assert mine.eve.openable() == yours.eve.openable() == []

    @pytest.mark.parametrize("change", [{"dimension": 17}, {"min_survivors": 7}, {"colluding": 1, "min_survivors": 7}])
    def test_other_terms(self, change: dict[str, int]) -> None:
        mine = table()
        yours = Table(lab["terms_of"](PEOPLE, **{"min_survivors": 6, **change}), PEOPLE)
        with refused(Fault.BAD_SIGNATURE, mine.clients[0]):
            mine.clients[0].share([mine.adverts[0], *yours.adverts[1:]])

    def test_another_roster(self) -> None:
        """A roster on which party 8 is Eve's has another digest; on it she cannot sign for the others."""
        mine = table()
        eve = secagg.Identity.generate()
        yours = Table(lab["terms_of"]([*PEOPLE[:8], eve], min_survivors=6), [*PEOPLE[:8], eve])
        with refused(Fault.BAD_SIGNATURE, mine.clients[0]):
            mine.clients[0].share([*mine.adverts[:8], yours.adverts[8]])
        with refused(Fault.UNKNOWN_PARTY):
            secagg.Client(yours.terms, PEOPLE[8])


class TestTerms:
    """Terms that would let a server learn more cannot be made, and a device that decodes them says so."""

    ROSTER = tuple(person.public for person in PEOPLE)

    @pytest.mark.parametrize(
        "change",
        [
            {"shape": secagg.Shape(degree=None, threshold=4, committee=9, quorum=5)},  # two halves of shares
            {"shape": secagg.Shape(degree=None, threshold=5, committee=9, quorum=4)},  # two halves of signatures
            {  # the one who signs may be Eve's
                "shape": secagg.Shape(degree=None, threshold=6, committee=1, quorum=1),
                "min_survivors": 7,
                "colluding": 1,
            },
            {"shape": secagg.Shape(degree=4, threshold=3, committee=9, quorum=5)},  # a graph that falls apart
            {"min_survivors": 1, "colluding": 0},
            {"colluding": 6},
            {"colluding": 2},  # five shares of nine are too few against two
            {"roster": (*ROSTER[:8], ROSTER[0])},  # one identity twice
            {"roster": (*ROSTER[:8], bytes(32))},  # an identity for which anybody signs
            {"roster": ROSTER[:2], "min_survivors": 2},
        ],
    )
    def test_unsound(self, change: dict[str, Any]) -> None:
        sound = {
            "context": bytes(32), "dimension": 16, "roster": self.ROSTER, "min_survivors": 6, "colluding": 0,
            "shape": secagg.Shape(degree=None, threshold=5, committee=9, quorum=5),
        }  # fmt: skip
        made = secagg.Terms(**sound)
        with refused(Fault.TERMS_UNSOUND):
            secagg.Terms(**{**sound, **change})
        encoded = replace_without_check(made, change).encode()
        with refused(Fault.TERMS_UNSOUND):
            secagg.Terms.decode(encoded)


def replace_without_check(terms: secagg.Terms, change: dict[str, Any]) -> secagg.Terms:
    """Terms as a hostile server writes them."""
    made = object.__new__(secagg.Terms)
    for name in ("context", "dimension", "roster", "min_survivors", "colluding", "shape"):
        object.__setattr__(made, name, change.get(name, getattr(terms, name)))
    return made
