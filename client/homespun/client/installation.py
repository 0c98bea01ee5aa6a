"""What stands around a device: the learner, the federation, and who remembers its ledger."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from homespun.client.anchor import Anchor
from homespun.client.witnessed import DeviceWitness
from homespun.personal import Backbone, Pairs
from homespun.privacy import Noise, NoiseStream, Phase

__all__ = ["Installation"]


def _fresh(run: int, round: int) -> Noise:
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
    noise: Callable[[int, int], Noise] = field(default=_fresh, repr=False)
    """Where the noise of a run and a round comes from; anything but the default is a simulation."""
