"""The claims that an audit can be of, each as its plan states it.

Whoever audits takes the claim from here, and so does whoever checks the evidence: from the plan in the signed genesis.
An audit of a weaker claim than the run's is beaten by nothing, and says nothing of the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from homespun.privacy.plan import Plan
from homespun.privacy.record_plan import RecordPlan
from homespun.privacy.terms import Trust

__all__ = ["AuditedClaim", "block_claim", "claimed_mu", "path_claim"]


@dataclass(frozen=True, kw_only=True)
class AuditedClaim:
    """What an audit is of, in the words and numbers of `homespun.audit.evidence.Audit`."""

    kind: str
    """``path`` (guarantee A) or ``block`` (guarantee B)."""
    title: str
    claim_epsilon: float
    claim_mu: float | None
    """mu of the noise that the plan promises; None where it is no Gaussian."""
    delta: float


def path_claim(plan: Plan) -> AuditedClaim:
    """The composed claim of everything that a plan releases.

    Raises:
        ValueError: the plan claims nothing.
    """
    if plan.claim.epsilon is None:
        raise ValueError("Expected a plan with noise: where nothing is claimed, no bound can be beaten.")
    masked = any(release.trust is Trust.DISTRIBUTED for release in plan.releases)
    return AuditedClaim(
        kind="path",
        title=f"Canary users through every release and round of the plan{', masked and unmasked' if masked else ''}",
        claim_epsilon=plan.claim.epsilon,
        claim_mu=claimed_mu(plan),
        delta=plan.claim.delta,
    )


def block_claim(plan: RecordPlan) -> AuditedClaim:
    """The claim for one record over its whole life: it lies in one block and is charged once."""
    return AuditedClaim(
        kind="block",
        title="Canary records through the release of a private adapter's blocks",
        claim_epsilon=plan.epsilon,
        claim_mu=plan.clip_units / math.sqrt(plan.variance),
        delta=plan.delta,
    )


def claimed_mu(plan: Plan) -> float | None:
    """Gaussian mu of everything that a plan releases; None with Poisson participation, which is no Gaussian."""
    if any(release.participation.sampling_probability is not None for release in plan.releases):
        return None
    return math.sqrt(sum(release.rounds * release.clip_units**2 / release.variance for release in plan.releases))
