"""What ran, for a report: mechanisms, sampling, composition, what is neighbouring, and who was trusted with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from homespun.audit.masking import Masking
from homespun.audit.rounding import up
from homespun.audit.sentences import colluders
from homespun.audit.spends import Spends
from homespun.privacy.accountant import GaussianEvent
from homespun.privacy.terms import Trust

__all__ = ["adjacency", "assumed", "composition", "mechanisms", "sampling"]


def mechanisms(spends: Spends) -> list[dict[str, Any]]:
    """One row for each kind of release."""
    phases: Counter[tuple[GaussianEvent | None, str]] = Counter()
    for release in spends.order:
        phases[release.event, str(release.subject.get("phase", ""))] += 1
    plan = {release.name: release for release in spends.genesis.plan.releases} if spends.genesis.plan else {}
    return [
        {
            "guarantee": spends.genesis.guarantee,
            "phase": phase,
            "releases": count,
            "distribution": "none" if event is None else "discrete Gaussian",
            **({} if event is None else _noise(event)),
            **(
                {
                    "clip_norm": plan[phase].clip_norm,
                    "divisor": plan[phase].divisor,
                    "trust": plan[phase].trust.value,
                }
                if phase in plan
                else {}
            ),
        }
        for (event, phase), count in phases.items()
    ]


def adjacency(own: Mapping[str, Spends]) -> list[dict[str, Any]]:
    """Unit and relation of each ledger, what they mean, and what they leave unprotected."""
    told = {
        "backbone": "One device's data is there, or the device contributes zero. Who takes part is public. The exact sum then "
        "moves by at most the clip bound C; replacing a device's data would move it by 2C and is another relation.",
        "adapter": "One preference counts, or its place is blank. How many places there are is public; a preference lies in "
        "exactly one block and is charged once in its life.",
    }
    return [
        {
            "guarantee": role,
            "unit": spends.unit,
            "relation": spends.relation,
            "meaning": told[role],
            "unprotected": spends.unprotected,
        }
        for role, spends in own.items()
    ]


def assumed(trust: set[str], masks: Masking | None) -> list[str]:
    """One or two sentences for each trust model: who adds the noise, and what somebody is trusted with."""
    said = {
        Trust.DISTRIBUTED.value: f"{_SHARES} {_masks(masks)}",
        Trust.CENTRAL.value: "The server sees each clipped vector and adds all the noise itself; it is trusted with them.",
        "device": "The device adds the noise itself before anything is shown.",
    }
    return [said[word] for word in sorted(trust) if word in said]


_SHARES = "Every device adds its share of the noise, and at least the promised number of honest devices answers."


def _masks(masks: Masking | None) -> str:
    if masks is None or not masks.everywhere:
        some = masks is not None and masks.masked > 0
        told = f"{masks.masked:,} of {masks.rounds:,} rounds were masked" if masks and some else "no round was masked"
        return (
            f"That the server sees sums alone is assumed: {told}. In a simulation, cells stand for secure aggregation: each "
            "answers with the sum of its people."
        )
    least = "" if masks.fewest is None else f", from at least {masks.fewest:,} devices each"
    return (
        f"Secure aggregation gave the server sums alone{least}. Its masks hold computationally, as long as "
        f"{colluders(masks, 'the server')}, and the keys of the roster belong to devices: a server that makes up devices "
        "is among accomplices."
    )


def sampling(own: Mapping[str, Spends]) -> list[dict[str, Any]]:
    """How each ledger's releases drew who takes part, and what of it is counted."""
    return [
        {
            "guarantee": role,
            "implemented": spends.participation,
            "assumed": spends.participation if spends.sampled else "none: no amplification is claimed",
            "verified_by": "nobody outside: a coin leaves no proof" if spends.sampled else "nothing to verify",
        }
        for role, spends in own.items()
    ]


def composition(own: Mapping[str, Spends], further: list[Spends]) -> dict[str, Any]:
    """What was added up, and by which rules."""
    return {
        "within": "Renyi divergences add up over the releases of an account, adaptively chosen ones included.",
        "blocks": "Blocks of preferences are disjoint: a preference is charged for its own block alone (parallel composition).",
        "joint": "C counts the backbone's releases at twice their clip bound: one changed preference moves a device's clipped "
        "vector from one point of the ball to another.",
        "accounts": {role: len(spends.accounts) for role, spends in own.items()},
        "releases": {role: spends.releases for role, spends in own.items()},
        "further_ledgers": [
            {"role": spends.role, "origin": spends.origin, "releases": spends.releases} for spends in further
        ],
        "refits": "A refresh is new data under the same budget; no budget is ever reset.",
    }


def _noise(event: GaussianEvent) -> dict[str, Any]:
    return {
        "sensitivity": event.clip_units,
        "variance": event.variance,
        "noise_multiplier": up(event.noise_multiplier),
        "dimension": event.dimension,
        "sampling_probability": event.sampling_probability,
        "shares": event.shares,
        "share_variance": event.share_variance,
        "clipping": "one L2 norm for the whole vector, a public constant",
        "lattice": "whole numbers modulo 2^32",
    }
