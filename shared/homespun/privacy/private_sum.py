"""The one idea: a bounded vector per device, and nothing but the noisy sum of many.

A learner is a `Phase`: a statistic per user, and what the server does with the noisy mean. Everything between is
here and knows nothing of learners::

    statistic -> clip -> lattice -> sum of rows -> noise shares -> ring     contribute(), on the device or in a cell
    ring sum -> centred integers -> central noise, if any -> mean           open_sum(), on the server

>>> from homespun.privacy.terms import Participation
>>> release = ReleasePlan(name="mean", rounds=1, dimension=2, clip_norm=1.0, clip_units=16384, variance=0,
...     share_variance=0, trust=Trust.DISTRIBUTED, participation=Participation.full(), population=4, min_survivors=2,
...     rho="0")
>>> rows = torch.tensor([[3.0, 4.0], [0.0, 0.5], [0.25, 0.0]])
>>> with NoiseStream() as stream:
...     vector = contribute(rows, release, devices=3, noise=stream)
>>> mean, noise_std = open_sum([vector], release, devices=3)
>>> [round(x, 3) for x in mean.tolist()], noise_std
([0.212, 0.325], 0.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from homespun.privacy.clip import clip_users
from homespun.privacy.errors import CohortTooSmall, LatticeOverflow
from homespun.privacy.lattice import decode, encode, ring_sum, to_ring
from homespun.privacy.noise import NoiseStream, draw_shares
from homespun.privacy.plan import ReleasePlan
from homespun.privacy.terms import Trust

__all__ = ["Noise", "Phase", "contribute", "open_sum"]

Noise = NoiseStream | Callable[[int, int], NDArray[np.int64]]
"""A stream, or a function of (variance in squared lattice steps, size) that draws discrete Gaussians, int64."""

BackboneT = TypeVar("BackboneT")
DataT_contra = TypeVar("DataT_contra", contravariant=True)


class Phase(Protocol[BackboneT, DataT_contra]):
    """All that a learner supplies.

    Only `statistic` sees data. Its rows need no bound: they are clipped. Row u must depend on user u's data and on
    the backbone alone. `update` is post-processing: it sees the noisy mean and public numbers.
    """

    @property
    def name(self) -> str:
        """Name of the phase's release in the spec."""

    @property
    def rounds(self) -> int:
        """Number of noisy sums."""

    @property
    def clip_norm(self) -> float:
        """Largest L2 norm of a row, in the unit of the statistic; public."""

    @property
    def dimension(self) -> int:
        """Length of a row."""

    def statistic(self, backbone: BackboneT, data: DataT_contra, round: int) -> Tensor:
        """One row per user, float32, shape ``(users, dimension)``; a user without data gives a row of zeros.

        Args:
            backbone: Public state.
            data: Some users' data.
            round: 0 to ``rounds - 1``.
        """

    def update(self, backbone: BackboneT, mean: Tensor, noise_std: float, round: int) -> BackboneT:
        """Return the next public state.

        Args:
            backbone: Public state before.
            mean: Noisy sum over the public divisor, float64, shape ``(dimension,)``, in the unit of the statistic.
            noise_std: Standard deviation of the noise in each coordinate of ``mean``; public.
            round: 0 to ``rounds - 1``.
        """


