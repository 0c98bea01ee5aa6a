"""Devices that fall silent: who, in which round, and at which of its five steps.

A coin of each person's own decides, from the seed by fold, round, attempt and place, so that both engines lose the same
people: engine ``faithful`` answers their messages with an error at once, as the network does for a node that is gone,
and a Cell leaves out the people whose masked vector would not have arrived.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord, Context, Error, Message

from homespun.privacy import NoiseStream
from homespun.wire.aggregation import ADVERTISE, CONSENT, MASK, REVEAL, SHARE

__all__ = ["STEPS", "Dropouts", "silencing"]

STEPS = (ADVERTISE, SHARE, MASK, CONSENT, REVEAL)
"""Message types of a masked round, in order."""
_MASKED = STEPS.index(MASK)  # a round without masks is one message, which stands where the masked vector would leave
_NEVER = len(STEPS)
_NODE_UNAVAILABLE = 5  # Flower's error code for a node that does not answer

Answering = Callable[[Message, Context], Message]


@dataclass(frozen=True, kw_only=True)
class Dropouts:
    """Coins of a training's people."""

    seed: int
    chance: float
    """That a person drops out of a round; the step is then uniformly random."""
    people: int

    def steps(self, run: int, round: int, attempt: int = 0) -> npt.NDArray[np.int8]:
        """Where everybody falls silent: the number of the first step that is not answered, 5 for none, ``(people,)``."""
        return _draw(self, run, round, attempt)

    def contributing(self, run: int, round: int, attempt: int = 0) -> npt.NDArray[np.bool_]:
        """Whose masked vector arrives, ``(people,)``: who drops out later is in the sum."""
        return self.steps(run, round, attempt) > _MASKED


@lru_cache(maxsize=16)
def _draw(dropouts: Dropouts, run: int, round: int, attempt: int) -> npt.NDArray[np.int8]:
    with NoiseStream.seeded(dropouts.seed, "dropouts", run, round, attempt) as stream:
        words = np.frombuffer(stream.read(16 * dropouts.people), dtype="<u8").reshape(dropouts.people, 2)
    drops = words[:, 0] < int(dropouts.chance * 2**64)
    steps: npt.NDArray[np.int8] = np.where(drops, words[:, 1] % len(STEPS), _NEVER).astype(np.int8)
    steps.flags.writeable = False  # it is kept for the next who asks
    return steps


def silencing(app: Answering, dropouts: Dropouts) -> Answering:
    """Put silence in front of a ClientApp: a message to a device that dropped out never reaches it.

    Args:
        app: The ClientApp of one device a node, all in this process.
        dropouts: Who drops out.
    """
    asked = (0, 0, 0)

    def answer(message: Message, context: Context) -> Message:
        nonlocal asked
        step = message.metadata.message_type
        terms = message.content.get("round") if message.has_content() else None
        if isinstance(terms, ConfigRecord) and {"run", "round"} <= set(
            terms
        ):  # later steps are of the round asked last
            asked = (int(str(terms["run"])), int(str(terms["round"])), int(str(terms.get("attempt", 0))))
        number = STEPS.index(step) if step in STEPS else _MASKED
        if number >= dropouts.steps(*asked)[int(context.node_config["partition-id"])]:
            return Message(Error(_NODE_UNAVAILABLE, "the node is gone"), reply_to=message)
        return app(message, context)

    return answer
