"""The plan for one person's own records: blocks by arrival, and the noise that each block's sum gets.

A *record* is one label: one choice or one vote. Records fall into blocks in the order in which they arrive; the sizes
of the blocks are public and fixed in advance. When a block is full its records' clipped moments are summed and released
once, with noise, and never touched again. So each record is charged for one release in its whole life, however many
blocks there are (parallel composition over disjoint blocks).

>>> plan = build_record_plan(2.0, 1e-5, dimension=25)
>>> plan.sizes(45), plan.sizes(4)
((5, 5, 10, 20), ())
>>> round(plan.noise_multiplier, 2)
2.15
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from homespun.privacy.accountant import GaussianEvent, compose
from homespun.privacy.calibration import CLIP_UNITS, base_sigma
from homespun.privacy.gaussian_table import LARGEST_TABLE, TOTAL_VARIATION, tail
from homespun.privacy.lattice import LARGEST_UNITS
from homespun.privacy.spec import Release
from homespun.privacy.terms import Relation, Unit

__all__ = ["FIRST_BLOCKS", "RecordPlan", "build_record_plan"]

FIRST_BLOCKS = (5, 5)  # an answer after five labels; noise grows with the number of blocks, so then they double


@dataclass(frozen=True, kw_only=True)
class RecordPlan:
    """How the records of one person become released sums. Built by `build_record_plan`, read back by `from_dict`.

    Guarantees:
        * honest: a plan whose noise does not prove its epsilon cannot be made.
        * once each: every record lies in exactly one block, and which one depends on its place alone.
    """

    epsilon: float
    """Promised for one record over its whole life; what is proven is never above it."""
    delta: float
    clip_norm: float
    """Largest L2 norm of one record's moment, in the unit of the sketch."""
    clip_units: int
    """The same bound in lattice steps: the integer sensitivity of a block's sum when one place is made blank."""
    variance: int
    """Of the discrete Gaussian in every coordinate of a block's sum, in squared lattice steps."""
    dimension: int
    """Numbers in a block's sum."""
    blocks: tuple[int, ...] = FIRST_BLOCKS
    """Sizes of the first blocks; every later block is twice as large as the one before."""

    def __post_init__(self) -> None:
        """Refuse a plan that proves less than it promises, or whose blocks are not blocks."""
        if not 0.0 < self.epsilon < math.inf:
            raise ValueError(f"Expected epsilon={self.epsilon!r} in (0, inf); without noise there is no record plan.")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"Expected delta={self.delta!r} in (0, 1).")
        if not 0.0 < self.clip_norm < math.inf:
            raise ValueError(f"Expected clip_norm={self.clip_norm!r} in (0, inf).")
        if not 1 <= self.clip_units <= LARGEST_UNITS:
            raise ValueError(f"Expected clip_units={self.clip_units} in [1, {LARGEST_UNITS}].")
        if not self.blocks or min(self.blocks) < 1:
            raise ValueError(f"Expected blocks={self.blocks} as whole numbers of at least 1.")
        slack = _table_slack(self.epsilon, self.delta, self.dimension)
        proven = compose([self.event], delta=self.delta - slack).epsilon  # the event checks the other numbers
        if proven > self.epsilon:
            raise ValueError(f"Expected noise that proves epsilon={self.epsilon!r}, not {proven:.6f}.")

    @property
    def unit(self) -> Unit:
        """What is protected: one label."""
        return Unit.RECORD

    @property
    def relation(self) -> Relation:
        """Neighbours: a record counts, or its place is blank; how many places there are is public."""
        return Relation.ZERO_OUT

    @property
    def event(self) -> GaussianEvent:
        """The release of one block: all that any one record ever pays for."""
        return GaussianEvent(clip_units=self.clip_units, variance=self.variance, count=1, dimension=self.dimension)

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise over the sensitivity."""
        return math.sqrt(self.variance) / self.clip_units

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise in a block's sum, in the unit of the sketch."""
        return self.noise_multiplier * self.clip_norm

    @property
    def step(self) -> float:
        """Lattice step, in the unit of the sketch."""
        return self.clip_norm / self.clip_units

    def size(self, block: int) -> int:
        """Number of places in a block, counted from 0."""
        if block < 0:
            raise ValueError(f"Expected block={block} in [0, inf).")
        listed = len(self.blocks)
        return self.blocks[block] if block < listed else self.blocks[-1] << (block - listed + 1)

    def sizes(self, places: int) -> tuple[int, ...]:
        """Sizes of the blocks that are full once ``places`` records have arrived; the rest waits."""
        sizes: list[int] = []
        while sum(sizes) + self.size(len(sizes)) <= places:
            sizes.append(self.size(len(sizes)))
        return tuple(sizes)

    def place(self, record: int) -> tuple[int, int]:
        """Block of a record, and its place in that block, both counted from 0, as the record is by arrival."""
        if record < 0:
            raise ValueError(f"Expected record={record} in [0, inf).")
        block = 0
        while record >= self.size(block):
            record -= self.size(block)
            block += 1
        return block, record

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without floats; `from_dict` gives back an equal plan."""
        return {
            "version": 1,
            "epsilon": repr(float(self.epsilon)),
            "delta": repr(float(self.delta)),
            "clip_norm": repr(float(self.clip_norm)),
            "clip_units": self.clip_units,
            "variance": self.variance,
            "dimension": self.dimension,
            "blocks": list(self.blocks),
            "unit": self.unit.value,
            "relation": self.relation.value,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises:
            ValueError: A field is missing, unknown or out of range, or the noise does not prove the epsilon.
        """
        names = {field.name for field in fields(cls)}
        if set(content) != names | {"version", "unit", "relation"} or content["version"] != 1:
            raise ValueError("Expected the fields of a RecordPlan, version 1.")
        values = {name: content[name] for name in names}
        for name in ("epsilon", "delta", "clip_norm"):
            values[name] = float(values[name])
        plan = cls(**{**values, "blocks": tuple(values["blocks"])})
        if (content["unit"], content["relation"]) != (plan.unit.value, plan.relation.value):
            raise ValueError(
                f"Expected unit={plan.unit.value} and relation={plan.relation.value} of a RecordPlan, "
                f"not {content['unit']} and {content['relation']}."
            )
        return plan


