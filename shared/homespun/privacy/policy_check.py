"""Whether a device takes part in a round: the server's request against the owner's policy.

Everything that is compared is computed here from the whole numbers of the request's `ReleasePlan`, which are the numbers
that the device itself clips, quantises and adds noise with; an epsilon that a server may state is not read. How many
others take part is a server's word: a floor on it is all that a device can hold, and the policy's `max_local_epsilon` is
the promise that needs nobody else.

>>> check(Policy(paused=True), _EXAMPLE, installed={"mean"}, spent=Decimal(0), rounds=0)
<Reason.PAUSED: 'paused'>
>>> check(Policy(), _EXAMPLE, installed={"mean"}, spent=Decimal(0), rounds=0)
>>> check(Policy(), _EXAMPLE, installed={"mean"}, spent=Decimal("0.93"), rounds=1)
<Reason.BUDGET_EXHAUSTED: 'budget-exhausted'>
"""

from __future__ import annotations

import math
from collections.abc import Collection
from decimal import Decimal, InvalidOperation
from enum import Enum
from fractions import Fraction

from homespun.privacy.accountant import GaussianEvent, compose
from homespun.privacy.calibration import CLIP_UNITS, SMALLEST_SHARE_VARIANCE
from homespun.privacy.cost import event_cost
from homespun.privacy.gaussian_table import LARGEST_TABLE, tail
from homespun.privacy.plan import ReleasePlan
from homespun.privacy.policy import Policy
from homespun.privacy.terms import Participation, Trust

__all__ = ["Reason", "check", "contribution_event", "local_epsilon"]

_RING = 2**31  # centred sums in the ring of 32 bits stay below this


class Reason(Enum):
    """Why a device declined. Closed: each depends on the request, the policy and public counters, never on data.

    It is written to the device's own ledger; outside, every reason looks the same.
    """

    PAUSED = "paused"
    MALFORMED = "malformed"
    UNKNOWN_PHASE = "unknown-phase"
    INCONSISTENT = "inconsistent"
    """The release's own numbers contradict each other: what it claims is not what they give."""
    PHASE_NOT_ALLOWED = "phase-not-allowed"
    TRUST_NOT_ALLOWED = "trust-not-allowed"
    NOISE_BELOW_FLOOR = "noise-below-floor"
    COHORT_BELOW_FLOOR = "cohort-below-floor"
    LOCAL_EPSILON_ABOVE_CAP = "local-epsilon-above-cap"
    ROUNDS_EXHAUSTED = "rounds-exhausted"
    BUDGET_EXHAUSTED = "budget-exhausted"
    ROUND_REPLAYED = "round-replayed"
    """The same round of the same run was answered, and was asked differently or too long ago to be answered again."""
    OTHER_PLAN = "other-plan"
    """The run was begun under another privacy plan."""
    UNMASKED = "unmasked"
    """A vector was asked for as it is, where the noise of others must hide it: only a masked one may leave."""
    TERMS_UNFIT = "terms-unfit"
    """The terms of a masked sum are not about the round that was asked for, or would open a sum of fewer."""
    PROTOCOL = "protocol"
    """Secure aggregation refused a message, or the message belongs to no open session; the entry names the fault."""
    LEDGER_FORKED = "ledger-forked"
    """Somebody remembers a newer head of this ledger than it has, or another one: it was restored or copied."""
    WITNESS_UNAVAILABLE = "witness-unavailable"
    HEAD_REFUSED = "head-refused"
    """The witness did not countersign the reservation; it is burned."""
    FAILED = "failed"
    """Anything else, after the reservation; it is burned."""


