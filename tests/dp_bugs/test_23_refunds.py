"""Bug 23: a round that failed is refunded, and the failure was after something had left.

Published: accountants that compose after the noise (a crash before that is free); retry loops that draw fresh noise for the
same round and pay once, so that the mean of the retries is nearly exact.

Seen to fail: a rule that takes a burned reservation's cost back, and a device that answers a repeated round with new noise.
"""

import runpy
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from homespun.client import door
from homespun.client.belongings import Belongings
from homespun.client.errors import Declined
from homespun.client.vault import Vault
from homespun.privacy import CohortTooSmall, Release
from homespun.privacy.ledger import Kind, event_cost
from homespun.privacy.ledger.rules import State
from homespun.privacy.policy import Policy
from homespun.server.run_ledger import account_of

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
lab = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "a_device.py")))
OWNER = Policy(witness_required=False, min_cohort=4)


def no_room(*_: Any, **__: Any) -> None:
    raise OSError("No space left on device")


FAILURES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the statistic's clip": lambda patch: patch.setattr(door, "contribute", no_room),
    "sealing the answer": lambda patch: patch.setattr(Vault, "write", no_room),
    "the noise": lambda patch: patch.setattr("homespun.privacy.private_sum.draw_shares", no_room),
    "the masks": lambda patch: patch.setattr("homespun.secagg.Client.mask", no_room),
}


def check(tmp_path: Path, failure: str) -> None:
    """A failure after the reservation: burned, still spent, and the next attempt pays again for its new noise."""
    home = tmp_path / "device"
    path.device(home, allows=OWNER).close()
    with pytest.MonkeyPatch.context() as patch, path.device(home) as device:
        cohort = lab.Cohort(device, lab.masked_request())
        cohort.walk(device, until="share")
        FAILURES[failure](patch)
        with pytest.raises((Declined, OSError)):
            cohort.walk(device, until="mask")
    with path.device(home) as device:
        kinds = [entry.kind for entry in device.ledger.entries()]
        assert kinds.count(Kind.RESERVE) == kinds.count(Kind.BURN) == 1
        one = event_cost(device.ledger.events("device")[0], None)
        assert device.spent == one
        lab.Cohort(device, lab.masked_request(attempt=1)).walk(device)
        assert device.spent == 2 * one
    with path.device(home) as device:
        assert device.spent == 2 * one
        assert len(device.ledger.events("device")) == 2


@pytest.mark.parametrize("failure", FAILURES)
def test_what_was_reserved_stays_spent(failure: str, tmp_path: Path) -> None:
    check(tmp_path, failure)


def test_a_refund_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = State.take

    def refunding(state: State, entry: Any) -> None:
        burned = state.open.get(entry.body["reservation"]) if entry.kind is Kind.BURN else None
        real(state, entry)
        if burned is not None and burned.rho is not None:
            state.accounts[burned.account].spent -= int(burned.rho * 10**18)

    monkeypatch.setattr(State, "take", refunding)
    with pytest.raises(AssertionError):
        check(tmp_path, "the noise")


def check_retries(tmp_path: Path) -> None:
    """An attempt is answered once, whatever is asked the second time; a new attempt has new noise, and is paid for."""
    home = tmp_path / "device"
    changed = {name: value + 0.5 for name, value in path.request(0).backbone.items()}
    with path.device(home, allows=OWNER) as device:
        first = lab.Cohort(device, lab.masked_request())
        first.walk(device)
        spent = device.spent
    with path.device(home) as device:
        for again in (lab.masked_request(), lab.masked_request(), lab.masked_request(backbone=changed)):
            with pytest.raises(Declined):
                lab.Cohort(device, again).walk(device)
        assert device.spent == spent
        second = lab.Cohort(device, lab.masked_request(attempt=1))
        second.walk(device)
        assert not np.array_equal(first.total, second.total)
        assert device.spent == 2 * spent


def test_a_retry_is_no_second_draw(tmp_path: Path) -> None:
    check_retries(tmp_path)


def test_a_second_draw_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Belongings, "answers", {})
    monkeypatch.setattr(Belongings, "keep", lambda *_: None)
    monkeypatch.setattr("homespun.privacy.ledger.rules._place", lambda *_: object())
    with pytest.raises(pytest.fail.Exception):
        check_retries(tmp_path)


def test_a_plain_retry_gets_the_same_bytes_and_is_paid_once(tmp_path: Path) -> None:
    """Where the owner trusts the server, which adds the noise; another request for the same round gets no answer."""
    with path.device(tmp_path / "device") as device:
        first = device.contribute(path.request(0)).vector
        spent = device.spent
        for _ in range(3):
            assert np.array_equal(device.contribute(path.request(0)).vector, first)
        changed = {name: value + 0.5 for name, value in path.request(0).backbone.items()}
        with pytest.raises(Declined):
            device.contribute(path.request(0, backbone=changed))
        assert device.spent == spent
    with path.device(tmp_path / "device") as device:
        assert np.array_equal(device.contribute(path.request(0)).vector, first)
        assert device.spent == spent


def test_a_round_that_was_not_opened_is_paid_for_on_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few answered: nothing is released, the reservation stands, and the round goes on under it without a new one."""
    monkeypatch.setattr("homespun.server.cohort.ROUND_TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr("homespun.server.cohort.NODES_POLL_SECONDS", 0.0)
    release = Release(name="one", rounds=1, share=1.0, clip_norm=1.0, dimension=64)
    plan = path.plan_of(release, population=5, min_survivors=5)
    phase, pairs = path.Given(answer=path.nothing), path.people(5)
    with pytest.raises(CohortTooSmall):
        path.walk(plan, [phase], pairs, tmp_path / "run", tamper=lambda reply: None)
    cost = Decimal(plan["one"].rho)
    with path.run_ledger(tmp_path / "run", plan) as ledger:
        assert cost * (1 - Decimal("1e-9")) < ledger.spent(account_of(0)) == ledger.genesis.cap
        assert len(ledger.open_reservations()) == 1
    path.walk(plan, [phase], pairs, tmp_path / "run")
    with path.run_ledger(tmp_path / "run", plan) as ledger:
        assert ledger.spent(account_of(0)) == ledger.genesis.cap
        assert len(ledger.events(account_of(0))) == 1
        assert ledger.open_reservations() == ()
