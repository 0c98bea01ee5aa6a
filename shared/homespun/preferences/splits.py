"""Who and what a fold holds out: people nobody trained on, judged on texts nobody trained on.

    kind          held out for the test                 where a person's shots come from
    new-items     whole prompts, or single texts         the other texts
    known-items   choices: unordered pairs of texts      the other pairs
                  votes: 30 % of the person's votes      the other 70 %
    new-topic     whole contexts (debates, topics)       the other contexts

Every person is unseen in exactly one fold, and every prompt, text, pair or context is held out in exactly one.

`new-items` holds out whole prompts if the labels have at least 50 prompts, as chat data does. With fewer (titles of
debates, a town's one question) it holds out single texts. A choice between a text that is held out and one that is not
is then in neither part: it is dropped, and `Fold.straddling` counts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from homespun.preferences import _table
from homespun.preferences._division import TEST_SHARE, Division, divide, kept_shots, units_of
from homespun.preferences._table import Table
from homespun.preferences.answers import Answers
from homespun.preferences.comparisons import Comparisons
from homespun.preferences.errors import NotEnoughItems, NotEnoughPeople
from homespun.preferences.records import Catalogue, Labels
from homespun.preferences.split_spec import SplitKind, SplitSpec

__all__ = ["Fold", "folds"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Fold:
    """One division of people and texts into seen and held out.

    Guarantees:
        * new to everybody: in `new-items` and `new-topic` no text of `test`, and for choices in `known-items` no pair of
          `test`, is in `seen` or in any `shots`.
        * fixed evaluation set: `test`, every `shots[n]` and every `shuffled[n]` have the people of `evaluated_users`, in
          that order.
        * nested shots: the labels of fewer shots are among those of more.
    """

    number: int
    """From 0."""
    seen: Comparisons
    """Of the people in `seen_users`, in that order; halves are disjoint in labels."""
    shots: dict[int, Comparisons]
    """The first n labels of each evaluated person in a random order, not in order of time."""
    shuffled: dict[int, Comparisons]
    """The same labels with votes permuted within each person and choices given a random sign: a control."""
    answers: Answers
    """The labels of the most shots one by one, by arrival: those of n shots are the first n places."""
    test: Comparisons
    seen_users: tuple[int, ...]
    """Indices into `Labels.users`: people with a pair outside the held-out part."""
    unseen_users: tuple[int, ...]
    """All people of this fold's group, whether they can be evaluated or not."""
    evaluated_users: tuple[int, ...]
    """Those unseen people who have a test pair and the largest kept number of shots."""
    held_out: str
    """A sentence for the report."""
    dropped_shots: tuple[int, ...]
    """Numbers of shots that too few people could supply in some fold; the same in all folds."""
    straddling: int
    """Labels dropped because one of their texts is held out and the other is not."""
    left_out_users: int
    """People with fewer than `min_labels` labels."""

    def __repr__(self) -> str:
        """Show counts only."""
        return (
            f"Fold(number={self.number}, seen={len(self.seen_users)}, unseen={len(self.unseen_users)}, "
            f"evaluated={len(self.evaluated_users)}, shots={sorted(self.shots)})"
        )


