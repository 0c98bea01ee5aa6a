"""The five steps of a masked round on the wire: what may travel, how much of it, and nothing else."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from homespun import secagg
from homespun.wire import (
    ADVERTISE,
    CONSENT,
    MASK,
    MAX_PARTIES,
    REVEAL,
    SHARE,
    TRAIN,
    MalformedMessage,
    StepRequest,
    advertise_from_record,
    advertise_to_record,
    masked_from_record,
    masked_to_record,
    reply_from_record,
    reply_to_record,
    request_digest,
    request_to_record,
    step_from_record,
    step_to_record,
)
from homespun.wire import aggregation as schema

SESSION = bytes(range(32))
STEP = StepRequest(session=SESSION, payload=b"one message of the protocol")
LATER = (SHARE, MASK, CONSENT, REVEAL)
REPLIES = (ADVERTISE, SHARE, CONSENT, REVEAL)
Change = Callable[[RecordDict], object]


def _set(record: str, field: str, value: object) -> Change:
    return lambda made: made[record].__setitem__(field, value)


def _record(name: str, part: object) -> Change:
    return lambda made: made.__setitem__(name, part)


NO_BYTES = {"text": "abc", "a number": 7, "true": True, "a list": [1, 2], "a list of bytes": [b"abc"]}

BAD_STEPS: dict[str, Change] = {
    "nothing": lambda made: [made.__delitem__(name) for name in list(made)],
    "without the step": lambda made: made.__delitem__("step"),
    "an unknown record": _record("loss", ConfigRecord({"loss": 0.5})),
    "an unknown metric record": _record("metrics", MetricRecord({"n": 3})),
    "a cohort": _record("cohort", ArrayRecord({"participants": Array(np.arange(3, dtype=np.int32))})),
    "an array record for the step": _record("step", ArrayRecord({"payload": Array(np.zeros(1, np.uint8))})),
    "a metric record for the step": _record("step", MetricRecord({"payload": 1})),
    "an unknown field": _set("step", "num_examples", 10),
    "without the session": lambda made: made["step"].__delitem__("session"),
    "without the payload": lambda made: made["step"].__delitem__("payload"),
    "a session of 31 bytes": _set("step", "session", SESSION[:-1]),
    "a session of 33 bytes": _set("step", "session", SESSION + b"\0"),
    "a session of no bytes": _set("step", "session", b""),
    **{f"session: {what}": _set("step", "session", bad) for what, bad in NO_BYTES.items()},
    **{f"payload: {what}": _set("step", "payload", bad) for what, bad in NO_BYTES.items()},
}

BAD_REPLIES: dict[str, Change] = {
    "nothing": lambda made: made.__delitem__("reply"),
    "an unknown record": _record("loss", ConfigRecord({"loss": 0.5})),
    "a count of examples": _record("sender", ConfigRecord({"devices": 1})),
    "a vector beside it": _record("masked", ArrayRecord({"vector": Array(np.zeros(4, np.uint32))})),
    "an array record": _record("reply", ArrayRecord({"payload": Array(np.zeros(1, np.uint8))})),
    "a metric record": _record("reply", MetricRecord({"payload": 1})),
    "an unknown field": _set("reply", "reason", b"why"),
    "without the payload": lambda made: made["reply"].__delitem__("payload"),
    **{f"payload: {what}": _set("reply", "payload", bad) for what, bad in NO_BYTES.items()},
}

BAD_VECTORS: dict[str, Change] = {
    "nothing": lambda made: [made.__delitem__(name) for name in list(made)],
    "no vector at all": lambda made: made.__delitem__("masked"),
    "no acks": lambda made: made.__delitem__("reply"),
    "acks under another name": _set("reply", "acks", b""),
    "acks in words": _set("reply", "payload", "abc"),
    "acks beyond their cap": _set("reply", "payload", bytes(256 + 20 * 3 + 1)),
    "an unknown record": _record("sender", ConfigRecord({"devices": 1})),
    "a config record": _record("masked", ConfigRecord({"vector": [1, 2]})),
    "a metric record": _record("masked", MetricRecord({"vector": 1})),
    "another name": _record("masked", ArrayRecord({"gradient": Array(np.zeros(4, np.uint32))})),
    "two vectors": _set("masked", "more", Array(np.zeros(4, np.uint32))),
    "no vector": _record("masked", ArrayRecord()),
    "a shorter vector": _set("masked", "vector", Array(np.zeros(3, np.uint32))),
    "a longer vector": _set("masked", "vector", Array(np.zeros(5, np.uint32))),
    "a matrix": _set("masked", "vector", Array(np.zeros((4, 1), np.uint32))),
    "signed numbers": _set("masked", "vector", Array(np.zeros(4, np.int32))),
    "wide numbers": _set("masked", "vector", Array(np.zeros(4, np.uint64))),
    "real numbers": _set("masked", "vector", Array(np.zeros(4, np.float32))),
    "cut short": _set("masked", "vector", Array("uint32", (4,), "numpy.ndarray", Array(np.zeros(4, np.uint32)).data[:-1])),
    "a byte too many": _set("masked", "vector", Array("uint32", (4,), "numpy.ndarray", Array(np.zeros(4, np.uint32)).data + b"\0")),
    "a terabyte in words": _set("masked", "vector", Array("uint32", (2**40,), "numpy.ndarray", b"")),
}  # fmt: skip


def test_message_types_are_actions_of_training() -> None:
    kinds = (TRAIN, ADVERTISE, SHARE, MASK, CONSENT, REVEAL)
    assert len(set(kinds)) == 6 and all(kind.startswith("train.") for kind in kinds)
    assert tuple(f"train.{stage.value}" for stage in secagg.Stage if stage is not secagg.Stage.DONE) == kinds[1:]


def test_steps_arrive_as_they_were_sent(make_request) -> None:
    request, step = advertise_from_record(advertise_to_record(make_request(), STEP))
    assert request_digest(request) == request_digest(make_request())
    assert step == STEP
    for kind in LATER:
        assert step_from_record(step_to_record(STEP), kind) == STEP
    for kind in REPLIES:
        assert reply_from_record(reply_to_record(b"\0\xff"), kind, parties=3) == b"\0\xff"
    vector = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    got, acks = masked_from_record(masked_to_record(vector, b"acks"), dimension=4)
    assert got.dtype == np.uint32 and got.tolist() == vector.tolist() and acks == b"acks"
    got[:] = 7
    assert vector.tolist() == [0, 1, 2**31, 2**32 - 1]


def test_the_allow_list(make_request) -> None:
    """Whoever adds a field changes this test."""
    names = {name: sorted(part) for name, part in advertise_to_record(make_request(), STEP).items()}
    plain = {name: sorted(part) for name, part in request_to_record(make_request()).items()}
    assert names == {**plain, "step": ["payload", "session"]}
    assert {name: sorted(part) for name, part in step_to_record(STEP).items()} == {"step": ["payload", "session"]}
    assert {name: sorted(part) for name, part in reply_to_record(b"x").items()} == {"reply": ["payload"]}
    vector = {name: sorted(part) for name, part in masked_to_record(np.zeros(4, np.uint32), b"").items()}
    assert vector == {"masked": ["vector"], "reply": ["payload"]}


@pytest.mark.parametrize("change", BAD_STEPS.values(), ids=BAD_STEPS)
def test_a_malformed_step_is_refused(make_request, change) -> None:
    record = advertise_to_record(make_request(), STEP)
    change(record)
    with pytest.raises(MalformedMessage, match=r"^Expected .*\.$"):
        advertise_from_record(record)
    for kind in LATER:
        record = step_to_record(STEP)
        change(record)
        with pytest.raises(MalformedMessage, match=r"^Expected .*\.$"):
            step_from_record(record, kind)


@pytest.mark.parametrize("change", BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_a_malformed_reply_is_refused(change) -> None:
    for kind in REPLIES:
        record = reply_to_record(b"x")
        change(record)
        with pytest.raises(MalformedMessage, match=r"^Expected .*\.$"):
            reply_from_record(record, kind, parties=3)


@pytest.mark.parametrize("change", BAD_VECTORS.values(), ids=BAD_VECTORS)
def test_a_malformed_vector_is_refused(change) -> None:
    record = masked_to_record(np.zeros(4, np.uint32), b"")
    change(record)
    with pytest.raises(MalformedMessage, match=r"^Expected .*\.$"):
        masked_from_record(record, dimension=4, parties=3)


def test_what_is_wrong_with_the_round_request_is_found_at_the_first_step(make_request) -> None:
    for name, part in (("round", ConfigRecord({"run": 1})), ("backbone", ArrayRecord())):
        record = advertise_to_record(make_request(), STEP)
        record[name] = part
        with pytest.raises(MalformedMessage):
            advertise_from_record(record)
    with pytest.raises(MalformedMessage):  # a masked round is between single people
        advertise_from_record(advertise_to_record(make_request(participants=np.array([1], np.int32)), STEP))


def test_payloads_are_capped_by_the_number_of_parties(make_request) -> None:
    for parties in (3, 200, MAX_PARTIES):
        for kind in LATER:
            cap = schema.request_cap(kind, parties)
            full = step_to_record(replace(STEP, payload=bytes(cap)))
            assert len(step_from_record(full, kind, parties=parties).payload) == cap
            with pytest.raises(MalformedMessage, match="at most"):
                step_from_record(step_to_record(replace(STEP, payload=bytes(cap + 1))), kind, parties=parties)
        for kind in REPLIES:
            cap = schema.reply_cap(kind, parties)
            assert len(reply_from_record(reply_to_record(bytes(cap)), kind, parties=parties)) == cap
            with pytest.raises(MalformedMessage, match="at most"):
                reply_from_record(reply_to_record(bytes(cap + 1)), kind, parties=parties)
    for kind in LATER:  # before a session is known, the cap is that of the longest roster
        with pytest.raises(MalformedMessage, match="at most"):
            step_from_record(
                step_to_record(replace(STEP, payload=bytes(schema.request_cap(kind, MAX_PARTIES) + 1))), kind
            )
    with pytest.raises(MalformedMessage, match="at most"):
        too_long = replace(STEP, payload=bytes(schema.request_cap(ADVERTISE, MAX_PARTIES) + 1))
        advertise_from_record(advertise_to_record(make_request(), too_long))
    assert max(schema.request_cap(kind, MAX_PARTIES) for kind in (ADVERTISE, *LATER)) < 4 * 10**6


def _advert(index: int) -> secagg.Advert:
    def key(of: int) -> bytes:
        return struct.pack("<II", index, of) + bytes(24)

    return secagg.Advert(index=index, mask_key=key(0), seal_key=key(1), commitment=key(2), signature=bytes(64))


@pytest.mark.parametrize("parties", [3, 200])
def test_the_longest_honest_message_fits_its_cap(parties: int) -> None:
    """Everybody answers, and the graph is complete: nothing is longer, and no cap is far above it."""
    everybody = tuple(range(parties))
    survivors = secagg.Survivors(indices=everybody)
    consents = tuple(secagg.Consent(sender=index, signature=bytes(64)) for index in everybody)
    sealed = tuple(
        secagg.messages.Sealed(to=index, box=bytes(80), mask_check=bytes(16), self_check=bytes(16))
        for index in everybody
    )
    notes = tuple(secagg.messages.Note(sender=index, box=bytes(80)) for index in everybody)
    acks = tuple(secagg.messages.Ack(party=index, tag=bytes(16)) for index in everybody)
    shares = tuple(secagg.messages.Share(dealer=index, kind=1, value=bytes(32)) for index in everybody)
    roster = tuple(secagg.Identity.generate().public for _ in everybody)
    terms = secagg.Terms.of(context=bytes(32), dimension=4, roster=roster, min_survivors=parties, colluding=0)
    requests = {
        ADVERTISE: terms,
        SHARE: secagg.Adverts(adverts=tuple(_advert(index) for index in everybody)),
        MASK: secagg.Inbox(to=0, rows=notes),
        CONSENT: survivors,
        REVEAL: secagg.RevealRequest(survivors=survivors, consents=consents, acks=acks),
    }
    replies = {
        ADVERTISE: _advert(0),
        SHARE: secagg.SealedShares(sender=0, rows=sealed),
        CONSENT: consents[0],
        REVEAL: secagg.Revealed(sender=0, rows=shares),
    }
    for kind, message in requests.items():
        size, cap = len(message.encode()), schema.request_cap(kind, parties)
        assert cap - schema.FIXED_BYTES <= size <= cap
    assert len(secagg.messages.write_acks(acks)) == schema.reply_cap(MASK, parties) - schema.FIXED_BYTES
    for kind, message in replies.items():
        size, cap = len(message.encode()), schema.reply_cap(kind, parties)
        assert cap - schema.FIXED_BYTES <= size <= cap


def test_mutated_records_raise_nothing_else(make_request) -> None:
    """Records of random parts, of the right and of wrong types: read, or refused with the one class."""
    rng = random.Random(4)
    parts: list[Callable[[], object]] = [
        lambda: ConfigRecord(
            {"session": rng.randbytes(rng.choice((31, 32, 32, 32, 33))), "payload": rng.randbytes(20)}
        ),
        lambda: ConfigRecord(
            {"payload": rng.choice([b"", b"x", b"xy", 3, "x", 1.5, True, [b"a"], [1], rng.randbytes(300)])}
        ),
        lambda: ConfigRecord({rng.choice(["payload", "session", "x"]): rng.randbytes(9)}),
        lambda: ConfigRecord(),
        lambda: ArrayRecord({rng.choice(["vector", "V", "w"]): Array(np.zeros(rng.randrange(6), rng.choice("IiQf")))}),
        lambda: ArrayRecord({"vector": Array("uint32", (rng.randrange(-2, 6),), "numpy.ndarray", rng.randbytes(90))}),
        lambda: MetricRecord({"payload": rng.randrange(9)}),
    ]
    readers: list[Callable[[RecordDict], object]] = [
        advertise_from_record,
        *[lambda made, kind=kind: step_from_record(made, kind, parties=2) for kind in LATER],
        *[lambda made, kind=kind: reply_from_record(made, kind, parties=0) for kind in REPLIES],
        lambda made: masked_from_record(made, dimension=4),
    ]
    names = ("step", "step", "reply", "reply", "masked", "round", "backbone", "cohort", "loss")
    read = 0
    for _ in range(1500):
        made = RecordDict({name: rng.choice(parts)() for name in rng.sample(names, rng.choice((1, 1, 2, 3)))})
        if rng.random() < 0.2:
            made = RecordDict({**request_to_record(make_request()), **made})
        for reader in readers:
            try:
                reader(made)
                read += 1
            except MalformedMessage:
                pass
    assert read > 100  # of 15,000: some fit


def test_a_refusal_names_the_rule_and_never_the_content() -> None:
    canary = "my-secret-taste"
    for change in (_set("step", canary, 1), _set("step", "session", canary), _record(canary, ConfigRecord())):
        record = step_to_record(STEP)
        change(record)
        with pytest.raises(MalformedMessage) as caught:
            step_from_record(record, SHARE)
        assert canary not in str(caught.value)


def test_repr_shows_no_payload() -> None:
    assert "message of the protocol" not in repr(STEP)


def test_the_digest_of_a_request_is_that_of_every_field(make_request, release) -> None:
    """A session is bound to it: whatever a server changes for one device alone, the device is in another session."""
    plain = make_request()
    backbone = {**plain.backbone, "w": plain.backbone["w"] + 1}
    changed = [
        make_request(**{name: getattr(plain, name) + 1})
        for name in ("run", "round", "phase_round", "attempt", "version")
    ]
    changed += [make_request(**{name: "1" * 64}) for name in ("plan_digest", "projection")]
    changed += [
        make_request(release=replace(release, **{name: getattr(release, name) + 1}))
        for name in ("rounds", "dimension", "clip_units", "variance", "share_variance", "population", "colluding")
    ]
    changed += [make_request(backbone=backbone), make_request(backbone={"w": plain.backbone["w"]})]
    digests = {request_digest(request) for request in (plain, *changed)}
    assert len(digests) == 1 + len(changed)
    assert all(len(digest) == 64 for digest in digests)
    assert request_digest(plain) == request_digest(make_request())
