from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from homespun.privacy import GaussianEvent, Relation, Unit
from homespun.privacy.ledger import Genesis, Ledger, SigningKey


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return SigningKey.from_bytes("example.org/device", bytes(range(32)))


@pytest.fixture(scope="session")
def event() -> GaussianEvent:
    """Costs rho = 0.5 exactly."""
    return GaussianEvent(clip_units=1024, variance=1024**2, count=1, dimension=16)


@pytest.fixture(scope="session")
def make_genesis() -> Callable[..., Genesis]:
    def make(**changes: Any) -> Genesis:
        fields: dict[str, Any] = {
            "origin": "example.org/device/1",
            "guarantee": "backbone",
            "holder": "device",
            "unit": Unit.DEVICE,
            "relation": Relation.ADD_OR_REMOVE,
            "delta": 1e-5,
            "cap": Decimal(2),
        }
        return Genesis(**{**fields, **changes})

    return make


@pytest.fixture
def ledger(tmp_path: Path, key: SigningKey, make_genesis: Callable[..., Genesis]) -> Iterator[Ledger]:
    with Ledger.create(tmp_path / "ledger.sqlite", key, make_genesis()) as ledger:
        yield ledger
