"""The adapter on its device: every block of records is released once in its life, and what is made of it stays sealed."""

import runpy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch

from homespun.client import Declined, Device, VaultError
from homespun.client import releases as releases_module
from homespun.client.evidence import extends, records_from_bytes, records_to_bytes
from homespun.client.releases import sums_from_bytes, sums_to_bytes
from homespun.personal import Backbone, PublicMoments, Records, average_user
from homespun.privacy.ledger import Ledger, event_cost
from homespun.privacy.record_plan import RecordPlan

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_device.py"))
DIM = lab["toy"]["DIM"]


def said(places: int) -> Records:
    """The first so many of one person's choices."""
    generator = torch.Generator().manual_seed(3)
    first = torch.randint(30, (1, 80), generator=generator, dtype=torch.int32)
    return Records(
        features=torch.randn(30, DIM, generator=generator) / 3, first=first, second=(first + 7) % 30,
        answer=torch.ones(1, 80), tier=torch.ones(1, 80, dtype=torch.int8), votes=False,
    ).between(0, places)  # fmt: skip


BACKBONE: Backbone = replace(average_user(DIM, 3, projection="0" * 64), prior=torch.full((3,), 0.5))
PUBLIC = PublicMoments(covariance=torch.eye(DIM) / 9, mean=torch.zeros(DIM), floor=torch.full((DIM,), 0.1))
PAIRS = lab["toy"]["toy_pairs"](3).select(slice(0, 1))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with lab["create"](tmp_path) as device:
        yield device


def entries(folder: Path) -> list[tuple[str, Any]]:
    """Kind and block of each entry of the adapter's ledger."""
    with Ledger.open(folder / "device" / "adapter.sqlite", None) as ledger:
        rows = list(ledger.entries())[1:]
    return [(entry.kind.value, entry.body.get("subject", {}).get("block")) for entry in rows]


def test_full_blocks_are_released_and_the_rest_waits(device: Device, tmp_path: Path) -> None:
    device.learn(PAIRS, records=said(23))
    adapter = device.refit(BACKBONE, PUBLIC)
    assert entries(tmp_path) == [("reserve", 0), ("commit", None), ("reserve", 1), ("commit", None), ("reserve", 2),
                                 ("commit", None)]  # fmt: skip
    assert adapter.coefficients.shape == (1, 3)
    assert float(adapter.coefficients.abs().sum()) > 0
    again = device.adapter(BACKBONE)
    assert torch.equal(again.coefficients, adapter.coefficients)
    with pytest.raises(VaultError, match="backbone"):
        device.adapter(replace(BACKBONE, version=7))


def test_without_a_new_full_block_a_refit_costs_nothing(device: Device, tmp_path: Path) -> None:
    device.learn(PAIRS, records=said(23))
    first = device.refit(BACKBONE, PUBLIC)
    before = entries(tmp_path)
    device.learn(PAIRS, records=said(39))  # the fourth block ends at 40
    moved = device.refit(replace(BACKBONE, prior=torch.full((3,), 0.7), version=1), PUBLIC)
    assert entries(tmp_path) == before
    assert not torch.equal(first.coefficients, moved.coefficients)
    assert torch.equal(device.refit(BACKBONE, PUBLIC).coefficients, first.coefficients)
    device.learn(PAIRS, records=said(40))
    device.refit(BACKBONE, PUBLIC)
    assert entries(tmp_path)[len(before) :] == [("reserve", 3), ("commit", None)]


def test_no_block_is_released_twice(device: Device, tmp_path: Path) -> None:
    """Not even if its sum was lost: the ledger's cap is what one release costs."""
    device.learn(PAIRS, records=said(10))
    device.refit(BACKBONE, PUBLIC)
    with Ledger.open(tmp_path / "device" / "adapter.sqlite", None) as ledger:
        plan = RecordPlan.from_dict(ledger.genesis.adapter)
        assert ledger.spent("block-0") == ledger.cap == event_cost(plan.event, None)
        assert (ledger.genesis.guarantee, ledger.genesis.unit, ledger.genesis.relation) == (
            "adapter", plan.unit, plan.relation,
        )  # fmt: skip
    device._vault.delete("sums")
    adapter = device.refit(BACKBONE, PUBLIC)
    assert len(entries(tmp_path)) == 4
    assert float(adapter.coefficients.abs().sum()) == 0  # the average user again


def test_a_record_keeps_its_place(device: Device) -> None:
    device.learn(PAIRS, records=said(10))
    shifted = replace(said(12), first=said(12).first.roll(1, 1), second=said(12).second.roll(1, 1))
    for changed in (said(9), shifted, replace(said(10), answer=-said(10).answer)):
        with pytest.raises(ValueError, match="keep its place"):
            device.learn(PAIRS, records=changed)
    blank = said(12).answer.clone()
    blank[0, 3] = 0
    device.learn(PAIRS, records=replace(said(12), answer=blank))


def test_records_keep_what_they_say_in_a_smaller_table() -> None:
    again = records_from_bytes(records_to_bytes(said(4)))
    assert len(again.features) <= 8
    assert extends(again, said(4)) and extends(said(4), again)
    assert torch.equal(again.differences(PUBLIC.mean), said(4).differences(PUBLIC.mean))