def contribute(statistic: Tensor, release: ReleasePlan, *, devices: int, noise: Noise) -> NDArray[np.uint32]:
    """Clip, quantise and add up some users' rows, and add their devices' shares of the noise.

    On a device there is one row. A cell calls this once, or once per chunk of its people so that the chunk sets the
    memory, and adds the results with `ring_sum`: integer sums do not depend on the chunks. If the function that
    computes a statistic raised, its caller must still send what ``contribute`` makes of no rows at all, shape
    ``(0, dimension)``, with ``devices`` unchanged: noise alone. Silence would tell the server about the data.

    Args:
        statistic: float32, shape ``(users, dimension)``, ``0 <= users <= devices``.
        release: The plan of this phase's release.
        devices: Number of devices that this vector stands for; each adds one share of the noise. Several shares
            are drawn at once where that is the same distribution up to the bound that the accountant charges.
        noise: Where shares come from. Not used with `Trust.CENTRAL`, where the server adds the noise.
    Returns:
        uint32, shape ``(dimension,)``: the noisy integer sum modulo 2^32.
    Guarantees:
        * bounded contribution: without noise, one row moves the integer sum by an L2 norm of at most
          ``release.clip_units``, whatever the row holds.
        * no silence: rows with NaN or inf count as zeros and nothing is raised about the values.
        * chunk independence: without noise, the sum over chunks is the sum over all rows.
        * every coordinate noisy: a statistic of zeros still gets noise in every coordinate.
    Raises:
        ValueError: the shape or type is wrong, or there are more rows than devices: a row would lack its noise.
    """
    if statistic.ndim != 2 or statistic.shape[1] != release.dimension:
        raise ValueError(f"Expected statistic of shape (users, {release.dimension}), not {tuple(statistic.shape)}.")
    if not statistic.shape[0] <= devices <= release.population or devices < 1:
        raise ValueError(
            f"Expected devices={devices} in [max(1, users={statistic.shape[0]}), population={release.population}]."
        )
    clipped = clip_users(statistic, clip_norm=release.clip_norm)
    rows = encode(clipped, clip_norm=release.clip_norm, clip_units=release.clip_units)
    total: NDArray[np.int64] = rows.sum(axis=0, dtype=np.int64)
    if release.trust is Trust.DISTRIBUTED and release.share_variance > 0:
        total += draw_shares(_draw(noise), release.share_variance, devices, release.dimension)
    return to_ring(total)


def open_sum(
    vectors: Iterable[NDArray[np.uint32]], release: ReleasePlan, *, devices: int, noise: Noise | None = None
) -> tuple[Tensor, float]:
    """Add vectors modulo 2^32 and decode the noisy mean.

    Args:
        vectors: What `contribute` made, each uint32, shape ``(dimension,)``; masks, if any, already cancelled.
        release: The plan of this phase's release.
        devices: Number of devices that the vectors stand for. With `Trust.DISTRIBUTED` at least
            ``release.fewest``: with fewer, and with ``colluding`` of them taking their noise away, there is less of
            it than promised. With Poisson participation any number from 0, because a cohort's size is secret; an
            empty cohort still releases noise.
        noise: Where the server's noise comes from; needed with `Trust.CENTRAL`, refused otherwise.
    Returns:
        The noisy sum over the public divisor, float64, shape ``(dimension,)``, and the standard deviation of the
        noise in each of its coordinates with the shares of all ``devices`` in it: a learner has to tell signal from
        the noise that is there. It is no privacy figure: those are the release's.
    Guarantees:
        * public divisor: the scale does not depend on how many devices answered.
        * noise floor: ``noise_std >= release.noise_std``, and so is the standard deviation of what is left of it to
          somebody who knows the shares of ``release.colluding`` devices: the shares of at least ``min_survivors``.
        * public lattice: every coordinate is a whole multiple of the step over the divisor, noise included.
    Raises:
        CohortTooSmall: fewer devices than ``release.fewest``.
        LatticeOverflow: more devices than the population, for which the sum could wrap.
        ValueError: a vector of the wrong shape or type, or noise missing or superfluous.
    """
    poisson = release.participation.sampling_probability is not None
    if devices < release.fewest and not poisson:
        colluding = f" + colluding={release.colluding}" if release.colluding else ""
        raise CohortTooSmall(f"Expected devices={devices} in [min_survivors={release.min_survivors}{colluding}, inf).")
    if devices > release.population:
        raise LatticeOverflow(f"Expected devices={devices} in [0, population={release.population}].")
    central = release.trust is Trust.CENTRAL and release.variance > 0
    if central and noise is None:
        raise ValueError("Expected noise with trust='central': the server must add it before anything is released.")
    if noise is not None and not central:
        raise ValueError("Expected noise=None: with trust='distributed' the shares are already in the sum.")
    total = ring_sum(vectors, dimension=release.dimension)
    if central and noise is not None:
        drawn = draw_shares(_draw(noise), release.variance, 1, release.dimension)
        total = ring_sum([total, to_ring(drawn)], dimension=release.dimension)
        variance = release.variance
    else:
        variance = devices * release.share_variance
    mean = torch.from_numpy(decode(total, step=release.step) / release.divisor)
    return mean, release.step * math.sqrt(variance) / release.divisor


def _draw(noise: Noise) -> Callable[[int, int], NDArray[np.int64]]:
    return noise.discrete_gaussian if isinstance(noise, NoiseStream) else noise
