from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest

from homespun.secagg import Fault, Identity, Refused, SecAggError, Shape, Terms
from homespun.secagg.terms import MAX_DIMENSION


def _terms(identities: list[Identity], parties: int = 6, **changes: Any) -> Terms:
    fields: dict[str, Any] = {
        "context": bytes(range(32)),
        "dimension": 5,
        "roster": tuple(identity.public for identity in identities[:parties]),
        "min_survivors": 5,
    }
    return Terms.of(**{**fields, **changes})


def test_layout(identities: list[Identity]) -> None:
    terms = _terms(identities, parties=3, min_survivors=3)
    numbers = (5, 3, 3, 0, 0, 2, 3, 2)  # dimension, parties, least, colluding, degree, threshold, committee, quorum
    head = bytes(range(32)) + b"".join(number.to_bytes(4, "little") for number in numbers)
    assert terms.encode() == head + b"".join(terms.roster)
    assert terms.digest == hashlib.sha256(b"homespun secagg v1 terms\0" + terms.encode()).digest()


@pytest.mark.parametrize("parties", [3, 6, 210])
def test_terms_survive_the_way(identities: list[Identity], parties: int) -> None:
    terms = _terms(identities, parties, min_survivors=max(3, parties - 1 if parties > 3 else 3))
    assert Terms.decode(terms.encode()) == terms
    assert terms.sparse == (parties > 200)


def test_every_field_is_in_the_digest(identities: list[Identity]) -> None:
    terms = _terms(identities, 10, min_survivors=8)
    others = [
        dataclasses.replace(terms, context=bytes(32)),
        dataclasses.replace(terms, dimension=6),
        dataclasses.replace(terms, roster=terms.roster[::-1]),
        dataclasses.replace(terms, min_survivors=9),
        dataclasses.replace(terms, colluding=1),
        dataclasses.replace(terms, shape=dataclasses.replace(terms.shape, threshold=7)),
        dataclasses.replace(terms, shape=dataclasses.replace(terms.shape, quorum=7)),
    ]
    assert len({terms.digest, *[other.digest for other in others]}) == 8


def _fault(make: Any) -> Fault:
    with pytest.raises(Refused) as error:
        make()
    return error.value.fault


@pytest.mark.parametrize(
    "changes",
    [
        {"dimension": 0},
        {"dimension": MAX_DIMENSION + 1},
        {"min_survivors": 7},
        {"min_survivors": 4},  # threshold 4 of others
        {"min_survivors": 0},
        {"colluding": 5},
        {"colluding": 3},
        {"roster": ()},
        {"roster": (b"\x07" * 32,)},
    ],
)
def test_numbers_that_are_not_sound(identities: list[Identity], changes: dict[str, Any]) -> None:
    assert _fault(lambda: _terms(identities, **changes)) is Fault.TERMS_UNSOUND


def test_one_or_two_parties_are_no_sum(identities: list[Identity]) -> None:
    terms = _terms(identities)
    for parties in (1, 2):
        with pytest.raises(SecAggError, match="each learns the other's vector"):
            dataclasses.replace(terms, roster=terms.roster[:parties], min_survivors=parties)


@pytest.mark.parametrize(
    "shape",
    [
        {"threshold": 3},  # 2 * 3 is not above 6 - 1 + 1
        {"threshold": 1},
        {"threshold": 5},  # nobody holds a share of its own secret
        {"quorum": 3},  # two lists could each get a quorum
        {"quorum": 0},
        {"quorum": 7},
        {"committee": 7},
        {"committee": 5, "quorum": 2},
        {"degree": 2, "threshold": 2},
    ],
)
def test_shapes_that_are_not_sound(identities: list[Identity], shape: dict[str, Any]) -> None:
    terms = _terms(identities, colluding=0)
    if shape == {"threshold": 3}:
        terms = dataclasses.replace(terms, colluding=1, shape=Shape(degree=None, threshold=4, committee=6, quorum=4))
    assert _fault(lambda: dataclasses.replace(terms, shape=dataclasses.replace(terms.shape, **shape))) is (
        Fault.TERMS_UNSOUND
    )


def test_a_weaker_sparse_shape_is_not_sound(identities: list[Identity]) -> None:
    terms = _terms(identities, 210, min_survivors=190, colluding=2)
    degree = terms.shape.degree
    assert degree is not None
    for changes in ({"degree": degree - 4}, {"threshold": 2}, {"quorum": terms.shape.quorum - 6}):
        weaker = dataclasses.replace(terms.shape, **changes)
        assert _fault(lambda shape=weaker: dataclasses.replace(terms, shape=shape)) is Fault.TERMS_UNSOUND


def test_identities_that_anybody_can_sign_for(identities: list[Identity]) -> None:
    roster = _terms(identities).roster
    one = (1).to_bytes(32, "little")
    unreduced = (2**255 - 19 + 2).to_bytes(32, "little")  # a second spelling of y = 2
    for key in (bytes(32), one, one[:31] + b"\x80", unreduced, roster[1]):
        assert _fault(lambda key=key: _terms(identities, roster=(key, *roster[1:]))) is Fault.TERMS_UNSOUND


@pytest.mark.parametrize(
    "changes",
    [
        {"context": bytes(31)}, {"context": "a" * 32}, {"dimension": 5.0}, {"dimension": True}, {"min_survivors": -1},
        {"roster": [b""]}, {"roster": (b"short",)}, {"shape": None}, {"colluding": 2**32},
    ],
)  # fmt: skip
def test_other_types_are_malformed(identities: list[Identity], changes: dict[str, Any]) -> None:
    terms = _terms(identities)
    assert _fault(lambda: dataclasses.replace(terms, **changes)) is Fault.MALFORMED


def test_bytes_that_are_no_terms(identities: list[Identity]) -> None:
    data = _terms(identities).encode()
    for wrong in (b"", data[:63], data[:-1], data + b"\0", data[:-32], "text"):
        assert _fault(lambda wrong=wrong: Terms.decode(wrong)) is Fault.MALFORMED
