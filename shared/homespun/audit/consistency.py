"""What must hold between figures, whoever computed them: spends stay below promises, the second accountant below the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from homespun.audit.findings import Finding
from homespun.audit.sources import Sources
from homespun.privacy.accountant import compose
from homespun.privacy.calibration import plan_events
from homespun.privacy.plan import Plan
from homespun.privacy.terms import Trust

__all__ = ["contradictions"]

_AGREE = 1e-3  # how far the second accountant may lie above the proven figure: its grid, and arithmetic
_ARITHMETIC = 1e-9


def contradictions(report: Mapping[str, Any], sources: Sources) -> Iterator[Finding]:
    """Find figures that cannot all be right.

    Args:
        report: What `homespun.audit.report.build_report` returns.
        sources: What it was made from.
    """
    for name, one in report["guarantees"].items():
        yield from _beyond_promise(name, one)
        yield from _accountants_that_disagree(name, one)
    yield from _plans_that_prove_less(sources)


def _beyond_promise(name: str, one: Mapping[str, Any]) -> Iterator[Finding]:
    claimed = one.get("claimed") or {}
    if claimed.get("epsilon") is None or claimed["delta"] != one["delta"]:
        return
    if one["epsilon"] is None or one["epsilon"] > claimed["epsilon"]:
        yield Finding(
            where=f"guarantee {name}",
            rule="Expected the spend not to exceed what was promised.",
            expected=f"at most {claimed['epsilon']}",
            found=str(one["epsilon"]),
        )


def _accountants_that_disagree(name: str, one: Mapping[str, Any]) -> Iterator[Finding]:
    for point in one.get("points", ()):
        if point["discrepancy"] is not None and point["discrepancy"] < -_AGREE:
            yield Finding(
                where=f"guarantee {name}, delta {point['delta']:g}",
                rule="Expected the second accountant to lie below the proven epsilon.",
                expected=f"at most {point['epsilon']}",
                found=str(point["second_epsilon"]),
            )


def _plans_that_prove_less(sources: Sources) -> Iterator[Finding]:
    for source in sources.ledgers:
        plan = source.checked.genesis.plan if source.checked.genesis else None
        if plan is None:
            continue
        yield from _sums_of_too_few(source.role, plan)
        if plan.claim.epsilon is None:
            continue
        proven = compose(plan_events(plan.releases), delta=plan.spec.delta).epsilon
        if proven > plan.claim.epsilon + _ARITHMETIC or plan.claim.epsilon > plan.spec.epsilon:
            yield Finding(
                where=f"plan in ledger {source.role}",
                rule="Expected a plan whose noise proves what it claims.",
                expected=f"at least {proven!r}",
                found=repr(plan.claim.epsilon),
            )


def _sums_of_too_few(role: str, plan: Plan) -> Iterator[Finding]:
    """Shares that do not add up to the promised noise once those who collude have taken theirs away."""
    for release in plan.releases:
        fewest, honest = release.fewest, release.fewest - release.colluding
        shared = release.trust is not Trust.DISTRIBUTED or honest * release.share_variance >= release.variance
        if not (0 <= release.colluding <= release.fewest <= release.population and shared):
            yield Finding(
                where=f"plan in ledger {role}, release {release.name}",
                rule="Expected enough devices in every sum: their honest shares make the promised noise.",
                expected=f"at most {release.population} devices, with a variance of {release.variance}",
                found=f"at least {fewest} devices, with a variance of {honest * release.share_variance}",
            )
