"""What is promised about the backbone, before anything runs.

A `PrivacySpec` is simple and frozen: a target, a population, and the releases that share the budget. `build` turns it
into a `Plan`: noise, lattice and claim, all of one piece, so that sampler, clipper, noise, accountant, ledger and
report cannot disagree.

>>> mean = Release(name="mean", rounds=1, share=0.25, clip_norm=1.0, dimension=16)
>>> basis = Release(name="basis", rounds=3, share=0.75, clip_norm=1.0, dimension=64)
>>> spec = PrivacySpec(epsilon=2.0, delta=1e-5, unit=Unit.DEVICE, relation=Relation.ADD_OR_REMOVE,
...     trust=Trust.DISTRIBUTED, participation=Participation.full(), population=1000, min_survivors=800,
...     releases=(mean, basis))
>>> plan = spec.build()
>>> plan.claim.epsilon <= 2.0, plan["basis"].clip_units
(True, 16384)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from homespun.privacy.terms import Participation, Relation, Trust, Unit

if TYPE_CHECKING:
    from homespun.privacy.plan import Plan

__all__ = ["PrivacySpec", "Release"]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)


@dataclass(frozen=True, kw_only=True)
class Release:
    """One phase's part of the budget: ``rounds`` noisy sums of one bounded vector per device.

    The noise multiplier of each round is ``sigma * sqrt(rounds / share)`` for one sigma common to all releases, so
    that the releases together cost what a single release at sigma would.

    Args:
        name: Lower-case word, unique within a spec.
        rounds: Number of noisy sums, at least 1.
        share: Part of the budget, in (0, 1]; the shares of a spec sum to 1.
        clip_norm: Largest L2 norm of one device's vector, in the unit of the statistic. Public.
        dimension: Length of the vector.
    """

    name: str
    rounds: int
    share: float
    clip_norm: float
    dimension: int

    def __post_init__(self) -> None:
        """Refuse what could not be released."""
        _require(_NAME.match(self.name) is not None, f"Expected name={self.name!r} as a lower-case word of 1 to 32.")
        _require(self.rounds >= 1, f"Expected rounds={self.rounds} in [1, inf).")
        _require(0.0 < self.share <= 1.0, f"Expected share={self.share!r} in (0, 1].")
        _require(1e-30 <= self.clip_norm <= 1e30, f"Expected clip_norm={self.clip_norm!r} in [1e-30, 1e30].")
        _require(1 <= self.dimension <= 2**24, f"Expected dimension={self.dimension} in [1, 2^24].")


@dataclass(frozen=True, kw_only=True)
class PrivacySpec:
    """A promise to every device, and the releases it covers.

    Args:
        epsilon: Target, positive; ``math.inf`` adds no noise and claims nothing.
        delta: In (0, 1/population); at most ``1 / (10 * population)`` is advised.
        unit: What is protected as a whole.
        relation: Which data sets are neighbours.
        trust: Who adds the noise.
        participation: Who takes part in a round. Poisson needs `Trust.CENTRAL`.
        population: Public number N of devices; sums are divided by N (or q N), never by how many answered.
        min_survivors: Least number of honest devices whose noise shares are in a sum that is opened. The shares are
            sized for it. With Poisson participation it is not used: an abort would reveal the size of the cohort.
        releases: One per phase, in order, with distinct names.
        colluding: Most devices of a cohort that may side with whoever reads the sum, and take their own noise away.
            A sum is opened from at least ``min_survivors + colluding`` devices. Only with `Trust.DISTRIBUTED`.
    Raises:
        ValueError: a value is outside its range, or the combination cannot be proven.
    """

    epsilon: float
    delta: float
    unit: Unit
    relation: Relation
    trust: Trust
    participation: Participation
    population: int
    min_survivors: int
    releases: tuple[Release, ...]
    colluding: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be promised."""
        _require(
            self.epsilon > 0.0,
            f"Expected epsilon={self.epsilon!r} in (0, inf]; write inf for no noise and no claim, and leave the "
            "release out to spend nothing.",
        )
        for field, kind in (("unit", Unit), ("relation", Relation), ("trust", Trust), ("participation", Participation)):
            value = getattr(self, field)
            _require(isinstance(value, kind), f"Expected {field}={value!r} as a {kind.__name__}.")
        _require(
            self.unit is Unit.DEVICE,
            f"Expected unit={self.unit.value!r} as 'device': one record moves a device's clipped vector by up to twice "
            "the clip norm, and a plan of sums accounts for one.",
        )
        _require(
            self.relation is Relation.ADD_OR_REMOVE,
            f"Expected relation={self.relation.value!r} as 'add-or-remove': the noise is calibrated to a device whose "
            "data is present or absent; exchanging it would cost twice as much.",
        )
        _require(1 <= self.population < 2**31, f"Expected population={self.population} in [1, 2^31).")
        _require(
            0.0 < self.delta < 1.0 / self.population,
            f"Expected delta={self.delta!r} in (0, 1/population={1.0 / self.population:g}); write at most "
            f"{0.1 / self.population:g}. A larger delta allows publishing one whole device.",
        )
        _require(
            1 <= self.min_survivors <= self.population,
            f"Expected min_survivors={self.min_survivors} in [1, population={self.population}].",
        )
        most = self.population - self.min_survivors if self.trust is Trust.DISTRIBUTED else 0
        _require(
            0 <= self.colluding <= most,
            f"Expected colluding={self.colluding} in [0, {most}]: with trust='distributed' at most "
            "population - min_survivors, because that many honest devices must be left; with trust='central' none, "
            "because no device holds noise that it could take away.",
        )
        _require(
            self.participation.sampling_probability is None or self.trust is Trust.CENTRAL,
            f"Expected trust={self.trust.value!r} as 'central' with participation='{self.participation}': a noise share "
            "cannot be sized for a cohort of random size, and amplification by sampling cannot hold against a server "
            "that sees who takes part. Write participation='full' or trust='central'.",
        )
        names = [release.name for release in self.releases]
        _require(len(names) >= 1, "Expected at least one release.")
        _require(len(set(names)) == len(names), f"Expected distinct names of releases, not {names}.")
        total = math.fsum(release.share for release in self.releases)
        _require(abs(total - 1.0) <= 1e-9, f"Expected shares of the releases to sum to 1 within 1e-9, not {total!r}.")

    @property
    def advice(self) -> tuple[str, ...]:
        """Sentences about choices that are allowed and weak; empty where there are none."""
        notes: list[str] = []
        if self.delta > 0.1 / self.population:
            notes.append(f"delta={self.delta:g} is above 1/(10 N)={0.1 / self.population:g}; choose a smaller one.")
        if math.isinf(self.epsilon):
            notes.append("epsilon=inf adds no noise: nothing is protected and nothing is claimed.")
        if self.trust is Trust.CENTRAL:
            notes.append("trust=central: the server is trusted with each device's clipped vector.")
        return tuple(notes)

    def build(self) -> Plan:
        """Calibrate the noise, choose the lattice and state the claim.

        Raises:
            LatticeOverflow: no lattice holds the sum of so many devices with noise of this size.
            AccountantsDisagree: the second accountant contradicts the first.
            ValueError: the target is too large to be proven for the noise tables.
        """
        # calibration imports this module for the spec's own type
        from homespun.privacy.calibration import build_plan

        return build_plan(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; numbers that are not whole are decimal strings that read back exactly."""
        return {
            "epsilon": repr(float(self.epsilon)),
            "delta": repr(float(self.delta)),
            "unit": self.unit.value,
            "relation": self.relation.value,
            "trust": self.trust.value,
            "participation": str(self.participation),
            "population": self.population,
            "min_survivors": self.min_survivors,
            "colluding": self.colluding,
            "releases": [
                {
                    "name": release.name,
                    "rounds": release.rounds,
                    "share": repr(float(release.share)),
                    "clip_norm": repr(float(release.clip_norm)),
                    "dimension": release.dimension,
                }
                for release in self.releases
            ],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> PrivacySpec:
        """Inverse of `to_dict`; an unknown or missing field is a ``ValueError``."""
        fields = dict(content)
        try:
            releases = tuple(
                Release(**{**row, "share": float(row["share"]), "clip_norm": float(row["clip_norm"])})
                for row in fields.pop("releases")
            )
            return cls(
                epsilon=float(fields.pop("epsilon")),
                delta=float(fields.pop("delta")),
                unit=Unit(fields.pop("unit")),
                relation=Relation(fields.pop("relation")),
                trust=Trust(fields.pop("trust")),
                participation=Participation.parse(fields.pop("participation")),
                releases=releases,
                **fields,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"Expected the fields of a PrivacySpec: {error}.") from error
