"""The Merkle tree of RFC 6962 over the lines of a ledger, with consistency proofs.

>>> tree = Tree()
>>> tree.root().hex()[:8]                       # the empty tree: SHA-256 of nothing
'e3b0c442'
>>> for line in (b"a", b"b", b"c"):
...     tree.append(leaf_hash(line))
>>> proof = tree.prove(2, 3)
>>> verify_consistency(2, tree.root(2), 3, tree.root(3), proof)
True
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import final

__all__ = ["Tree", "leaf_hash", "node_hash", "verify_consistency"]


def leaf_hash(line: bytes) -> bytes:
    """Hash of a line, without its newline."""
    return hashlib.sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node; the first byte keeps it apart from every leaf."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@final
class Tree:
    """A growing tree. It is a class because it keeps the hash of every full subtree, 64 bytes an entry.

    With those, a root and a proof at any size take a number of hashes that is logarithmic in the size.
    """

    def __init__(self) -> None:
        """Begin with no leaf."""
        self._levels: list[list[bytes]] = [[]]  # [k][i] covers the leaves from i 2^k to (i + 1) 2^k

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add a leaf's hash at the right."""
        self._levels[0].append(leaf)
        for k, level in enumerate(self._levels):
            if len(level) % 2:
                return
            if k + 1 == len(self._levels):
                self._levels.append([])
            self._levels[k + 1].append(node_hash(level[-2], level[-1]))

    def root(self, size: int | None = None) -> bytes:
        """Root over the first ``size`` leaves, all of them by default.

        Raises:
            ValueError: there are not so many.
        """
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise ValueError(f"Expected size={size} in [0, {self.size}].")
        return self._range(0, size) if size else hashlib.sha256(b"").digest()

    def root_with(self, leaf: bytes) -> bytes:
        """Root that the tree would have with one more leaf."""
        return node_hash_chain([*self._edge(), leaf])

    def prove(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """Proof that the tree of ``new`` leaves begins with that of ``old`` leaves (RFC 6962, section 2.1.2).

        Raises:
            ValueError: not ``0 <= old <= new <= size``.
        """
        new = self.size if new is None else new
        if not 0 <= old <= new <= self.size:
            raise ValueError(f"Expected old={old} and new={new} in order, in [0, {self.size}].")
        return tuple(self._prove(0, old, new, whole=True)) if 0 < old < new else ()

    def _prove(self, first: int, old: int, size: int, *, whole: bool) -> list[bytes]:
        """SUBPROOF of the RFC for ``size`` leaves from ``first`` on, ``old`` of which were there before."""
        if old == size:
            return [] if whole else [self._range(first, size)]
        left = _left(size)
        if old <= left:
            return [*self._prove(first, old, left, whole=whole), self._range(first + left, size - left)]
        return [*self._prove(first + left, old - left, size - left, whole=False), self._range(first, left)]

    def _range(self, first: int, size: int) -> bytes:
        """Hash over ``size`` leaves from ``first`` on, where a subtree of the RFC stands."""
        if size & (size - 1) == 0:
            k = size.bit_length() - 1
            return self._levels[k][first >> k]
        left = _left(size)
        return node_hash(self._range(first, left), self._range(first + left, size - left))

    def _edge(self) -> list[bytes]:
        """The full subtrees at the right edge, the largest first."""
        found, first = [], 0
        for k in reversed(range(self.size.bit_length())):
            if self.size >> k & 1:
                found.append(self._levels[k][first >> k])
                first += 1 << k
        return found


def node_hash_chain(edge: Sequence[bytes]) -> bytes:
    """Root over a right edge of full subtrees, the largest first."""
    root = edge[-1]
    for subtree in reversed(edge[:-1]):
        root = node_hash(subtree, root)
    return root


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of the new root begins with the leaves of the old one.

    Args:
        old_size: Leaves of the old tree; every tree begins with the empty one.
        old_root: Its root, 32 bytes.
        new_size: Leaves of the new tree.
        new_root: Its root, 32 bytes.
        proof: Hashes as `Tree.prove` gives them.
    Source:
        The verifier of RFC 9162, section 2.1.4.2, for the proofs of RFC 6962.
    """
    if not 0 <= old_size <= new_size or any(len(part) != 32 for part in proof):
        return False
    if old_size in (0, new_size):
        same = old_size != new_size or old_root == new_root
        empty = old_size != 0 or old_root == hashlib.sha256(b"").digest()
        return not proof and same and empty
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        return False
    old, new = old_size - 1, new_size - 1
    while old & 1:
        old, new = old >> 1, new >> 1
    first = second = path[0]
    for part in path[1:]:
        if new == 0:
            return False
        if old & 1 or old == new:
            first, second = node_hash(part, first), node_hash(part, second)
            while old and not old & 1:
                old, new = old >> 1, new >> 1
        else:
            second = node_hash(second, part)
        old, new = old >> 1, new >> 1
    return new == 0 and first == old_root and second == new_root


def _left(size: int) -> int:
    """Largest power of two below ``size``, for sizes of at least 2."""
    return 1 << (size - 1).bit_length() - 1
