"""Whether the sums of a ledger were masked, and what was opened and lost: read from its entries of kind ``open``.

A server writes ``open`` before it asks for the shares that unmask a sum. So a round that was masked has one beside its
commit, and a sum that was opened and never used has one too many. What an entry cannot show is that the keys of a roster
belong to devices, and how many of them collude: the words that are made from this say both.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from homespun.audit.spends import Spends
from homespun.privacy.accountant import GaussianEvent
from homespun.privacy.ledger import Kind
from homespun.privacy.terms import Trust

__all__ = ["Masking", "lost_events", "read_masking"]


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How the noisy sums of a ledger came about, where devices add the noise."""

    holder: str
    """Who kept the ledger: a device opens no sum; one that lets masked vectors alone leave says for each who may collude."""
    rounds: int
    """Rounds that were committed."""
    masked: int
    """Those of them with a sum that was unmasked."""
    opened: int
    """Sums that were unmasked, in all."""
    lost: int
    """Those of them that are in no paid round: opened for one that had been opened before."""
    fewest: int | None
    """Fewest devices in a sum that was unmasked; None where none was."""
    colluding: int | None
    """How many devices of a round may collude, by the plan or by every request; None where they do not say."""

    @property
    def everywhere(self) -> bool:
        """Whether each round was masked."""
        return self.colluding is not None if self.holder == "device" else 0 < self.rounds == self.masked

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "rounds": self.rounds,
            "masked": self.masked,
            "opened": self.opened,
            "lost": self.lost,
            "fewest": self.fewest,
            "colluding": self.colluding,
        }


def read_masking(spends: Spends) -> Masking | None:
    """What a ledger says of its masks; None where there is nothing to mask, because no device adds noise."""
    if Trust.DISTRIBUTED.value not in spends.trust:
        return None
    opened = [entry.body for entry in spends.entries if entry.kind is Kind.OPEN]
    times = Counter(body["reservation"] for body in opened)
    committed = {entry.body["reservation"] for entry in spends.entries if entry.kind is Kind.COMMIT}
    return Masking(
        holder=spends.genesis.holder,
        rounds=len(committed),
        masked=len(committed & times.keys()),
        opened=len(opened),
        lost=sum(number - 1 for number in times.values()),
        fewest=min((body["survivors"] for body in opened), default=None),
        colluding=_colluding(spends),
    )


def _colluding(spends: Spends) -> int | None:
    """The most that may collude in any round, as it was known before the round."""
    plan = spends.genesis.plan
    if plan is not None:
        return max(release.colluding for release in plan.releases)
    told = [release.subject.get("colluding") for release in spends.order]
    known = [number for number in told if isinstance(number, int)]
    return max(known) if known and len(known) == len(told) else None


def lost_events(spends: Spends) -> dict[str, list[GaussianEvent | None]]:
    """By account, the release of every sum that was opened once more than it was paid for.

    A reservation pays for one sum of its round. The retry of a round has new noise, so that whoever kept both sums has
    seen two releases.
    """
    times = Counter(entry.body["reservation"] for entry in spends.entries if entry.kind is Kind.OPEN)
    found: dict[str, list[GaussianEvent | None]] = {}
    for release in spends.order:
        extra = times[release.seq] - 1
        if extra > 0:
            found.setdefault(release.account, []).extend([release.event] * extra)
    return found
