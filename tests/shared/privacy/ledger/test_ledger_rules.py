"""The state machine: what may follow what, whoever writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from homespun.privacy import (
    GaussianEvent,
    LedgerDamaged,
    Participation,
    PrivacyBudgetExhausted,
    PrivacySpec,
    Relation,
    ReservationError,
    Trust,
    Unit,
    release_event,
)
from homespun.privacy.ledger import Entry, Genesis, Kind, SigningKey, event_cost
from homespun.privacy.ledger.rules import State

Make = Callable[..., Genesis]
KEY = SigningKey.from_bytes("example.org/device", bytes(range(32)))
HALF = GaussianEvent(clip_units=1024, variance=1024**2, count=1, dimension=16)


def entry(kind: Kind, body: dict[str, Any], seq: int = 1) -> Entry:
    content = {
        "v": 1, "origin": "example.org/device/1", "seq": seq, "prev": "0" * 64, "kind": kind.value,
        "time": "2026-01-01T00:00:00Z", "body": body,
    }  # fmt: skip
    return Entry.from_dict(content)


def state_of(genesis: Genesis) -> State:
    return State(entry(Kind.GENESIS, genesis.to_body(KEY.public), seq=0))


def pay(state: State, seq: int, account: str = "device", event: GaussianEvent | None = HALF, **subject: Any) -> None:
    found = entry(Kind.RESERVE, state.reserve(account, event, {"run": 0, "round": seq, **subject}), seq=seq)
    state.admit(found)
    state.take(found)


def end(state: State, kind: Kind, seq: int) -> None:
    body = {"reservation": seq, "reason": "crash"}
    if kind is Kind.COMMIT:
        body = {"reservation": seq, "artifact_sha256": "0" * 64, "facts": {}}
    found = entry(kind, body)
    state.admit(found)
    state.take(found)


def test_the_cap_is_exact_to_the_last_digit(make_genesis: Make) -> None:
    """Bug 24: one unit of the 18th decimal too much is too much, and no float could tell."""
    third = replace(HALF, variance=3 * 1024**2)  # rho = 1/6, rounded up: 0.166666666666666667
    assert event_cost(third, None) == Decimal("0.166666666666666667")
    state = state_of(make_genesis(cap=Decimal("0.333333333333333334")))
    pay(state, 1, event=third)
    pay(state, 2, event=third)
    assert state.spent("device") == state.cap
    less = state_of(make_genesis(cap=Decimal("0.333333333333333333")))
    pay(less, 1, event=third)
    with pytest.raises(PrivacyBudgetExhausted, match="spent=0.333333333333333334 in"):
        pay(less, 2, event=third)
    assert less.spent("device") == 166666666666666667


def test_accounts_are_apart_and_capped_alike(make_genesis: Make) -> None:
    state = state_of(make_genesis(cap=Decimal("0.5")))
    pay(state, 1, account="block-1")
    pay(state, 2, account="block-2")
    for account in ("block-1", "block-2"):
        with pytest.raises(PrivacyBudgetExhausted, match=account):
            pay(state, 3, account=account)


def test_no_noise_under_a_cap_is_refused(make_genesis: Make) -> None:
    with pytest.raises(PrivacyBudgetExhausted, match="without, it would spend more than any cap"):
        pay(state_of(make_genesis()), 1, event=None)
    state = state_of(make_genesis(cap=None))
    pay(state, 1, event=None)
    assert (state.spent("device"), state.accounts["device"].silent) == (0, 1)


def test_a_place_is_paid_for_once_unless_it_was_burned(make_genesis: Make) -> None:
    state = state_of(make_genesis(cap=Decimal(10)))
    pay(state, 1, project="a")
    for kind in (None, Kind.COMMIT):
        if kind:
            end(state, kind, 1)
        with pytest.raises(ReservationError, match="reserved once"):
            pay(state, 2, project="a", round=1, phase="another")
    pay(state, 2, project="b", round=1)  # another project's round
    pay(state, 3, project="a", account="else", round=1)
    end(state, Kind.BURN, 2)
    pay(state, 4, project="b", round=1)
    assert state.spent("device") == 3 * 10**18 // 2  # what was burned stays spent


@pytest.mark.parametrize("first", [Kind.COMMIT, Kind.BURN])
@pytest.mark.parametrize("second", [Kind.COMMIT, Kind.BURN])
def test_a_reservation_ends_once(make_genesis: Make, first: Kind, second: Kind) -> None:
    state = state_of(make_genesis())
    with pytest.raises(ReservationError, match="open reservation 1"):
        end(state, first, 1)
    pay(state, 1)
    end(state, first, 1)
    with pytest.raises(ReservationError, match="open reservation 1"):
        end(state, second, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rho", "0.499999999999999999"),
        ("rho", "0.500000000000000001"),
        ("rho", None),
        ("spent_after", "0.000000000000000000"),
        ("spent_after", "0.500000000000000001"),
        ("cap", "3.000000000000000000"),
        ("cap", None),
        ("event", None),
    ],
)
def test_an_entry_that_says_another_cost_is_refused(make_genesis: Make, field: str, value: str | None) -> None:
    state = state_of(make_genesis())
    body = state.reserve("device", HALF, {"run": 0, "round": 1})
    state.admit(entry(Kind.RESERVE, body))
    with pytest.raises((ReservationError, PrivacyBudgetExhausted, ValueError)):
        state.admit(entry(Kind.RESERVE, {**body, field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "laplace"), ("type", None), ("clip_units", 0), ("clip_units", "1024"), ("clip_units", 2**70),
        ("clip_units", True), ("variance", 2 * 1024**2), ("count", 2), ("count", 0), ("unit", "record"), ("unit", None),
        ("relation", "replace-one"), ("sampling_probability", "0.5"), ("sampling_probability", "x"), ("more", 1),
    ],
)  # fmt: skip
def test_an_event_that_costs_something_else_is_refused(make_genesis: Make, field: str, value: object) -> None:
    state = state_of(make_genesis(cap=Decimal("0.75")))
    body = state.reserve("device", HALF, {"run": 0, "round": 1})
    event = {**body["event"], field: value}
    with pytest.raises((ReservationError, PrivacyBudgetExhausted, ValueError)):
        state.admit(entry(Kind.RESERVE, {**body, "event": event}))


def test_only_the_plans_events(make_genesis: Make, make_spec: Callable[..., PrivacySpec]) -> None:
    plan = make_spec().build()
    state = state_of(make_genesis(holder="server", cap=Decimal(10), plan=plan))
    mean, basis = (release_event(release, count=1) for release in plan.releases)
    pay(state, 1, account="run-0", event=mean, phase="mean")
    for event, phase in ((basis, "mean"), (mean, "basis"), (HALF, "mean"), (None, "mean")):
        with pytest.raises(ReservationError, match="as the plan has it"):
            pay(state, 2, account="run-0", event=event, phase=phase)
    with pytest.raises(ReservationError, match="among"):
        pay(state, 2, account="run-0", event=mean, phase="other")
    with pytest.raises(ReservationError, match="no policy in a server"):
        state.admit(entry(Kind.POLICY, {"policy": {}, "cap": None}))


@pytest.mark.parametrize("poisson", [False, True])
def test_a_plan_costs_what_its_ledger_asks(
    make_genesis: Make, make_spec: Callable[..., PrivacySpec], poisson: bool
) -> None:
    """Bug 30: one home for the cost of a round."""
    changes = {"trust": Trust.CENTRAL, "participation": Participation.poisson(0.2)} if poisson else {}
    plan = make_spec(**changes).build()
    order = plan.claim.order if poisson else None
    for release in plan.releases:
        assert event_cost(release_event(release, count=1), order) == Decimal(release.rho)
    cap = sum(release.rounds * Decimal(release.rho) for release in plan.releases)
    state = state_of(make_genesis(cap=cap, plan=plan, order=order))
    rounds = [release for release in plan.releases for _ in range(release.rounds)]
    for seq, release in enumerate(rounds, start=1):
        pay(state, seq, event=release_event(release, count=1), phase=release.name)
    assert state.spent("device") == state.cap
    with pytest.raises(PrivacyBudgetExhausted):
        pay(state, 9, event=release_event(rounds[0], count=1), phase=rounds[0].name)


def test_a_poisson_sample_needs_an_order(make_genesis: Make) -> None:
    sampled = replace(HALF, sampling_probability=0.5)
    with pytest.raises(ValueError, match="Renyi order"):
        pay(state_of(make_genesis()), 1, event=sampled)
    state = state_of(make_genesis(order=8.0))
    pay(state, 1, event=sampled)
    assert 0 < state.spent("device") < 5 * 10**17


def test_spent_is_raised_by_acknowledgement_and_never_lowered(make_genesis: Make) -> None:
    state = state_of(make_genesis())
    pay(state, 1)

    def acknowledge(spent: str) -> None:
        found = entry(Kind.ACKNOWLEDGE, {"incident": "rollback", "spent_after": {"device": spent}})
        state.admit(found)
        state.take(found)

    with pytest.raises(ReservationError, match="never falls"):
        acknowledge("0.499999999999999999")
    with pytest.raises(ReservationError, match="the cap"):
        acknowledge("2.000000000000000001")
    acknowledge("1.750000000000000000")
    assert state.spent("device") == 175 * 10**16
    assert state.accounts["device"].acknowledged == 125 * 10**16
    with pytest.raises(PrivacyBudgetExhausted):
        pay(state, 2)
    acknowledge("2.000000000000000000")
    assert state.spent("device") == state.cap


def test_a_policy_moves_the_cap_and_not_what_is_spent(make_genesis: Make) -> None:
    state = state_of(make_genesis())
    pay(state, 1)
    for cap in ("0.400000000000000000", "1.000000000000000000"):
        found = entry(Kind.POLICY, {"policy": {"paused": False}, "cap": cap})
        state.admit(found)
        state.take(found)
        assert state.spent("device") == 5 * 10**17
        if cap.startswith("0"):
            with pytest.raises(PrivacyBudgetExhausted):
                pay(state, 2)
    pay(state, 2)


def test_a_second_genesis_and_an_old_key_are_refused(make_genesis: Make) -> None:
    state = state_of(make_genesis())
    with pytest.raises(LedgerDamaged, match="one genesis"):
        state.admit(entry(Kind.GENESIS, make_genesis().to_body(KEY.public)))
    with pytest.raises(ReservationError, match="did not sign"):
        state.admit(entry(Kind.KEY_ROTATE, {"key": KEY.public.text}))
    with pytest.raises(LedgerDamaged, match="as the first"):
        State(entry(Kind.BURN, {"reservation": 1, "reason": "crash"}, seq=0))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.COMMIT, {"reservation": 1, "artifact_sha256": "0" * 64}),
        (Kind.COMMIT, {"reservation": 1, "artifact_sha256": "0" * 64, "facts": {"loss": 1}}),
        (Kind.COMMIT, {"reservation": 1, "artifact_sha256": "0" * 64, "facts": {"asked": "1"}}),
        (Kind.COMMIT, {"reservation": 1, "artifact_sha256": "A" * 64, "facts": {}}),
        (Kind.COMMIT, {"reservation": True, "artifact_sha256": "0" * 64, "facts": {}}),
        (Kind.BURN, {"reservation": 1, "reason": "A sentence."}),
        (Kind.REFUSE, {"reason": "paused", "subject": {"user": "u17"}}),
        (Kind.REFUSE, {"reason": "paused", "subject": {"run": "x" * 129}}),
        (Kind.REFUSE, {"reason": "paused", "subject": {"run": "a\nb"}}),
        (Kind.REFUSE, {"reason": "paused", "subject": {"round": -1}}),
        (Kind.REFUSE, {"reason": "paused", "subject": {"round": True}}),
        (Kind.REFUSE, {"reason": "paused", "subject": {"plan_sha256": "abc"}}),
        (Kind.REFUSE, {"reason": "paused", "subject": ["round"]}),
        (Kind.ACKNOWLEDGE, {"incident": "fork", "spent_after": {"device": "1"}}),
        (Kind.ACKNOWLEDGE, {"incident": "fork", "spent_after": {"device": "01.000000000000000000"}}),
        (Kind.KEY_ROTATE, {"key": "a+b+c"}),
        (Kind.AUDIT, {"evidence_sha256": "abc"}),
        (Kind.DECLARE, {"name": "tuning", "text": "x" * 4001}),
        (Kind.EXPORT, {}),
    ],
)
def test_fields_that_are_not_listed_are_refused(kind: Kind, body: dict[str, Any]) -> None:
    """Never a user's id, a norm, a loss, or anything else that somebody finds handy."""
    with pytest.raises(ValueError, match="Expected"):
        entry(kind, body)


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": ""}, {"origin": "a b"}, {"origin": "a\nb"}, {"guarantee": "joint"}, {"holder": "cloud"},
        {"delta": 0.0}, {"delta": 1.0}, {"order": 1.5}, {"order": float("inf")}, {"cap": Decimal(-1)},
        {"cap": Decimal("NaN")}, {"cap": Decimal("1e-19")},
    ],
)  # fmt: skip
def test_a_genesis_out_of_range_is_refused(make_genesis: Make, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        make_genesis(**changes)


def test_a_genesis_reads_back(make_genesis: Make, make_spec: Callable[..., PrivacySpec]) -> None:
    genesis = make_genesis(
        unit=Unit.RECORD, relation=Relation.ZERO_OUT, order=6.0, cap=Decimal("123456789012.000000000000000001"),
        plan=make_spec().build(), adapter={"epsilon": "2.0"}, policy={"phases": None}, declared={"name": "x"},
    )  # fmt: skip
    assert Genesis.from_body(genesis.origin, genesis.to_body(KEY.public)) == genesis


class Histories(RuleBasedStateMachine):
    """Whatever is tried in whatever order."""

    @initialize(cap=st.integers(0, 6))
    def begin(self, cap: int) -> None:
        self.state = state_of(
            Genesis(
                origin="example.org/device/1",
                guarantee="adapter",
                holder="device",
                unit=Unit.RECORD,
                relation=Relation.ZERO_OUT,
                delta=1e-6,
                cap=Decimal(cap) / 2,
            )
        )
        self.seq = 0
        self.spent: dict[str, int] = {}
        self.ended: list[int] = []

    @rule(account=st.sampled_from(["a", "b"]), round_=st.integers(0, 5), loud=st.integers(1, 4))
    def reserve(self, account: str, round_: int, loud: int) -> None:
        self.seq += 1
        try:
            pay(self.state, self.seq, account=account, event=replace(HALF, variance=loud * 1024**2), round=round_)
        except (PrivacyBudgetExhausted, ReservationError):
            self.seq -= 1

    @precondition(lambda self: self.seq > 0)
    @rule(data=st.data(), kind=st.sampled_from([Kind.COMMIT, Kind.BURN]))
    def end(self, data: st.DataObject, kind: Kind) -> None:
        seq = data.draw(st.integers(1, self.seq))
        was_open = seq in self.state.open
        try:
            end(self.state, kind, seq)
            self.ended.append(seq)
        except ReservationError:
            assert not was_open

    @rule(account=st.sampled_from(["a", "b"]), eighths=st.integers(0, 40))
    def acknowledge(self, account: str, eighths: int) -> None:
        text = f"{eighths // 8}.{eighths % 8 * 125:03d}{'0' * 15}"
        found = entry(Kind.ACKNOWLEDGE, {"incident": "fork", "spent_after": {account: text}})
        try:
            self.state.admit(found)
        except ReservationError:
            return
        self.state.take(found)

    @invariant()
    def spent_never_falls_and_stays_in_the_cap(self) -> None:
        for name in self.state.accounts:
            now = self.state.spent(name)
            assert self.spent.get(name, 0) <= now <= self.state.cap
            self.spent[name] = now

    @invariant()
    def each_reservation_ends_once(self) -> None:
        assert len(set(self.ended)) == len(self.ended)
        assert not set(self.ended) & set(self.state.open)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def unmask(state: State, reservation: int, attempt: int, survivors: int = 900) -> None:
    body = {"reservation": reservation, "attempt": attempt, "survivors": survivors, "transcript_sha256": "ab" * 32}
    found = entry(Kind.OPEN, body)
    state.admit(found)
    state.take(found)


def test_an_attempt_is_a_place_of_its_own_and_none_named_is_the_first(make_genesis: Make) -> None:
    """A retry has new keys and new noise, so it is a new release, and paid for as one."""
    state = state_of(make_genesis())
    pay(state, 1, round=0)
    for again in ({}, {"attempt": 0}):
        with pytest.raises(ReservationError, match="to be reserved once"):
            pay(state, 2, round=0, **again)
    pay(state, 2, round=0, attempt=1)
    assert state.spent("device") == 10**18
    with pytest.raises(ReservationError, match="round=0 attempt=1 to be reserved once"):
        pay(state, 3, round=0, attempt=1)
    end(state, Kind.BURN, 1)
    pay(state, 3, round=0, attempt=0)
    assert state.spent("device") == 15 * 10**17


def test_a_masked_sum_is_opened_once_an_attempt_while_its_reservation_is_open(make_genesis: Make) -> None:
    state = state_of(make_genesis(holder="server"))
    with pytest.raises(ReservationError, match="Expected an open reservation 1 before its open"):
        unmask(state, 1, 0)
    pay(state, 1)
    unmask(state, 1, 0)
    with pytest.raises(ReservationError, match=r"attempt=0 in \[1, inf\)"):
        unmask(state, 1, 0)
    unmask(state, 1, 2)
    assert state.open[1].attempts == 3
    with pytest.raises(ReservationError, match=r"attempt=1 in \[3, inf\)"):
        unmask(state, 1, 1)
    pay(state, 2)
    unmask(state, 2, 0)  # every reservation counts its own
    end(state, Kind.COMMIT, 1)
    with pytest.raises(ReservationError, match="open reservation 1"):
        unmask(state, 1, 3)
    device = state_of(make_genesis())
    pay(device, 1)
    with pytest.raises(ReservationError, match="a device opens no sum"):
        unmask(device, 1, 0)


def test_a_plan_s_sum_is_opened_from_as_many_devices_as_it_says(
    make_genesis: Make, make_spec: Callable[..., PrivacySpec]
) -> None:
    plan = make_spec(colluding=100).build()
    state = state_of(make_genesis(holder="server", cap=None, plan=plan))
    pay(state, 1, event=release_event(plan["mean"], count=1), phase="mean")
    for survivors in (899, 1001):
        with pytest.raises(ReservationError, match=rf"survivors={survivors} in \[900, 1000\], as planned"):
            unmask(state, 1, 0, survivors)
    unmask(state, 1, 0, 900)
    unmask(state, 1, 1, 1000)
