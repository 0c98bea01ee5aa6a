"""Which masks are left in the sum of the survivors' vectors, and their keys, from the shares that were revealed.

In that sum the mask of two survivors has cancelled. What is left is every survivor's self mask, and the masks of survivors
with neighbours that shared and then dropped: those were in the survivors' inboxes, so they were masked with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from homespun.secagg.crypto import public_key
from homespun.secagg.derivations import commitment, mask_private, pair_key, self_key
from homespun.secagg.errors import Aborted, Fault, Stage
from homespun.secagg.messages import Advert
from homespun.secagg.shares import combine
from homespun.secagg.terms import Terms

__all__ = ["Unmasking"]


@dataclass(frozen=True, kw_only=True)
class Unmasking:
    """Public state of a session and the shares, by dealer and holder, that matched what their dealers announced."""

    terms: Terms
    transcript: bytes
    adverts: Mapping[int, Advert] = field(repr=False)
    rows: Mapping[int, tuple[int, ...]] = field(repr=False)
    points: Mapping[int, Mapping[int, int]] = field(repr=False)

    def keys(self, survivors: Collection[int], shared: Collection[int]) -> Iterator[tuple[bytes, bool]]:
        """Return the masks in the sum: ChaCha20 key, and whether the mask was added (or else subtracted).

        Every secret is put together and checked before this returns; pair keys are derived one at a time.

        Args:
            survivors: Whose vectors are in the sum.
            shared: Who shared: the survivors, and those that dropped after.
        Raises:
            Aborted: ``TOO_FEW`` shares of a party, or ``BAD_DEALER``.
        """
        living = frozenset(survivors)
        self_keys = [self_key(self._self_secret(index), self.transcript, index) for index in sorted(living)]
        orphans = [
            (dropped, [peer for peer in self.rows[dropped] if peer in living])
            for dropped in sorted(set(shared) - living)
        ]
        privates = {dropped: self._mask_private(dropped) for dropped, peers in orphans if peers}

        def each() -> Iterator[tuple[bytes, bool]]:
            for key in self_keys:
                yield key, True
            for dropped, peers in orphans:
                for peer in peers:
                    public = self.adverts[peer].mask_key
                    yield pair_key(privates[dropped], public, self.transcript, dropped, peer), dropped > peer

        return each()

    def _self_secret(self, dealer: int) -> int:
        secret = self._combine(dealer)
        if commitment(self.terms, dealer, secret) != self.adverts[dealer].commitment:
            raise _cheated(dealer)
        return secret

    def _mask_private(self, dealer: int) -> X25519PrivateKey:
        private = mask_private(self.terms, dealer, self._combine(dealer))
        if public_key(private) != self.adverts[dealer].mask_key:
            raise _cheated(dealer)
        return private

    def _combine(self, dealer: int) -> int:
        points, threshold = self.points[dealer], self.terms.shape.threshold
        if len(points) < threshold:
            raise Aborted(
                Fault.TOO_FEW,
                f"Expected shares={len(points)} of party {dealer} in [threshold={threshold}, {len(self.rows[dealer])}].",
                stage=Stage.REVEAL,
                party=dealer,
            )
        return combine(points, threshold=threshold, holders=self.rows[dealer])


def _cheated(dealer: int) -> Aborted:
    return Aborted(
        Fault.BAD_DEALER,
        f"Expected shares of party {dealer} that give the secret of its advert.",
        stage=Stage.REVEAL,
        party=dealer,
    )