def test_the_exact_adapter_is_the_owner_s_choice_and_is_written_down(device: Device, tmp_path: Path) -> None:
    device.learn(PAIRS, records=said(23))
    device.set_policy(replace(device.policy, adapter="exact"))
    assert [entry.body["policy"]["adapter"] for entry in device.ledger.entries() if entry.kind == "policy"] == ["exact"]
    adapter = device.refit(BACKBONE, PUBLIC)
    assert not (tmp_path / "device" / "adapter.sqlite").exists()
    assert torch.equal(device.adapter(BACKBONE).coefficients, adapter.coefficients)
    device.set_policy(replace(device.policy, adapter="record:2"))
    device.refit(BACKBONE, PUBLIC)
    device.set_policy(replace(device.policy, adapter="record:4"))
    with pytest.raises(ValueError, match="record:2"):
        device.refit(BACKBONE, PUBLIC)


@pytest.mark.parametrize("moment", ["before the sum", "before it is sealed", "before the commit"])
def test_a_crash_ends_the_reservation_once(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    device.learn(PAIRS, records=said(5))

    def crash(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        place = {
            "before the sum": "release_block",
            "before it is sealed": "sums_to_bytes",
            "before the commit": "_artifact",
        }
        patch.setattr(releases_module, place[moment], crash)
        with pytest.raises(KeyboardInterrupt):
            device.refit(BACKBONE, PUBLIC)
    device.close()
    with lab["reopen"](tmp_path) as again:
        kept = moment == "before the commit"
        assert entries(tmp_path) == [("reserve", 0), ("commit" if kept else "burn", None)]
        adapter = again.refit(BACKBONE, PUBLIC)
        assert len(entries(tmp_path)) == 2  # neither paid nor released again
        assert (float(adapter.coefficients.abs().sum()) > 0) == kept


def test_an_older_adapter_ledger_is_found(tmp_path: Path) -> None:
    """By the next spend of guarantee A that committed to the newer one, and by the sums in the vault."""
    path = tmp_path / "device" / "adapter.sqlite"
    with lab["create"](tmp_path) as device:
        device.learn(PAIRS, records=said(5))
        device.refit(BACKBONE, PUBLIC)
    old = path.read_bytes()
    with lab["reopen"](tmp_path) as device:
        device.learn(PAIRS, records=said(10))
        device.refit(BACKBONE, PUBLIC)
    new = path.read_bytes()
    path.write_bytes(old)
    with lab["reopen"](tmp_path) as device, pytest.raises(Declined, match="ledger-forked"):
        device.refit(BACKBONE, PUBLIC)
    path.write_bytes(new)
    with lab["reopen"](tmp_path) as device:
        device.contribute(lab["request"](0))
    for content in (old, None):
        path.unlink() if content is None else path.write_bytes(content)
        with lab["reopen"](tmp_path) as device:
            assert lab["reason"](device, lab["request"](1)) == "ledger-forked"
    with lab["reopen"](tmp_path) as device:
        device.acknowledge()
        device.learn(PAIRS, records=said(12))
        device.refit(BACKBONE, PUBLIC)
    assert [kind for kind, _ in entries(tmp_path)] == ["acknowledge"]


@pytest.mark.parametrize("begun", [True, False])
def test_blocks_of_a_lost_history_are_not_released_again_by_way_of_another_policy(tmp_path: Path, begun: bool) -> None:
    """Acknowledged while the owner's policy was exact, or before the copy's ledger of blocks was begun."""
    with lab["create"](tmp_path) as device:
        device.learn(PAIRS, records=said(5))
        if begun:
            device.refit(BACKBONE, PUBLIC)
    lab["copy"](tmp_path / "device", tmp_path / "backup")
    with lab["reopen"](tmp_path) as device:
        device.learn(PAIRS, records=said(10))
        device.refit(BACKBONE, PUBLIC)
        device.contribute(lab["request"](0))
    shutil.rmtree(tmp_path / "device")
    lab["copy"](tmp_path / "backup", tmp_path / "device")
    with lab["reopen"](tmp_path) as device:
        device.set_policy(replace(device.policy, adapter="exact"))
        device.acknowledge()
        device.set_policy(replace(device.policy, adapter="record:2"))
        device.learn(PAIRS, records=said(10))
        device.refit(BACKBONE, PUBLIC)
    kinds = [kind for kind, _ in entries(tmp_path)]
    assert kinds == (["reserve", "commit", "acknowledge"] if begun else ["acknowledge"])


def test_the_head_that_the_witness_sees_does_not_depend_on_records(tmp_path: Path) -> None:
    sizes = []
    for number, places in enumerate((0, 5, 80)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with lab["create"](folder) as device:
            device.learn(PAIRS, records=said(places))
            device.refit(BACKBONE, PUBLIC)
            device.contribute(lab["request"](0))
            sizes.append(device.ledger.head.size)
    assert len(set(sizes)) == 1


def test_sums_read_back(device: Device) -> None:
    device.learn(PAIRS, records=said(23))
    device.refit(BACKBONE, PUBLIC)
    sums = sums_from_bytes(device._vault.read("sums"))
    again = sums_from_bytes(sums_to_bytes(sums))
    assert sorted(again) == [0, 1, 2]
    for block, found in sums.items():
        assert torch.equal(again[block].total, found.total)
        assert again[block].facts() == found.facts()
    assert Decimal(0) == device.spent  # guarantee A did not pay
