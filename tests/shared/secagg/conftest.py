from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from homespun.secagg import Client, Identity, Inbox, RevealRequest, Server, Stage, Survivors, Terms

IDENTITIES = [Identity.from_bytes(hashlib.sha256(b"%d" % index).digest()) for index in range(210)]


@dataclass
class Session:
    """A server and its parties, moved step by step; nobody drops unless told so."""

    terms: Terms
    server: Server
    clients: dict[int, Client]
    vectors: dict[int, NDArray[np.uint32]]
    adverts: tuple[Any, ...] = ()
    inboxes: dict[int, Inbox] = field(default_factory=dict)
    survivors: Survivors = field(default_factory=lambda: Survivors(indices=()))

    def advertise(self, drop: Iterable[int] = ()) -> Session:
        for index in sorted(self.server.waiting - set(drop)):
            self.server.receive(self.clients[index].advert)
        self.adverts = self.server.close_adverts()
        return self

    def share(self, drop: Iterable[int] = ()) -> Session:
        for index in sorted(self.server.waiting - set(drop)):
            self.server.receive(self.clients[index].share(self.adverts))
        self.inboxes = self.server.close_shares()
        return self

    def mask(self, drop: Iterable[int] = ()) -> Session:
        for index in sorted(self.server.waiting - set(drop)):
            self.server.receive(self.clients[index].mask(self.vectors[index], self.inboxes[index]))
        self.survivors = self.server.close_masked()
        return self

    def consent(self, drop: Iterable[int] = ()) -> Session:
        for index in sorted(self.server.waiting - set(drop)):
            self.server.receive(self.clients[index].consent(self.survivors))
        self.server.close_consents()
        return self

    def reveal(self, drop: Iterable[int] = ()) -> Session:
        for index in sorted(self.server.waiting - set(drop)):
            self.server.receive(self.clients[index].reveal(self.request(index)))
        return self

    def request(self, index: int) -> RevealRequest:
        return self.server.reveal_request(index)

    def finish(self) -> NDArray[np.uint32]:
        """Go on from wherever the session is, with everybody."""
        steps = {
            Stage.ADVERTISE: self.advertise,
            Stage.SHARE: self.share,
            Stage.MASK: self.mask,
            Stage.CONSENT: self.consent,
            Stage.REVEAL: self.reveal,
        }
        for stage in list(Stage)[list(Stage).index(self.server.stage) : -1]:
            steps[stage]()
        return self.server.close()

    def plain_sum(self, indices: Iterable[int]) -> NDArray[np.uint32]:
        total = np.zeros(self.terms.dimension, dtype=np.uint32)
        for index in indices:
            total += self.vectors[index]
        return total


def _begin(
    parties: int = 5,
    dimension: int = 3,
    *,
    min_survivors: int | None = None,
    colluding: int = 0,
    context: bytes = bytes(32),
) -> Session:
    identities = IDENTITIES[:parties]
    terms = Terms.of(
        context=context,
        dimension=dimension,
        roster=tuple(identity.public for identity in identities),
        min_survivors=min(parties, (parties + colluding) // 2 + 2) if min_survivors is None else min_survivors,
        colluding=colluding,
    )
    rng = np.random.default_rng(parties * 1000 + dimension)
    return Session(
        terms=terms,
        server=Server(terms),
        clients={index: Client(terms, identity) for index, identity in enumerate(identities)},
        vectors={index: rng.integers(0, 2**32, dimension, dtype=np.uint32) for index in range(parties)},
    )


@pytest.fixture(scope="session")
def begin() -> Callable[..., Session]:
    """Function of parties, dimension, min_survivors, colluding and context: a session in which nothing was sent."""
    return _begin


@pytest.fixture(scope="session")
def identities() -> list[Identity]:
    """210 identities that are the same in every run."""
    return IDENTITIES


@pytest.fixture(scope="session")
def fingerprint() -> Callable[[object], str]:
    """Function of a machine: a digest of all that it holds, secrets included."""
    return lambda machine: hashlib.sha256(repr(_all_of(machine)).encode()).hexdigest()


def _all_of(value: object) -> object:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, int | bytes | str | None):
        return value
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, X25519PrivateKey):
        return value.private_bytes_raw()
    if isinstance(value, Identity):
        return value.to_bytes()
    if isinstance(value, dict):
        return sorted((repr(_all_of(key)), _all_of(part)) for key, part in value.items())
    if isinstance(value, set | frozenset):
        return sorted(repr(_all_of(part)) for part in value)
    if isinstance(value, list | tuple):
        return [_all_of(part) for part in value]
    if is_dataclass(value) or isinstance(value, Client | Server):
        # what is computed on first use and kept is no state
        names = set(vars(value)) - {"digest", "_places"}
        return [type(value).__name__, [(name, _all_of(vars(value)[name])) for name in sorted(names)]]
    raise TypeError(f"Expected a known kind of state, not {type(value).__name__}.")
