"""The audit's way through secure aggregation: real parties mask the vectors, some drop out, and the rest is unmasked.

What a server adds up on its own has never met a mask. Here keys are agreed, secrets shared, vectors masked, the shares of
survivors and of those who dropped out combined, by the code that devices and servers run. A mask with a wrong sign, or
one that does not cancel, is then noise that no plan promised, and the audit's direct tests see it.

>>> through_masks([np.full(3, 7, dtype=np.uint32), np.full(3, 2**32 - 2, dtype=np.uint32)])
array([5, 5, 5], dtype=uint32)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from homespun.privacy.lattice import ring_sum
from homespun.secagg import Stage, rehearse

__all__ = ["through_masks"]

SURVIVORS = 6  # with one who drops out and one who is silent at the end, secrets can just be put together again
_LOST, _SILENT = 2, 5  # places among all seven: gone before the own vector arrived, and after it was counted
_LOUD = 2**28  # what the lost vector holds in each coordinate: nobody could overlook it in the sum


def through_masks(vectors: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Sum vectors modulo 2^32 in one round of the protocol.

    The vectors travel as those of `SURVIVORS` parties, because a sum does not depend on who brought which part. One more
    party shares keys and vanishes before its vector is due; one of the survivors vanishes before it hands over shares.

    Args:
        vectors: At least one, each uint32, of the same length.
    Returns:
        uint32, the same shape: what the server holds after unmasking.
    """
    dimension = len(vectors[0])
    parties = [ring_sum(vectors[part::SURVIVORS], dimension=dimension) for part in range(SURVIVORS)]
    parties.insert(_LOST, np.full(dimension, _LOUD, dtype=np.uint32))
    drops = {_LOST: Stage.MASK, _SILENT: Stage.REVEAL}
    return rehearse(parties, min_survivors=SURVIVORS, drops=drops).total
