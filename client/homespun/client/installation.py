"""What stands around a device: the learner, the federation, and who remembers its ledger."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from homespun.client.anchor import Anchor
from homespun.client.masked_round import Sessions
from homespun.client.witnessed import DeviceWitness
from homespun.personal import Backbone, Pairs
from homespun.privacy import Noise, NoiseStream, Phase
from homespun.secagg import Identity

__all__ = ["Installation"]


def _fresh(run: int, round: int, attempt: int) -> Noise:
    return NoiseStream()


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What a device works with and does not keep in its folder."""

    project: str
    """The federation that it is enrolled in: 1 to 128 printable ASCII characters."""
    phases: Mapping[str, Phase[Backbone, Pairs]] = field(repr=False)
    """The learner that the owner installed."""
    user: str = field(default="owner", repr=False)
    witness: DeviceWitness | None = field(default=None, repr=False)
    anchor: Anchor | None = field(default=None, repr=False)
    noise: Callable[[int, int, int], Noise] = field(default=_fresh, repr=False)
    """Where the noise of a run, a round and an attempt comes from; anything but the default is a simulation."""
    identity: Identity | None = field(default=None, repr=False)
    """Who a new device is among the parties of a masked sum; made with the device, unless a simulation gives it."""
    sessions: Sessions = field(default_factory=Sessions, repr=False)
    """The masked rounds that go on: kept by whoever opens and closes a device between messages."""
