from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from homespun.privacy import Participation, ReleasePlan, Trust
from homespun.wire import Contribution, RoundRequest


@pytest.fixture(scope="session")
def release() -> ReleasePlan:
    return ReleasePlan(
        name="basis", rounds=2, dimension=10, clip_norm=0.1 + 0.2, clip_units=16384, variance=3**40, share_variance=7,
        trust=Trust.DISTRIBUTED, participation=Participation.poisson(0.3), population=100, min_survivors=80,
        rho="0.125000000000000001",
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_request(release: ReleasePlan) -> Callable[..., RoundRequest]:
    rng = np.random.default_rng(0)
    backbone = {
        "w": rng.normal(size=5).astype(np.float32),
        "basis": rng.normal(size=(5, 2)).astype(np.float32),
        "prior": np.array([np.float32(1e-45), np.finfo(np.float32).max], np.float32),
    }

    def make(**changes: Any) -> RoundRequest:
        fields: dict[str, Any] = {
            "run": 3,
            "round": 1,
            "phase_round": 0,
            "attempt": 2,
            "release": release,
            "plan_digest": "0f" * 32,
            "projection": "a1" * 32,
            "version": 2**62,
            "backbone": backbone,
        }
        return RoundRequest(**{**fields, **changes})

    return make


@pytest.fixture
def contribution() -> Contribution:
    return Contribution(vector=np.array([0, 1, 2**31, 2**32 - 1], np.uint32), devices=7)
