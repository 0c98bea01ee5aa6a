from __future__ import annotations

import numpy as np
import pytest

from homespun.preferences import Catalogue, Labels, SplitKind, SplitSpec, folds
from homespun.preferences.answers import Answers, lay_out

PEOPLE = 200


def some_labels(*, votes: bool) -> tuple[Catalogue, Labels]:
    rng = np.random.default_rng(3)
    items = 80
    catalogue = Catalogue(
        prompts=tuple(f"p{i // 2}" for i in range(items)), texts=tuple(f"t{i}" for i in range(items)),
        contexts=("",) * items, tiers=np.ones(items, np.int8),
    )  # fmt: skip
    user = np.repeat(np.arange(PEOPLE), 30).astype(np.int32)
    none = np.zeros(0, np.int32)
    item = np.concatenate([rng.permutation(items)[:30] for _ in range(PEOPLE)]).astype(np.int32)
    pair = np.concatenate([rng.permutation(items // 2)[:30] for _ in range(PEOPLE)]).astype(np.int32)
    vote = rng.integers(-1, 2, len(user)).astype(np.float32)
    return catalogue, Labels(
        users=tuple(map(str, range(PEOPLE))),
        choice_user=none if votes else user, choice_chosen=none if votes else 2 * pair,
        choice_rejected=none if votes else 2 * pair + 1, choice_tie=np.zeros(0 if votes else len(user), np.bool_),
        vote_user=user if votes else none, vote_item=item if votes else none,
        vote_value=vote if votes else np.zeros(0, np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("votes", [False, True])
def test_the_answers_of_a_fold_are_its_shots_one_by_one(votes: bool) -> None:
    catalogue, labels = some_labels(votes=votes)
    spec = SplitSpec(kind=SplitKind("new-items"), shots=(0, 5, 15), folds=4)
    fold = next(folds(catalogue, labels, spec, 0))
    answers = fold.answers
    assert answers.votes is votes
    assert answers.first.shape == (len(fold.evaluated_users), 15)
    for row, person in enumerate(fold.evaluated_users[:40]):
        for n in (5, 15):
            first, second, sign = answers.first[row, :n], answers.second[row, :n], answers.sign[row, :n]
            shots = fold.shots[n]
            if votes:  # every vote once, with its sign; the pairs of these shots are made of them alone
                mine = labels.vote_user == person
                given = dict(
                    zip(labels.vote_item[mine].tolist(), np.sign(labels.vote_value[mine]).tolist(), strict=True)
                )
                assert len(set(first.tolist())) == n
                assert [given[item] for item in first.tolist()] == sign.tolist()
                here = shots.weight[row] > 0
                assert {*shots.chosen[row][here], *shots.rejected[row][here]} <= {*first}
            else:
                assert (sign == 1).all()
                pairs = zip(shots.chosen[row, :n].tolist(), shots.rejected[row, :n].tolist(), strict=True)
                assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == sorted(pairs)


def test_of_both_kinds_votes_are_blank() -> None:
    answers = lay_out(person=[0, 0], place=[0, 1], first=[4, 5], second=[6, -1], sign=[1, -1], people=1)
    assert not answers.votes
    assert (answers.first.tolist(), answers.sign.tolist()) == ([[4, 0]], [[1, 0]])


def test_nobody_and_nothing() -> None:
    empty = lay_out(person=[], place=[], first=[], second=[], sign=[], people=3)
    assert (len(empty), empty.first.shape, empty.votes) == (3, (3, 0), False)


def test_shapes_are_checked_and_nothing_is_shown() -> None:
    answers = lay_out(person=[0], place=[0], first=[4], second=[5], sign=[1], people=1)
    assert "4" not in repr(answers)
    with pytest.raises(ValueError, match="^Expected first, second and sign of one shape"):
        Answers(first=answers.first, second=answers.second, sign=answers.sign[:, :0], votes=False)
