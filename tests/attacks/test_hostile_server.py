"""A server asks for what the owner does not allow: it gets one word, always the same, and the ledger knows why."""

import dataclasses
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from homespun.client.app import client_app
from homespun.client.device import Device
from homespun.privacy import Trust
from homespun.wire import TRAIN, RoundRequest, request_to_record
from homespun.wire.flower import in_process_identity

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_device.py"))
toy, PLAN = lab["toy"], lab["PLAN"]
NUDGE = PLAN["nudge"]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device that answered round 5 of run 0."""
    with lab["create"](tmp_path) as device:
        device.contribute(lab["request"](5))
        yield device


def with_(**changes: Any) -> RoundRequest:
    return lab["request"](6, release=dataclasses.replace(NUDGE, **changes))


def backbone() -> dict[str, Any]:
    moved = {name: value.copy() for name, value in lab["request"]().backbone.items()}
    moved["w"][0] = 1.0
    return moved


HOSTILE: dict[str, tuple[Callable[[], RoundRequest], str]] = {
    "no noise": (lambda: with_(share_variance=0, variance=0, rho="0"), "noise-below-floor"),
    "no noise, claimed": (lambda: with_(share_variance=0), "inconsistent"),
    "a little noise": (
        lambda: with_(share_variance=NUDGE.share_variance // 400, variance=NUDGE.share_variance // 400 * 1000,
                      rho="90.0"),
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
    "a cost of nothing": (lambda: with_(rho="0"), "inconsistent"),
    "the same round, another backbone": (lambda: lab["request"](5, backbone=backbone()), "round-replayed"),
    "the same round, another phase round": (lambda: lab["request"](5, phase_round=1), "round-replayed"),
    "an earlier round": (lambda: lab["request"](4), "round-replayed"),
    "the plan of another project": (lambda: lab["request"](6, plan_digest="a" * 64), "other-plan"),
    "a plan without a digest": (lambda: lab["request"](6, plan_digest="trust me"), "malformed"),
    "one of many": (lambda: lab["request"](6, participants=np.array([0], np.int32)), "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_each_is_declined_for_its_reason_and_costs_nothing(device: Device, what: str) -> None:
    asked, reason = HOSTILE[what]
    before = device.spent
    assert lab["reason"](device, asked()) == reason
    assert lab["refusals"](device)[-1] == reason
    assert (device.spent, device.ledger.open_reservations()) == (before, ())


def reply(device: Any, content: RecordDict) -> tuple[str, dict[str, bytes]]:
    """A reply as the wire has it, without what differs between any two messages."""
    message = Message(content, dst_node_id=2, message_type=TRAIN)
    context = Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})
    answer = client_app(lambda _: device)(message, context)
    parts = {} if answer.has_error() else {key: part.deflate() for key, part in get_all_nested_objects(answer).items()}
    return (f"{answer.error.code} {answer.error.reason}" if answer.has_error() else "answered", parts)


def test_every_refusal_looks_the_same(device: Device) -> None:
    """Also those of a device without budget, of a paused one, and what is no request at all."""
    with in_process_identity():
        contents = [request_to_record(asked()) for asked, _ in HOSTILE.values()]
        contents += [RecordDict(), RecordDict({"round": contents[0]["round"]})]
        seen = {repr(reply(device, content)) for content in contents}
        usual = request_to_record(lab["request"](7))
        for policy in (lab["Policy"](paused=True), lab["Policy"](max_epsilon=0.001), lab["Policy"](max_rounds=1)):
            device.set_policy(policy)
            seen.add(repr(reply(device, usual)))
        device._spending.forked = True
        device.set_policy(lab["POLICY"])
        seen.add(repr(reply(device, usual)))
    assert seen == {repr(("100 declined", {}))}
    assert set(lab["refusals"](device)[-4:]) == {"paused", "budget-exhausted", "rounds-exhausted", "ledger-forked"}


def test_refusals_do_not_depend_on_data(tmp_path: Path) -> None:
    """Two people who have nothing in common, and one without any data, are refused alike and answer alike."""
    pairs = [toy["toy_pairs"](3, seed=1).select(slice(0, 1)), toy["toy_pairs"](1, labels=300).select(slice(0, 1)), None]
    told = []
    for number, data in enumerate(pairs):
        folder = tmp_path / str(number)
        folder.mkdir()
        with lab["create"](folder) as device:
            if data is None:
                device._vault.delete("evidence")
            else:
                device.learn(data)
            device.contribute(lab["request"](5))
            told.append([lab["reason"](device, asked()) for asked, _ in HOSTILE.values()])
            told[-1].append(lab["reason"](device, lab["request"](6)))
    assert told[0] == told[1] == told[2]
    assert told[0][-1] == "answered"


def test_the_same_request_gets_the_same_bytes_and_costs_nothing(device: Device, tmp_path: Path) -> None:
    spent = device.spent
    first = device.contribute(lab["request"](6)).vector
    paid = device.spent
    assert paid > spent
    for _ in range(3):
        assert device.contribute(lab["request"](6)).vector.tobytes() == first.tobytes()
    device.close()
    with lab["reopen"](tmp_path) as again:
        assert again.contribute(lab["request"](6)).vector.tobytes() == first.tobytes()
        assert again.spent == paid
        assert lab["reason"](again, lab["request"](5)) == "round-replayed"  # only the last answer is kept


def test_a_server_that_asks_for_ever_stops_at_the_cap(tmp_path: Path) -> None:
    with lab["create"](tmp_path, lab["Policy"](max_epsilon=3.0, delta=1e-6)) as device:
        reasons = [lab["reason"](device, lab["request"](number)) for number in range(12)]
        cap = device.ledger.cap
        assert device.spent <= cap
        assert "answered" in reasons
        assert reasons[-1] == "budget-exhausted"
        assert reasons == sorted(reasons, key=["answered", "budget-exhausted"].index)
        # another run, another plan digest: the account is the device's, not the run's
        assert lab["reason"](device, lab["request"](0, run=1, plan_digest="b" * 64)) == "budget-exhausted"


def test_an_evidence_that_was_changed_is_noise_alone(device: Device, tmp_path: Path) -> None:
    """Silence would tell the server; the owner reads it in the log."""
    lab["damage"](tmp_path / "device" / "vault.sqlite", "evidence")
    assert device.contribute(lab["request"](6)).vector.shape == (toy["DIM"],)


def test_a_phase_that_fails_is_answered_and_what_fails_after_it_is_burned(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise MemoryError("qzx-canary-7f31")

    monkeypatch.setattr("homespun.client.device.contribute", broken)
    before = device.spent
    assert lab["reason"](device, lab["request"](6)) == "failed"
    assert device.spent > before
    monkeypatch.undo()
    assert lab["reason"](device, lab["request"](6)) == "answered"
    assert not device.ledger.open_reservations()


def test_a_vector_whose_commit_failed_does_not_leave(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed, cut off before its commit, and the process lives on: the next start will burn it, so nobody may have it."""

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("homespun.privacy.ledger.Ledger.commit", cut)
        with pytest.raises(KeyboardInterrupt):
            device.contribute(lab["request"](7))
    assert len(device.ledger.open_reservations()) == 1
    assert lab["reason"](device, lab["request"](7)) == "round-replayed"
