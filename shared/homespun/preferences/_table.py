"""Labels of both kinds in one table, and what of it a fold holds out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homespun.preferences.answers import Answers, lay_out
from homespun.preferences.comparisons import Comparisons, join, pair_choices, pair_votes, random_halvings
from homespun.preferences.records import Catalogue, Labels

Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

HALVINGS = 4  # of a seen person's labels: cross-half moments are averaged over them
MANY_PROMPTS = 50  # this many or more are held out whole; of 16 debates, a fifth is no sample of prompts


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Table:
    """A row a label, choices (ties left out) before votes. All arrays have shape `(labels,)`."""

    person: Index
    a: Index
    """The chosen item, or the item voted on."""
    b: Index
    """The rejected item; -1 for a vote."""
    value: npt.NDArray[np.float64]
    """The vote; 0 for a choice."""

    def __len__(self) -> int:
        return len(self.person)

    @property
    def votes(self) -> Mask:
        return self.b < 0

    def among(self, people: Index) -> Table:
        """Keep the labels of some people, given rising, and number these people from 0."""
        place = np.searchsorted(people, self.person)
        kept = np.append(people, -1)[place] == self.person
        return Table(person=place[kept], a=self.a[kept], b=self.b[kept], value=self.value[kept])

    def take(self, rows: npt.NDArray[np.generic]) -> Table:
        return Table(person=self.person[rows], a=self.a[rows], b=self.b[rows], value=self.value[rows])


def table(labels: Labels, min_item_labels: int) -> Table:
    """Put choices without ties, and the votes on items that enough people voted on, into one table."""
    strict = ~labels.choice_tie
    counts = np.bincount(labels.vote_item, minlength=1)
    kept = counts[labels.vote_item] >= min_item_labels
    zeros, none = np.zeros(strict.sum()), np.full(kept.sum(), -1)
    return Table(
        person=np.concatenate([labels.choice_user[strict], labels.vote_user[kept]]).astype(np.int64),
        a=np.concatenate([labels.choice_chosen[strict], labels.vote_item[kept]]).astype(np.int64),
        b=np.concatenate([labels.choice_rejected[strict], none]).astype(np.int64),
        value=np.concatenate([zeros, labels.vote_value[kept]]),
    )


def pair_units(rows: Table) -> tuple[Index, Index, int]:
    """Number the unordered pairs of the choices; votes have no unit (-1)."""
    low, high = np.minimum(rows.a, rows.b), np.maximum(rows.a, rows.b)
    unit = np.full(len(rows), -1)
    pairs, inverse = np.unique(np.stack([low, high], axis=1)[~rows.votes], axis=0, return_inverse=True)
    unit[~rows.votes] = inverse.reshape(-1)
    return unit, unit, len(pairs)


def topic_units(rows: Table, catalogue: Catalogue) -> tuple[Index, Index, int]:
    """Number the contexts of the items that have a label."""
    return _number(rows, _codes(catalogue.contexts))


def item_units(rows: Table, catalogue: Catalogue) -> tuple[Index, Index, int, str]:
    """Number what `new-items` holds out: whole prompts if there are many, else single texts."""
    used = np.unique(np.concatenate([rows.a, rows.b[~rows.votes]]))
    prompts = _codes(catalogue.prompts)
    if len(np.unique(prompts[used])) >= MANY_PROMPTS:
        return *_number(rows, prompts), "prompts"
    return *_number(rows, np.arange(len(catalogue))), "texts"


def _codes(names: tuple[str, ...]) -> Index:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _number(rows: Table, code: Index) -> tuple[Index, Index, int]:
    first = code[rows.a]
    second = np.where(rows.votes, first, code[rows.b])
    units, inverse = np.unique(np.stack([first, second]), return_inverse=True)
    inverse = inverse.reshape(2, -1)
    return inverse[0], inverse[1], len(units)


def partition(count: int, parts: int, rng: np.random.Generator) -> Index:
    """Deal `count` things into parts at random, sizes differing by at most one: shape `(count,)`."""
    return rng.permutation(count) % parts


def random_rank(person: Index, rng: np.random.Generator) -> Index:
    """Number each person's labels from 0 in a random order: shape `(labels,)`."""
    order = np.lexsort((rng.random(len(person)), person))
    who = person[order]
    first = np.searchsorted(who, who)
    rank = np.empty(len(person), np.int64)
    rank[order] = np.arange(len(person)) - first
    return rank


def compare(
    rows: Table, people: int, max_pairs: int, rng: np.random.Generator, *, halves: bool = False, cap: bool = False
) -> Comparisons:
    """Turn labels, whose people are numbered below `people`, into comparisons.

    With `halves`, the labels are halved at random `HALVINGS` times. With `cap`, a person keeps at most `max_pairs` choices.
    """
    if cap:
        rows = rows.take(rows.votes | (random_rank(np.where(rows.votes, people, rows.person), rng) < max_pairs))
    half = random_halvings(rows.person, HALVINGS, rng) if halves else None
    votes = rows.votes
    of_choices = pair_choices(
        person=rows.person[~votes],
        chosen=rows.a[~votes],
        rejected=rows.b[~votes],
        people=people,
        half=None if half is None else half[~votes],
    )
    if not votes.any():
        return of_choices
    of_votes = pair_votes(
        person=rows.person[votes],
        item=rows.a[votes],
        value=rows.value[votes],
        people=people,
        max_pairs=max_pairs,
        rng=rng,
        half=None if half is None else half[votes],
    )
    return join(of_choices, of_votes) if (~votes).any() else of_votes


def answers(rows: Table, place: Index, people: int) -> Answers:
    """Lay labels, whose people are numbered below `people`, out by their place of arrival, shape `(labels,)`."""
    sign = np.where(rows.votes, np.sign(rows.value), 1.0)
    return lay_out(person=rows.person, place=place, first=rows.a, second=rows.b, sign=sign, people=people)


def shuffle(rows: Table, rng: np.random.Generator) -> Table:
    """Break the link between people's labels and the texts: votes permuted within a person, choices of random sign."""
    swap = (rng.random(len(rows)) < 0.5) & ~rows.votes
    value = rows.value.copy()
    where = np.nonzero(rows.votes)[0]
    person = rows.person[where]
    into, out = np.lexsort((rng.random(len(where)), person)), np.argsort(person, kind="stable")
    value[where[into]] = rows.value[where[out]]
    a, b = np.where(swap, rows.b, rows.a), np.where(swap, rows.a, rows.b)
    return Table(person=rows.person, a=a, b=b, value=value)
