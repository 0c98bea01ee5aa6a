"""A server of masked sums that knows the sparse graph: it cuts, isolates, withholds and forges, and still opens one sum.

The graphs are smaller than sound ones; each test looks at one rule, which does not hang on chance.
"""

import runpy
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homespun import secagg
from homespun.secagg import Fault, Kind, Shape

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_masked_sum.py"))
Table, refused, survivors_of, looks_uniform = lab["Table"], lab["refused"], lab["survivors_of"], lab["looks_uniform"]
PEOPLE = lab["identities"](40)
SHAPE = Shape(degree=8, threshold=3, committee=40, quorum=26)
ALL = range(40)
FEWEST = 24


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Forty parties with eight neighbours at most; three shares give a secret. Everybody has shared."""
    terms = lab["sparse_terms"](PEOPLE, monkeypatch, SHAPE, min_survivors=FEWEST)
    table = Table(terms, PEOPLE)
    table.share()
    return table


def row(made: Any, index: int) -> tuple[int, ...]:
    return tuple(made.eve.views[index].graph.neighbours(index))


def target_of(made: Any, left: int = 0) -> int:
    """A party without whose neighbours, but the first few, everybody else has neighbours enough."""
    for target in ALL:
        gone = set(row(made, target)[left:])
        others = set(ALL) - gone - ({target} if left < SHAPE.threshold else set())
        if all(len(others.intersection(row(made, index))) >= SHAPE.threshold for index in others):
            return target
    return pytest.skip("the graph that was drawn has no such party")  # not one in 1,500 graphs was such


def without(gone: Collection[int]) -> list[int]:
    return [index for index in ALL if index not in gone]


def test_an_honest_end_opens_one_sum(made: Any) -> None:
    alive = without(row(made, 0)[:2])
    made.mask(alive)
    made.finish(alive)
    assert made.eve.openable() == [frozenset(alive)]
    assert np.array_equal(made.eve.sum_of(alive), made.plain_sum(alive))


class TestIsolation:
    """All neighbours of one target are said to have dropped: nothing ties its vector to the others any more."""

    def test_nobody_signs_or_reveals(self, made: Any) -> None:
        target = target_of(made)
        made.mask()
        survivors = survivors_of(without(row(made, target)))
        signed = tuple(made.forced_consent(index, survivors) for index in survivors.indices)
        for index in survivors.indices:  # the target and people far from it alike: each knows the whole graph
            with refused(Fault.TOO_FEW, made.clients[index]):
                made.clients[index].consent(survivors)
            with refused(Fault.TOO_FEW, made.clients[index]):
                made.reveal(index, survivors, signed)
        assert made.eve.openable() == [] and made.eve.points == {}

    @pytest.mark.parametrize("left", [1, 2])
    def test_nor_with_fewer_neighbours_than_it_takes(self, left: int, made: Any) -> None:
        target = target_of(made)
        made.mask()
        survivors = survivors_of(without(row(made, target)[left:]))
        for index in survivors.indices:
            with refused(Fault.TOO_FEW, made.clients[index]):
                made.clients[index].consent(survivors)

    def test_without_that_check_the_others_are_opened_without_it(
        self, made: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The list would promise one noise share more than is in the sum."""
        target = target_of(made)
        made.mask()
        monkeypatch.setattr("homespun.secagg.graph.Graph.least_live", lambda *_: 99)
        alive = without(row(made, target))
        made.finish(alive)
        opened = made.eve.openable()
        assert all(target not in group for group in opened) and frozenset(alive) not in opened
        assert sum(map(len, opened)) == len(alive) - 1

    def test_with_just_enough_neighbours_the_one_sum_is_opened(self, made: Any) -> None:
        target = target_of(made, left=SHAPE.threshold)
        alive = without(row(made, target)[SHAPE.threshold :])
        made.mask()  # those that are said to have dropped did send
        graph = made.eve.views[0].graph
        assert graph.least_live(alive) >= SHAPE.threshold
        made.finish(alive)
        assert made.eve.openable() == [frozenset(alive)]


