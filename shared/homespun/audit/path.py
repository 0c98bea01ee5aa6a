"""One-run audit of the path that devices' data takes: clip, quantise, noise shares, masks, unmasked sum, decode.

Canary *users* of the loudest kind, each in a coordinate of its own, are put in or left out by secret coins; every
release and round of the plan is run with the functions and the noise that a run uses; what comes out is scored as the
best attacker would. So what is tested is the composed claim of the plan.

    audit = audit_path(plan, canaries=1000)
    audit.beaten, audit.failed                # nothing, where the path keeps its promise

**Why padding is right.** The mechanism adds independent noise of one variance to each coordinate, and clips a row by
its L2 norm alone. A row with one entry is clipped, quantised and noised as it would be in any dimension, so a sum
with m coordinates shows for m canaries at once what the plan's own sum shows for one. In the plan's dimension canaries
would share coordinates and drown each other. Only the charge for noise in pieces depends on the dimension; it is
below 1e-9 of the claim wherever shares have a standard deviation above 3 steps.

**Why few devices.** Noise is least where only ``fewest`` devices answer and ``colluding`` of them tell the attacker their
noise, so that is what is audited: canaries sit among ``min_survivors`` honest devices, and the others' part is subtracted.
Where there are more canaries than that, they are spread over several sums, each with its own noise.

**Who looks.** Where devices add the noise the claim holds against the server too, so the sum goes through a round of the
protocol (`homespun.audit.through_masks`), and the attacker holds what the server unmasked beside the mean that was released.
They are the same numbers, unless something is done to the sum in between: then both are scored.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from homespun.audit.bounds import mu_of
from homespun.audit.checks import Observation
from homespun.audit.claims import AuditedClaim, claimed_mu, path_claim
from homespun.audit.evidence import Audit, assess
from homespun.audit.game import Coins, throw
from homespun.audit.guesses import choose_guesses
from homespun.audit.through_masks import through_masks
from homespun.privacy import Noise, NoiseStream, Plan, ReleasePlan, Trust, contribute, decode, open_sum

__all__ = ["Path", "audit_path", "claimed_mu", "observe"]

LOUDNESS = 1000.0  # of a canary's row in clip norms: without the clip it would be heard a thousand times too loud
PART = 64  # canaries that contribute as one cell, each cell with noise of its own


class Contribute(Protocol):
    """See `homespun.privacy.contribute`."""

    def __call__(
        self, statistic: Tensor, release: ReleasePlan, *, devices: int, noise: Noise
    ) -> NDArray[np.uint32]: ...


class OpenSum(Protocol):
    """See `homespun.privacy.open_sum`."""

    def __call__(
        self, vectors: list[NDArray[np.uint32]], release: ReleasePlan, *, devices: int, noise: Noise | None
    ) -> tuple[Tensor, float]: ...


def fresh_noise(release: str, round: int, part: int) -> Noise:
    """A new key from the operating system, whoever asks."""
    return NoiseStream()


@dataclass(frozen=True, kw_only=True)
class Path:
    """The code under audit; the defaults are what runs use. Tests put broken ones in their place."""

    contribute: Contribute = contribute
    aggregate: Callable[[list[NDArray[np.uint32]]], NDArray[np.uint32]] = through_masks
    """Makes of the vectors that leave devices what a server may see of them, where devices add the noise."""
    open_sum: OpenSum = open_sum
    noise: Callable[[str, int, int], Noise] = field(default=fresh_noise)
    """Noise of one cell in one round: release, round, and the cell's number; -1 is the server."""


def audit_path(
    plan: Plan,
    *,
    canaries: int = 1000,
    guesses: int | None = None,
    confidence: float = 0.95,
    path: Path | None = None,
    coins: Callable[[int], Coins] = throw,
    announce: Callable[[str], None] = lambda commitment: None,
    progress: Callable[[], None] = lambda: None,
) -> Audit:
    """Audit the path with a plan's numbers.

    Args:
        plan: Whose claim is tested.
        canaries: m, at least 4. More show more: see ``docs/design/11-attacks.md``.
        guesses: k; by default `choose_guesses` of m and the claim. Fixed before the coins are thrown.
        confidence: That no bound of a correct build is above the claim, all of the audit's bounds together.
        path: The code under audit.
        coins: Throws the secret coins.
        announce: Told the commitment to coins and salt before the first canary is run.
        progress: Called after each noisy sum, those of the control included.
    Returns:
        Bounds, estimates and direct checks, and those of a control in which no canary was in.
    Raises:
        ValueError: the plan claims nothing, so there is nothing to test.
    """
    claim = path_claim(plan)
    thrown = coins(canaries)
    announce(thrown.commitment)
    runs: list[list[Observation]] = []
    for inside in (thrown.values, np.zeros(canaries, dtype=np.bool_)):
        runs.append([])
        for seen in observe(plan, inside, path or Path()):
            runs[-1].append(seen)
            progress()
    return assess(
        **vars(claim),
        confidence=confidence,
        guesses=_guesses(canaries, claim) if guesses is None else guesses,
        coins=thrown,
        scores=likelihood_ratio(runs[0]),
        control=likelihood_ratio(runs[1]),
        observations=runs[0],
    )


