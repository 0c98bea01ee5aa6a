"""An owner, or a thief, puts an old copy of a device's files back to get its budget back: it declines, and says why."""

import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from homespun.client import VaultError
from homespun.privacy import LedgerError

lab = runpy.run_path(str(Path(__file__).parents[1] / "a_device.py"))


@pytest.fixture
def old_copy(tmp_path: Path) -> Path:
    """A device that took part in three rounds, and a backup from after the first."""
    with lab["create"](tmp_path) as device:
        device.contribute(lab["request"](0))
    lab["copy"](tmp_path / "device", tmp_path / "backup")
    with lab["reopen"](tmp_path) as device:
        device.contribute(lab["request"](1))
        device.contribute(lab["request"](2))
    return tmp_path


def restore(folder: Path, names: Callable[[str], bool] = lambda name: True) -> None:
    for file in (folder / "backup").iterdir():
        if names(file.name):
            for part in ("", "-wal", "-shm"):
                (folder / "device" / (file.name + part)).unlink(missing_ok=True)
            (folder / "device" / file.name).write_bytes(file.read_bytes())


REMEMBERED: dict[str, dict[str, Any]] = {
    "anchor and witness": {},
    "the anchor alone": {"witness": None},
    "the witness alone": {"anchor": None},
}


@pytest.mark.parametrize("who", REMEMBERED)
def test_the_whole_folder_put_back(old_copy: Path, who: str) -> None:
    """Ledger, vault and all: everything in the folder fits together, and it is still found out."""
    restore(old_copy)
    changes = dict(REMEMBERED[who])
    with lab["reopen"](old_copy, **changes) as device:
        assert device.forked
        assert lab["reason"](device, lab["request"](3)) == "ledger-forked"
        assert lab["refusals"](device)[-1] == "ledger-forked"
    with lab["reopen"](old_copy, **changes) as device:  # not forgotten by waiting
        assert lab["reason"](device, lab["request"](3)) == "ledger-forked"


