"""From a promise to a plan: how much noise, on which lattice.

>>> from homespun.privacy.spec import Release
>>> sigma = base_sigma((Release(name="mean", rounds=1, share=1.0, clip_norm=1.0, dimension=1),), None, 2.0, 1e-5)
>>> round(sigma, 2)            # the exact continuous Gaussian would be 1.99; what is claimed is what is proven
2.15
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

from homespun.privacy.accountant import Bound, GaussianEvent, compose
from homespun.privacy.cost import event_cost
from homespun.privacy.crosscheck import continuous_equivalent
from homespun.privacy.errors import AccountantsDisagree, LatticeOverflow
from homespun.privacy.gaussian_table import LARGEST_TABLE, TOTAL_VARIATION, tail
from homespun.privacy.plan import Claim, Plan, ReleasePlan
from homespun.privacy.spec import PrivacySpec, Release
from homespun.privacy.terms import Trust

__all__ = ["base_sigma", "build_plan", "plan_events"]

CLIP_UNITS = tuple(2**bits for bits in range(14, 9, -1))  # bias of rounding: below 2^-14 .. 2^-10 of the clip norm
SMALLEST_SHARE_VARIANCE = 16  # integer std 4: tau is below 1e-66 per share (privacy of sums, arXiv:2102.06387)
_MARGIN = 1e-6  # epsilon is calibrated this much below the target, so that float arithmetic cannot pass it


def build_plan(spec: PrivacySpec) -> Plan:
    """Calibrate, choose the lattice, state the claim; see `PrivacySpec.build`."""
    if math.isinf(spec.epsilon):
        releases = tuple(_lattice(spec, release, sigma=0.0) for release in spec.releases)
        return Plan(spec=spec, releases=releases, claim=_no_claim(spec))
    slack = _table_slack(spec)
    rate = spec.participation.sampling_probability
    sigma = base_sigma(spec.releases, rate, spec.epsilon, spec.delta - slack)
    drafts = tuple(
        _lattice(spec, release, sigma=sigma * math.sqrt(release.rounds / release.share)) for release in spec.releases
    )
    events = plan_events(drafts)
    bound = compose(events, delta=spec.delta - slack)
    check, method = continuous_equivalent(events, delta=spec.delta)
    if bound.epsilon > spec.epsilon or check > bound.epsilon + 1e-3:
        raise AccountantsDisagree(
            f"Expected {method}={check:.6f} <= claim={bound.epsilon:.6f} <= epsilon={spec.epsilon!r}."
        )
    releases = tuple(_with_rho(draft, event, bound) for draft, event in zip(drafts, events, strict=True))
    return Plan(spec=spec, releases=releases, claim=_claim(spec, bound, check, method))


def plan_events(releases: tuple[ReleasePlan, ...]) -> tuple[GaussianEvent, ...]:
    """What the whole plan does, one event per release; nothing where there is no noise to count."""
    return tuple(release_event(release, count=release.rounds) for release in releases if release.variance > 0)


def release_event(release: ReleasePlan, *, count: int) -> GaussianEvent:
    """``count`` rounds of one release as an accountant's event."""
    distributed = release.trust is Trust.DISTRIBUTED
    return GaussianEvent(
        clip_units=release.clip_units,
        variance=release.variance,
        count=count,
        dimension=release.dimension,
        sampling_probability=release.participation.sampling_probability,
        # the worst case: every device of the population adds a share of its own
        shares=release.population if distributed else 1,
        share_variance=release.share_variance if distributed else None,
    )


@lru_cache(maxsize=256)
def base_sigma(releases: tuple[Release, ...], rate: float | None, epsilon: float, delta: float) -> float:
    """Smallest base noise multiplier whose claim is at most ``epsilon``, within 1e-4 of it in epsilon.

    It is a little above that of the exact continuous Gaussian, because the claim is the Renyi bound that is proven
    for the discrete mechanism.

    Args:
        releases: Rounds and shares; the rest is not used.
        rate: Sampling probability, None without.
        epsilon: Target, finite.
        delta: In (0, 1).
    """
    units = 2**20  # fine enough that the whole-number variance is the real one to 12 digits

    def claimed(sigma: float) -> float:
        events = [
            GaussianEvent(
                clip_units=units,
                variance=max(1, round((sigma * units) ** 2 * release.rounds / release.share)),
                count=release.rounds,
                dimension=1,
                sampling_probability=rate,
            )
            for release in releases
        ]
        return compose(events, delta=delta).epsilon

    low, high = 1e-3, 1e6
    if claimed(high) > epsilon - _MARGIN:
        raise ValueError(f"Expected epsilon={epsilon!r} large enough for noise of a million times the clip norm.")
    if claimed(low) <= epsilon - _MARGIN:
        return low
    while high / low > 1.0 + 1e-9:
        middle = math.sqrt(low * high)
        if claimed(middle) <= epsilon - _MARGIN:
            high = middle
        else:
            low = middle
    return high