def check(
    policy: Policy, release: ReleasePlan, *, installed: Collection[str], spent: Decimal, rounds: int
) -> Reason | None:
    """Decide on a round.

    Args:
        policy: What the owner allows.
        release: What the server asks for.
        installed: Names of the phases that this device knows.
        spent: Rho that the device has spent in its life.
        rounds: Rounds that it has paid for in its life.
    Returns:
        Why the device declines, or None.
    Guarantees:
        * own arithmetic: the answer depends on the whole numbers of the release that the device works with; a cost that
          the release states is compared with its own cost and never used instead of it.
        * no amplification: a server that draws the cohort is charged for every round as if everybody took part.
        * no data: nothing about preferences is read.
    """
    if policy.paused:
        return Reason.PAUSED
    if release.name not in installed:
        return Reason.UNKNOWN_PHASE
    if not _consistent(release):
        return Reason.INCONSISTENT
    if policy.phases is not None and release.name not in policy.phases:
        return Reason.PHASE_NOT_ALLOWED
    if release.trust not in policy.trust:
        return Reason.TRUST_NOT_ALLOWED
    event = contribution_event(release)
    multiplier = 0.0 if event is None else event.noise_multiplier
    if multiplier < policy.min_noise_multiplier or (event is None and policy.cap is not None):
        return Reason.NOISE_BELOW_FLOOR
    if release.min_survivors < policy.min_cohort:  # the honest ones: whoever colludes hides nobody
        return Reason.COHORT_BELOW_FLOOR
    if policy.max_local_epsilon < math.inf and local_epsilon(release, policy.delta) > policy.max_local_epsilon:
        return Reason.LOCAL_EPSILON_ABOVE_CAP
    if rounds >= policy.max_rounds:
        return Reason.ROUNDS_EXHAUSTED
    if policy.cap is not None and event is not None and spent + event_cost(event, None) > policy.cap:
        return Reason.BUDGET_EXHAUSTED
    return None


def contribution_event(release: ReleasePlan) -> GaussianEvent | None:
    """What one round costs this device, from the noise that is really made; None where there is none.

    With shares it is the noise of ``min_survivors`` of them, whatever the release says that their sum has.
    """
    distributed = release.trust is Trust.DISTRIBUTED
    variance = release.share_variance * release.min_survivors if distributed else release.variance
    if variance == 0:
        return None
    return GaussianEvent(
        clip_units=release.clip_units,
        variance=variance,
        count=1,
        dimension=release.dimension,
        shares=release.population if distributed else 1,
        share_variance=release.share_variance if distributed else None,
    )


def local_epsilon(release: ReleasePlan, delta: float) -> float:
    """Epsilon of one round against somebody who knows everything but this device's vector and its own noise share."""
    if release.trust is not Trust.DISTRIBUTED or release.share_variance == 0:
        return math.inf
    alone = GaussianEvent(
        clip_units=release.clip_units, variance=release.share_variance, count=1, dimension=release.dimension
    )
    return compose([alone], delta=delta).epsilon


def _consistent(release: ReleasePlan) -> bool:
    """Whether the release's numbers are those of a plan that could have been built."""
    distributed = release.trust is Trust.DISTRIBUTED
    variance = release.share_variance * release.min_survivors if distributed else release.variance
    if release.variance != variance or (not distributed and release.share_variance != 0):
        return False
    if distributed and release.participation != Participation.full():
        return False  # a share cannot be sized for a cohort of random size
    if release.colluding < 0 or (not distributed and release.colluding != 0):
        return False
    if release.clip_units not in CLIP_UNITS or not release.fewest <= release.population < _RING:
        return False
    drawn = release.share_variance if distributed else release.variance
    if 0 < drawn < SMALLEST_SHARE_VARIANCE or drawn >= _RING**2 or tail(drawn) > LARGEST_TABLE:
        return False  # too little noise for the proof, or a table that would take the device's memory
    noise = release.population * tail(drawn) if distributed else tail(drawn)
    if release.population * release.clip_units + noise >= _RING:
        return False
    return _claims_its_cost(release, variance)


def _claims_its_cost(release: ReleasePlan, variance: int) -> bool:
    """Whether the cost that the release states covers its noise; sampled rounds are charged here without the sample."""
    try:
        claimed = Fraction(Decimal(release.rho))
    except (InvalidOperation, ValueError, OverflowError):
        return False
    if variance == 0:
        return claimed == 0
    if release.participation != Participation.full():
        return claimed > 0
    return claimed >= Fraction(release.clip_units**2, 2 * variance)


_EXAMPLE = ReleasePlan(
    name="mean", rounds=1, dimension=8, clip_norm=1.0, clip_units=1024, variance=4000 * 1024, share_variance=4096,
    trust=Trust.DISTRIBUTED, participation=Participation.full(), population=1200, min_survivors=1000,
    rho="0.128000000000000001",
)  # fmt: skip