def build_record_plan(
    epsilon: float, delta: float, dimension: int, *, clip_norm: float = 1.0, blocks: tuple[int, ...] = FIRST_BLOCKS
) -> RecordPlan:
    """Calibrate the noise of a block's sum.

    Args:
        epsilon: Target for one record, finite.
        delta: In (0, 1).
        dimension: Numbers in a block's sum.
        clip_norm: Largest L2 norm of one record's moment, in the unit of the sketch.
        blocks: Sizes of the first blocks; later ones double.

    Raises:
        ValueError: Out of range, or no noise that the lattice can hold proves the epsilon.
    """
    if not 0.0 < epsilon < math.inf:
        raise ValueError(f"Expected epsilon={epsilon!r} in (0, inf); without noise there is no record plan.")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"Expected delta={delta!r} in (0, 1).")
    if dimension < 1:
        raise ValueError(f"Expected dimension={dimension} in [1, inf).")
    one = Release(name="block", rounds=1, share=1.0, clip_norm=1.0, dimension=1)
    sigma = base_sigma((one,), None, epsilon, delta - _table_slack(epsilon, delta, dimension))
    for units in CLIP_UNITS:
        variance = math.ceil((sigma * units) ** 2)
        if tail(variance) <= LARGEST_TABLE:
            return RecordPlan(
                epsilon=epsilon, delta=delta, clip_norm=clip_norm, clip_units=units, variance=variance,
                dimension=dimension, blocks=blocks,
            )  # fmt: skip
    raise ValueError(
        f"Expected epsilon={epsilon!r} large enough for noise of at most {LARGEST_TABLE / CLIP_UNITS[-1] / 13:.0f} times "
        "the clip norm."
    )


def _table_slack(epsilon: float, delta: float, dimension: int) -> float:
    """Delta kept back for noise tables that end somewhere: ``(1 + e^eps)`` times the total variation of one block."""
    slack = (1.0 + math.exp(min(epsilon, 700.0))) * dimension * TOTAL_VARIATION
    if slack > delta / 100.0:
        raise ValueError(
            f"Expected epsilon={epsilon!r} small enough to be proven with 128-bit noise tables (about 40)."
        )
    return slack
