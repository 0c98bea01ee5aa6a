"""A masked round on a device: five steps, each answered once, paid for before data is read, and lost with the process."""

import base64
import dataclasses
import hashlib
import itertools
import logging
import runpy
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homespun import secagg
from homespun.client import Device, Sessions, door
from homespun.client.belongings import Belongings
from homespun.client.masked_round import MOST_SESSIONS
from homespun.privacy import NoiseStream, contribute
from homespun.privacy.ledger import Head, Ledger, event_cost
from homespun.secagg import crypto, derivations
from homespun.wire.flower import in_process_identity

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_device.py"))
toy, STEPS, POLICY = lab["toy"], lab["STEPS"], lab["MASKED_POLICY"]
LATER = STEPS[1:]


def seeded(run: int, round_: int, attempt: int) -> NoiseStream:
    return NoiseStream.seeded(7, run, round_, attempt)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with lab["create"](tmp_path, POLICY) as device:
        yield device


def cohort_of(device: Any, number: int = 0, attempt: int = 0, **changes: Any) -> Any:
    return lab["Cohort"](device, lab["masked_request"](number, attempt, **changes))


def before(device: Any, name: str, **changes: Any) -> Any:
    """A cohort of which the device is asked for the given step next."""
    cohort = cohort_of(device, **changes)
    if name != "advertise":
        cohort.walk(device, until=STEPS[STEPS.index(name) - 1])
    return cohort


def told(act: Callable[[], Any], device: Device) -> tuple[str, str]:
    """Reason, and the protocol's word for it where there is one."""
    reason = lab["why"](act)
    return reason, lab["faults"](device)[-1] if reason == "protocol" else ""


def kinds(device: Device) -> list[str]:
    """What the ledger holds after the genesis and the policy."""
    return [entry.kind.value for entry in device.ledger.entries()][1:]


# What leaves


def test_the_sum_is_that_of_the_plain_vectors(tmp_path: Path) -> None:
    with lab["create"](tmp_path, POLICY, noise=seeded) as device:
        cohort = cohort_of(device)
        cohort.walk(device)
        asked, pairs = cohort.asked, device._own.pairs
        phase = toy["Nudge"]()
        rows = phase.statistic(toy["average_user"](toy["DIM"], toy["DIM"], projection="0" * 64), pairs, 0)
        assert float(rows.abs().sum()) > 0
        plain = contribute(rows, asked.release, devices=1, noise=seeded(0, 0, 0))
        assert np.array_equal(cohort.total, plain)
        assert not (cohort.vector == plain).any()  # six coordinates: equal by chance once in 700 million


def test_what_leaves_is_of_the_closed_list(device: Device) -> None:
    """Through the ClientApp: one payload a step, and a vector beside it in the one that reads data."""
    with in_process_identity():
        cohort, outside = cohort_of(device), lab["ThroughApp"](device)
        for name in STEPS:
            cohort.walk(outside, until=name)
            (reply,) = outside.replies[STEPS.index(name) :]
            assert set(reply.content) == {"reply"} | ({"masked"} if name == "mask" else set())
            assert set(reply.content["reply"]) == {"payload"}
        assert set(outside.replies[2].content["masked"]) == {"vector"}
        assert outside.replies[2].content["reply"]["payload"] == b""  # no acks where everybody is everybody's neighbour
        assert cohort.total.shape == (toy["DIM"],)


def test_who_is_no_party_declines_the_steps(device: Device) -> None:
    """A cell of a simulation, say: it stands for the sum, and takes no part in making it."""

    class Plain:
        identity = device.identity

        def contribute(self, request: Any) -> Any:
            raise AssertionError("nobody asked for that")

        def note_malformed(self) -> None: ...

    with in_process_identity():
        outside = lab["ThroughApp"](Plain())
        with pytest.raises(lab["Outside"], match="declined"):
            cohort_of(outside).walk(outside)