def _lattice(spec: PrivacySpec, release: Release, *, sigma: float) -> ReleasePlan:
    """Finest lattice on which the sum of the whole population fits, with its noise, into 32 bits."""
    problem = ""
    for units in CLIP_UNITS:
        variance = math.ceil((sigma * units) ** 2)
        share = 0
        if spec.trust is Trust.DISTRIBUTED:
            share = -(-variance // spec.min_survivors)
            variance = share * spec.min_survivors
            noise_bound = spec.population * tail(share)
            # A cell draws the shares of its people in a few pieces where a table holds the whole population's; on the
            # coarsest lattice it may need more pieces, and only one share must fit.
            largest_draw = tail(share if units == CLIP_UNITS[-1] else spec.population * share)
        else:
            largest_draw = noise_bound = tail(variance)
        if spec.population * units + noise_bound >= 2**31:
            problem = f"the sum over population={spec.population} could reach 2^31"
        elif largest_draw > LARGEST_TABLE:
            problem = f"noise of {sigma:.4g} times the clip norm needs a table above 2^20 entries"
        elif 0 < (share or variance) < SMALLEST_SHARE_VARIANCE:
            problem = f"a noise share would have an integer variance of {share or variance}, below 16"
            break  # a coarser lattice only makes it smaller
        else:
            return ReleasePlan(
                name=release.name,
                rounds=release.rounds,
                dimension=release.dimension,
                clip_norm=float(release.clip_norm),
                clip_units=units,
                variance=variance,
                share_variance=share,
                trust=spec.trust,
                participation=spec.participation,
                population=spec.population,
                min_survivors=spec.min_survivors,
                rho="0",
                colluding=spec.colluding,
            )
    raise LatticeOverflow(
        f"Expected release '{release.name}' to fit a lattice of at least 2^10 steps: {problem}. Use a smaller "
        "population per sum, a larger share of the budget, or a larger epsilon."
    )


def _table_slack(spec: PrivacySpec) -> float:
    """Delta kept back for noise tables that end somewhere: ``(1 + e^eps)`` times the total variation of all draws."""
    per_coordinate = spec.population if spec.trust is Trust.DISTRIBUTED else 1
    draws = sum(release.rounds * release.dimension for release in spec.releases) * per_coordinate
    slack = (1.0 + math.exp(min(spec.epsilon, 700.0))) * draws * TOTAL_VARIATION
    if slack > spec.delta / 100.0:
        raise ValueError(
            f"Expected epsilon={spec.epsilon!r} small enough to be proven with 128-bit noise tables (about 40); "
            "write inf for no noise and no claim."
        )
    return slack


def _with_rho(draft: ReleasePlan, event: GaussianEvent, bound: Bound) -> ReleasePlan:
    """Add the cost of one round, the same that a ledger will ask for it."""
    rho = event_cost(replace(event, count=1), bound.order if event.sampling_probability is not None else None)
    return ReleasePlan.from_dict({**draft.to_dict(), "rho": str(rho)})


def _claim(spec: PrivacySpec, bound: Bound, check: float, method: str) -> Claim:
    if spec.participation.sampling_probability is not None:
        accountant = "RDP, Poisson-sampled discrete Gaussian (arXiv:2004.00010, 1908.10530)"
    elif spec.trust is Trust.DISTRIBUTED:
        accountant = "RDP, sum of discrete Gaussian shares (arXiv:2004.00010, 2102.06387)"
    else:
        accountant = "RDP, discrete Gaussian (arXiv:2004.00010)"
    return Claim(
        epsilon=bound.epsilon,
        reason="",
        delta=spec.delta,
        unit=spec.unit,
        relation=spec.relation,
        trust=spec.trust,
        participation=spec.participation,
        accountant=accountant,
        order=bound.order,
        crosscheck=method,
        crosscheck_epsilon=check,
    )


def _no_claim(spec: PrivacySpec) -> Claim:
    return Claim(
        epsilon=None,
        reason="no noise is added (epsilon=inf), so nothing is claimed",
        delta=spec.delta,
        unit=spec.unit,
        relation=spec.relation,
        trust=spec.trust,
        participation=spec.participation,
        accountant="none",
        order=None,
        crosscheck="none",
        crosscheck_epsilon=None,
    )
