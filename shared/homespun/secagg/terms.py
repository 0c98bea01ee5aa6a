"""What is summed, among whom, and how many must agree: fixed before the first key is made.

A party gets terms from the server that it does not trust. So terms that would let a server learn more than one sum of
enough vectors cannot be made or decoded: `Terms` is the check.

Layout: tag ‖ context ‖ dimension ‖ parties ‖ least survivors ‖ colluding ‖ degree (0: everybody) ‖ threshold ‖ committee ‖
quorum ‖ identities; whole numbers take 4 bytes, little-endian, and the rest 32 bytes each.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from homespun.secagg.crypto import Tag, digest
from homespun.secagg.errors import Fault, Refused
from homespun.secagg.identity import is_weak_identity
from homespun.secagg.shape import COMPLETE_UP_TO, MAX_PARTIES, SECURITY_BITS, Shape, choose_shape, failure_bound

__all__ = ["MAX_DIMENSION", "Terms"]

MAX_DIMENSION = 2**28  # a mask is 2^26 of the 2^32 blocks that ChaCha20 has under one key
_FEWEST_PARTIES = 3  # one vector is no sum, and of a sum of two each of the two learns the other's vector
_HEAD = struct.Struct("<32s8I")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Terms of one session.

    Args:
        context: SHA-256 of whatever the parties must agree on beside the sum (the round, the model, the noise), 32 bytes.
            A retry needs another context.
        dimension: Length of a vector.
        roster: Ed25519 public keys of those who may take part, 32 bytes each, all different. A party's index is its place.
        min_survivors: Fewest vectors that a sum is opened of.
        colluding: Most parties that may share what they know with the server; privacy of the others holds up to there.
        shape: Graph, threshold and quorum. `of` chooses it.
    Guarantees:
        * sound: for these numbers, a server that drops whom it likes learns anything but one sum of at least
          ``min_survivors`` vectors with a chance of at most ``2**-SECURITY_BITS`` (see `homespun.secagg.shape`).
    Raises:
        Refused: ``TERMS_UNSOUND``, or ``MALFORMED``.
    """

    context: bytes
    dimension: int
    roster: tuple[bytes, ...] = field(repr=False)
    min_survivors: int
    colluding: int
    shape: Shape

    def __post_init__(self) -> None:
        """Refuse terms under which the promise does not hold."""
        _check_types(self)
        parties = len(self.roster)
        if not _FEWEST_PARTIES <= parties <= MAX_PARTIES:
            raise _unsound(
                f"parties={parties} in [{_FEWEST_PARTIES}, {MAX_PARTIES}]: of a sum of two, each learns the other's vector"
            )
        if not 1 <= self.dimension <= MAX_DIMENSION:
            raise _unsound(f"dimension={self.dimension} in [1, {MAX_DIMENSION}]")
        if not 0 <= self.colluding < self.min_survivors <= parties:
            raise _unsound(
                f"colluding={self.colluding} in [0, min_survivors={self.min_survivors}) "
                f"and min_survivors in (colluding, parties={parties}]"
            )
        if len(set(self.roster)) != parties or any(is_weak_identity(key) for key in self.roster):
            raise _unsound("a roster of different Ed25519 keys of large order in their one spelling")
        rule = _broken_rule(self.shape, parties, self.min_survivors, self.colluding)
        if rule is not None:
            raise _unsound(rule)

    @classmethod
    def of(
        cls, *, context: bytes, dimension: int, roster: tuple[bytes, ...], min_survivors: int, colluding: int = 0
    ) -> Terms:
        """Choose the smallest shape that is sound for these numbers.

        Raises:
            Refused: no shape is, or another argument is out of range.
        """
        try:
            shape = choose_shape(len(roster), min_survivors=min_survivors, colluding=colluding)
        except ValueError as error:
            raise Refused(Fault.TERMS_UNSOUND, str(error)) from None
        return cls(
            context=context,
            dimension=dimension,
            roster=roster,
            min_survivors=min_survivors,
            colluding=colluding,
            shape=shape,
        )

    @property
    def parties(self) -> int:
        """Number of identities on the roster."""
        return len(self.roster)

    @property
    def sparse(self) -> bool:
        """Whether a party masks with some of the others only. Then neighbours tell each other with whom they masked."""
        return self.shape.degree is not None

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the encoded terms, 32 bytes: the session's name, and part of everything derived in it."""
        return digest(Tag.TERMS, self.encode())

    def encode(self) -> bytes:
        """Return 64 bytes, and 32 a party."""
        shape = self.shape
        head = _HEAD.pack(
            self.context,
            self.dimension,
            self.parties,
            self.min_survivors,
            self.colluding,
            shape.degree or 0,
            shape.threshold,
            shape.committee,
            shape.quorum,
        )
        return head + b"".join(self.roster)

    @classmethod
    def decode(cls, data: bytes) -> Terms:
        """Inverse of `encode`.

        Raises:
            Refused: it is not terms, or they are not sound.
        """
        if type(data) is not bytes or len(data) < _HEAD.size:
            raise Refused(Fault.MALFORMED, f"Expected terms of at least {_HEAD.size} bytes.")
        context, dimension, parties, min_survivors, colluding, *shape = _HEAD.unpack_from(data)
        if parties > MAX_PARTIES or len(data) != _HEAD.size + 32 * parties:
            raise Refused(Fault.MALFORMED, "Expected as many identities as announced.")
        degree, threshold, committee, quorum = shape
        return cls(
            context=context,
            dimension=dimension,
            roster=tuple([data[start : start + 32] for start in range(_HEAD.size, len(data), 32)]),
            min_survivors=min_survivors,
            colluding=colluding,
            shape=Shape(degree=degree or None, threshold=threshold, committee=committee, quorum=quorum),
        )


