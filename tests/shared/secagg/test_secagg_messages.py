from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun.secagg import (
    Ack,
    Advert,
    Adverts,
    Consent,
    Fault,
    Inbox,
    Kind,
    MaskedVector,
    Note,
    Refused,
    Revealed,
    RevealRequest,
    Sealed,
    SealedShares,
    Share,
    Survivors,
)
from homespun.secagg.messages import MAX_PARTIES, read_acks, write_acks

ADVERT = Advert(index=3, mask_key=b"m" * 32, seal_key=b"s" * 32, commitment=b"c" * 32, signature=b"g" * 64)
LIST = Survivors(indices=(0, 2, 65535))
MESSAGES: list[Any] = [
    ADVERT,
    Adverts(adverts=(ADVERT, dataclasses.replace(ADVERT, index=9))),
    SealedShares(
        sender=1, rows=(Sealed(0, b"b" * 80, b"x" * 16, b"y" * 16), Sealed(4, b"d" * 80, b"z" * 16, b"w" * 16))
    ),
    Inbox(to=2, rows=(Note(0, b"b" * 80), Note(7, b"n" * 80))),
    LIST,
    Consent(sender=5, signature=b"g" * 64),
    RevealRequest(survivors=LIST, consents=(Consent(sender=5, signature=b"g" * 64),)),
    RevealRequest(survivors=LIST, consents=(), dropped=(1, 8), acks=(Ack(2, b"t" * 16),)),
    Revealed(sender=6, rows=(Share(0, Kind.MASK, b"v" * 32), Share(1, Kind.SELF, b"u" * 32))),
]


def test_layouts() -> None:
    """Known answers: a change here is another protocol, and needs another tag."""
    found = [(len(message.encode()), hashlib.sha256(message.encode()).hexdigest()[:16]) for message in MESSAGES]
    assert found == LAYOUTS
    assert ADVERT.encode() == b"\x03\0\0\0" + b"m" * 32 + b"s" * 32 + b"c" * 32 + b"g" * 64
    assert LIST.encode() == b"\x03\0\0\0\0\0\0\0\x02\0\0\0\xff\xff\0\0"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_survive_the_way(message: Any) -> None:
    assert type(message).decode(message.encode()) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_other_lengths_are_malformed(message: Any) -> None:
    data = message.encode()
    cuts = [data[:size] for size in range(len(data)) if not (type(message) is Adverts and size % 164 == 0)]
    for wrong in [*cuts, data + b"\0", data + data[:3], bytearray(data), data.hex(), None]:
        with pytest.raises(Refused) as error:
            type(message).decode(wrong)
        assert error.value.fault is Fault.MALFORMED


@given(st.sampled_from([Advert, Adverts, SealedShares, Inbox, Survivors, Consent, RevealRequest, Revealed]), st.data())
def test_any_bytes_are_a_message_in_one_spelling_or_refused(kind: Any, data: st.DataObject) -> None:
    text = data.draw(st.one_of(st.binary(max_size=400), st.sampled_from([message.encode() for message in MESSAGES])))
    try:
        message = kind.decode(text)
    except Refused as refused:
        assert refused.fault is Fault.MALFORMED
    else:
        assert message.encode() == text


@pytest.mark.parametrize(
    "make",
    [
        lambda: Survivors(indices=(1, 1)),
        lambda: Survivors(indices=(2, 1)),
        lambda: Survivors(indices=(-1, 1)),
        lambda: Survivors(indices=(0, MAX_PARTIES)),
        lambda: Survivors(indices=[0, 1]),  # type: ignore[arg-type]
        lambda: Survivors(indices=(False, True)),
        lambda: Survivors(indices=(0.0, 1.0)),  # type: ignore[arg-type]
        lambda: dataclasses.replace(ADVERT, index=-1),
        lambda: dataclasses.replace(ADVERT, index=MAX_PARTIES),
        lambda: dataclasses.replace(ADVERT, mask_key=b"m" * 31),
        lambda: dataclasses.replace(ADVERT, mask_key="m" * 32),
        lambda: dataclasses.replace(ADVERT, commitment=None),
        lambda: dataclasses.replace(ADVERT, signature=bytearray(64)),
        lambda: Adverts(adverts=(ADVERT, ADVERT)),
        lambda: Inbox(to=0, rows=(Note(1, b"b" * 79),)),
        lambda: Inbox(to=0, rows=((1, b"b" * 80),)),  # type: ignore[arg-type]
        lambda: Inbox(to=0, rows=(Note(2, b"b" * 80), Note(1, b"b" * 80))),
        lambda: SealedShares(sender=0, rows=(Sealed(1, b"b" * 80, b"x" * 15, b"y" * 16),)),
        lambda: Consent(sender=0, signature=b""),
        lambda: Revealed(sender=0, rows=(Share(1, 0, b"v" * 32), Share(1, 1, b"u" * 32))),  # both kinds of one dealer
        lambda: Revealed(sender=0, rows=(Share(1, 2, b"v" * 32),)),
        lambda: Revealed(sender=0, rows=(Share(1, "0", b"v" * 32),)),  # type: ignore[arg-type]
        lambda: RevealRequest(survivors=(0, 1), consents=()),  # type: ignore[arg-type]
        lambda: RevealRequest(survivors=LIST, consents=(MESSAGES[5], MESSAGES[5])),
        lambda: RevealRequest(survivors=LIST, consents=(), dropped=(2,)),  # a survivor
        lambda: RevealRequest(survivors=LIST, consents=(), acks=(Ack(2, b"t" * 15),)),
        lambda: MaskedVector(sender="0", vector=np.zeros(1, dtype=np.uint32)),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_made(make: Any) -> None:
    with pytest.raises(Refused) as error:
        make()
    assert error.value.fault is Fault.MALFORMED


def test_a_count_is_not_believed() -> None:
    huge = (2**32 - 1).to_bytes(4, "little")
    for kind, data in ((Survivors, huge), (Inbox, bytes(4) + huge), (RevealRequest, huge + bytes(8))):
        with pytest.raises(Refused):
            kind.decode(data)  # type: ignore[attr-defined]


def test_acks_beside_the_vector() -> None:
    rows = (Ack(1, b"a" * 16), Ack(5, b"b" * 16))
    assert write_acks(rows) == b"\x01\0\0\0" + b"a" * 16 + b"\x05\0\0\0" + b"b" * 16
    assert read_acks(write_acks(rows)) == rows


def test_shares_and_vectors_are_not_printed() -> None:
    vector = MaskedVector(sender=1, vector=np.array([123456789], dtype=np.uint32))
    assert "123456789" not in repr(vector)
    assert "uuuu" not in repr(MESSAGES[-1])
    assert repr(Share(1, 0, b"u" * 32)) == "Share(dealer=1, kind=0)"


LAYOUTS = [
    (164, "b74f70e930cda99d"),
    (328, "4ca421c3b70208fb"),
    (240, "eb68362cc98845e7"),
    (176, "9014e55491b96de3"),
    (16, "b9c0793519cf6022"),
    (68, "57b711a9223b911d"),
    (96, "790adb5031e5c003"),
    (56, "88c4a591ed7045e6"),
    (82, "78c5244f04c1151d"),
]