def observe(plan: Plan, inside: NDArray[np.bool_], path: Path) -> Iterator[Observation]:
    """Run every noisy sum of a plan with some canaries in; one observation a release and round, or one for each view.

    A canary's entry changes its sign from sum to sum: who gets the same noise twice can then subtract it.

    Args:
        plan: The releases.
        inside: Whose coin says in, shape ``(canaries,)``.
        path: The code under audit.
    """
    sums = [(release, round) for release in plan.releases for round in range(release.rounds)]
    for number, (release, round) in enumerate(sums):
        sign = 1 if number % 2 == 0 else -1
        rate = release.participation.sampling_probability
        here = inside & _drawn(len(inside), rate)
        entries = np.where(here, float(sign), 0.0)
        most = min(release.min_survivors, release.population)
        sums_of_few = [
            _sum(release, entries[start : start + most], round, start // most, path)
            for start in range(0, len(inside), most)
        ]
        released, unmasked = (np.concatenate([views[number] for views, _ in sums_of_few]) for number in (0, 1))
        unit = release.clip_norm / release.divisor
        for values in (released,) if np.array_equal(released, unmasked) else (released, unmasked):
            yield Observation(
                name=f"{release.name} {round}",
                values=sign * values / unit,
                inside=here,
                sigma=release.noise_multiplier,
                stated_sigma=sums_of_few[-1][1] / unit,
                clip_units=release.clip_units,
                rate=rate,
            )


def likelihood_ratio(observations: list[Observation]) -> NDArray[np.float64]:
    """Log-likelihood ratio of in against out over all sums, up to scale and shift; shape ``(canaries,)``.

    The best score there is, by the lemma of Neyman and Pearson, for normal noise.
    """
    total = np.zeros_like(observations[0].values)
    for seen in observations:
        ratio = (seen.values - 0.5) / seen.sigma**2
        total += ratio if seen.rate is None else np.logaddexp(math.log1p(-seen.rate), math.log(seen.rate) + ratio)
    return total


def _guesses(canaries: int, claim: AuditedClaim) -> int:
    return choose_guesses(canaries, claim.claim_mu or mu_of(claim.claim_epsilon, delta=claim.delta))


def _drawn(canaries: int, rate: float | None) -> NDArray[np.bool_]:
    """Who takes part in a round: everybody, or a Poisson sample by the operating system's coins."""
    if rate is None:
        return np.ones(canaries, dtype=np.bool_)
    words = np.frombuffer(secrets.token_bytes(8 * canaries), dtype="<u8")
    return np.asarray(words / 2.0**64 < rate)


def _sum(
    release: ReleasePlan, entries: NDArray[np.float64], round: int, batch: int, path: Path
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], float]:
    """One noisy sum of canaries with entry -1, 0 or 1 each, over the fewest devices.

    Returns:
        The mean that is released and the one that the server unmasked, each less what colluders know; and what is said
        of the noise.
    """
    canaries = len(entries)
    padded = replace(release, dimension=canaries)
    honest = min(release.min_survivors, release.population)
    cells = -(-canaries // PART)
    first = batch * (cells + 2)

    def silent(devices: int, cell: int) -> NDArray[np.uint32]:
        noise = path.noise(release.name, round, first + cell)
        return path.contribute(torch.zeros(0, canaries), padded, devices=devices, noise=noise)

    vectors = []
    for cell in range(cells):
        part = slice(cell * PART, min(canaries, (cell + 1) * PART))
        size = part.stop - part.start
        rows = torch.zeros(size, canaries)
        rows[torch.arange(size), torch.arange(part.start, part.stop)] = torch.from_numpy(
            entries[part] * (LOUDNESS * release.clip_norm)
        ).float()
        noise = path.noise(release.name, round, first + cell)
        vectors.append(path.contribute(rows, padded, devices=size, noise=noise))
    if honest > canaries:
        vectors.append(silent(honest - canaries, cells))
    known = np.zeros(canaries)
    if release.colluding > 0:
        vectors.append(silent(release.colluding, cells + 1))
        known = _mean(vectors[-1], padded)
    if release.trust is Trust.CENTRAL:
        noise = path.noise(release.name, round, -1 - batch)
        mean, std = path.open_sum(vectors, padded, devices=honest, noise=noise)
        return (mean.numpy(), mean.numpy()), std
    total = path.aggregate(vectors)
    mean, std = path.open_sum([total], padded, devices=honest + release.colluding, noise=None)
    return (mean.numpy() - known, _mean(total, padded) - known), std


def _mean(total: NDArray[np.uint32], release: ReleasePlan) -> NDArray[np.float64]:
    return decode(total, step=release.step) / release.divisor
