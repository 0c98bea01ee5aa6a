"""The words of a privacy statement: unit, neighbouring relation, trust model, participation.

Every one is a closed set, because a claim means nothing without all of them, and a word that an accountant does not
know must not be guessed at.

>>> Participation.parse("poisson:0.1")
Participation(sampling_probability=0.1)
>>> str(Participation.full())
'full'
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Participation", "Relation", "Trust", "Unit"]


class Unit(Enum):
    """What is protected as a whole."""

    DEVICE = "device"
    """Everything that one device holds."""

    RECORD = "record"
    """One label that a person gave: one choice or one vote."""


class Relation(Enum):
    """Which data sets count as neighbours."""

    ADD_OR_REMOVE = "add-or-remove"
    """One device's data is present, or the device contributes zero; the list of participants is public.

    The exact sum then moves by at most the clip norm C. Replacing one device's data is *not* this relation and
    would move it by 2C."""

    ZERO_OUT = "zero-out"
    """One record counts, or its place is blank and contributes zero; how many places there are is public.

    Removing the place as well would move every later record to another block, and is *not* this relation."""

    REPLACE_ONE = "replace-one"
    """One unit's data is exchanged for any other: a clipped vector moves by at most 2C."""


class Trust(Enum):
    """Who is trusted to add the noise."""

    DISTRIBUTED = "distributed"
    """Every device adds its share before its vector is masked; nobody sees a sum with less noise than promised."""

    CENTRAL = "central"
    """The server sees the exact sum and adds all the noise itself. It must be trusted with each clipped vector."""


@dataclass(frozen=True, kw_only=True)
class Participation:
    """Who takes part in a round: everybody, or a Poisson sample of the population.

    Args:
        sampling_probability: None where everybody is asked in every round. Otherwise the public chance q, strictly
            between 0 and 1, with which each device is drawn for a round by its own secret, independent coin.
    """

    sampling_probability: float | None = None

    def __post_init__(self) -> None:
        """Refuse a probability that is not strictly between 0 and 1."""
        q = self.sampling_probability
        if q is not None and not 0.0 < q < 1.0:
            raise ValueError(f"Expected sampling_probability={q!r} in (0, 1); write 'full' where everybody takes part.")

    @classmethod
    def full(cls) -> Participation:
        """Everybody is asked in every round; no amplification is claimed."""
        return cls(sampling_probability=None)

    @classmethod
    def poisson(cls, q: float) -> Participation:
        """Each device is drawn with probability ``q``, independently, in each round."""
        return cls(sampling_probability=float(q))

    @classmethod
    def parse(cls, text: str) -> Participation:
        """Read ``full`` or ``poisson:Q``, the inverse of ``str()``.

        Raises:
            ValueError: ``text`` is neither.
        """
        if text == "full":
            return cls.full()
        kind, _, rate = text.partition(":")
        if kind == "poisson":
            try:
                return cls.poisson(float(rate))
            except ValueError as error:
                raise ValueError(f"Expected participation={text!r} as 'full' or 'poisson:Q', 0 < Q < 1.") from error
        raise ValueError(f"Expected participation={text!r} as 'full' or 'poisson:Q', 0 < Q < 1.")

    def __str__(self) -> str:
        """``full`` or ``poisson:Q``."""
        return "full" if self.sampling_probability is None else f"poisson:{self.sampling_probability!r}"
