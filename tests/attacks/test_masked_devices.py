"""A hostile server, with threads, delays and repetitions, against the devices of a masked round."""

import runpy
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homespun import secagg
from homespun.client import Declined, Device
from homespun.privacy.ledger import Ledger
from homespun.secagg.judging import check_list
from homespun.wire import StepRequest

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_device.py"))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with lab["create"](tmp_path, lab["MASKED_POLICY"]) as device:
        yield device


def cohort_of(device: Device, number: int = 0, attempt: int = 0, **terms: Any) -> Any:
    return lab["Cohort"](device, lab["masked_request"](number, attempt), **terms)


def survivors(*indices: int) -> bytes:
    return secagg.Survivors(indices=indices).encode()


def test_two_lists_are_not_signed_side_by_side(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads are past the check that no list was signed, before either has signed: unless they take turns."""
    both = threading.Barrier(2)

    def slowly(*arguments: Any) -> None:
        check_list(*arguments)
        try:
            both.wait(0.3)
        except threading.BrokenBarrierError:
            return

    cohort = cohort_of(device)
    cohort.walk(device, until="mask")
    monkeypatch.setattr("homespun.secagg.client.check_list", slowly)
    signed: list[bytes] = []

    def ask(listed: bytes) -> None:
        try:
            signed.append(device.consent(StepRequest(session=cohort.terms.digest, payload=listed)))
        except Declined:
            return

    threads = [threading.Thread(target=ask, args=[listed]) for listed in (survivors(0, 1, 2, 3), survivors(0, 1, 2, 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(signed) == 1


def test_places_rise_though_a_vector_was_burned(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed after it was remembered leaves the place behind: nothing before it is begun any more."""
    cohort_of(device, 1, 1).walk(device)
    paid = device.spent
    with monkeypatch.context() as patch, pytest.raises(Declined):
        patch.setattr(Ledger, "commit", lambda *_, **__: 1 / 0)
        cohort_of(device, 2).walk(device)
    assert device.spent == 2 * paid
    for place in ((1, 0), (1, 1), (1, 2), (2, 0)):
        assert lab["why"](lambda place=place: cohort_of(device, *place).walk(device)) == "round-replayed"
    cohort_of(device, 2, 1).walk(device)
    assert device.spent == 3 * paid
