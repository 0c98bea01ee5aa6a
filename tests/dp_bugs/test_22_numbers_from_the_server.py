"""Bug 22: noise, clip norm, sampling rate or price come from the server's configuration, and the client believes them.

Published: Flower's ``LocalDpMod`` takes a ``sensitivity`` that has nothing to do with the clipping norm (FLIP PR #833 shipped
1e-4 beside a norm of 1: noise 10,000 times too small); mods that read sigma from the server's config.

Seen to fail: a device that books the price that the request states, and a policy that is not asked.
"""

import dataclasses
import math
import runpy
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from homespun.client import door
from homespun.client.errors import Declined
from homespun.privacy import Participation, Trust, from_ring
from homespun.privacy.policy import Policy
from homespun.wire import Refusal
from homespun.wire.flower import in_process_identity

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
lab = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "a_device.py")))
RELEASE = lab.MASKED_PLAN["nudge"]
OWNER = Policy(witness_required=False, min_cohort=RELEASE.min_survivors)
UNIT = Fraction(1, 10**18)


def exact_cost(release: Any) -> Fraction:
    """Of one round, by hand: Delta^2 / 2v, v the noise of the fewest who must answer."""
    return Fraction(release.clip_units**2, 2 * release.share_variance * release.min_survivors)


def shares(factor: float) -> dict[str, Any]:
    """Less noise, consistently told."""
    share = max(0, math.floor(RELEASE.share_variance * factor))
    variance = share * RELEASE.min_survivors
    price = "0" if variance == 0 else f"{float(Fraction(RELEASE.clip_units**2, 2 * variance)) + 1e-9:.18f}"
    return {"share_variance": share, "variance": variance, "rho": price}


CHANGES: dict[str, dict[str, Any]] = {
    "no noise": shares(0.0),
    "a hundredth of the noise": shares(1e-2),
    "noise told but not made": {"share_variance": RELEASE.share_variance // 100},
    "noise that is said to be there": {"variance": RELEASE.variance * 100},
    "a price of nothing": {"rho": "0"},
    "a price of a hundredth": {"rho": f"{float(exact_cost(RELEASE)) / 100:.18f}"},
    "no number for a price": {"rho": "NaN"},
    "another clip norm": {"clip_norm": RELEASE.clip_norm * 1000},
    "an infinite clip norm": {"clip_norm": 1e30},
    "finer steps": {"clip_units": RELEASE.clip_units * 2},
    "a cohort of two": {"min_survivors": 2, "population": 2},
    "fewer who must answer": {"min_survivors": 1},
    "a sample that is claimed": {"participation": Participation.poisson(1e-3)},
    "the server adds the noise": {"trust": Trust.CENTRAL, "share_variance": 0},
    "another phase's name": {"name": "spread"},
    "a phase that is not installed": {"name": "peek"},
    "more rounds": {"rounds": 1000},
    "another dimension": {"dimension": RELEASE.dimension + 1},
}


def cohort(device: Any, **changes: Any) -> Any:
    """The device among others who are asked for a changed release, under terms that fit the usual one."""
    asked = lab.masked_request(release=dataclasses.replace(RELEASE, **changes))
    return lab.Cohort(device, asked, dimension=RELEASE.dimension, min_survivors=RELEASE.fewest, colluding=0)


def check(tmp_path: Path, change: str) -> None:
    """Declined before a vector leaves, with the one refusal that every reason has, and nothing is spent."""
    with path.device(tmp_path / "device", allows=OWNER) as device, in_process_identity():
        with pytest.raises(lab.Outside) as told:
            cohort(device, **CHANGES[change]).walk(lab.ThroughApp(device), until="mask")
        assert told.value.args == (Refusal.DECLINED.value, "declined")
        assert device.spent == 0
        assert [entry.kind for entry in device.ledger.entries()].count("reserve") == 0
        assert [entry.kind for entry in device.ledger.entries()].count("refuse") == 1


@pytest.mark.parametrize("change", CHANGES)
def test_a_request_that_asks_for_more_is_declined(change: str, tmp_path: Path) -> None:
    check(tmp_path, change)


@pytest.mark.parametrize("change", ["no noise", "a hundredth of the noise", "a cohort of two"])
def test_the_cap_of_the_ledger_holds_where_the_policy_is_not_asked(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "check", lambda *_, **__: None)
    check(tmp_path, change)


@pytest.mark.parametrize("change", ["a price of nothing", "a sample that is claimed", "finer steps"])
def test_a_policy_that_is_not_asked_is_seen(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "check", lambda *_, **__: None)
    with pytest.raises(pytest.fail.Exception):
        check(tmp_path, change)


def booked(tmp_path: Path, **changes: Any) -> None:
    """What is booked is the device's own arithmetic on the numbers that it worked with."""
    release = dataclasses.replace(RELEASE, **changes)
    with path.device(tmp_path / "device", allows=OWNER) as device:
        others = cohort(device, **changes)
        others.walk(device)
        vector = from_ring(others.total)  # the others send zeros
        spent = Fraction(Decimal(device.spent))
    assert exact_cost(release) <= spent <= exact_cost(release) + 2 * UNIT
    own = exact_cost(release)
    std = (release.share_variance) ** 0.5
    assert np.abs(vector).max() <= release.clip_units + 8 * std
    assert spent == pytest.approx(float(own), rel=1e-9)


def test_the_price_is_the_devices_own(tmp_path: Path) -> None:
    booked(tmp_path)


def test_a_price_that_is_too_high_is_not_believed_either(tmp_path: Path) -> None:
    booked(tmp_path, rho="7.000000000000000000")


def test_a_device_that_books_the_servers_price_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts the noise that the request says is in the sum of everybody, instead of what the fewest make."""
    real = door.contribution_event

    def believing(release: Any) -> Any:
        event = real(release)
        return event and dataclasses.replace(
            event, variance=event.variance * release.population // release.min_survivors
        )

    monkeypatch.setattr(door, "contribution_event", believing)
    with pytest.raises(AssertionError):
        booked(tmp_path)


def test_delta_and_unit_are_the_owners(tmp_path: Path) -> None:
    """A request has no delta; the owner's policy and the ledger's genesis have it."""
    policy = path.policy(delta=1e-7)
    with path.device(tmp_path / "device", allows=policy) as device:
        assert device.ledger.genesis.delta == 1e-7
        assert device.ledger.genesis.cap == policy.cap
        device.contribute(path.request(0))
        (entry,) = [entry for entry in device.ledger.entries() if entry.kind == "reserve"]
        assert (entry.body["event"]["unit"], entry.body["event"]["relation"]) == ("device", "add-or-remove")
        assert entry.body["event"]["sampling_probability"] is None
    assert "delta" not in RELEASE.to_dict()
    with pytest.raises(Declined), path.device(tmp_path / "device") as device:
        device.set_policy(path.policy(paused=True))
        device.contribute(path.request(0, run=1))
