"""Terms that keep a promise of privacy and none of work: what they make a party do is bounded, or refused with a word."""

import runpy
from dataclasses import replace
from pathlib import Path

from homespun import secagg
from homespun.secagg import Fault, Shape, Stage, Terms
from homespun.secagg.shape import COMPLETE_UP_TO, failure_bound

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_masked_sum.py"))
PEOPLE = lab["identities"](COMPLETE_UP_TO + 1)
ROSTER = tuple(person.public for person in PEOPLE)


def test_all_mask_with_all_only_up_to_where_a_device_can() -> None:
    """The work of a party grows with the square: a server could ask 20,000 shares of 20,000 parties each."""
    most = Terms.of(context=bytes(32), dimension=4, roster=ROSTER[:-1], min_survivors=150)
    assert most.shape.degree is None
    shape = Shape(degree=None, threshold=101, committee=len(ROSTER), quorum=101)
    assert failure_bound(shape, len(ROSTER), 150, 0) <= -80  # nothing is wrong with it but the work
    with lab["refused"](Fault.TERMS_UNSOUND):
        replace(most, roster=ROSTER, shape=shape)


def test_a_graph_with_too_few_different_neighbours_is_refused_with_a_word() -> None:
    """A shape may want as many shares as there are edges; an edge that is drawn twice then leaves one short."""
    shape = Shape(degree=40, threshold=40, committee=100, quorum=80)
    terms = Terms(context=bytes(32), dimension=4, roster=ROSTER, min_survivors=180, colluding=0, shape=shape)
    clients = [secagg.Client(terms, person) for person in PEOPLE]
    adverts = [client.advert for client in clients]
    faults = []
    for client in clients[:10]:
        try:
            client.share(adverts)
        except secagg.Refused as refused:
            faults.append(refused.fault)
            assert client.stage is Stage.SHARE
    assert faults
    assert set(faults) == {Fault.TOO_FEW}
