"""Direct tests of noisy sums whose exact content is known: scale, repetition, gaps, lattice, loudness.

They look at the noise itself, so they are far stronger than a guessing game where the noise is wrong in size, and
they see what no game can: noise that is too loud, or a divisor that tells how many answered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtri
from scipy.stats import poisson

__all__ = ["Check", "Observation", "check_all"]

Array = NDArray[np.float64]

FALSE_ALARM = 0.002  # chance of each kind of test, over all sums, to reject a correct build: 1.2 % for all six
LATTICE_TOLERANCE = 1e-3  # of a step; decoding rounds once, and a sum of 2^31 steps then to 5e-7


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One noisy sum, a coordinate a canary, in units of one canary: ``inside + sigma * noise``."""

    name: str
    values: Array = field(repr=False)
    """float64, shape ``(canaries,)``."""
    inside: NDArray[np.bool_] = field(repr=False)
    """Who was really in; for checks, never for scores."""
    sigma: float
    """Promised noise multiplier."""
    stated_sigma: float
    """What the code under audit says it added, in the same unit."""
    clip_units: int
    """Lattice steps of one canary."""
    rate: float | None
    """Chance of taking part, if it is a chance."""

    @property
    def noise(self) -> Array:
        """What is left without the canaries, in promised standard deviations."""
        return (self.values - self.inside) / self.sigma


@dataclass(frozen=True, kw_only=True)
class Check:
    """A figure and the range in which a correct build has it."""

    name: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the figure is in its range; NaN is not."""
        return self.low <= self.value <= self.high


def check_all(observations: list[Observation]) -> tuple[Check, ...]:
    """All direct tests of all sums; of each kind the figure that is worst.

    Guarantees:
        * few false alarms: a correct build fails any of them in at most 1.2 % of audits.
    """
    return (
        _noise_scale(observations),
        _stated_noise(observations),
        _silent_coordinates(observations),
        _repeated_noise(observations),
        _public_lattice(observations),
        _canaries_heard(observations),
    )


def _noise_scale(observations: list[Observation]) -> Check:
    """Variance of the noise over the promised one; exact chi-square range, corrected for the number of sums."""
    n = len(observations[0].values)
    tail = FALSE_ALARM / (2 * len(observations))
    ratios = [float((seen.noise**2).mean()) for seen in observations]
    low, high = float(chdtri(n, 1.0 - tail)) / n, float(chdtri(n, tail)) / n
    worst = max(ratios, key=lambda ratio: abs(math.log(max(ratio, 1e-300))))
    return Check(name="noise-scale", value=worst, low=low, high=high)


def _stated_noise(observations: list[Observation]) -> Check:
    """What the code says of its noise, over the promise."""
    lowest = min(seen.stated_sigma / seen.sigma for seen in observations)
    return Check(name="stated-noise", value=lowest, low=1.0 - 1e-9, high=math.inf)


def _silent_coordinates(observations: list[Observation]) -> Check:
    """Coordinates with exactly no noise; a few are chance where the noise is only some steps wide."""
    found = sum(int((np.rint(seen.noise * seen.sigma * seen.clip_units) == 0).sum()) for seen in observations)
    expected = sum(
        len(seen.values) / (math.sqrt(2.0 * math.pi) * max(0.4, seen.sigma * seen.clip_units)) for seen in observations
    )
    # a clipped canary may end one step below its bound, where the chance is the same
    return Check(name="silent-coordinates", value=found, low=0, high=float(poisson.isf(FALSE_ALARM, expected)))


def _repeated_noise(observations: list[Observation]) -> Check:
    """Largest correlation between the noise of two sums, or of one sum's first and second half of coordinates."""
    n = len(observations[0].values)
    parts = [seen.noise - seen.noise.mean() for seen in observations]
    pairs = [(a, b) for i, a in enumerate(parts) for b in parts[:i]]
    pairs += [(part[: n // 2], part[n // 2 : 2 * (n // 2)]) for part in parts]
    largest = max(abs(_correlation(a, b)) for a, b in pairs)
    limit = -float(ndtri(FALSE_ALARM / (2 * len(pairs)))) / math.sqrt(n // 2)
    return Check(name="repeated-noise", value=largest, low=0.0, high=limit)


def _correlation(a: Array, b: Array) -> float:
    norms = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norms if norms > 0.0 else 1.0


def _public_lattice(observations: list[Observation]) -> Check:
    """How far a released value is from the public lattice, in steps; another divisor than the public one leaves it."""
    steps = [seen.values * seen.clip_units for seen in observations]
    worst = max(float(np.abs(part - np.rint(part)).max()) for part in steps)
    return Check(name="public-lattice", value=worst, low=0.0, high=LATTICE_TOLERANCE)


def _canaries_heard(observations: list[Observation]) -> Check:
    """How far the mean canary is from one clip norm, in standard errors: an audit that nobody hears shows nothing."""
    limit = -float(ndtri(FALSE_ALARM / (2 * len(observations))))
    scores = [
        float(seen.noise[seen.inside].mean()) * math.sqrt(seen.inside.sum())
        for seen in observations
        if seen.inside.any()
    ]
    return Check(name="canaries-heard", value=max(scores, key=abs, default=0.0), low=-limit, high=limit)
