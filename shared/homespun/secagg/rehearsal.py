"""A whole session in one process, with parties that drop out: for tests, benchmarks and audits.

Every message but the masked vectors is encoded and decoded on its way. The clocks say what one party and the server
compute, without transport.

>>> vectors = {index: np.full(3, 10**index, dtype=np.uint32) for index in range(7)}
>>> outcome = rehearse(vectors, min_survivors=5, drops={1: Stage.MASK, 4: Stage.CONSENT})
>>> outcome.total
array([1111101, 1111101, 1111101], dtype=uint32)
>>> outcome.survivors
(0, 2, 3, 4, 5, 6)
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from homespun.secagg.client import Client
from homespun.secagg.errors import Stage
from homespun.secagg.identity import Identity
from homespun.secagg.messages import (
    Advert,
    Adverts,
    Inbox,
    MaskedVector,
    Message,
    RevealRequest,
    Survivors,
)
from homespun.secagg.server import Server
from homespun.secagg.terms import Terms

__all__ = ["Clock", "Outcome", "rehearse"]

Vectors = Mapping[int, NDArray[np.uint32]] | Sequence[NDArray[np.uint32]] | Callable[[int], NDArray[np.uint32]]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, kw_only=True)
class Clock:
    """CPU time of the parties that answered to the end, in seconds, over all their steps."""

    mean: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a session.

    Args:
        total: Sum of the survivors' vectors modulo 2^32, uint32, shape ``(dimension,)``.
        survivors: Their indices, rising.
        transcript: 32 bytes.
        client: CPU time of a survivor, the terms decoded included.
        server_seconds: CPU time of the server, messages decoded and encoded included.
        upload_bytes: Most that one party sent, the masked vector included.
        download_bytes: Most that one party was sent, the terms included.
    """

    total: NDArray[np.uint32] = field(repr=False)
    survivors: tuple[int, ...]
    transcript: bytes
    client: Clock
    server_seconds: float
    upload_bytes: int
    download_bytes: int


def rehearse(
    vectors: Vectors,
    *,
    parties: int | None = None,
    dimension: int | None = None,
    min_survivors: int,
    colluding: int = 0,
    drops: Mapping[int, Stage] | None = None,
    context: bytes | None = None,
    identities: Sequence[Identity] | None = None,
) -> Outcome:
    """Run one session; every party follows the protocol until it drops.

    Args:
        vectors: Vector by index, uint32, all of one shape: a mapping, a sequence, or a function that is called when a
            party's turn comes, so that few vectors are in memory at once.
        parties: Number of parties; needed with a function alone.
        dimension: Length of a vector; needed with a function alone.
        min_survivors: Fewest vectors that the sum is opened of.
        colluding: As in `Terms`.
        drops: Step from which on a party answers nothing; `Stage.CONSENT` and later leave its vector in the sum.
        context: 32 bytes; fresh if missing.
        identities: Keys of the parties; fresh if missing.
    Raises:
        Aborted: too many dropped.
        Refused: the terms are not sound, or a vector has another type or shape.
    """
    if callable(vectors):
        if parties is None or dimension is None:
            raise ValueError("Expected parties and dimension beside a function that makes vectors.")
        make, number, length = vectors, parties, dimension
    else:
        make, number, length = vectors.__getitem__, len(vectors), len(vectors[0])
    keys = [Identity.generate() for _ in range(number)] if identities is None else list(identities)
    terms = Terms.of(
        context=hashlib.sha256(os.urandom(32)).digest() if context is None else context,
        dimension=length,
        roster=tuple(key.public for key in keys),
        min_survivors=min_survivors,
        colluding=colluding,
    )
    return _Rehearsal(terms, keys, dict(drops or {})).run(make)


class _Rehearsal:
    """Parties, server, clocks and counts of one session."""

    def __init__(self, terms: Terms, identities: Sequence[Identity], drops: Mapping[int, Stage]) -> None:
        self.terms, self.drops, self.identities = terms, drops, identities
        self.client_seconds = dict.fromkeys(range(terms.parties), 0.0)
        self.server_seconds = 0.0
        self.sent = dict.fromkeys(range(terms.parties), 0)
        self.got = dict.fromkeys(range(terms.parties), 0)
        self.server = self._serve(partial(Server, terms))
        self.clients: dict[int, Client] = {}

    def run(self, make: Callable[[int], NDArray[np.uint32]]) -> Outcome:
        """Go through the five steps."""
        server = self.server
        announced = self._serve(self.terms.encode)
        self._step(Stage.ADVERTISE, lambda index: announced, self._join)
        adverts = self._serve(lambda: Adverts(adverts=server.close_adverts()).encode())
        self._step(
            Stage.SHARE, lambda index: adverts, lambda index, data: self._of(index).share(Adverts.decode(data).adverts)
        )
        inboxes = self._serve(server.close_shares)
        self._step(
            Stage.MASK,
            lambda index: inboxes.pop(index).encode(),
            lambda index, data: self._of(index).mask(make(index), Inbox.decode(data)),
        )
        survivors = self._serve(lambda: server.close_masked().encode())
        self._step(
            Stage.CONSENT,
            lambda index: survivors,
            lambda index, data: self._of(index).consent(Survivors.decode(data)),
        )
        self._serve(server.close_consents)
        self._step(
            Stage.REVEAL,
            lambda index: server.reveal_request(index).encode(),
            lambda index, data: self._of(index).reveal(RevealRequest.decode(data)),
        )
        return self._outcome(self._serve(server.close))

    def _join(self, index: int, data: bytes) -> Advert:
        self.clients[index] = Client(Terms.decode(data), self.identities[index])
        return self.clients[index].advert

    def _of(self, index: int) -> Client:
        return self.clients[index]

    def _step(self, stage: Stage, request: Callable[[int], bytes], answer: Callable[[int, bytes], Message]) -> None:
        """Ask everybody that is waited for and has not dropped before the end of this step."""
        order = list(Stage)
        for index in sorted(self.server.waiting):
            if order.index(self.drops.get(index, Stage.DONE)) <= order.index(stage):
                continue
            data = self._serve(partial(request, index))
            self.got[index] += len(data)
            began = time.process_time()
            message = answer(index, data)
            masked = isinstance(message, MaskedVector)
            sent = message.acks if isinstance(message, MaskedVector) else message.encode()
            self.client_seconds[index] += time.process_time() - began
            self.sent[index] += len(sent) + 4 * self.terms.dimension * masked
            self._serve(partial(self._deliver, index, message, sent))

    def _deliver(self, index: int, message: Message, encoded: bytes) -> None:
        arrived = message if isinstance(message, MaskedVector) else type(message).decode(encoded)
        self.server.receive(arrived, sender=index)

    def _outcome(self, total: NDArray[np.uint32]) -> Outcome:
        survivors = self.server.survivors
        times = [self.client_seconds[index] for index in survivors if index not in self.drops]
        return Outcome(
            total=total,
            survivors=survivors,
            transcript=self.server.transcript,
            client=Clock(mean=sum(times) / len(times), largest=max(times)),
            server_seconds=self.server_seconds,
            upload_bytes=max(self.sent.values()),
            download_bytes=max(self.got.values()),
        )

    def _serve(self, work: Callable[[], ResultT]) -> ResultT:
        began = time.process_time()
        result = work()
        self.server_seconds += time.process_time() - began
        return result
