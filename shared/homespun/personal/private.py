"""What a private adapter is made of: one noisy sum a block of records, each record bounded and charged once.

    m = sum over the block of clip_1(r_j A x_j) + discrete Gaussian,    r_j = t_j - sigmoid(x_j . w)

``x_j`` is the difference between the two texts of a choice, or between a voted text and the mean public text; ``w`` is
the average user; ``A``, the sketch, looks along the directions in which people differ, and is public. Most records are
clipped: noise is the same along every direction and for every record, so a record should always speak as loudly as it
may. Everything that is computed from the sums is post-processing (``private_fit.py``).

A vote is *one* record: pairs of votes would let one vote enter many pairs, without a bound. Its own moment has one
more coordinate, in which a person's habit of agreeing can be told from what they agree with.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from homespun.personal.backbone import Backbone
from homespun.personal.geometry import Geometry
from homespun.personal.records import Records
from homespun.privacy import NoiseStream, clip_users, encode
from homespun.privacy.record_plan import RecordPlan

MOST_ROWS = 32  # directions a sketch looks along at most; noise along weak ones is harmless, the work is not
EMPHASIS = 0.75  # power of a direction's prior variance by which it is looked at; 0.5 to 1 are within .01 of the gain
LOUDNESS = 4.0  # root mean square of |A x| in clip norms: residuals are about 1/2, so typical records reach the bound
HABIT = 0.5  # of the clip norm: how loudly a vote tells a person's habit of agreeing
SAMPLE = 4096  # made-up public differences that expectations are taken over


@dataclass(frozen=True, kw_only=True)
class PublicMoments:
    """What everybody knows of the texts that people label; a device gets it with the project."""

    covariance: Tensor = field(repr=False)
    """``E[x x^T]`` over pairs of public texts, float32, shape ``(dim, dim)``."""
    mean: Tensor = field(repr=False)
    """Of public texts, float32, shape ``(dim,)``."""
    floor: Tensor = field(repr=False)
    """Prior variance of a taste along each feature without any evidence, float32, shape ``(dim,)``."""

    @classmethod
    def of(cls, geometry: Geometry, mean: Tensor) -> Self:
        """What a device needs of a geometry, and the mean of the public texts."""
        return cls(covariance=geometry.covariance, mean=mean, floor=geometry.floor)

    def __post_init__(self) -> None:
        """Refuse other shapes, and what is not finite."""
        dim = self.mean.shape[0]
        if self.mean.ndim != 1 or self.covariance.shape != (dim, dim) or self.floor.shape != (dim,):
            raise ValueError("Expected public moments of shapes covariance (dim, dim), mean (dim,), floor (dim,).")
        if not all(bool(torch.isfinite(part).all()) for part in (self.covariance, self.mean, self.floor)):
            raise ValueError("Expected finite public moments.")

    @property
    def dim(self) -> int:
        """Number of features."""
        return self.mean.shape[0]

    @cached_property
    def _sample(self) -> Tensor:
        values, vectors = torch.linalg.eigh(self.covariance.double())
        draws = torch.randn(SAMPLE, self.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        sample: Tensor = draws @ (vectors * values.clamp(min=0).sqrt()).T
        return sample

    def sample(self, *, votes: bool) -> Tensor:
        """Differences as records of a kind have them, and 1 for votes: float64, shape ``(SAMPLE, dim + 1)``.

        A text differs from the mean text by half the variance by which two texts differ. The draws are always the same.
        """
        difference = self._sample / math.sqrt(2) if votes else self._sample
        difference = difference / difference.norm(dim=1, keepdim=True).clamp(min=1.0)
        return torch.cat([difference, torch.full((SAMPLE, 1), float(votes), dtype=torch.float64)], dim=1)


@dataclass(frozen=True, kw_only=True)
class RecordRows:
    """Moments of the records of one block, not yet clipped. Private: they stay where they were made."""

    values: Tensor = field(repr=False)
    """float32, shape ``(users, places, dimension)``; zeros for a blank place."""
    sketch: Tensor = field(repr=False)
    """``A``, float32, shape ``(dimension, dim + 1)``; the last column is the habit of agreeing."""
    w: Tensor = field(repr=False)
    """The average user's direction, float32, shape ``(dim,)``."""
    votes: bool


