"""What a device computes from its data when it is asked: one statistic of an installed phase, or nothing."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from homespun.personal import Backbone, Pairs
from homespun.privacy import Phase

__all__ = ["own_statistic", "statistic_or_nothing"]

LOG = logging.getLogger("homespun.client")


def own_statistic(
    phase: Phase[Backbone, Pairs], backbone: Backbone, unseal: Callable[[], Pairs], phase_round: int
) -> Tensor:
    """The statistic of what is known of one person; nothing where nothing is, or where it cannot be read.

    Args:
        phase: The installed phase.
        backbone: Public state.
        unseal: Reads the person's pairs; ``KeyError`` where there are none.
        phase_round: Round within the phase.
    """
    try:
        pairs = unseal()
    except KeyError:
        return torch.zeros(0, phase.dimension)
    except Exception as error:  # noqa: BLE001  (silence would tell the server)
        LOG.error("what was learnt cannot be read, noise alone is sent: %s", type(error).__name__)
        return torch.zeros(0, phase.dimension)
    return statistic_or_nothing(phase, backbone, pairs, phase_round)


def statistic_or_nothing(phase: Phase[Backbone, Pairs], backbone: Backbone, pairs: Pairs, phase_round: int) -> Tensor:
    """Some people's statistic, without the rows of those from whose preferences it cannot be computed.

    Args:
        phase: The installed phase.
        backbone: Public state.
        pairs: Some people's pairs.
        phase_round: Round within the phase.

    Returns:
        float32, shape ``(at most users, dimension)``.

    Guarantees:
        * no exception: whatever the statistic raises or returns ends here; its class alone is logged, because the text
          may quote a preference.
    """
    try:
        rows = phase.statistic(backbone, pairs, phase_round)
        if rows.shape == (pairs.users, phase.dimension) and rows.dtype == torch.float32:
            return rows
        problem = "a tensor of another shape or type"
    except Exception as error:  # noqa: BLE001  (silence would tell the server about the data)
        problem = type(error).__name__
    if pairs.users > 1:  # one person must not take the others' part away, nor tell of themselves by doing so
        people = (pairs.select(slice(place, place + 1)) for place in range(pairs.users))
        return torch.cat([statistic_or_nothing(phase, backbone, person, phase_round) for person in people])
    LOG.warning("a statistic failed, noise alone is sent: %s", problem)
    return torch.zeros(0, phase.dimension)
