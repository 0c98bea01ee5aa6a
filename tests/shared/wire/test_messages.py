from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from homespun.privacy import Participation
from homespun.wire import (
    Contribution,
    MalformedMessage,
    Refusal,
    contribution_from_record,
    contribution_to_record,
    request_from_record,
    request_to_record,
)

NUMPY = "numpy.ndarray"
Change = Callable[[RecordDict], object]


def _npy(shape: tuple[int, ...], descr: str, body: bytes = b"", *, order: str = "C") -> bytes:
    """A tensor file whose header says whatever is wanted."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": order == "F", "shape": shape})
    return stream.getvalue() + body


def _raw(header: str, version: tuple[int, int] = (1, 0)) -> bytes:
    return b"\x93NUMPY" + bytes(version) + len(header).to_bytes(2, "little") + header.encode()


def _zip() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(4, np.float32))
    return stream.getvalue()


def _saved(value: np.ndarray, *, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=pickled)
    return stream.getvalue()


def _hostile_tensors(dtype: str, values: int) -> dict[str, Array]:
    """Arrays that claim to be ``values`` numbers, or more, and are not."""
    code, size = np.dtype(dtype).str, np.dtype(dtype).itemsize
    zeros = bytes(values * size)
    good = _npy((values,), code, zeros)

    def claimed(data: bytes, *, shape: tuple[int, ...] = (values,), kind: str = dtype, stype: str = NUMPY) -> Array:
        return Array(dtype=kind, shape=shape, stype=stype, data=data)

    def empty(shape: tuple[int, ...]) -> Array:
        return claimed(_npy(shape, code), shape=shape)

    return {
        "another type": Array(np.zeros(values, np.float64)),
        "another type inside": claimed(_npy((values,), "<f8", 2 * zeros)),
        "the other byte order": claimed(_npy((values,), np.dtype(dtype).newbyteorder(">").str, zeros)),
        "a longer type name": claimed(good, kind=dtype + "x" * 10**6),
        "objects": claimed(_saved(np.array([None] * values, object), pickled=True)),
        "objects, said so": claimed(_saved(np.array([None] * values, object), pickled=True), kind="object"),
        "a structure": claimed(_npy((values,), f"{code},{code}", 2 * zeros)),
        "a pickle": claimed(b"\x80\x04N."),
        "a zip archive": claimed(_zip()),
        "a broken zip archive": claimed(b"PK\x03\x04" + bytes(40)),
        "another serialisation": claimed(good, stype="torch.save"),
        "nothing": claimed(b""),
        "cut short": claimed(good[:-1]),
        "a byte too many": claimed(good + b"\0"),
        "columns first": claimed(_npy((values, 1), code, zeros, order="F"), shape=(values, 1)),
        "a shape that is not the header's": claimed(good, shape=(values, 1)),
        "fewer values than declared": claimed(_npy((values - 1,), code, zeros[:-size])),
        "a negative length": claimed(_npy((-values,), code, zeros), shape=(-values,)),
        "two negative lengths": claimed(_npy((-values, -1), code, zeros), shape=(-values, -1)),
        "a terabyte": empty((2**40,)),
        "a terabyte of zero width": empty((2**40, 0)),
        "a terabyte in the header alone": claimed(_npy((2**40,), code, zeros)),
        "a product that wraps around": empty((2**32, 2**32)),
        "a hundred axes": claimed(_npy((1,) * 100, code, zeros[:size]), shape=(1,) * 100),
        "more values than a tensor may have": empty((2**24 + 1,)),
        "a header that recurses": claimed(_raw("-" * 900 + "1")),
        "a header of brackets": claimed(_raw("(" * 900)),
        "a header that does not end": claimed(_raw("'''abc")),
        "a shape of a fraction": claimed(
            _raw(f"{{'descr':{code!r},'fortran_order':False,'shape':({values}.0,)}}") + zeros
        ),
        "an unknown version": claimed(_raw("{}", (9, 9))),
        "another version, said so": claimed(good[:6] + b"\x02\x00" + good[8:]),
        "version 2": claimed(good[:6] + b"\x02\x00" + good[8:10] + b"\0\0" + good[10:]),
    }


def _set(record: str, field: str, value: object) -> Change:
    return lambda made: made[record].__setitem__(field, value)


def _remove(record: str, field: str) -> Change:
    return lambda made: made[record].__delitem__(field)


def _plan(**changes: object) -> Change:
    def change(made: RecordDict) -> None:
        content = json.loads(made["round"]["release"])
        made["round"]["release"] = json.dumps({**content, **changes})

    return change


def _cohort(*participants: int, dtype: str = "int32", name: str = "participants") -> Change:
    return lambda made: made.__setitem__("cohort", ArrayRecord({name: Array(np.array(participants, dtype))}))


NUMBERS = ("protocol", "run", "round", "phase_round", "attempt", "version")
TEXTS = ("plan_digest", "projection")
NO_NUMBERS = {"true": True, "a fraction": 1.0, "text": "1", "bytes": b"1", "a list": [1], "below 0": -1, "2^63": 2**63}
NO_TEXTS = {"a number": 7, "true": True, "bytes": b"abc", "a list": ["abc"], "4097 characters": "x" * 4097}

BAD_REQUESTS: dict[str, Change] = {
    **{f"without the record {name}": lambda made, name=name: made.__delitem__(name) for name in ("round", "backbone")},
    "an unknown record": lambda made: made.__setitem__("loss", ConfigRecord({"loss": 0.5})),
    "an unknown metric record": lambda made: made.__setitem__("metrics", MetricRecord({"n": 3})),
    "a metric record for the fields": lambda made: made.__setitem__("round", MetricRecord({"run": 1})),
    "a config record for the backbone": lambda made: made.__setitem__("backbone", ConfigRecord({"w": 1})),
    "an array record for the fields": lambda made: made.__setitem__("round", ArrayRecord({"w": Array(np.zeros(1))})),
    "nothing at all": lambda made: [made.__delitem__(name) for name in list(made)],
    "an unknown field": _set("round", "num_examples", 10),
    **{f"without the field {name}": _remove("round", name) for name in (*NUMBERS, *TEXTS, "release")},
    **{f"{name}: {what}": _set("round", name, bad) for name in NUMBERS for what, bad in NO_NUMBERS.items()},
    **{f"{name}: {what}": _set("round", name, bad) for name in (*TEXTS, "release") for what, bad in NO_TEXTS.items()},
    "the protocol before attempts": _set("round", "protocol", 1),
    "another protocol": _set("round", "protocol", 3),
    "a release that is no JSON": _set("round", "release", "{"),
    "a release that is a list": _set("round", "release", "[]"),
    "a release that is nothing": _set("round", "release", "null"),
    "a release nested without end": _set("round", "release", "[" * 4096),
    "a release with an unknown field": _plan(epsilon="8"),
    "a release without a field": _set("round", "release", '{"name": "basis"}'),
    **{
        f"release {field}={bad!r}": _plan(**{field: bad})
        for field in (
            "rounds", "dimension", "clip_units", "population", "min_survivors", "variance", "share_variance", "colluding",
        )
        for bad in (-1, True, 1.5, "3", None, [1])
    },
    **{f"release rounds={bad!r}": _plan(rounds=bad) for bad in (0,)},
    **{f"release clip_norm={bad!r}": _plan(clip_norm=bad) for bad in ("nan", "inf", "0", "-1", "x", None, [])},
    **{f"release name={bad!r}": _plan(name=bad) for bad in (None, 3, ["basis"])},
    **{f"release rho={bad!r}": _plan(rho=bad) for bad in (None, 3)},
    **{f"release trust={bad!r}": _plan(trust=bad) for bad in ("nobody", None, [])},
    **{f"release participation={bad!r}": _plan(participation=bad) for bad in ("half", "poisson:2", "poisson:nan", None, 1)},
    **{f"backbone: {what}": _set("backbone", "w", bad) for what, bad in _hostile_tensors("float32", 5).items()},
    **{
        f"backbone with {bad}": _set("backbone", "w", Array(np.array([0, bad, 1], np.float32)))
        for bad in (float("nan"), float("inf"), -float("inf"))
    },
    **{
        f"a tensor called {name[:20]!r}": _set("backbone", name, Array(np.zeros(1, np.float32)))
        for name in ("W", "", "_w", "w w", "w\n", "../w", "1w", "x" * 33, "ü")
    },
    "no tensor": lambda made: made.__setitem__("backbone", ArrayRecord()),
    "17 tensors": lambda made: made.__setitem__(
        "backbone", ArrayRecord({f"t{i}": Array(np.zeros(1, np.float32)) for i in range(17)})
    ),
    **{f"participants: {what}": lambda made, bad=bad: made.__setitem__("cohort", ArrayRecord({"participants": bad}))
       for what, bad in _hostile_tensors("int32", 3).items()},
    "participants that fall": _cohort(3, 2),
    "participants named twice": _cohort(1, 1),
    "participants below 0": _cohort(-1, 2),
    "participants whose difference wraps around": _cohort(0, 2**31 - 1, -(2**31)),
    "participants as 64 bits": _cohort(1, 2, dtype="int64"),
    "participants under another name": _cohort(1, 2, name="people"),
    "participants and more": lambda made: made.__setitem__(
        "cohort", ArrayRecord({name: Array(np.zeros(1, np.int32)) for name in ("participants", "weights")})
    ),
    "participants in a matrix": lambda made: made.__setitem__(
        "cohort", ArrayRecord({"participants": Array(np.zeros((1, 1), np.int32))})
    ),
    "a number as participants": lambda made: made.__setitem__(
        "cohort", ArrayRecord({"participants": Array(np.array(3, np.int32))})
    ),
    "more participants than a cell holds": lambda made: made.__setitem__(
        "cohort", ArrayRecord({"participants": Array(np.arange(2**20 + 1, dtype=np.int32))})
    ),
    "participants in a config record": lambda made: made.__setitem__("cohort", ConfigRecord({"participants": [1, 2]})),
    "no list of participants": lambda made: made.__setitem__("cohort", ArrayRecord()),
}  # fmt: skip

BAD_CONTRIBUTIONS: dict[str, Change] = {
    **{f"without the record {name}": lambda made, name=name: made.__delitem__(name) for name in ("contribution", "sender")},
    "an unknown record": lambda made: made.__setitem__("metrics", MetricRecord({"loss": 0.5})),
    "a config record for the vector": lambda made: made.__setitem__("contribution", ConfigRecord({"vector": [1, 2]})),
    "a metric record for the count": lambda made: made.__setitem__("sender", MetricRecord({"devices": 1})),
    "an unknown field": _set("sender", "num_examples", 10),
    "without the count": _remove("sender", "devices"),
    **{f"devices: {what}": _set("sender", "devices", bad) for what, bad in NO_NUMBERS.items()},
    **{f"vector: {what}": _set("contribution", "vector", bad) for what, bad in _hostile_tensors("uint32", 4).items()},
    "signed numbers": _set("contribution", "vector", Array(np.zeros(4, np.int32))),
    "real numbers": _set("contribution", "vector", Array(np.zeros(4, np.float32))),
    "a shorter vector": _set("contribution", "vector", Array(np.zeros(3, np.uint32))),
    "a longer vector": _set("contribution", "vector", Array(np.zeros(5, np.uint32))),
    "a matrix": _set("contribution", "vector", Array(np.zeros((2, 2), np.uint32))),
    "a second vector": _set("contribution", "more", Array(np.zeros(4, np.uint32))),
    "a vector under another name": lambda made: made.__setitem__(
        "contribution", ArrayRecord({"gradient": Array(np.zeros(4, np.uint32))})
    ),
    "no vector": lambda made: made.__setitem__("contribution", ArrayRecord()),
}  # fmt: skip


@pytest.mark.parametrize(
    "participants", [None, [], [0], [3, 4, 2**31 - 1], range(0, 2000, 2)], ids=["all", "none", "one", "some", "many"]
)
def test_a_request_arrives_as_it_was_sent(make_request, participants) -> None:
    cohort = None if participants is None else np.array(participants, np.int32)
    sent = make_request(participants=cohort)
    got = request_from_record(request_to_record(sent))
    plain = ("run", "round", "phase_round", "attempt", "release", "plan_digest", "projection", "version")
    assert [getattr(got, name) for name in plain] == [getattr(sent, name) for name in plain]
    assert list(got.backbone) == list(sent.backbone)
    for name, value in sent.backbone.items():
        assert got.backbone[name].dtype == np.float32
        assert got.backbone[name].tobytes() == value.tobytes() and got.backbone[name].shape == value.shape
    if cohort is None:
        assert got.participants is None
    else:
        assert got.participants is not None and got.participants.dtype == np.int32
        assert np.array_equal(got.participants, cohort)


def test_a_contribution_arrives_as_it_was_sent(contribution) -> None:
    got = contribution_from_record(contribution_to_record(contribution), dimension=4)
    assert got.vector.dtype == np.uint32 and got.vector.tolist() == [0, 1, 2**31, 2**32 - 1]
    assert got.devices == 7


def test_the_layout_in_memory_does_not_matter(make_request) -> None:
    value = np.arange(12, dtype=np.float32).reshape(3, 4)
    layouts = {"f": np.asfortranarray(value), "b": value.astype(">f4"), "s": np.repeat(value, 2, axis=0)[::2]}
    got = request_from_record(request_to_record(make_request(backbone=layouts))).backbone
    for name in layouts:
        assert np.array_equal(got[name], value) and got[name].dtype == np.dtype("<f4")


def test_what_is_read_is_the_readers_own(make_request, contribution) -> None:
    record, reply = request_to_record(make_request()), contribution_to_record(contribution)
    first = request_from_record(record)
    first.backbone["w"][:] = 7
    contribution_from_record(reply, dimension=4).vector[:] = 7
    assert np.array_equal(request_from_record(record).backbone["w"], make_request().backbone["w"])
    assert contribution_from_record(reply, dimension=4).vector.tolist() == contribution.vector.tolist()


def test_the_allow_list(make_request, contribution) -> None:
    """There is no field for a count of examples, a loss, a metric or a reason; whoever adds one changes this test."""
    request = request_to_record(make_request(participants=np.array([1], np.int32)))
    assert {name: sorted(part) for name, part in request.items()} == {
        "round": sorted([*NUMBERS, *TEXTS, "release"]),
        "backbone": ["basis", "prior", "w"],
        "cohort": ["participants"],
    }
    reply = contribution_to_record(contribution)
    assert {name: sorted(part) for name, part in reply.items()} == {"contribution": ["vector"], "sender": ["devices"]}


@pytest.mark.parametrize("change", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_malformed_request_is_refused(make_request, change) -> None:
    record = request_to_record(make_request())
    request_from_record(record)
    change(record)
    with pytest.raises(MalformedMessage, match=r"^Expected .*\.$"):
        request_from_record(record)


@pytest.mark.parametrize("change", BAD_CONTRIBUTIONS.values(), ids=BAD_CONTRIBUTIONS)
def test_a_malformed_contribution_is_refused(contribution, change) -> None:
    record = contribution_to_record(contribution)
    contribution_from_record(record, dimension=4)
    change(record)
    with pytest.raises(MalformedMessage, match=r"^Expected .*\.$"):
        contribution_from_record(record, dimension=4)


@pytest.mark.parametrize(
    "what", [name for name in _hostile_tensors("uint32", 4) if "terabyte" in name or "wraps" in name]
)
def test_nothing_is_allocated_on_the_word_of_a_header(contribution, what) -> None:
    record = contribution_to_record(contribution)
    record["contribution"]["vector"] = _hostile_tensors("uint32", 4)[what]
    contribution_from_record(contribution_to_record(contribution), dimension=4)  # what is allocated once and for all
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            contribution_from_record(record, dimension=4)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_a_tensor_that_is_too_large_is_refused_however_honest(make_request) -> None:
    record = request_to_record(make_request())
    record["backbone"]["w"] = Array(np.zeros((2**12 + 1, 2**12), np.float32))  # 64 MiB and a row
    with pytest.raises(MalformedMessage, match="at most 16777216 values"):
        request_from_record(record)


def test_a_refusal_names_the_rule_and_never_the_content(make_request) -> None:
    canary = "my-secret-taste"
    for change in (
        _set("round", canary, 1),
        _set("round", "run", canary),
        _set("round", "release", canary),
        _set("backbone", canary, Array(np.zeros(1, np.float32))),
        _set("backbone", "w", Array(dtype=canary, shape=(1,), stype=NUMPY, data=b"")),
        lambda made: made.__setitem__(canary, ConfigRecord()),
    ):
        record = request_to_record(make_request())
        change(record)
        with pytest.raises(MalformedMessage) as caught:
            request_from_record(record)
        assert canary not in str(caught.value)


def test_refusals_are_codes_and_fixed_words() -> None:
    assert {reason.name: reason.value for reason in Refusal} == {"DECLINED": 100}
    for reason in Refusal:
        assert (reason.error().code, reason.error().reason) == (reason.value, reason.name.lower())


def test_repr_shows_no_numbers(make_request) -> None:
    request = make_request(participants=np.array([123456], np.int32))
    assert "123456" not in repr(request) and "array" not in repr(request)
    assert "4242" not in repr(Contribution(vector=np.array([4242], np.uint32), devices=1))


def test_every_release_plan_survives(make_request, release) -> None:
    for changed in (
        replace(release, variance=0, share_variance=0, rho="0"),
        replace(release, participation=Participation.full(), clip_norm=1e-30),
        replace(release, variance=2**61 + 1),
    ):
        assert request_from_record(request_to_record(make_request(release=changed))).release == changed