def test_an_attempt_has_keys_masks_and_noise_of_its_own_and_is_paid_for(device: Device) -> None:
    first, second = (cohort_of(device, attempt=attempt) for attempt in (0, 1))
    first.walk(device)
    cost = device.spent
    second.walk(device)
    adverts = [cohort.adverts[0] for cohort in (first, second)]
    assert len({key for advert in adverts for key in (advert.mask_key, advert.seal_key, advert.commitment)}) == 6
    assert not (first.vector == second.vector).any()
    assert not (first.total == second.total).all()
    assert device.spent == 2 * cost == 2 * event_cost(device.ledger.events("device")[0], None)
    reserved = [entry.body["subject"] for entry in device.ledger.entries() if entry.kind == "reserve"]
    assert [subject["attempt"] for subject in reserved] == [0, 1]
    assert {subject["round"] for subject in reserved} == {0}


# Order


class Watched:
    """The toy's phase; says what the world knew when data was read."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._phase, self._look = toy["Nudge"](), look

    def __getattr__(self, name: str) -> Any:
        return getattr(self._phase, name)

    def statistic(self, *arguments: Any) -> Any:
        self._look()
        return self._phase.statistic(*arguments)


def test_when_data_is_read_the_reservation_is_on_disk_and_witnessed(tmp_path: Path) -> None:
    seen: list[tuple[int, Head | None, int]] = []

    def look() -> None:
        with Ledger.open(tmp_path / "device" / "ledger-1.sqlite", None) as ledger:
            (paid,) = ledger.open_reservations()
            seen.append((paid.seq, lab["witness"](tmp_path).latest(ledger.genesis.origin), len(read)))

    with lab["create"](tmp_path, POLICY, phases={"nudge": Watched(look)}) as device:
        read: list[str] = []
        unseal = device._vault.read
        device._vault.read = lambda name, **named: read.append(name) or unseal(name, **named)  # type: ignore[method-assign]
        cohort = before(device, "mask")
        assert "evidence" not in read
        assert kinds(device) == []  # nothing is spent on keys and shares
        cohort.walk(device)
        assert read.count("evidence") == 1
        ((reserved, witnessed, _),) = seen
        assert witnessed is not None
        assert witnessed.size > reserved
        assert kinds(device) == ["reserve", "witness", "commit"]


def test_the_commit_holds_the_hash_of_the_masked_vector(device: Device) -> None:
    cohort = cohort_of(device)
    cohort.walk(device, until="mask")
    (entry,) = [entry for entry in device.ledger.entries() if entry.kind == "commit"]
    assert entry.body["artifact_sha256"] == hashlib.sha256(cohort.vector.astype("<u4").tobytes()).hexdigest()


def test_nothing_of_a_masked_vector_is_sealed(device: Device) -> None:
    cohort = cohort_of(device)
    cohort.walk(device)
    assert device._own.answers["toy/0"].vector is None
    outbox = device._vault.read("outbox")
    assert cohort.vector.tobytes() not in outbox
    assert cohort.total.tobytes() not in outbox


# Each step once


@pytest.mark.parametrize("name", LATER)
def test_no_step_is_answered_twice(device: Device, name: str) -> None:
    cohort = before(device, name)
    cohort.walk(device, until=name)
    spent, faults = device.spent, len(lab["faults"](device))
    reason, fault = told(lambda: cohort.ask(device, name), device)
    assert (reason, fault) in (("protocol", "wrong-stage"), ("round-replayed", ""))
    assert device.spent == spent
    assert len(lab["faults"](device)) - faults <= 1
    if name != "reveal":
        cohort.walk(device)  # the session stands where it stood


@pytest.mark.parametrize(("name", "early"), list(itertools.combinations(LATER, 2)))
def test_a_step_out_of_order_is_declined_and_changes_nothing(device: Device, name: str, early: str) -> None:
    other = cohort_of(device, run=1)
    other.walk(device)
    cohort = before(device, name)
    spent = device.spent
    cohort.sends[early] = other.sends[early]
    # A party that was not heard when the others consented may reveal; but not for the list of another session.
    fault = "bad-signature" if (name, early) == ("consent", "reveal") else "wrong-stage"
    assert told(lambda: cohort.ask(device, early), device) == ("protocol", fault)
    assert device.spent == spent
    del cohort.sends[early]
    cohort.walk(device)
    assert cohort.total is not None


@pytest.mark.parametrize("name", LATER)
def test_what_the_protocol_refuses_is_declined_and_changes_nothing(device: Device, name: str) -> None:
    cohort = before(device, name)
    spent, sent = device.spent, cohort.sends[name]
    for wrong, fault in ((sent[:-1], "malformed"), (b"", None), (b"\xff" * len(sent), None)):
        cohort.sends[name] = wrong
        reason, found = told(lambda: cohort.ask(device, name), device)
        assert reason == "protocol"
        assert fault in (None, found)
    assert device.spent == spent
    assert not device.ledger.open_reservations()
    cohort.sends[name] = sent
    cohort.walk(device)


def test_an_inbox_of_somebody_else_costs_nothing(device: Device) -> None:
    """Read before it is paid for: a server cannot spend a budget with messages that lead nowhere."""
    cohort = before(device, "mask")
    sent = cohort.sends["mask"]
    for wrong in (cohort.inboxes[1], secagg.Inbox(to=0, rows=())):
        cohort.sends["mask"] = wrong.encode()
        assert told(lambda: cohort.ask(device, "mask"), device)[0] == "protocol"
        assert device.spent == 0
    cohort.sends["mask"] = sent
    cohort.walk(device)


@pytest.mark.parametrize("name", LATER)
def test_a_step_of_no_session_is_declined(device: Device, name: str) -> None:
    cohort = before(device, name)
    step = dataclasses.replace(cohort.step(name), session=b"s" * 32)
    assert told(lambda: getattr(device, name)(step), device) == ("protocol", "wrong-stage")
    (entry,) = [entry for entry in device.ledger.entries() if entry.kind == "refuse"]
    assert entry.body["subject"] == {"project": "toy", "fault": "wrong-stage"}


def test_an_answered_attempt_is_over(device: Device) -> None:
    cohort_of(device, number=1, attempt=1).walk(device, until="mask")
    for place in ((1, 1), (1, 0), (0, 2)):
        assert (
            told(lambda place=place: cohort_of(device, *place).walk(device, until="advertise"), device)[0]
            == "round-replayed"
        )
    cohort_of(device, number=1, attempt=2).walk(device)


# Sessions


def test_of_two_attempts_at_once_the_newer_one_goes_on(device: Device) -> None:
    older = before(device, "mask")
    newer = before(device, "share", attempt=1)
    assert told(lambda: older.ask(device, "mask"), device) == ("protocol", "wrong-stage")
    assert told(lambda: cohort_of(device).walk(device), device)[0] == "round-replayed"
    newer.walk(device)
    assert len(device.ledger.events("device")) == 1


def test_a_declined_request_ends_no_session(device: Device) -> None:
    cohort = before(device, "mask")
    assert told(lambda: cohort_of(device, attempt=1, plan_digest="trust me").walk(device), device)[0] == "malformed"
    assert told(lambda: lab["Cohort"](device, lab["masked_request"](1), context=b"c" * 32).walk(device), device) == (
        "terms-unfit", "",
    )  # fmt: skip
    cohort.walk(device)


def test_the_same_attempt_may_begin_again_until_it_is_answered(device: Device) -> None:
    """With other keys: what was sealed under the first ones leads nowhere."""
    first = before(device, "share")
    answer = device.advertise(first.asked, first.step("advertise"))
    assert answer != first.adverts[0].encode()
    assert told(lambda: first.ask(device, "share"), device) == ("protocol", "own-advert-changed")


@pytest.mark.parametrize("name", LATER)
def test_a_device_that_restarts_has_dropped_out(tmp_path: Path, name: str) -> None:
    with lab["create"](tmp_path, POLICY) as device:
        cohort = before(device, name)
        spent = device.spent
    with lab["reopen"](tmp_path) as device:
        assert told(lambda: cohort.ask(device, name), device) == ("protocol", "wrong-stage")
        assert device.spent == spent
        cohort_of(device, attempt=1).walk(device)


def test_a_device_that_is_opened_for_each_message_goes_on(tmp_path: Path) -> None:
    """As those of a simulation are: whoever opens them keeps their sessions."""
    sessions = Sessions()
    with lab["create"](tmp_path, POLICY) as device:
        cohort = cohort_of(device)
    for name in STEPS:
        with lab["reopen"](tmp_path, sessions=sessions) as device:
            cohort.walk(device, until=name)
    assert cohort.total is not None
    assert repr(sessions) == "Sessions()"
    assert sessions.of_run(device._name, "toy/0") is None


def test_devices_that_share_sessions_are_told_apart(tmp_path: Path) -> None:
    sessions = Sessions()
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with (
        lab["create"](folders[0], POLICY, sessions=sessions) as one,
        lab["create"](folders[1], POLICY, sessions=sessions) as two,
    ):
        cohorts = [before(device, "mask") for device in (one, two)]
        assert told(lambda: cohorts[0].ask(two, "mask"), two) == ("protocol", "wrong-stage")
        for cohort, device in zip(cohorts, (one, two), strict=True):
            cohort.walk(device)


def test_sessions_of_many_runs_are_bounded(device: Device) -> None:
    cohorts = [before(device, "share", run=run) for run in range(MOST_SESSIONS + 1)]
    assert told(lambda: cohorts[0].ask(device, "share"), device) == ("protocol", "wrong-stage")
    cohorts[1].walk(device)


# The owner and those who remember


@pytest.mark.parametrize("name", STEPS)
def test_paused_in_the_middle(device: Device, name: str) -> None:
    cohort = before(device, name)
    spent = device.spent
    device.set_policy(dataclasses.replace(POLICY, paused=True))
    assert told(lambda: cohort.ask(device, name), device)[0] == "paused"
    assert device.spent == spent
    device.set_policy(POLICY)
    cohort.walk(device)


def test_a_cap_that_is_lowered_in_the_middle_holds(device: Device) -> None:
    cohort = before(device, "mask")
    device.set_policy(dataclasses.replace(POLICY, max_epsilon=0.01))
    assert told(lambda: cohort.ask(device, "mask"), device)[0] == "budget-exhausted"
    assert device.spent == 0
    device.set_policy(POLICY)
    cohort.walk(device)


@pytest.mark.parametrize("name", LATER)
def test_forked_in_the_middle(device: Device, name: str) -> None:
    cohort = before(device, name)
    device._spending.forked = True
    assert told(lambda: cohort.ask(device, name), device)[0] == "ledger-forked"
    device.acknowledge()
    assert told(lambda: cohort.ask(device, name), device) == ("protocol", "wrong-stage")


class Away:
    """A witness that may go away."""

    def __init__(self, witness: Any) -> None:
        self.witness, self.public, self.away = witness, witness.public, ""

    def enroll(self, origin: str, key: Any) -> None:
        self.witness.enroll(origin, key)

    def latest(self, origin: str) -> Any:
        if self.away == "altogether":
            raise ConnectionError("nobody there")
        return self.witness.latest(origin)

    def countersign(self, checkpoint: bytes, proof: Any) -> bytes:
        if self.away:
            raise ConnectionError("nobody there")
        receipt: bytes = self.witness.countersign(checkpoint, proof)
        return receipt


@pytest.mark.parametrize("name", ["advertise", "mask"])
def test_without_its_witness_a_device_neither_begins_nor_pays(tmp_path: Path, name: str) -> None:
    witness = Away(lab["witness"](tmp_path))
    with lab["create"](tmp_path, POLICY, witness=witness) as device:
        cohort = before(device, name)
        witness.away = "altogether"
        assert told(lambda: cohort.ask(device, name), device)[0] == "witness-unavailable"
        assert device.spent == 0
        witness.away = ""
        cohort.walk(device)


def test_a_head_that_is_not_countersigned_burns_and_ends_the_session(tmp_path: Path) -> None:
    witness = Away(lab["witness"](tmp_path))
    with lab["create"](tmp_path, POLICY, witness=witness) as device:
        cohort = before(device, "mask")
        witness.away = "to sign"
        read: list[str] = []
        unseal = device._vault.read
        device._vault.read = lambda name, **named: read.append(name) or unseal(name, **named)  # type: ignore[method-assign]
        assert told(lambda: cohort.ask(device, "mask"), device)[0] == "witness-unavailable"
        assert "evidence" not in read
        assert kinds(device) == ["reserve", "burn"]
        witness.away = ""
        assert told(lambda: cohort.ask(device, "mask"), device) == ("protocol", "wrong-stage")
        cohort_of(device, attempt=1).walk(device)
        assert device.spent == 2 * event_cost(device.ledger.events("device")[0], None)


# Crashes and failures

MOMENTS: dict[str, tuple[Any, str]] = {
    "before the statistic": (door, "own_statistic"),
    "before the noise": (door, "contribute"),
    "before the masks": (secagg.Client, "mask"),
    "before it is remembered": (Belongings, "keep"),
    "before the commit": (Ledger, "commit"),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_fails_after_the_reservation_stays_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, error: type[BaseException]
) -> None:
    """A crash leaves it to the next start; anything else is burned at once. The next attempt is paid anew."""

    def fails(*_: Any, **__: Any) -> Any:
        raise error

    crash = error is KeyboardInterrupt
    with lab["create"](tmp_path, POLICY) as device:
        cohort = before(device, "mask")
        with monkeypatch.context() as patch:
            patch.setattr(*MOMENTS[moment], fails)
            with pytest.raises(KeyboardInterrupt if crash else lab["Declined"]):
                cohort.ask(device, "mask")
        assert len(device.ledger.open_reservations()) == int(crash)
        assert told(lambda: cohort.ask(device, "mask"), device) == ("protocol", "wrong-stage")
        one = device.spent
        assert one > 0
    with lab["reopen"](tmp_path) as device:
        assert [kind for kind in kinds(device) if kind in ("reserve", "commit", "burn")] == ["reserve", "burn"]
        cohort_of(device, attempt=1).walk(device)
        assert device.spent == 2 * one


# Secrets


def spelled(secret: bytes) -> list[bytes]:
    return [
        secret,
        secret[::-1],
        secret.hex().encode(),
        base64.b64encode(secret)[:-4],
        base64.urlsafe_b64encode(secret)[:-4],
    ]


def remember_secrets(monkeypatch: pytest.MonkeyPatch, made: list[bytes]) -> None:
    """Every secret of every party, and every key that is derived from one."""
    derive, draw = crypto.derive, secrets.randbelow

    def derived(*arguments: Any) -> bytes:
        made.append(derive(*arguments))
        return made[-1]

    def drawn(below: int) -> int:
        secret = draw(below)
        made.append(secret.to_bytes(32, "little"))
        return secret

    monkeypatch.setattr(derivations, "derive", derived)
    monkeypatch.setattr("homespun.secagg.client.secrets.randbelow", drawn)


def test_secrets_are_nowhere_but_the_identity_in_the_vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Looked for in every file during the round and after it, in the log and in what objects say of themselves."""
    identity, found, made = secagg.Identity.generate(), [], []
    remember_secrets(monkeypatch, made)
    sessions = Sessions()
    with (
        caplog.at_level(logging.DEBUG),
        lab["create"](tmp_path, POLICY, identity=identity, sessions=sessions) as device,
    ):
        assert device.identity == identity.public
        cohort = cohort_of(device)
        for name in STEPS:
            if name == "consent":
                assert told(lambda: cohort.ask(device, "mask"), device)[0] == "protocol"
            cohort.walk(device, until=name)
            session = sessions.of_run(device._name, "toy/0")
            needles = [needle for secret in (identity.to_bytes(), *made) for needle in spelled(secret)]
            files = [file for file in tmp_path.rglob("*") if file.is_file()]
            words = f"{session!r} {device!r} {device._door!r} {sessions!r} {caplog.text}".encode()
            found += [
                needle
                for needle in needles
                for content in (words, *(f.read_bytes() for f in files))
                if needle in content
            ]
            assert session is not None or name == "reveal"
        assert identity.to_bytes().hex().encode() in device._vault.read("keys")
    assert len(made) >= 2
    assert found == []


def test_the_identity_is_made_with_the_device_and_stays(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with lab["create"](tmp_path / "one") as device:
        first = device.identity
    with lab["reopen"](tmp_path / "one", identity=secagg.Identity.generate()) as device:
        assert device.identity == first
    with lab["create"](tmp_path / "two") as device:
        assert device.identity != first
        assert len(device.identity) == 32