@dataclass(frozen=True, kw_only=True)
class BlockSum:
    """One block's noisy sum, and all that is needed to read it later, under whatever backbone there is then.

    Everything but ``total`` is public beforehand; ``total`` is what the noise protects. Its ``repr`` shows no value.
    """

    total: Tensor = field(repr=False)
    """float64, shape ``(users, dimension)``, in the unit of the sketch."""
    sketch: Tensor = field(repr=False)
    """As it was for this block, float32, shape ``(dimension, dim + 1)``."""
    w: Tensor = field(repr=False)
    """As it was for this block, float32, shape ``(dim,)``."""
    size: int
    """Places, blank ones too."""
    votes: bool
    clip_norm: float
    noise_std: float

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, for files."""
        return {"total": self.total, "sketch": self.sketch, "w": self.w}

    def facts(self) -> dict[str, str]:
        """Everything else as text, for the header of a file."""
        return {
            "size": str(self.size), "votes": str(int(self.votes)),
            "clip_norm": repr(float(self.clip_norm)), "noise_std": repr(float(self.noise_std)),
        }  # fmt: skip

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> Self:
        """The inverse of :meth:`tensors` and :meth:`facts`.

        Raises:
            ValueError: Something is missing, of the wrong shape, or not finite.
        """
        if set(tensors) != {"total", "sketch", "w"} or set(facts) != {"size", "votes", "clip_norm", "noise_std"}:
            raise ValueError("Expected the tensors sketch, total, w and the facts clip_norm, noise_std, size, votes.")
        total, sketch, w = (tensors[name] for name in ("total", "sketch", "w"))
        if total.ndim != 2 or w.ndim != 1 or sketch.shape != (total.shape[1], w.shape[0] + 1):
            raise ValueError("Expected block shapes total (users, dimension), sketch (dimension, dim + 1), w (dim,).")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in (total, sketch, w)):
            raise ValueError("Expected a finite block sum.")
        return cls(
            total=total.double(), sketch=sketch.float(), w=w.float(), size=int(facts["size"]),
            votes=facts["votes"] == "1", clip_norm=float(facts["clip_norm"]), noise_std=float(facts["noise_std"]),
        )  # fmt: skip


def record_dimension(dim: int) -> int:
    """Numbers in a block's sum for ``dim`` features: what a ``RecordPlan`` is built for."""
    return min(dim, MOST_ROWS) + 1


def make_sketch(backbone: Backbone, public: PublicMoments, plan: RecordPlan) -> Tensor:
    """``A``: leading directions of taste by their prior variance, as loud as the clip norm asks, and the habit.

    Args:
        backbone: Shared model.
        public: Facts about the texts.
        plan: Its dimension and clip norm.

    Returns:
        float32, shape ``(plan.dimension, dim + 1)``; zeros where the backbone knows of no differences between people.
    """
    rows = min(plan.dimension - 1, backbone.prior.shape[0])
    look = (backbone.basis.double() * backbone.prior.double() ** EMPHASIS)[:, :rows].T
    power = float(torch.einsum("ij,jk,ik->", look, public.covariance.double(), look))
    sketch = torch.zeros(plan.dimension, public.dim + 1, dtype=torch.float64)
    if power > 0:
        sketch[:rows, :-1] = look * (LOUDNESS * plan.clip_norm / math.sqrt(power))
    sketch[-1, -1] = 2 * HABIT * plan.clip_norm  # a vote's residual is about 1/2
    return sketch.float()


def record_rows(backbone: Backbone, public: PublicMoments, plan: RecordPlan, records: Records) -> RecordRows:
    """Each record's moment under the average user.

    Args:
        backbone: Shared model; its ``w`` and sketch are kept with the rows.
        public: Facts about the texts.
        plan: What the sums will be.
        records: Of one block, or of several.

    Guarantees:
        * row independence: a row depends on the same record alone.
        * blanks: a blank place and a tier-3 record are zeros, and keep their place.
    """
    sketch = make_sketch(backbone, public, plan)
    difference = records.differences(public.mean)
    answer = torch.where(records.tier == 3, 0.0, records.answer.float())
    residual = answer * torch.sigmoid(-answer * (difference @ backbone.w))
    seen = difference @ sketch[:, :-1].T
    if records.votes:
        seen = seen + sketch[:, -1]
    rows = torch.where((answer == 0).unsqueeze(-1), 0.0, residual.unsqueeze(-1) * seen)
    return RecordRows(values=rows, sketch=sketch, w=backbone.w, votes=records.votes)


def block_integers(rows: RecordRows, plan: RecordPlan) -> NDArray[np.int64]:
    """The exact sum of one block in lattice steps, before any noise: private.

    Returns:
        int64, shape ``(users, dimension)``.

    Guarantees:
        * record sensitivity: making one place blank moves the sum by at most ``plan.clip_units`` in L2 norm, exactly,
          for any rows.
        * non-finite rows: a row with NaN or inf counts as blank.
    """
    users, places, dimension = rows.values.shape
    clipped = clip_users(rows.values.reshape(users * places, dimension).float(), clip_norm=plan.clip_norm)
    integers = encode(clipped, clip_norm=plan.clip_norm, clip_units=plan.clip_units)
    total: NDArray[np.int64] = integers.reshape(users, places, dimension).sum(axis=1)
    return total


def release_block(rows: RecordRows, plan: RecordPlan, *, block: int, noise: NoiseStream) -> BlockSum:
    """Sum one full block and add its noise. To be done once a block, ever: twice would cost twice.

    Args:
        rows: Of the block's places, all of them.
        plan: What was promised.
        block: Its number, from 0.
        noise: Fresh for a person's device; seeded in simulations alone.

    Raises:
        ValueError: The number of places is not the block's, or a row is not as long as planned; both are public.
    """
    users, places, dimension = rows.values.shape
    if places != plan.size(block):
        raise ValueError(f"Expected places={places} to be {plan.size(block)}, the size of block {block}.")
    if dimension != plan.dimension:
        raise ValueError(f"Expected dimension={dimension} to be {plan.dimension}, as planned.")
    drawn = noise.discrete_gaussian(plan.variance, users * dimension).reshape(users, dimension)
    total = torch.from_numpy(block_integers(rows, plan) + drawn).double() * plan.step
    return BlockSum(
        total=total, sketch=rows.sketch, w=rows.w, size=places, votes=rows.votes,
        clip_norm=plan.clip_norm, noise_std=plan.noise_std,
    )  # fmt: skip
