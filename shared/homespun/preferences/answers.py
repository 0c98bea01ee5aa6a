"""Labels one by one, in the order in which they arrived: what is protected record by record.

>>> answers = lay_out(person=[0, 0, 1], place=[1, 0, 0], first=[7, 8, 9], second=[3, 4, 5], sign=[1, 1, 1], people=2)
>>> answers.first.tolist(), answers.sign.tolist(), answers.votes
([[8, 7], [9, 0]], [[1, 1], [1, 0]], False)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Answers", "lay_out"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Answers:
    """Labels of a batch of people as items of a catalogue; the leading axis is people, a column is a place by arrival.

    All are of one kind. Where a person has labels of both, the votes' places are blank.

    Raises:
        ValueError: Arrays of different shapes.
    """

    first: npt.NDArray[np.int32]
    """Shape `(users, places)`: the chosen item, or the one voted on; 0 where blank."""
    second: npt.NDArray[np.int32]
    """Shape `(users, places)`: the rejected item; 0 for votes and where blank."""
    sign: npt.NDArray[np.int8]
    """Shape `(users, places)`: 1 for a choice, the sign of a vote, 0 where blank."""
    votes: bool
    """Whether these are votes."""

    def __post_init__(self) -> None:
        """Check the shapes."""
        shapes = {x.shape for x in (self.first, self.second, self.sign)}
        if len(shapes) != 1 or self.first.ndim != 2:
            raise ValueError(f"Expected first, second and sign of one shape (users, places), not {shapes}.")

    def __len__(self) -> int:
        """Count the people."""
        return len(self.first)

    def __repr__(self) -> str:
        """Show counts only."""
        return f"Answers(users={len(self)}, places={self.first.shape[1]}, votes={self.votes})"


def lay_out(
    *,
    person: npt.ArrayLike,
    place: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    sign: npt.ArrayLike,
    people: int,
) -> Answers:
    """Put labels into their places.

    Args:
        person: Whose label it is, shape `(labels,)`, each in `[0, people)`; any order.
        place: By arrival, shape `(labels,)`, from 0; no two labels of a person in one place.
        first: Chosen item, or the one voted on, shape `(labels,)`.
        second: Rejected item, shape `(labels,)`; below 0 for a vote.
        sign: 1 for a choice, the sign of a vote, shape `(labels,)`.
        people: How many rows the result has.
    Returns:
        As many places as the latest label needs; blank where there is no label, or one of the other kind.
    """
    who, where, b = np.asarray(person, np.int64), np.asarray(place, np.int64), np.asarray(second)
    votes = bool(len(b)) and bool((b < 0).all())
    shape = (people, int(where.max(initial=-1)) + 1)
    own = (b < 0) == votes
    columns = {}
    for name, values, dtype in (("first", first, np.int32), ("second", b, np.int32), ("sign", sign, np.int8)):
        columns[name] = np.zeros(shape, dtype)
        columns[name][who[own], where[own]] = np.maximum(b, 0)[own] if name == "second" else np.asarray(values)[own]
    return Answers(first=columns["first"], second=columns["second"], sign=columns["sign"], votes=votes)
