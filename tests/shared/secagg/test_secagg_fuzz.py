"""Mutated messages to both machines: refused without a trace, or taken; never another error, never another sum."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from homespun.secagg import (
    Aborted,
    Advert,
    Adverts,
    Client,
    Consent,
    Inbox,
    MaskedVector,
    Refused,
    Revealed,
    RevealRequest,
    SealedShares,
    Server,
    Stage,
    Survivors,
)

PARTIES = 6
ROUTES: dict[type, Callable[..., object]] = {
    Adverts: lambda client, message, vector: client.share(message.adverts),
    Inbox: lambda client, message, vector: client.mask(vector, message),
    Survivors: lambda client, message, vector: client.consent(message),
    RevealRequest: lambda client, message, vector: client.reveal(message),
}


class Fuzzer:
    """One session whose every step is preceded by mutated messages.

    A gentle one tries each on a copy, which no user could make, and keeps what would be taken to itself: so the session
    stays honest to the end, and its sum can be checked.
    """

    def __init__(
        self,
        session: Any,
        foreign: list[Any],
        fingerprint: Callable[[object], str],
        rng: random.Random,
        *,
        gentle: bool,
    ) -> None:
        self.session, self.rng, self.fingerprint, self.gentle = session, rng, fingerprint, gentle
        self.pool = list(foreign)  # honest messages of another session, then of this one too
        self.sent = self.refused = 0
        self.taken = False

    def run(self, drop: int, stage: Stage) -> None:
        """All five steps; one party drops at ``stage``."""
        session = self.session
        silent: set[int] = set()
        steps: list[tuple[Stage, Callable[[Client, int], Any], Callable[[], object]]] = [
            (Stage.ADVERTISE, lambda client, index: client.advert, self._close_adverts),
            (Stage.SHARE, lambda client, index: client.share(session.adverts), self._close_shares),
            (
                Stage.MASK,
                lambda client, index: client.mask(session.vectors[index], session.inboxes[index]),
                self._close_masked,
            ),
            (Stage.CONSENT, lambda client, index: client.consent(session.survivors), self._close_consents),
            (Stage.REVEAL, lambda client, index: client.reveal(session.request(index)), lambda: None),
        ]
        for now, answer, close in steps:
            if now is stage:
                silent.add(drop)
            for index in sorted(session.server.waiting - silent):
                self._bother_client(session.clients[index])
                try:
                    message = answer(session.clients[index], index)
                except Refused:
                    assert self.taken  # it has answered a mutated message before, or was told another list
                    continue
                self._bother_server(message)
                self.pool.append(message)
                if index in session.server.waiting:
                    session.server.receive(message)
            close()

    def _close_adverts(self) -> None:
        self.session.adverts = self.session.server.close_adverts()
        self.pool.append(Adverts(adverts=self.session.adverts))

    def _close_shares(self) -> None:
        self.session.inboxes = self.session.server.close_shares()
        self.pool.extend(self.session.inboxes.values())

    def _close_masked(self) -> None:
        self.session.survivors = self.session.server.close_masked()
        self.pool.append(self.session.survivors)

    def _close_consents(self) -> None:
        self.pool.append(self.session.server.close_consents())

    def _bother_server(self, honest: Any) -> None:
        """Mutations of the message that is to come, and of others."""
        for base in (honest, self._any(Advert, SealedShares, MaskedVector, Consent, Revealed)):
            self._send(self.session.server, base, lambda server, message: server.receive(message))

    def _bother_client(self, client: Client) -> None:
        """Mutations of whatever was ever sent to somebody."""
        vector = self.session.vectors[client.index]
        self._send(client, self._any(*ROUTES), lambda client, message: ROUTES[type(message)](client, message, vector))

    def _send(self, machine: Any, base: Any, deliver: Callable[[Any, Any], object]) -> None:
        self.sent += 1
        try:
            message = self._mutated(base)
        except Refused:
            self.refused += 1  # it cannot even be read
            return
        if self.gentle and self._takes(_copy(machine), message, deliver):
            return
        before = self.fingerprint(machine)
        if self._takes(machine, message, deliver):
            self.taken = True
        else:
            self.refused += 1
            assert self.fingerprint(machine) == before

    def _takes(self, machine: Any, message: Any, deliver: Callable[[Any, Any], object]) -> bool:
        try:
            deliver(machine, message)
        except Refused:
            return False
        return True

    def _any(self, *kinds: type) -> Any:
        return self.rng.choice([message for message in self.pool if type(message) in kinds])

    def _mutated(self, message: Any) -> Any:
        how = self.rng.choice(["flip", "cut", "grow", "swap", "swap", "replay"])
        if how == "replay":
            return self._any(type(message))
        if how == "swap":
            return self._swapped(message)
        if isinstance(message, MaskedVector):
            return self._other_vector(message, how)
        data = bytearray(message.encode())
        for _ in range(self.rng.randint(1, 3)):
            if how == "flip":
                data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
            elif how == "cut":
                start = self.rng.randrange(len(data))
                del data[start : start + self.rng.randint(1, 170)]
                data = data or bytearray(b"\0")
            else:
                place = self.rng.randrange(len(data))
                data[place:place] = self.rng.randbytes(self.rng.choice([1, 4, 20, 37, 68, 84, 116, 164]))
        return type(message).decode(bytes(data))

    def _swapped(self, message: Any) -> Any:
        """The message with a field of another one, or one of its rows twice, moved or gone."""
        name = self.rng.choice([part.name for part in dataclasses.fields(message)])
        value = getattr(message, name)
        if isinstance(value, tuple) and value and self.rng.random() < 0.5:
            rows = list(value)
            place = self.rng.randrange(len(rows))
            rows[place : place + 1] = self.rng.choice(
                [[], [rows[place]] * 2, [rows[0]], [None], rows[place - 1 : place]]
            )
            return dataclasses.replace(message, **{name: tuple(rows)})
        odd = [None, -1, 2**40, "text", b"", (), (0, 1)]
        other = getattr(self._any(type(message)), name)
        return dataclasses.replace(message, **{name: self.rng.choice([other] * 5 + odd)})

    def _other_vector(self, message: MaskedVector, how: str) -> MaskedVector:
        vector: Any = message.vector
        shapes = {"flip": vector.astype(np.int64), "cut": vector[:-1], "grow": np.tile(vector, 2)}
        return MaskedVector(sender=message.sender, vector=shapes[how], acks=self.rng.choice([b"", b"a", bytes(20)]))


def _copy(machine: Any) -> Any:
    """The same state once more; a client replaces its state and never changes it."""
    if isinstance(machine, Server):
        return copy.deepcopy(machine)
    twin = object.__new__(Client)
    vars(twin).update(vars(machine))
    return twin


def _foreign(begin: Callable[..., Any], context: bytes) -> list[Any]:
    """Every message of an honest session."""
    session = begin(PARTIES, 2, context=context)
    session.advertise()
    messages: list[Any] = [*session.adverts, Adverts(adverts=session.adverts)]
    answers: tuple[Callable[[Client, int], Any], ...] = (
        lambda client, index: client.share(session.adverts),
        lambda client, index: client.mask(session.vectors[index], session.inboxes[index]),
        lambda client, index: client.consent(session.survivors),
        lambda client, index: client.reveal(session.request(index)),
    )
    for answer in answers:
        for index in sorted(session.server.waiting):
            messages.append(answer(session.clients[index], index))
            session.server.receive(messages[-1])
        if session.server.stage is Stage.SHARE:
            session.inboxes = session.server.close_shares()
            messages += session.inboxes.values()
        elif session.server.stage is Stage.MASK:
            session.survivors = session.server.close_masked()
            messages.append(session.survivors)
        elif session.server.stage is Stage.CONSENT:
            messages.append(session.server.close_consents())
    return messages


def _fuzz(begin: Callable[..., Any], fingerprint: Callable[[object], str], messages: int) -> None:
    foreign = _foreign(begin, bytes(32)) + _foreign(begin, b"f" * 32)
    sent = refused = honest = 0
    for seed in itertools.count():
        rng = random.Random(seed)
        session = begin(PARTIES, 2, min_survivors=5)
        fuzzer = Fuzzer(session, foreign, fingerprint, rng, gentle=seed % 2 == 0)
        drop, stage = rng.randrange(PARTIES), rng.choice(list(Stage))
        try:
            fuzzer.run(drop, stage)
            total = session.server.close()
        except Aborted:
            assert fuzzer.taken  # one party may drop: only what was taken can have ended it
        else:
            if not fuzzer.taken:
                honest += 1
                assert np.array_equal(total, session.plain_sum(session.server.survivors))
        sent, refused = sent + fuzzer.sent, refused + fuzzer.refused
        if sent >= messages:
            break
    assert refused > 0.8 * sent
    assert honest * 150 > sent  # about sixty messages a session, and every second one is honest


def test_mutated_messages(begin: Callable[..., Any], fingerprint: Callable[[object], str]) -> None:
    _fuzz(begin, fingerprint, 3_000)


@pytest.mark.study
def test_100000_mutated_messages(begin: Callable[..., Any], fingerprint: Callable[[object], str]) -> None:
    _fuzz(begin, fingerprint, 100_000)
