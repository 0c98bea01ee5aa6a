"""The masked rounds that devices take part in: keys, noise and shares of one attempt each, in memory and nowhere else.

Nothing of a session is ever sealed or written. A device that restarts has dropped out of its rounds, and no copy of its
folder can go on with their keys.
"""

from dataclasses import dataclass, field
from typing import final

from homespun import secagg
from homespun.client.request import Asked

__all__ = ["MOST_SESSIONS", "MaskedRound", "Sessions"]

MOST_SESSIONS = 8  # runs at a time of one device; a device that is asked by more of them drops out of the oldest


@dataclass(frozen=True, kw_only=True)
class MaskedRound:
    """One attempt at one round: what was asked, and the party of it that this device is."""

    asked: Asked
    terms: secagg.Terms = field(repr=False)
    party: secagg.Client = field(repr=False)
    """Makes everything that leaves in this round, and forgets its secrets when it has answered the last step."""


@final
class Sessions:
    """The open masked rounds of devices, at most one a run.

    It outlives a device that is opened and closed for each message, as those of simulations are; whoever deploys has one
    process a device, and its end is theirs. Devices that share one are told apart by their names.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._open: dict[str, dict[str, MaskedRound]] = {}

    def begin(self, device: str, session: MaskedRound) -> None:
        """Take part in a round; an older session of its run ends, and the oldest one where there are too many."""
        own = self._open.setdefault(device, {})
        older = own.get(session.asked.run)
        if older is None and len(own) == MOST_SESSIONS:
            older = next(iter(own.values()))
        if older is not None:
            self.end(device, older)
        own[session.asked.run] = session

    def of_run(self, device: str, run: str) -> MaskedRound | None:
        """The open session of a run."""
        return self._open.get(device, {}).get(run)

    def find(self, device: str, digest: bytes) -> MaskedRound | None:
        """The open session under terms of this digest."""
        own = self._open.get(device, {}).values()
        return next((session for session in own if session.terms.digest == digest), None)

    def end(self, device: str, session: MaskedRound) -> None:
        """Drop out of a round, or be done with it: its secrets are gone."""
        session.party.close()
        if self.of_run(device, session.asked.run) is session:
            del self._open[device][session.asked.run]

    def end_all(self, device: str) -> None:
        """Drop out of every round."""
        for session in list(self._open.pop(device, {}).values()):
            session.party.close()

    def __repr__(self) -> str:
        """Nothing of any session."""
        return "Sessions()"
