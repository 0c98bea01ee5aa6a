"""One-run audit of the path that a person's own records take into an adapter: clip, quantise, block sum, noise.

Canary *records*, each in a coordinate of its own, are put into blocks of the plan's sizes or left blank by secret
coins, and the real block release runs. A record lies in one block and is charged once, so what is tested is the
claim for one record over its whole life. Only made-up records are used: nobody's adapter is touched.

Why more coordinates and more people than one do not change the mechanism: see `homespun.audit.path`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from homespun.audit.checks import Observation
from homespun.audit.claims import block_claim
from homespun.audit.evidence import Audit, assess
from homespun.audit.game import Coins, throw
from homespun.audit.guesses import choose_guesses
from homespun.audit.path import LOUDNESS
from homespun.personal.private import BlockSum, RecordRows, release_block
from homespun.privacy import NoiseStream
from homespun.privacy.record_plan import RecordPlan

__all__ = ["audit_blocks"]

BLOCKS = (2, 3)  # of 10 and 20 places in the usual schedule: two, so that noise used twice would show


class ReleaseBlock(Protocol):
    """See `homespun.personal.private.release_block`."""

    def __call__(self, rows: RecordRows, plan: RecordPlan, *, block: int, noise: NoiseStream) -> BlockSum: ...


def audit_blocks(
    plan: RecordPlan,
    *,
    canaries: int = 1000,
    guesses: int | None = None,
    confidence: float = 0.95,
    release: ReleaseBlock = release_block,
    noise: Callable[[], NoiseStream] = NoiseStream,
    coins: Callable[[int], Coins] = throw,
    announce: Callable[[str], None] = lambda commitment: None,
    progress: Callable[[], None] = lambda: None,
) -> Audit:
    """Audit the block release with a plan's numbers.

    Args:
        plan: Whose claim for one record is tested.
        canaries: m, even, at least 4.
        guesses: k; by default `choose_guesses` of m and the claim. Fixed before the coins are thrown.
        confidence: Of all the audit's bounds together.
        release: The code under audit.
        noise: Makes the stream of one person's device.
        coins: Throws the secret coins.
        announce: Told the commitment before the first canary is run.
        progress: Called after each block, those of the control included.
    Raises:
        ValueError: an odd number of canaries, or fewer than 4.
    """
    if canaries % len(BLOCKS):
        raise ValueError(f"Expected canaries={canaries} as a multiple of {len(BLOCKS)}, the number of blocks.")
    claim = block_claim(plan)
    thrown = coins(canaries)
    announce(thrown.commitment)
    runs: list[list[Observation]] = []
    for inside in (thrown.values, np.zeros(canaries, dtype=np.bool_)):
        runs.append([])
        for block, part in zip(BLOCKS, np.split(inside, len(BLOCKS)), strict=True):
            runs[-1].append(_observe(plan, block, part, release, noise()))
            progress()
    return assess(
        **vars(claim),
        confidence=confidence,
        guesses=choose_guesses(canaries, 1.0 / plan.noise_multiplier) if guesses is None else guesses,
        coins=thrown,
        scores=np.concatenate([seen.values for seen in runs[0]]),
        control=np.concatenate([seen.values for seen in runs[1]]),
        observations=runs[0],
    )


def _observe(
    plan: RecordPlan, block: int, inside: NDArray[np.bool_], release: ReleaseBlock, noise: NoiseStream
) -> Observation:
    """One block of as many people as the canaries fill; a coordinate a place."""
    places = plan.size(block)
    people = -(-len(inside) // places)
    filled = torch.zeros(people * places)
    filled[: len(inside)] = torch.from_numpy(inside).float() * (LOUDNESS * plan.clip_norm)
    rows = RecordRows(
        values=torch.diag_embed(filled.reshape(people, places)),
        sketch=torch.zeros(places, 2),
        w=torch.zeros(1),
        votes=False,
    )
    seen = release(rows, replace(plan, dimension=places), block=block, noise=noise)
    return Observation(
        name=f"block {block}",
        values=seen.total.numpy().reshape(-1)[: len(inside)] / plan.clip_norm,
        inside=inside,
        sigma=plan.noise_multiplier,
        stated_sigma=seen.noise_std / plan.clip_norm,
        clip_units=plan.clip_units,
        rate=None,
    )
