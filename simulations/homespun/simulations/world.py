"""A data set as the learner sees it: item features, folds, and people's pairs over them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from homespun.encoder import Progress, Projection, SentenceEncoder, embed, fit_projection, item_features, load
from homespun.personal import Pairs, Records, make_pairs
from homespun.preferences import (
    Answers,
    Catalogue,
    Comparisons,
    Dataset,
    Fold,
    Labels,
    SplitKind,
    SplitSpec,
    folds,
    index,
    read,
)
from homespun.simulations import population
from homespun.simulations.options import EMBEDDED, Options

FOLDS = 5  # a fifth of the people and of the items is held out at a time


@dataclass(frozen=True, kw_only=True)
class PublicItems:
    """Items that everybody may see: all that may shape features and phases before there is a private sum."""

    features: Tensor = field(repr=False)
    """float32, shape ``(items, dim)``."""
    groups: npt.NDArray[np.integer[Any]] = field(repr=False)
    """Prompt of each item, shape ``(items,)``."""
    tiers: npt.NDArray[np.int8] = field(repr=False)
    """Shape ``(items,)``."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A data set's items and everybody's labels over them, and what is public of it."""

    dataset: Dataset = field(repr=False)
    catalogue: Catalogue = field(repr=False)
    labels: Labels = field(repr=False)
    features: Tensor = field(repr=False)
    """float32, shape ``(items, dim)``."""
    public: PublicItems = field(repr=False)
    """The data's own items where they are public, else those of the embedded population."""
    encoder: SentenceEncoder
    projection: Projection
    truth: population.Truth | None = field(repr=False)
    """What was planted, for the embedded population."""

    def pairs(self, comparisons: Comparisons) -> Pairs:
        """Pairs over this world's features."""
        chosen = torch.from_numpy(comparisons.chosen)
        return make_pairs(
            self.features,
            chosen=chosen,
            rejected=torch.from_numpy(comparisons.rejected),
            weight=torch.from_numpy(comparisons.weight),
            half=torch.from_numpy(comparisons.half),
            tier=torch.from_numpy(self.catalogue.tiers)[chosen.long()],
        )

    def records(self, answers: Answers) -> Records:
        """Labels one by one over this world's features."""
        first = torch.from_numpy(answers.first)
        return Records(
            features=self.features,
            first=first,
            second=torch.from_numpy(answers.second),
            answer=torch.from_numpy(answers.sign).float(),
            tier=torch.from_numpy(self.catalogue.tiers)[first.long()],
            votes=answers.votes,
        )

    def folds(self, options: Options) -> Iterator[Fold]:
        """The folds of a run: ``repeats`` of them."""
        spec = SplitSpec(kind=SplitKind(options.split), shots=options.shots, folds=max(FOLDS, options.repeats))
        for fold in folds(self.catalogue, self.labels, spec, options.seed):
            if fold.number >= options.repeats:
                return
            yield fold


def read_data(options: Options) -> Dataset | None:
    """Read the data; ``None`` for the embedded population, which is made once its texts have features.

    Raises:
        ValueError: The data cannot be read as asked.
    """
    if options.data == EMBEDDED:
        return None
    dataset = read(options.data, user_column=options.user_column, skip_bad_rows=options.skip_bad_rows)
    if options.features != "text" and not dataset.public_catalogue:
        raise ValueError(
            f"Expected features={options.features} with a public catalogue of items; the texts of {dataset.name} are "
            "private. Write features=text."
        )
    return dataset


def prepare(options: Options, dataset: Dataset | None = None, *, progress: Progress | None = None) -> World:
    """Encode a data set's texts and project them.

    Args:
        options: What is asked.
        dataset: From :func:`read_data`; read here if not given.
        progress: Called while texts are encoded.

    Raises:
        ValueError: The data, the encoder or the projection cannot be had as asked; nothing was spent.
    """
    dataset = read_data(options) if dataset is None else dataset
    encoder = load(options.encoder)
    if dataset is None:
        return _embedded(options, encoder, progress)
    catalogue, labels = index(_first_people(dataset, options.users))
    embeddings = embed(encoder, catalogue.texts, progress=progress)
    if dataset.public_catalogue:
        groups = np.unique(np.asarray(catalogue.prompts), return_inverse=True)[1]
        source = f"all {len(catalogue)} texts of {dataset.name}, which are public"
        projection = fit_projection(embeddings, catalogue.texts, groups, dim=options.dim, source=source)
        features = item_features(projection.apply(embeddings, catalogue.texts), options.features)
        public = PublicItems(features=features, groups=groups, tiers=catalogue.tiers)
    else:
        projection, public = _embedded_items(options, encoder, progress)
        features = projection.apply(embeddings, catalogue.texts)
    return World(
        dataset=dataset,
        catalogue=catalogue,
        labels=labels,
        features=features,
        public=public,
        encoder=encoder,
        projection=projection,
        truth=None,
    )


def _embedded(options: Options, encoder: SentenceEncoder, progress: Progress | None) -> World:
    table = population.answers()
    projection, public = _embedded_items(options, encoder, progress)
    planted = population.embedded(public.features, people=options.users or 2000, seed=options.seed)
    catalogue, labels = index(planted.dataset)
    rows = table.rows(catalogue)
    features = item_features(public.features[torch.from_numpy(rows)], options.features)
    return World(
        dataset=planted.dataset,
        catalogue=catalogue,
        labels=labels,
        features=features,
        public=PublicItems(features=features, groups=table.groups[rows], tiers=catalogue.tiers),
        encoder=encoder,
        projection=projection,
        truth=planted.truth,
    )


def _embedded_items(
    options: Options, encoder: SentenceEncoder, progress: Progress | None
) -> tuple[Projection, PublicItems]:
    """The texts that ship with the project, and the projection fitted to them: for data whose own texts are private."""
    table = population.answers()
    embeddings = embed(encoder, table.texts, progress=progress)
    source = "all texts of the embedded population"
    if options.data != EMBEDDED:
        source += ", because those of the data are private"
    projection = fit_projection(embeddings, table.texts, table.groups, dim=options.dim, source=source)
    return projection, PublicItems(
        features=projection.apply(embeddings, table.texts), groups=table.groups, tiers=table.tiers
    )


def _first_people(dataset: Dataset, users: int | None) -> Dataset:
    """Keep the first ``users`` people in order of appearance."""
    if users is None:
        return dataset
    names = dict.fromkeys(chain((p.user for p in dataset.preferences), (f.user for f in dataset.feedback)))
    kept = set(islice(names, users))
    return replace(
        dataset,
        preferences=tuple(p for p in dataset.preferences if p.user in kept),
        feedback=tuple(f for f in dataset.feedback if f.user in kept),
    )
