"""A cell: up to a thousand simulated people behind one node, answering a round as one batch.

It answers with the sum of their clipped, quantised vectors and noise shares, which is what secure aggregation would
show a server of a thousand devices. Memory is set by the chunk, not by the cell.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from homespun.client.request import read_request
from homespun.client.statistic import statistic_or_nothing
from homespun.personal import Backbone, Pairs
from homespun.privacy import Noise, Phase, contribute, ring_sum
from homespun.simulations.dropouts import Dropouts
from homespun.wire import Contribution, RoundRequest

CHUNK_VALUES = 2**22  # statistics in flight, in numbers: 16 MiB of float32, a few times that while they are quantised


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Simulated people and the learner on their devices.

    Their vectors and noise are those of devices; vaults, ledgers and policies are not there (engine ``faithful`` has them).
    """

    pairs: Pairs = field(repr=False)
    phases: Mapping[str, Phase[Backbone, Pairs]] = field(repr=False)
    noise: Callable[[int, int], Noise] = field(repr=False)
    """Where the cell's noise shares come from, given the run and the round."""
    dropouts: Dropouts | None = None
    first: int = 0
    """Place of the cell's first person among all people: coins of dropping out go by place."""

    def note_malformed(self) -> None:
        """Nothing: a cell is no device and has no ledger."""

    def contribute(self, request: RoundRequest) -> Contribution:
        """Answer a round for everybody in the cell, or for the participants that the request names.

        Who drops out before their masked vector would have arrived is left out, with their share of the noise.

        Raises:
            UnknownPhase: As a device would.
            IndexError: A participant is not in this cell.
        """
        phase, backbone = read_request(request, self.phases)
        people = torch.arange(self.pairs.users)
        if request.participants is not None:
            people = people[torch.from_numpy(request.participants).long()]
        if self.dropouts is not None:
            there = self.dropouts.contributing(request.run, request.round, request.attempt)
            people = people[torch.from_numpy(there[self.first + people.numpy()])]
        noise = self.noise(request.run, request.round)
        step = max(1, CHUNK_VALUES // phase.dimension)
        vectors = []
        for start in range(0, len(people), step):
            chunk = people[start : start + step]
            pairs = self.pairs if len(chunk) == self.pairs.users else self.pairs.select(chunk)
            statistic = statistic_or_nothing(phase, backbone, pairs, request.phase_round)
            vectors.append(contribute(statistic, request.release, devices=len(chunk), noise=noise))
        return Contribution(vector=ring_sum(vectors, dimension=phase.dimension), devices=len(people))