PARTS: dict[str, Callable[[str], bool]] = {
    "the ledger": lambda name: name.startswith("ledger"),
    "the vault": lambda name: name.startswith("vault"),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_put_back(old_copy: Path, part: str) -> None:
    restore(old_copy, PARTS[part])
    with lab["reopen"](old_copy) as device:
        assert lab["reason"](device, lab["request"](3)) == "ledger-forked"


def test_an_old_ledger_beside_a_new_vault_is_found_without_anybody_s_help(old_copy: Path) -> None:
    restore(old_copy, PARTS["the ledger"])
    with lab["reopen"](old_copy, witness=None, anchor=None) as device:
        assert device.forked


def test_a_spend_that_left_no_trace_in_the_vault_is_found_by_the_anchor(tmp_path: Path) -> None:
    """A reservation was burned before anything was sealed: vault and ledger of the old copy fit together."""

    class Silent:
        def __init__(self) -> None:
            self.witness = lab["witness"](tmp_path)
            self.public, self.enroll, self.latest = self.witness.public, self.witness.enroll, self.witness.latest

        def countersign(self, checkpoint: bytes, proof: Any) -> bytes:
            raise ConnectionError

    lab["create"](tmp_path).close()
    lab["copy"](tmp_path / "device", tmp_path / "backup")
    with lab["reopen"](tmp_path, witness=Silent()) as device:
        assert lab["reason"](device, lab["request"](0)) == "witness-unavailable"
        assert device.spent > 0
    restore(tmp_path)
    with lab["reopen"](tmp_path, witness=None) as device:
        assert device.forked


def test_without_anybody_who_remembers_nothing_is_found(old_copy: Path) -> None:
    """What the guarantee rests on: the folder alone cannot tell."""
    restore(old_copy)
    with lab["reopen"](old_copy, witness=None, anchor=None) as device:
        assert not device.forked
        assert lab["reason"](device, lab["request"](3)) == "witness-unavailable"


def test_acknowledging_costs_what_was_seen(old_copy: Path) -> None:
    """The anchor's mark is the newest that the witness saw: what was spent is known to the last digit."""
    with lab["reopen"](old_copy) as device:
        spent = device.spent
    restore(old_copy)
    with lab["reopen"](old_copy) as device:
        assert device.spent == spent / 3
        assert device.acknowledge() == spent == device.spent
        assert not device.forked
        assert device.contribute(lab["request"](3)).devices == 1
        assert device.spent > spent
    with lab["reopen"](old_copy) as device:
        assert not device.forked
        assert device.ledger.genesis.declared["continues"].startswith("homespun/device/")
        with pytest.raises(ValueError, match="newest"):
            device.acknowledge()


def test_acknowledging_what_nobody_knows_costs_everything(old_copy: Path) -> None:
    restore(old_copy)
    with lab["reopen"](old_copy, anchor=None) as device:
        cap = device.ledger.cap
        assert device.acknowledge() == cap == device.spent
        assert lab["reason"](device, lab["request"](3)) == "budget-exhausted"


def test_an_acknowledged_device_put_back_again_is_found(old_copy: Path) -> None:
    restore(old_copy)
    with lab["reopen"](old_copy) as device:
        device.acknowledge()
    shutil.rmtree(old_copy / "device")
    lab["copy"](old_copy / "backup", old_copy / "device")
    with lab["reopen"](old_copy) as device:
        before = device.spent
        assert lab["reason"](device, lab["request"](3)) == "ledger-forked"
        assert device.acknowledge() > before


def test_a_ledger_that_was_deleted_is_not_begun_anew(old_copy: Path) -> None:
    for file in (old_copy / "device").glob("ledger*"):
        file.unlink()
    with pytest.raises(LedgerError, match="nobody knows what was spent"):
        lab["reopen"](old_copy)


def test_a_ledger_of_another_device_is_refused(old_copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    lab["create"](other).close()
    shutil.copy(other / "device" / "ledger-1.sqlite", old_copy / "device" / "ledger-1.sqlite")
    with pytest.raises(LedgerError, match="key"):
        lab["reopen"](old_copy)


def test_another_name_opens_nothing(old_copy: Path) -> None:
    """A new name would be a new origin to witness and anchor; the vault is bound to the old one."""
    (old_copy / "device" / "device").write_text("0" * 16)
    with pytest.raises(VaultError):
        lab["reopen"](old_copy)


def test_a_mark_that_was_changed_is_no_mark(old_copy: Path) -> None:
    (mark,) = (old_copy / "anchor").iterdir()
    mark.write_text(mark.read_text()[:-5])
    with pytest.raises(ValueError, match="changed"):
        lab["reopen"](old_copy)


def test_spent_never_falls_over_any_order_of_restoring(tmp_path: Path) -> None:
    """Backups after every round, put back in turn and acknowledged: what counts as spent only rises."""
    with lab["create"](tmp_path) as device:
        seen = [device.spent]
    for number in range(4):
        with lab["reopen"](tmp_path) as device:
            if device.forked:
                device.acknowledge()
            assert device.spent >= max(seen)
            if lab["reason"](device, lab["request"](number)) == "answered":
                seen.append(device.spent)
        lab["copy"](tmp_path / "device", tmp_path / f"backup-{number}")
        if number % 2:
            shutil.rmtree(tmp_path / "device")
            lab["copy"](tmp_path / f"backup-{number - 1}", tmp_path / "device")
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert max(seen) <= Decimal("1.06")


def test_acknowledging_under_a_lower_cap_forgets_nothing(tmp_path: Path) -> None:
    """The copy knows a cap below what was spent since; with a higher one again, what was seen still counts."""
    low, high = replace(lab["POLICY"], max_epsilon=0.5), lab["POLICY"]
    lab["create"](tmp_path, policy=low).close()
    lab["copy"](tmp_path / "device", tmp_path / "backup")
    with lab["reopen"](tmp_path) as device:
        device.set_policy(high)
        for number in range(3):
            device.contribute(lab["request"](number))
        spent = device.spent
    assert spent > low.cap
    restore(tmp_path)
    with lab["reopen"](tmp_path) as device:
        assert device.acknowledge() == spent == device.spent
        assert device.ledger.cap == low.cap
        assert lab["reason"](device, lab["request"](3)) == "budget-exhausted"
        device.set_policy(high)
        assert device.spent == spent


def test_a_cap_that_is_lowered_before_acknowledging_is_no_way_out(old_copy: Path) -> None:
    restore(old_copy)
    with lab["reopen"](old_copy, anchor=None) as device:
        cap = device.ledger.cap
        device.set_policy(replace(device.policy, max_epsilon=0.1))
        assert device.acknowledge() == cap
        device.set_policy(lab["POLICY"])
        assert lab["reason"](device, lab["request"](3)) == "budget-exhausted"


def test_a_fork_that_was_found_is_not_forgotten_when_the_finder_is_away(old_copy: Path) -> None:
    """The ledger itself says so: a device that may go on without a witness does not go on after a new start."""
    restore(old_copy)
    with lab["reopen"](old_copy, anchor=None) as device:
        device.set_policy(replace(device.policy, witness_required=False))
        assert lab["reason"](device, lab["request"](3)) == "ledger-forked"
    with lab["reopen"](old_copy, anchor=None, witness=None) as device:
        assert lab["reason"](device, lab["request"](3)) == "ledger-forked"
        device.acknowledge()
    with lab["reopen"](old_copy, anchor=None, witness=None) as device:
        assert not device.forked
