"""Who masks with whom, and who signs the list: drawn with coins that everybody shares.

The coins are a ChaCha20 keystream under a key derived from public bytes, so whoever has the same bytes draws the same.
The **graph** follows from the transcript: one party's fresh key changes all of it. It is complete, or the union of
``degree / 2`` random cycles through everybody (`homespun.secagg.shape` says why that is enough). The **committee** follows
from the terms alone: two transcripts of one session must not have two committees.

>>> from homespun.secagg.shape import Shape
>>> shape = Shape(degree=8, threshold=5, committee=20, quorum=15)
>>> draw_graph(range(300), shape, bytes(32)).neighbours(7)
(47, 89, 114, 121, 184, 204, 263, 292)
>>> len(draw_committee(300, shape, bytes(32)))
20
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from homespun.secagg.shape import MAX_PARTIES, Shape

__all__ = ["Graph", "draw_committee", "draw_graph"]

_GRAPH_TAG = b"homespun secagg graph v1"
_COMMITTEE_TAG = b"homespun secagg committee v1"
_PLACE_BITS = np.uint64(16)  # low bits of a word that hold the party's place: 65,536 parties, 48 random bits


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The graph on the parties that advertised.

    Guarantees:
        * same for all: a function of the present parties, the shape and the transcript, on every platform.
        * symmetric: v is a neighbour of u exactly if u is one of v; nobody is its own neighbour.
        * degree: nobody has more than ``shape.degree`` neighbours; an edge drawn twice counts once.
    """

    present: tuple[int, ...]
    """Indices of the parties that advertised, rising."""

    links: NDArray[np.int32] | None = field(repr=False, compare=False)
    """Places (not indices) of both neighbours on every cycle, shape ``(len(present), degree)``; None: complete."""

    def neighbours(self, index: int) -> tuple[int, ...]:
        """Return the indices of a party's neighbours, rising.

        Raises:
            KeyError: the party is not present.
        """
        place = self._places[index]
        if self.links is None:
            return self.present[:place] + self.present[place + 1 :]
        return tuple(self.present[other] for other in sorted(set(self.links[place].tolist())))

    def least_live(self, survivors: Collection[int]) -> int:
        """Return how many neighbours on the list the worst-off survivor has.

        Whoever signs a list of survivors must see at least ``shape.threshold`` here. With fewer, that survivor's mask could
        never be removed and the sum over the list never opened; worse, a server could cut a few survivors off by declaring
        all their neighbours dropped, and open the sum of the others, which is smaller than the list says.

        Raises:
            KeyError: a survivor is not present.
        """
        places = [self._places[index] for index in survivors]
        if self.links is None or not places:
            return len(places) - 1
        live = np.zeros(len(self.present), dtype=bool)
        live[places] = True
        rows = np.sort(self.links[places], axis=1)
        counted = live[rows]
        counted[:, 1:] &= rows[:, 1:] != rows[:, :-1]
        return int(counted.sum(axis=1).min())

    @cached_property
    def _places(self) -> dict[int, int]:
        return {index: place for place, index in enumerate(self.present)}


def draw_graph(present: Sequence[int], shape: Shape, transcript: bytes) -> Graph:
    """Draw the graph on the parties that advertised.

    Args:
        present: Indices of the parties that advertised, distinct and rising.
        shape: Its degree.
        transcript: 32 bytes that bind terms and adverts.
    Raises:
        ValueError: the indices do not rise, or their number is below 3, above `MAX_PARTIES` or not above the degree.
    """
    parties = tuple(present)
    if any(left >= right for left, right in pairwise(parties)):
        raise ValueError("Expected the present parties as distinct, rising indices.")
    if not max(3, (shape.degree or 0) + 1) <= len(parties) <= MAX_PARTIES:
        raise ValueError(f"Expected present={len(parties)} parties in [3, {MAX_PARTIES}], above degree={shape.degree}.")
    if shape.degree is None:
        return Graph(present=parties, links=None)
    return Graph(present=parties, links=_links(_random_orders(shape.degree // 2, len(parties), _GRAPH_TAG, transcript)))


def draw_committee(parties: int, shape: Shape, terms_digest: bytes) -> frozenset[int]:
    """Draw who signs the list of survivors: everybody on the roster, or the first of a random order of the roster.

    Args:
        parties: Parties on the roster, with an advert or without.
        shape: Size of the committee.
        terms_digest: 32 bytes that bind the terms. No party's fresh key is in them, because a server that shows two sets of
            keys would have two committees, and a quorum of each.
    Raises:
        ValueError: the committee is larger than the roster, or the roster larger than `MAX_PARTIES`.
    """
    if not shape.committee <= parties <= MAX_PARTIES:
        raise ValueError(f"Expected parties={parties} in [committee={shape.committee}, {MAX_PARTIES}].")
    if shape.committee == parties:
        return frozenset(range(parties))
    order = _random_orders(1, parties, _COMMITTEE_TAG, terms_digest)[0]
    return frozenset(order[: shape.committee].tolist())


def _random_orders(count: int, parties: int, tag: bytes, coins: bytes) -> NDArray[np.int64]:
    """Return independent random orders of the places 0..parties-1, shape ``(count, parties)``.

    An order sorts one 48-bit word per party; equal words go by place. So any order has a chance of at most
    e^(parties^2 / 2^48) / parties!, and every bound on the chance of a bad graph holds up to that factor per order.
    """
    key = HKDF(hashes.SHA256(), 32, salt=None, info=tag).derive(coins)
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()  # RFC 8439; the key has no other use
    words = np.frombuffer(stream.update(bytes(8 * count * parties)), dtype="<u8").reshape(count, parties)
    distinct = (words >> _PLACE_BITS << _PLACE_BITS) | np.arange(parties, dtype=np.uint64)
    return np.argsort(distinct, axis=1)


def _links(orders: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return both neighbours of every place on every cycle, shape ``(parties, 2 * cycles)``."""
    cycles, parties = orders.shape
    links = np.empty((parties, 2 * cycles), dtype=np.int32)
    for cycle, order in enumerate(orders):
        links[order, 2 * cycle] = np.roll(order, -1)
        links[order, 2 * cycle + 1] = np.roll(order, 1)
    return links