def folds(catalogue: Catalogue, labels: Labels, spec: SplitSpec, seed: int) -> Iterator[Fold]:
    """Split people and texts into folds.

    Args:
        catalogue: From `index`.
        labels: From `index`.
        spec: How to split.
        seed: In [0, inf). The same seed gives the same folds.
    Returns:
        `spec.folds` folds, each made when asked for.
    Guarantees:
        * once each: every person kept is unseen in one fold, every unit held out in one.
        * one curve: all folds keep the same numbers of shots.
        * deterministic: folds depend on the data, `spec` and `seed` alone.
    Raises:
        NotEnoughPeople: Fewer people than folds have `min_labels` labels, or in some fold fewer than 20 people could
            be evaluated at any positive number of shots.
        NotEnoughItems: Fewer prompts, texts, pairs or contexts than folds.
        ValueError: A negative seed.
    """
    if seed < 0:
        raise ValueError(f"Expected seed={seed} in [0, inf).")
    rows = _table.table(labels, spec.min_item_labels)
    counts = np.bincount(rows.person, minlength=len(labels.users))
    kept = np.nonzero(counts >= spec.min_labels)[0]
    if len(kept) < spec.folds:
        raise NotEnoughPeople(
            f"Expected at least folds={spec.folds} people with min_labels={spec.min_labels} labels, not {len(kept)} of "
            f"{len(labels.users)}. Add people or labels."
        )
    rows = rows.take(counts[rows.person] >= spec.min_labels)

    units = units_of(rows, catalogue, spec.kind)
    if 0 < units.count < spec.folds or (units.count == 0 and not rows.votes.any()):
        raise NotEnoughItems(
            f"Expected at least folds={spec.folds} {units.name} to hold out, not {units.count}. Lower folds, or split "
            "another way."
        )
    rng = np.random.default_rng(seed)
    group = np.full(len(labels.users), -1)
    group[kept] = _table.partition(len(kept), spec.folds, rng)
    part = np.append(_table.partition(units.count, spec.folds, rng), -1)  # unit -1 is in no part
    parts = [divide(number, rows, units, part, group, spec, _source(seed, number, 0)) for number in range(spec.folds)]
    shots = kept_shots(parts, spec)
    return (_fold(division, rows, shots, spec, _source(seed, division.number, 1)) for division in parts)


def _source(seed: int, number: int, use: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(number, use)))


def _fold(division: Division, rows: Table, shots: tuple[int, ...], spec: SplitSpec, rng: np.random.Generator) -> Fold:
    most = spec.max_pairs
    seen_rows = rows.take(division.open & ~division.unseen).among(division.seen_people)
    seen = _table.compare(seen_rows, len(division.seen_people), most, rng, halves=True, cap=True)
    has = (seen.weight > 0).any(axis=1)
    if not has.any():
        raise NotEnoughPeople(
            f"Expected somebody with a pair outside the held-out part of fold {division.number}; nobody has one."
        )
    chosen = division.people[division.testable & (division.supply >= max(shots))]
    test = rows.take(division.held & division.unseen).among(chosen)
    pool = rows.take(division.open & division.unseen).among(chosen)
    rank = _table.random_rank(pool.person, rng)
    given = {n: pool.take(rank < n) for n in shots}
    most_given = rank < max(shots)
    return Fold(
        number=division.number,
        seen=seen.take(has),
        shots={n: _table.compare(part, len(chosen), most, rng) for n, part in given.items()},
        shuffled={n: _table.compare(_table.shuffle(part, rng), len(chosen), most, rng) for n, part in given.items()},
        answers=_table.answers(pool.take(most_given), rank[most_given], len(chosen)),
        test=_table.compare(test, len(chosen), spec.max_test_pairs, rng, cap=True),
        seen_users=tuple(division.seen_people[has].tolist()),
        unseen_users=tuple(division.people.tolist()),
        evaluated_users=tuple(chosen.tolist()),
        held_out=_sentence(division, spec, len(chosen)),
        dropped_shots=tuple(n for n in spec.shots if n not in shots),
        straddling=int(division.straddling.sum()),
        left_out_users=division.left_out,
    )


def _sentence(division: Division, spec: SplitSpec, evaluated: int) -> str:
    parts = []
    if division.units.count:
        parts.append(f"{division.units_held} of {division.units.count} {division.units.name}")
    if division.votes and spec.kind is SplitKind.KNOWN_ITEMS:
        parts.append(f"{TEST_SHARE:.0%} of each unseen person's votes")
    unseen, people = len(division.people), len(division.people) + len(division.seen_people)
    return (
        f"Fold {division.number + 1} of {spec.folds} ({spec.kind.value}) holds out {' and '.join(parts)}, and {unseen} of "
        f"{people} people, {evaluated} of whom are evaluated."
    )
