"""User-level privacy of everything that leaves a device.

Spec to plan (`PrivacySpec.build`), the bounded noisy sum (`contribute`, `open_sum`), and, in
`homespun.privacy.ledger`, the ledgers that hold a run to its plan and a device to its owner's cap. This package knows
nothing of learners, transport or masks.

>>> release = Release(name="mean", rounds=1, share=1.0, clip_norm=1.0, dimension=8)
>>> spec = PrivacySpec(epsilon=1.0, delta=1e-5, unit=Unit.DEVICE, relation=Relation.ADD_OR_REMOVE,
...     trust=Trust.DISTRIBUTED, participation=Participation.full(), population=1000, min_survivors=800,
...     releases=(release,))
>>> spec.build().claim.crosscheck
'exact Gaussian, continuous equivalent'
"""

from homespun.privacy.accountant import GaussianEvent, compose
from homespun.privacy.calibration import plan_events, release_event
from homespun.privacy.clip import clip_users
from homespun.privacy.crosscheck import continuous_equivalent, gaussian_delta, gaussian_epsilon
from homespun.privacy.errors import (
    AccountantsDisagree,
    CohortTooSmall,
    HeadRefused,
    LatticeOverflow,
    LedgerBusy,
    LedgerDamaged,
    LedgerError,
    NoiseStreamForked,
    PrivacyBudgetExhausted,
    PrivacyError,
    ReservationError,
    SignatureRefused,
)
from homespun.privacy.lattice import decode, encode, from_ring, ring_sum, to_ring
from homespun.privacy.noise import NoiseStream, discrete_gaussian, draw_shares
from homespun.privacy.plan import Claim, Plan, ReleasePlan, canonical_json
from homespun.privacy.private_sum import Noise, Phase, contribute, open_sum
from homespun.privacy.spec import PrivacySpec, Release
from homespun.privacy.terms import Participation, Relation, Trust, Unit

__all__ = [
    "AccountantsDisagree",
    "Claim",
    "CohortTooSmall",
    "GaussianEvent",
    "HeadRefused",
    "LatticeOverflow",
    "LedgerBusy",
    "LedgerDamaged",
    "LedgerError",
    "Noise",
    "NoiseStream",
    "NoiseStreamForked",
    "Participation",
    "Phase",
    "Plan",
    "PrivacyBudgetExhausted",
    "PrivacyError",
    "PrivacySpec",
    "Relation",
    "Release",
    "ReleasePlan",
    "ReservationError",
    "SignatureRefused",
    "Trust",
    "Unit",
    "canonical_json",
    "clip_users",
    "compose",
    "continuous_equivalent",
    "contribute",
    "decode",
    "discrete_gaussian",
    "draw_shares",
    "encode",
    "from_ring",
    "gaussian_delta",
    "gaussian_epsilon",
    "open_sum",
    "plan_events",
    "release_event",
    "ring_sum",
    "to_ring",
]
