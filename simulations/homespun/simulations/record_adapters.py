"""Record-level private adapters beside the exact ones, in every run: what protecting each single label costs.

Everybody's labels arrive one after the other and fall into the blocks of the plan; each block is released once, and an
adapter with n labels is made of the blocks that n labels fill. The rest waits, as on a device.
"""

from collections.abc import Mapping
from typing import Any

from homespun.personal import Adapter, Backbone, PublicMoments, private_adapter, record_dimension, record_rows
from homespun.personal.private import release_block
from homespun.privacy import NoiseStream, compose, continuous_equivalent
from homespun.privacy.record_plan import RecordPlan, build_record_plan
from homespun.simulations.evaluation import Evidence
from homespun.simulations.options import Options

SIDE_BY_SIDE = (1.0, 2.0, 4.0, 8.0)  # epsilon of one record, shown in every run
ASKED = "private"  # the row of an epsilon that was asked for and is none of these

_PUBLIC = (
    "How many places for records a person has filled, and with it which blocks are released, is public; so is whether "
    "they are choices or votes."
)


def record_plans(options: Options, dim: int) -> dict[str, RecordPlan]:
    """Plans by method name: those shown side by side, and the one that was asked for.

    Raises:
        ValueError: The epsilon asked for cannot be had.
    """
    plans = {f"private_{epsilon:g}": _plan(epsilon, options, dim) for epsilon in SIDE_BY_SIDE}
    asked = options.record_epsilon
    if asked is not None and asked not in SIDE_BY_SIDE:
        plans[ASKED] = _plan(asked, options, dim)
    return plans


def asked_plan(options: Options, dim: int) -> RecordPlan | None:
    """The plan of ``adapter-privacy``; None for exact adapters."""
    return None if options.record_epsilon is None else _plan(options.record_epsilon, options, dim)


def _plan(epsilon: float, options: Options, dim: int) -> RecordPlan:
    return build_record_plan(epsilon, options.delta, record_dimension(dim))


def private_adapters(
    backbone: Backbone, public: PublicMoments, evidence: Evidence, plan: RecordPlan, *, seed: int, fold: int
) -> dict[int, Adapter]:
    """One adapter a person for every number of shots, from released sums alone.

    Args:
        backbone: What was trained.
        public: Facts about the texts.
        evidence: The people.
        plan: Blocks and noise.
        seed: Of the noise, which protects nobody here.
        fold: Number of the fold.
    """
    records, sums, start = evidence.records, [], 0
    for block, size in enumerate(plan.sizes(records.places)):
        rows = record_rows(backbone, public, plan, records.between(start, start + size))
        with NoiseStream.seeded(seed, "records", fold, plan.variance, block) as noise:
            sums.append(release_block(rows, plan, block=block, noise=noise))
        start += size
    return {
        n: private_adapter(backbone, public, sums[: len(plan.sizes(n))], users=records.users) for n in evidence.shots
    }


def adapter_statement(options: Options, dim: int, kept: Mapping[str, Any]) -> dict[str, Any]:
    """What is claimed about adapters, with everything that it needs to mean something.

    Args:
        options: What was asked.
        dim: Number of features.
        kept: Share of the exact adapter's gain that each private one keeps, by shots and method.
    """
    plan = asked_plan(options, dim)
    beside = {f"{epsilon:g}": _plan(epsilon, options, dim).noise_multiplier for epsilon in SIDE_BY_SIDE}
    common = {"noise_multipliers": beside, "kept_share": dict(kept)}
    if plan is None:
        note = "Adapters are exact and never leave their device; whoever sees one, or what it ranks, is not bound."
        return {"mode": "exact", "note": note, "epsilon": None, "epsilon_reason": "adapters are exact", **common}
    check, method = continuous_equivalent([plan.event], delta=plan.delta)
    return {
        "mode": options.adapter_privacy,
        "note": "Each label is charged once in its life; exact adapters are computed beside, to compare with.",
        "epsilon": compose([plan.event], delta=plan.delta).epsilon,
        "delta": plan.delta,
        "privacy_unit": plan.unit.value,
        "neighboring_relation": plan.relation.value,
        "accountant": "RDP, discrete Gaussian (arXiv:2004.00010); blocks are disjoint, so a record pays for one release",
        "crosscheck": {"name": method, "epsilon": check},
        "noise_multiplier": plan.noise_multiplier,
        "dimension": plan.dimension,
        "blocks": [*plan.blocks, "each twice the one before"],
        "public": _PUBLIC,
        **common,
    }
