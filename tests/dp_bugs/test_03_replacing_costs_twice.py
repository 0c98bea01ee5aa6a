"""Bug 3: a claim about exchanging one unit's data rests on the sensitivity of leaving it out.

Published: tensorflow/privacy#620 (micro-batches double the sensitivity and nobody counted it); the retired one-line
accountants of TensorFlow Privacy, which took (n, batch, sigma, epochs) and no neighbouring relation at all.

Seen to fail: against a path that lets a row reach 2C, and, before `PrivacySpec` refused them, against plans that carried
the words replace-one with the noise of add-or-remove.
"""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from homespun.privacy import Relation, Unit, private_sum

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))


def check() -> None:
    """Leaving out moves the sum by at most C; exchanging by at most 2C, which is reached; C is what is accounted."""
    release = path.one_release()
    others = path.some_rows(20)
    row = torch.zeros(1, 64)
    row[0, 3] = 1e9
    without = path.integers(others, release)
    added, other = (path.integers(torch.cat([others, one]), release) for one in (row, -row))
    assert path.squares(added - without) <= release.clip_units**2
    assert path.squares(other - without) <= release.clip_units**2
    assert path.squares(added - other) == (2 * release.clip_units) ** 2


def test_leaving_out_costs_one_clip_norm_and_exchanging_two() -> None:
    check()


def test_the_bug_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two micro-batches of one person, each clipped to C, both added."""
    real = private_sum.clip_users

    def halves(rows: torch.Tensor, *, clip_norm: float) -> torch.Tensor:
        return torch.cat([real(rows, clip_norm=clip_norm), real(rows, clip_norm=clip_norm)])

    monkeypatch.setattr(private_sum, "clip_users", halves)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("relation", [Relation.REPLACE_ONE, Relation.ZERO_OUT])
def test_the_backbone_claims_add_or_remove_alone(relation: Relation) -> None:
    """Its sensitivity is C: a plan that said replace-one beside it would claim half of what is lost."""
    with pytest.raises(ValueError, match=f"relation='{relation.value}'"):
        path.one_release(relation=relation)


def test_the_backbone_protects_devices_alone() -> None:
    """One record's change moves a device's clipped vector by up to 2C: no plan of a sum claims it at C."""
    with pytest.raises(ValueError, match="unit='record'"):
        path.one_release(unit=Unit.RECORD)
    assert path.one_release(relation=Relation.ADD_OR_REMOVE, unit=Unit.DEVICE).clip_units > 0