class TestWithheldRows:
    """One party's row is kept from all its neighbours, so that no mask ties it to the others, and it stays on the list."""

    def attack(self, made: Any, target: int) -> secagg.Survivors:
        near = row(made, target)
        made.mask(near, senders=without([target]))
        made.mask(without(near))
        survivors = survivors_of(ALL)
        for index in near:  # they know that the target never shared with them
            with refused(Fault.NOT_A_SUBSET, made.clients[index]):
                made.clients[index].consent(survivors)
        signed = made.consents(survivors, without(near))
        assert len(signed) >= SHAPE.quorum
        for index in without(near):
            made.reveal(index, survivors, signed)
        return survivors

    def test_nothing_is_opened(self, made: Any) -> None:
        target = target_of(made)
        self.attack(made, target)
        assert made.eve.openable() == []
        # Whoever reveals sees from the acks that the target's neighbours did not mask with all who are listed.
        assert all((index, Kind.SELF) not in made.eve.secrets for index in row(made, target))

    def test_without_acks_all_but_the_target_would_be(self, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(secagg.Client, "_vouched", lambda _, request, held: held.masked_with)
        target = target_of(made)
        self.attack(made, target)
        opened = made.eve.openable()
        assert opened and all(target not in group for group in opened)
        assert set().union(*opened) <= set(without([target]))

    def test_acks_are_for_one_reader_and_one_list(self, made: Any) -> None:
        """Acks of another reader, of another dealer, spoilt or left out: no share of that self mask, and no more."""
        made.mask()
        survivors = survivors_of(ALL)
        signed = made.consents(survivors, ALL)
        near = row(made, 0)
        honest = made.request(0, survivors, signed)
        other = made.request(near[0], survivors, signed)
        first, second, third, fourth, *rest = honest.acks
        spoilt = (
            first._replace(tag=second.tag),
            second._replace(tag=bytes(16)),
            third._replace(tag=other.acks[0].tag),
            *rest,
        )
        revealed = made.clients[0].reveal(replace(honest, acks=spoilt))
        assert [share.dealer for share in revealed.rows] == [ack.party for ack in rest]
        assert fourth.party not in [share.dealer for share in revealed.rows]

    def test_acks_hold_for_who_shared_alone(self, made: Any) -> None:
        """A dropped party that is not named: the acks of those that masked with it do not fit, and they stay hidden."""
        gone = row(made, 0)[0]
        made.mask(without([gone]))
        survivors = survivors_of(without([gone]))
        signed = made.consents(survivors, survivors.indices)
        for index in survivors.indices:
            made.reveal(index, survivors, signed, dropped=())
        assert made.eve.openable() == []
        assert all((index, Kind.SELF) not in made.eve.secrets for index in row(made, gone))

    def test_acks_of_strangers(self, made: Any) -> None:
        made.mask()
        survivors = survivors_of(ALL)
        signed = made.consents(survivors, ALL)
        request = made.request(0, survivors, signed)
        far = next(index for index in ALL if index not in (0, *row(made, 0)))
        strange = tuple(sorted([*request.acks[1:], secagg.Ack(far, bytes(16))]))
        with refused(Fault.UNKNOWN_PARTY, made.clients[0]):
            made.clients[0].reveal(replace(request, acks=strange))


class TestForgedFarAway:
    """A party checks the signatures of its neighbours alone; a forged advert far from it is stopped by those who are near."""

    def test_its_neighbours_refuse_and_no_list_can_have_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        table = Table(lab["sparse_terms"](PEOPLE, monkeypatch, SHAPE, min_survivors=FEWEST), PEOPLE)
        forged = 39
        for _ in range(20):  # a graph on which those that are left have neighbours enough
            fake = replace(secagg.Client(table.terms, PEOPLE[forged]).advert, signature=bytes(64))
            adverts = [*table.adverts[:forged], fake]
            graph = lab["draw_graph"](ALL, SHAPE, lab["transcript_of"](table.terms, adverts))
            near = graph.neighbours(forged)
            far = [index for index in range(forged) if index not in near]
            if graph.least_live(far) >= SHAPE.threshold:
                break
        for index in near:
            with refused(Fault.BAD_SIGNATURE, table.clients[index]):
                table.clients[index].share(adverts)
        table.share(far, adverts)
        table.mask(far)
        with refused(Fault.TOO_FEW, table.clients[far[0]]):
            table.clients[far[0]].consent(survivors_of([*far, forged]))
        # with those that refused it, who never shared: whoever is next to one of them sees that
        witness = next(index for index in far if set(graph.neighbours(index)) & set(near))
        with refused(Fault.NOT_A_SUBSET, table.clients[witness]):
            table.clients[witness].consent(survivors_of([*far, *near, forged]))
        table.finish(far)
        assert table.eve.openable() == [frozenset(far)]


class TestCommittee:
    """A committee smaller than the roster signs, and it alone; it follows from the terms."""

    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        shape = Shape(degree=6, threshold=3, committee=11, quorum=8)
        table = Table(lab["sparse_terms"](PEOPLE, monkeypatch, shape, min_survivors=FEWEST), PEOPLE)
        table.share()
        table.mask()
        return table

    def test_others_neither_sign_nor_count(self, small: Any) -> None:
        survivors = survivors_of(ALL)
        members = small.committee(ALL)
        assert len(members) == 11
        outsider = next(index for index in ALL if index not in members)
        with refused(Fault.NOT_ADDRESSED, small.clients[outsider]):
            small.clients[outsider].consent(survivors)
        signed = [*small.consents(survivors, members[:7]), small.forced_consent(outsider, survivors)]
        with refused(Fault.UNKNOWN_PARTY, small.clients[0]):
            small.reveal(0, survivors, sorted(signed, key=lambda consent: consent.sender))

    def test_one_committee_whatever_the_keys(self, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two transcripts of one session have one committee: else each half could have a quorum of its own."""
        again = Table(small.terms, PEOPLE)
        again.share(range(30), again.adverts[:30])
        assert again.committee(ALL) == small.committee(ALL)
        assert again.clients[0].transcript != small.clients[0].transcript