def _check_types(terms: Terms) -> None:
    shape = terms.shape
    numbers = [terms.dimension, terms.min_survivors, terms.colluding]
    if isinstance(shape, Shape):
        numbers += [shape.degree or 0, shape.threshold, shape.committee, shape.quorum]
    if not isinstance(shape, Shape) or not all(type(number) is int and 0 <= number < 2**32 for number in numbers):
        raise Refused(Fault.MALFORMED, "Expected whole numbers in [0, 2^32) and a shape.")
    if type(terms.roster) is not tuple or not all(
        type(text) is bytes and len(text) == 32 for text in (terms.context, *terms.roster)
    ):
        raise Refused(Fault.MALFORMED, "Expected a context and identities of 32 bytes each.")


@lru_cache(maxsize=64)
def _broken_rule(shape: Shape, parties: int, min_survivors: int, colluding: int) -> str | None:
    """Say what is wrong with a shape, None if nothing is. Kept, because a device gets the same numbers every round."""
    if not 2 <= shape.threshold < min_survivors:
        return (
            f"threshold={shape.threshold} in [2, min_survivors={min_survivors}): nobody holds a share of its own secret"
        )
    if not 1 <= shape.quorum <= shape.committee <= parties:
        return f"quorum={shape.quorum} in [1, committee={shape.committee}] and committee in [quorum, parties={parties}]"
    if shape.degree is None and parties > COMPLETE_UP_TO:  # 20,000 shares of one secret take a party a minute
        return f"a degree, or parties={parties} in [{_FEWEST_PARTIES}, {COMPLETE_UP_TO}]: all mask with all only up to there"
    if shape.degree is not None and not shape.threshold <= shape.degree < min_survivors:
        return f"degree={shape.degree} in [threshold={shape.threshold}, min_survivors={min_survivors})"
    try:
        bound = failure_bound(shape, parties, min_survivors, colluding)
    except ValueError as error:
        return f"a shape whose chance of failure is known: {error}"
    if not bound <= -SECURITY_BITS:
        return f"a shape that fails with a chance of at most 2^-{SECURITY_BITS}, not 2^{bound:.1f}"
    return None


def _unsound(rule: str) -> Refused:
    return Refused(Fault.TERMS_UNSOUND, f"Expected {rule}.")
