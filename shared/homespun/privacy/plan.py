"""The calibrated plan: every number that a round needs, and the claim that they support.

A `Plan` is what `PrivacySpec.build` returns and what a ledger's first row holds. Whole numbers decide the privacy:
the clip bound in lattice steps and the variance of the noise in squared steps. The real numbers beside them only
translate to the unit of the statistic.

>>> one = ReleasePlan(name="mean", rounds=1, dimension=16, clip_norm=1.0, clip_units=16384, variance=80 * 10**6,
...     share_variance=10**6, trust=Trust.DISTRIBUTED, participation=Participation.full(), population=100,
...     min_survivors=80, rho="1.677721600000000000")
>>> one.step == 1 / 16384, one.divisor, round(one.noise_multiplier, 4)
(True, 100.0, 0.5459)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from homespun.privacy.spec import PrivacySpec
from homespun.privacy.terms import Participation, Relation, Trust, Unit

__all__ = ["Claim", "Plan", "ReleasePlan", "canonical_json"]


def canonical_json(content: object) -> str:
    """One text per content: sorted keys, no blanks, ASCII.

    Raises:
        ValueError: ``content`` holds a float; numbers that are not whole must be decimal strings.
    """

    def check(part: object) -> None:
        if isinstance(part, float):
            raise ValueError(  # noqa: TRY004
                f"Expected {part!r} as a decimal string: a float has no canonical text."
            )
        if isinstance(part, Mapping):
            for value in part.values():
                check(value)
        elif isinstance(part, list | tuple):
            for value in part:
                check(value)

    check(content)
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """How one phase's noisy sums are made. Runtime object: built, not written by hand."""

    name: str
    rounds: int
    dimension: int
    clip_norm: float
    """Largest L2 norm of one device's vector, in the unit of the statistic."""
    clip_units: int
    """The same bound in lattice steps: a power of two. The integer sensitivity of the sum."""
    variance: int
    """Promised variance per coordinate of the noise of the whole sum, in squared lattice steps; 0 for none."""
    share_variance: int
    """Variance of one device's noise share, in squared steps; 0 where the server adds the noise."""
    trust: Trust
    participation: Participation
    population: int
    min_survivors: int
    """Least number of honest devices whose shares are in a sum: ``share_variance`` is sized for it."""
    rho: str
    """Cost of one round, zCDP, a decimal string rounded up ("0" without noise, where nothing is accounted).

    With Poisson participation: RDP at the claim's order, divided by that order; it adds up in the same way."""
    colluding: int = 0
    """Most devices of a cohort that may take their own noise away again; 0 where the server adds the noise."""

    @property
    def fewest(self) -> int:
        """Least number of devices from which a sum is opened: honest ones, and those that may collude."""
        return self.min_survivors + self.colluding

    @property
    def step(self) -> float:
        """Lattice step gamma, in the unit of the statistic (exactly ``clip_norm / clip_units``)."""
        return self.clip_norm / self.clip_units

    @property
    def integer_std(self) -> float:
        """Promised standard deviation of the noise of the sum, in lattice steps."""
        return math.sqrt(self.variance)

    @property
    def noise_multiplier(self) -> float:
        """Promised standard deviation of the noise over the sensitivity, both in lattice steps."""
        return math.sqrt(self.variance) / self.clip_units

    @property
    def divisor(self) -> float:
        """Public constant that a sum is divided by: N, or q N."""
        rate = self.participation.sampling_probability
        return float(self.population) if rate is None else rate * self.population

    @property
    def noise_std(self) -> float:
        """Promised standard deviation of the noise in a released mean, in the unit of the statistic."""
        return self.step * self.integer_std / self.divisor

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without floats."""
        return {
            "name": self.name,
            "rounds": self.rounds,
            "dimension": self.dimension,
            "clip_norm": repr(float(self.clip_norm)),
            "clip_units": self.clip_units,
            "variance": self.variance,
            "share_variance": self.share_variance,
            "trust": self.trust.value,
            "participation": str(self.participation),
            "population": self.population,
            "min_survivors": self.min_survivors,
            "rho": self.rho,
            "colluding": self.colluding,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ReleasePlan:
        """Inverse of `to_dict`."""
        _check_fields(cls, content)
        return cls(
            **{
                **content,
                "clip_norm": float(content["clip_norm"]),
                "trust": Trust(content["trust"]),
                "participation": Participation.parse(content["participation"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One privacy statement with everything that it needs to mean something."""

    epsilon: float | None
    """None where nothing is claimed; `reason` then says why."""
    reason: str
    delta: float
    unit: Unit
    relation: Relation
    trust: Trust
    participation: Participation
    accountant: str
    order: float | None
    """Renyi order at which the claim is tightest, fixed when the plan is built."""
    crosscheck: str
    crosscheck_epsilon: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without floats."""

        def text(value: float | None) -> str | None:
            return None if value is None else repr(float(value))

        return {
            "epsilon": text(self.epsilon),
            "reason": self.reason,
            "delta": text(self.delta),
            "unit": self.unit.value,
            "relation": self.relation.value,
            "trust": self.trust.value,
            "participation": str(self.participation),
            "accountant": self.accountant,
            "order": text(self.order),
            "crosscheck": self.crosscheck,
            "crosscheck_epsilon": text(self.crosscheck_epsilon),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Claim:
        """Inverse of `to_dict`."""
        _check_fields(cls, content)
        numbers = {
            name: None if content[name] is None else float(content[name])
            for name in ("epsilon", "delta", "order", "crosscheck_epsilon")
        }
        return cls(
            **{
                **content,
                **numbers,
                "unit": Unit(content["unit"]),
                "relation": Relation(content["relation"]),
                "trust": Trust(content["trust"]),
                "participation": Participation.parse(content["participation"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A spec, what it was calibrated to, and the claim that holds for it."""

    spec: PrivacySpec
    releases: tuple[ReleasePlan, ...]
    claim: Claim

    def __getitem__(self, name: str) -> ReleasePlan:
        """Return the release called ``name``; ``KeyError`` where there is none."""
        for release in self.releases:
            if release.name == name:
                return release
        raise KeyError(name)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal: two plans are the same if and only if this is."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode("ascii")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without floats; `from_dict` gives back an equal plan."""
        return {
            "version": 2,
            "spec": self.spec.to_dict(),
            "releases": [release.to_dict() for release in self.releases],
            "claim": self.claim.to_dict(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Plan:
        """Inverse of `to_dict`.

        This reads what was planned; whether it is what the spec calls for is for a verifier, who builds it again.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        if set(content) != {"version", "spec", "releases", "claim"} or content["version"] != 2:
            raise ValueError("Expected the fields of a Plan, version 2; one of another version is built again.")
        return cls(
            spec=PrivacySpec.from_dict(content["spec"]),
            releases=tuple(ReleasePlan.from_dict(row) for row in content["releases"]),
            claim=Claim.from_dict(content["claim"]),
        )


def _check_fields(kind: type[ReleasePlan | Claim], content: Mapping[str, Any]) -> None:
    expected = {field.name for field in fields(kind)}
    if set(content) != expected:
        raise ValueError(f"Expected the fields of a {kind.__name__}: {sorted(expected ^ set(content))} differ.")
