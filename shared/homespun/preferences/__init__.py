"""Preferences: what people said, read from files, numbered, paired and split.

>>> from homespun.preferences import Preference, Tier
>>> Preference(user="ann", prompt="Tea?", chosen="Yes.", rejected="No.").tier is Tier.PERSONAL
True

The way of a dataset: `read` -> `index` -> `folds` -> Comparisons.
"""

from homespun.preferences.answers import Answers
from homespun.preferences.comparisons import EVIDENCE_PER_VOTE, Comparisons, join, pair_choices, pair_votes
from homespun.preferences.errors import (
    BadRow,
    MissingColumn,
    MissingExtra,
    NoData,
    NotEnoughItems,
    NotEnoughPeople,
    PreferencesError,
    UnknownFormat,
)
from homespun.preferences.index import index
from homespun.preferences.reading import read
from homespun.preferences.records import Catalogue, Dataset, Feedback, Labels, Preference, Tier
from homespun.preferences.split_spec import SplitKind, SplitSpec
from homespun.preferences.splits import Fold, folds

__all__ = [
    "EVIDENCE_PER_VOTE",
    "Answers",
    "BadRow",
    "Catalogue",
    "Comparisons",
    "Dataset",
    "Feedback",
    "Fold",
    "Labels",
    "MissingColumn",
    "MissingExtra",
    "NoData",
    "NotEnoughItems",
    "NotEnoughPeople",
    "Preference",
    "PreferencesError",
    "SplitKind",
    "SplitSpec",
    "Tier",
    "UnknownFormat",
    "folds",
    "index",
    "join",
    "pair_choices",
    "pair_votes",
    "read",
]
