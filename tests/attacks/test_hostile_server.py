"""A server asks for what the owner does not allow: it gets one word, always the same, and the ledger knows why."""

import dataclasses
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from homespun import secagg
from homespun.client.device import Device
from homespun.privacy import Trust
from homespun.wire import ADVERTISE, TRAIN, RoundRequest, StepRequest, advertise_to_record, request_to_record
from homespun.wire.flower import in_process_identity

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_device.py"))
toy, PLAN = lab["toy"], lab["MASKED_PLAN"]
NUDGE = PLAN["nudge"]
OTHERS = [secagg.Identity.generate().public for _ in range(6)]
USUAL = {"dimension": NUDGE.dimension, "min_survivors": NUDGE.fewest, "colluding": 0}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device that answered round 5 of run 0."""
    with lab["create"](tmp_path, lab["MASKED_POLICY"]) as device:
        answer(device, 5)
        yield device


def answer(device: Device, number: int, **changes: Any) -> Any:
    """Take part in a round to its end; what the device added to the sum."""
    cohort = lab["Cohort"](device, lab["masked_request"](number, **changes))
    cohort.walk(device)
    return cohort.total


def begun(device: Device, asked: RoundRequest) -> Any:
    """The device among others who are asked for that, under terms that would fit an honest request."""
    return lab["Cohort"](device, asked, **USUAL)


def reason(device: Device, asked: RoundRequest) -> str:
    """Why a device declines, at the latest where it would have to pay."""
    why: str = lab["why"](lambda: begun(device, asked).walk(device, until="mask"))
    return why


def with_(**changes: Any) -> RoundRequest:
    return lab["masked_request"](6, release=dataclasses.replace(NUDGE, **changes))


def backbone() -> dict[str, Any]:
    moved = {name: value.copy() for name, value in lab["masked_request"]().backbone.items()}
    moved["w"][0] = 1.0
    return moved


HOSTILE: dict[str, tuple[Callable[[], RoundRequest], str]] = {
    "no noise": (lambda: with_(share_variance=0, variance=0, rho="0"), "noise-below-floor"),
    "no noise, claimed": (lambda: with_(share_variance=0), "inconsistent"),
    "a little noise": (
        lambda: with_(share_variance=NUDGE.share_variance // 400, variance=NUDGE.share_variance // 400 * 4, rho="90.0"),
        "noise-below-floor",
    ),
    "a huge clip norm": (lambda: with_(clip_norm=1e30), "unknown-phase"),
    "a huge clip in lattice steps": (lambda: with_(clip_units=2**30), "inconsistent"),
    "a cohort of one": (
        lambda: with_(min_survivors=1, population=1, share_variance=2**32, variance=2**32, rho="0.2"),
        "cohort-below-floor",
    ),
    "a phase that is not installed": (lambda: with_(name="peek"), "unknown-phase"),
    "another phase's release": (lambda: with_(name="spread"), "unknown-phase"),
    "the server adds the noise": (lambda: with_(trust=Trust.CENTRAL, share_variance=0), "trust-not-allowed"),
    "everybody may collude": (lambda: with_(colluding=5), "inconsistent"),
    "a cost of nothing": (lambda: with_(rho="0"), "inconsistent"),
    "the same attempt": (lambda: lab["masked_request"](5), "round-replayed"),
    "the same round, another backbone": (lambda: lab["masked_request"](5, backbone=backbone()), "round-replayed"),
    "the same round, another phase round": (lambda: lab["masked_request"](5, phase_round=1), "round-replayed"),
    "an earlier round": (lambda: lab["masked_request"](4), "round-replayed"),
    "the plan of another project": (lambda: lab["masked_request"](6, plan_digest="a" * 64), "other-plan"),
    "a plan without a digest": (lambda: lab["masked_request"](6, plan_digest="trust me"), "malformed"),
    "one of many": (lambda: lab["masked_request"](6, participants=np.array([0], np.int32)), "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_each_is_declined_for_its_reason_and_costs_nothing(device: Device, what: str) -> None:
    asked, expected = HOSTILE[what]
    before = device.spent
    assert reason(device, asked()) == expected
    assert lab["refusals"](device)[-1] == expected
    assert (device.spent, device.ledger.open_reservations()) == (before, ())


@pytest.mark.parametrize("number", [0, 6])
def test_a_vector_as_it_is_does_not_leave(device: Device, number: int) -> None:
    before = device.spent
    assert lab["reason"](device, lab["masked_request"](number)) == "unmasked"
    assert device.spent == before


FIVE = {"min_survivors": 5, "variance": 5 * NUDGE.share_variance}
UNFIT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "of another round": ({}, {"context": b"c" * 32}),
    "of another length": ({}, {"dimension": NUDGE.dimension + 1}),
    "a sum of fewer": (FIVE, {"min_survivors": 4}),
    "without this device": ({}, {"roster": OTHERS[:5]}),
    "more people than planned": ({}, {"roster": OTHERS[:5], "min_survivors": 5}),
}
"""What is asked for, and what of the terms does not fit that."""


def offer(device: Device, asked: RoundRequest, roster: list[bytes], *, alone: bool = False, **changes: Any) -> str:
    """Why terms are declined, with this device first on the roster unless it is not on it at all."""
    terms = lab["terms_of"](asked, roster if alone else [device.identity, *roster], **changes)
    step = StepRequest(session=terms.digest, payload=terms.encode())
    why: str = lab["why"](lambda: device.advertise(asked, step))
    return why


@pytest.mark.parametrize("what", UNFIT)
def test_terms_that_do_not_fit_the_request_are_declined(device: Device, what: str) -> None:
    release, changes = UNFIT[what]
    asked, roster = with_(**release), OTHERS[:4]
    assert offer(device, asked, **{"roster": roster, **changes}, alone="without" in what) == "terms-unfit"
    assert lab["refusals"](device) == ["terms-unfit"]
    assert offer(device, asked, roster) == "answered"


def test_terms_that_count_on_fewer_who_collude_are_declined(tmp_path: Path) -> None:
    asked = toy["toy_request"](toy["toy_plan"](7, min_survivors=4, colluding=2))
    with lab["create"](tmp_path, lab["MASKED_POLICY"]) as device:
        assert offer(device, asked, OTHERS, colluding=1) == "terms-unfit"
        assert offer(device, asked, OTHERS, colluding=2) == "answered"


def test_terms_under_another_name_are_declined(device: Device) -> None:
    cohort = lab["Cohort"](device, lab["masked_request"](6))
    step = StepRequest(session=b"s" * 32, payload=cohort.terms.encode())
    assert lab["why"](lambda: device.advertise(cohort.asked, step)) == "terms-unfit"


def test_a_masked_sum_to_which_the_server_would_add_noise_is_declined(tmp_path: Path) -> None:
    """Even of an owner who would send the vector as it is: the two do not fit together."""
    with lab["create"](tmp_path) as device:
        assert offer(device, lab["request"](0), OTHERS[:4], min_survivors=4) == "terms-unfit"


def unsound(terms: secagg.Terms) -> bytes:
    """The same with a threshold of two: two disjoint sets of devices could each open a sum."""
    content = bytearray(terms.encode())
    place = 32 + 4 * 5
    assert int.from_bytes(content[place : place + 4], "little") == terms.shape.threshold
    content[place : place + 4] = (2).to_bytes(4, "little")
    return bytes(content)


@pytest.mark.parametrize(
    ("change", "fault"),
    [(lambda terms: terms.encode()[:-1], "malformed"), (lambda terms: b"", "malformed"), (unsound, "terms-unsound")],
    ids=["cut off", "nothing", "unsound"],
)
def test_what_is_no_sound_terms_is_declined(device: Device, change: Callable[[Any], bytes], fault: str) -> None:
    cohort = lab["Cohort"](device, lab["masked_request"](6))
    cohort.sends["advertise"] = change(cohort.terms)
    assert lab["why"](lambda: cohort.walk(device)) == "protocol"
    assert lab["faults"](device) == [fault]


def reply(device: Any, message_type: str, content: RecordDict) -> tuple[str, dict[str, bytes]]:
    """A reply as the wire has it, without what differs between any two messages."""
    answer = lab["ThroughApp"](device).send(message_type, content)
    parts = {} if answer.has_error() else {key: part.deflate() for key, part in get_all_nested_objects(answer).items()}
    return (f"{answer.error.code} {answer.error.reason}" if answer.has_error() else "answered", parts)


def test_every_refusal_looks_the_same(device: Device) -> None:
    """Also those of a device without budget, of a paused one, of any step, and what is no request at all."""
    with in_process_identity():
        seen = set()
        for make, _ in HOSTILE.values():
            asked = make()
            content = advertise_to_record(asked, begun(device, asked).step("advertise"))
            seen.add(repr(reply(device, ADVERTISE, content)))
            seen.add(repr(reply(device, TRAIN, request_to_record(asked))))
        usual = request_to_record(lab["masked_request"](7))
        contents = [RecordDict(), RecordDict({"round": usual["round"]}), usual]
        strange = {"session": b"s" * 32, "payload": b"p" * 40}
        contents += [
            RecordDict({"step": ConfigRecord(strange)}),
            RecordDict({"step": ConfigRecord(strange | {"x": 1})}),
        ]
        for message_type in ("contribute", "advertise", "share", "mask", "consent", "reveal"):
            seen |= {repr(reply(device, f"train.{message_type}", content)) for content in contents}
        cohort = lab["Cohort"](device, lab["masked_request"](7))
        content = advertise_to_record(cohort.asked, cohort.step("advertise"))
        usual = lab["MASKED_POLICY"]
        for changes in ({"paused": True}, {"max_epsilon": 0.001}, {"max_rounds": 1}):
            device.set_policy(dataclasses.replace(usual, **changes))
            seen.add(repr(reply(device, ADVERTISE, content)))
        device._spending.forked = True
        device.set_policy(usual)
        seen.add(repr(reply(device, ADVERTISE, content)))
    assert seen == {repr(("100 declined", {}))}
    assert lab["refusals"](device)[-4:] == ["paused", "budget-exhausted", "rounds-exhausted", "ledger-forked"]


def test_refusals_do_not_depend_on_data(tmp_path: Path) -> None:
    """Two people who have nothing in common, and one without any data, are refused alike and answer alike."""
    pairs = [toy["toy_pairs"](3, seed=1).select(slice(0, 1)), toy["toy_pairs"](1, labels=300).select(slice(0, 1)), None]
    told = []
    for number, data in enumerate(pairs):
        folder = tmp_path / str(number)
        folder.mkdir()
        with lab["create"](folder, lab["MASKED_POLICY"]) as device:
            if data is None:
                device._vault.delete("evidence")
            else:
                device.learn(data)
            answer(device, 5)
            told.append([reason(device, asked()) for asked, _ in HOSTILE.values()])
            told[-1].append(reason(device, lab["masked_request"](6)))
    assert told[0] == told[1] == told[2]
    assert told[0][-1] == "answered"


def test_the_same_plain_request_gets_the_same_bytes_and_costs_nothing(tmp_path: Path) -> None:
    """Of an owner who trusts the server."""
    with lab["create"](tmp_path) as device:
        spent = device.spent
        first = device.contribute(lab["request"](6)).vector
        paid = device.spent
        assert paid > spent
        for _ in range(3):
            assert device.contribute(lab["request"](6)).vector.tobytes() == first.tobytes()
    with lab["reopen"](tmp_path) as again:
        assert again.contribute(lab["request"](6)).vector.tobytes() == first.tobytes()
        assert again.spent == paid
        assert lab["reason"](again, lab["request"](5)) == "round-replayed"  # only the last answer is kept
        assert (
            lab["reason"](again, lab["request"](6, attempt=1)) == "answered"
        )  # another draw of noise is another spend
        assert again.spent > paid
        assert lab["reason"](again, lab["request"](6)) == "round-replayed"


@pytest.mark.parametrize("rises", ["round", "attempt"])
def test_a_server_that_asks_for_ever_stops_at_the_cap(tmp_path: Path, rises: str) -> None:
    policy = dataclasses.replace(lab["MASKED_POLICY"], max_epsilon=3.0)
    with lab["create"](tmp_path, policy) as device:
        places = [(number, 0) if rises == "round" else (0, number) for number in range(12)]
        reasons = [reason(device, lab["masked_request"](*place)) for place in places]
        cap = device.ledger.cap
        assert device.spent <= cap
        assert "answered" in reasons
        assert reasons[-1] == "budget-exhausted"
        assert reasons == sorted(reasons, key=["answered", "budget-exhausted"].index)
        # another run, another plan digest: the account is the device's, not the run's
        assert reason(device, lab["masked_request"](0, run=1, plan_digest="b" * 64)) == "budget-exhausted"


def test_an_evidence_that_was_changed_is_noise_alone(device: Device, tmp_path: Path) -> None:
    """Silence would tell the server; the owner reads it in the log."""
    lab["damage"](tmp_path / "device" / "vault.sqlite", "evidence")
    assert answer(device, 6).shape == (toy["DIM"],)


def test_a_phase_that_fails_is_answered_and_what_fails_after_it_is_burned(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise MemoryError("qzx-canary-7f31")

    monkeypatch.setattr("homespun.client.door.contribute", broken)
    before = device.spent
    assert reason(device, lab["masked_request"](6)) == "failed"
    assert device.spent > before
    monkeypatch.undo()
    assert reason(device, lab["masked_request"](6)) == "answered"
    assert not device.ledger.open_reservations()


@pytest.mark.parametrize("trust", ["central", "distributed"])
def test_a_vector_whose_commit_failed_does_not_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust: str
) -> None:
    """Remembered, cut off before its commit, and the process lives on: the next start will burn it, so nobody may have it."""

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    plain = trust == "central"
    asked = lab["request"](7) if plain else lab["masked_request"](7)
    with lab["create"](tmp_path, lab["POLICY" if plain else "MASKED_POLICY"]) as device:
        with monkeypatch.context() as patch:
            patch.setattr("homespun.privacy.ledger.Ledger.commit", cut)
            with pytest.raises(KeyboardInterrupt):
                device.contribute(asked) if plain else answer(device, 7)
        assert len(device.ledger.open_reservations()) == 1
        again = lab["reason"](device, asked) if plain else reason(device, asked)
        assert again == "round-replayed"
