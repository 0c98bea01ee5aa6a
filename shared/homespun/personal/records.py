"""One person's own records, in the order in which they arrived: what a private adapter is made of.

A record is one label: a choice between two texts, or one vote on one text. Its place never changes and is never given
away: a record that says nothing (a tie, a pass, a tier-3 text, one that was erased) is *blank* and keeps its place,
because removing it would move every later record to another block.
"""

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from homespun.personal.pairs import Pairs


@dataclass(frozen=True, kw_only=True)
class Records:
    """Labels of ``users`` people by arrival; one person is a batch of one. All of one kind, which is public."""

    features: Tensor = field(repr=False)
    """Item features, float32, shape ``(items, dim)``. Public, or the device's own."""
    first: Tensor = field(repr=False)
    """Item preferred, or voted on, int32, shape ``(users, places)``; any item where blank."""
    second: Tensor = field(repr=False)
    """Item passed over, int32, shape ``(users, places)``; not read for votes."""
    answer: Tensor = field(repr=False)
    """1 for the first item (it was preferred, agreed with), -1 against it, 0 for a blank place; ``(users, places)``."""
    tier: Tensor = field(repr=False)
    """Tier in {1, 2, 3}, int8, shape ``(users, places)``."""
    votes: bool
    """Whether the records are votes on single texts, and not choices between two."""

    @property
    def users(self) -> int:
        """Number of people."""
        return self.first.shape[0]

    @property
    def places(self) -> int:
        """Number of places, blank ones too."""
        return self.first.shape[1]

    @property
    def dim(self) -> int:
        """Number of features."""
        return self.features.shape[1]

    def between(self, start: int, end: int) -> Self:
        """The places from ``start`` up to ``end``, counted from 0."""
        columns = ("first", "second", "answer", "tier")
        return replace(self, **{name: getattr(self, name)[:, start:end] for name in columns})

    def select(self, people: slice | Tensor) -> Self:
        """The same for some of the people."""
        columns = ("first", "second", "answer", "tier")
        return replace(self, **{name: getattr(self, name)[people] for name in columns})

    def differences(self, mean: Tensor) -> Tensor:
        """What each record says something about, bounded as in ``Pairs``.

        Args:
            mean: Of public items, float32, shape ``(dim,)``: what a text that is voted on is compared with.

        Returns:
            float32, shape ``(users, places, dim)``, rows of norm at most 1.
        """
        first = self.features[self.first.long()]
        difference = first - (mean if self.votes else self.features[self.second.long()])
        bounded: Tensor = difference / difference.norm(dim=-1, keepdim=True).clamp(min=1.0)
        return bounded


def choices_of(pairs: Pairs) -> Records:
    """Choices as records, a place a pair in the order of the pairs; padding and tier-3 pairs are blank."""
    return Records(
        features=pairs.features,
        first=pairs.chosen,
        second=pairs.rejected,
        answer=(pairs.personal_weight > 0).to(torch.float32),
        tier=pairs.tier,
        votes=False,
    )
