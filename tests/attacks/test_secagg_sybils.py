"""Sybils around one target: up to as many as the terms count on, its vector stays hidden; beyond, its own noise is all it has."""

import runpy
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homespun import secagg
from homespun.privacy.policy import Policy
from homespun.privacy.policy_check import Reason, check, local_epsilon
from homespun.secagg import Fault

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_masked_sum.py"))
toy = runpy.run_path(str(Path(__file__).parents[1] / "toy.py"))
Table, refused, survivors_of, looks_uniform = lab["Table"], lab["refused"], lab["survivors_of"], lab["looks_uniform"]
PEOPLE = lab["identities"](10)
TARGET = 9


def table(sybils: Any, *, colluding: int, min_survivors: int, **given: Any) -> Any:
    dimension = given.pop("dimension", 16)
    terms = lab["terms_of"](PEOPLE, min_survivors=min_survivors, colluding=colluding, dimension=dimension)
    made = Table(terms, PEOPLE, sybils=sybils, **given)
    made.share()
    return made


@pytest.mark.parametrize("sybils", [(), (0,), (8,), (0, 1), (3, 7)])
def test_up_to_the_number_agreed_on_only_the_whole_sum_opens(sybils: tuple[int, ...]) -> None:
    """Sybils tell the server their secrets and every share, sign what it likes, and those it likes are dropped."""
    made = table(sybils, colluding=2, min_survivors=8)
    alive = [index for index in range(10) if index not in (4, 5)]
    made.mask()
    made.finish(alive)
    honest = frozenset(alive) - set(sybils)
    assert made.eve.openable() == [honest] and TARGET in honest and len(honest) >= 8 - 2
    assert np.array_equal(made.eve.sum_of(honest), made.plain_sum(honest))


def test_a_targets_vector_less_all_that_they_know_is_uniform() -> None:
    made = table((0, 1), colluding=2, min_survivors=8, dimension=2**13, zeros=True)
    made.mask()
    alive = [index for index in range(10) if index not in (4, 5)]
    made.finish(alive)
    made.eve.solve()
    honest = sorted(set(alive) - {0, 1})
    for size in range(1, len(honest)):
        assert looks_uniform(made.eve.sum_of([TARGET, *honest[: size - 1]]))
    assert not made.eve.sum_of(honest).any()


def test_two_lists_need_more_double_signers_than_there_are() -> None:
    """Both Sybils sign both lists; the honest signers are parted in every way: at most one list has a quorum."""
    first, second = survivors_of(range(10)), survivors_of(range(8))
    quorum = 7
    for size in range(9):
        made = table((0, 1), colluding=2, min_survivors=8)
        made.mask()
        left = list(range(2, 10))[:size]
        right = [index for index in range(2, 8) if index not in left]
        assert made.terms.shape.quorum == quorum
        signed = {first: made.consents(first, [0, 1, *left]), second: made.consents(second, [0, 1, *right])}
        assert sum(len(consents) >= quorum for consents in signed.values()) <= 1
        for survivors, consents in signed.items():
            for index in survivors.indices[2:]:
                if len(consents) >= quorum:
                    continue
                with pytest.raises(secagg.Refused) as caught:
                    made.reveal(index, survivors, consents)
                assert caught.value.fault in (Fault.NO_QUORUM, Fault.LIST_CHANGED)
        assert made.eve.openable() == []


def test_sybils_alone_never_have_enough_shares() -> None:
    """No set of two of the ten, with everything it holds and no reveal at all, has one honest secret."""
    for sybils in combinations(range(4), 2):
        made = table(sybils, colluding=2, min_survivors=8)
        made.mask()
        assert made.eve.openable() == []
        assert {dealer for dealer, _ in made.eve.secrets} == set(sybils)


def test_beyond_that_number_the_vector_is_open_and_its_own_noise_is_all_it_has() -> None:
    """Nine Sybils around one target: no protocol helps. What is opened is its clipped vector with its own share of noise."""
    made = table(range(9), colluding=2, min_survivors=8)
    made.mask()
    made.finish(range(10))
    assert made.eve.openable() == [frozenset({TARGET})]
    assert np.array_equal(made.eve.residual(TARGET), made.vectors[TARGET])


def test_an_owner_who_fears_that_many_sets_a_cap_on_what_the_own_noise_costs() -> None:
    """A device that declines then sends nothing, not even its keys."""
    release = toy["toy_plan"](1000, min_survivors=900)["nudge"]
    about = {"installed": {release.name}, "spent": 0, "rounds": 0}
    policy = Policy(min_cohort=100)
    alone = local_epsilon(release, policy.delta)
    assert check(policy, release, **about) is None
    assert check(replace(policy, max_local_epsilon=alone * 0.99), release, **about) is Reason.LOCAL_EPSILON_ABOVE_CAP
    assert check(replace(policy, max_local_epsilon=alone * 1.01), release, **about) is None


def test_a_roster_that_repeats_the_sybils_keys_is_refused() -> None:
    """Eve's own session keys may not be copied from the target: its masks with it would cancel or double."""
    made = Table(lab["terms_of"](PEOPLE, min_survivors=8, colluding=2), PEOPLE, sybils=(0,))
    target = made.adverts[TARGET]
    content = secagg.derivations.advert_content(made.terms, 0, target.mask_key, target.seal_key, target.commitment)
    copied = replace(target, index=0, signature=PEOPLE[0].sign(secagg.crypto.Tag.ADVERT, content))
    for index in (TARGET, 5):
        with refused(Fault.KEY_REUSED, made.clients[index]):
            made.clients[index].share([copied, *made.adverts[1:]])
