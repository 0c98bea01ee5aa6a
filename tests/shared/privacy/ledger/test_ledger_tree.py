from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.privacy.ledger import Head, verify_consistency
from homespun.privacy.ledger.tree import Tree, leaf_hash, node_hash
from homespun.privacy.ledger.tree import verify_consistency as verify

# The vectors of the Certificate Transparency reference code, for the trees of RFC 6962.
LEAVES = [
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PROOFS = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def tree_of(lines: list[bytes]) -> Tree:
    tree = Tree()
    for line in lines:
        tree.append(leaf_hash(line))
    return tree


def rfc_root(lines: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not lines:
        return hashlib.sha256(b"").digest()
    if len(lines) == 1:
        return hashlib.sha256(b"\x00" + lines[0]).digest()
    k = 1
    while 2 * k < len(lines):
        k *= 2
    return hashlib.sha256(b"\x01" + rfc_root(lines[:k]) + rfc_root(lines[k:])).digest()


def test_known_roots_and_proofs() -> None:
    tree = tree_of([bytes.fromhex(leaf) for leaf in LEAVES])
    assert [tree.root(size).hex() for size in range(1, 9)] == ROOTS
    for (old, new), proof in PROOFS.items():
        assert [part.hex() for part in tree.prove(old, new)] == proof


@given(size=st.integers(0, 130))
@settings(max_examples=40, deadline=None)
def test_roots_are_those_of_the_definition(size: int) -> None:
    lines = [bytes([i]) for i in range(size)]
    tree = tree_of(lines)
    assert tree.root() == rfc_root(lines)
    assert tree.root(size // 2) == rfc_root(lines[: size // 2])
    if size:
        before = tree_of(lines[:-1])
        assert before.root_with(leaf_hash(lines[-1])) == tree.root()
        assert before.size == size - 1


@given(data=st.data(), new=st.integers(0, 300))
@settings(max_examples=80, deadline=None)
def test_consistency(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(0, new))
    tree = tree_of([i.to_bytes(2, "big") for i in range(new)])
    a, b, proof = tree.root(old), tree.root(new), tree.prove(old, new)
    assert verify(old, a, new, b, proof)
    assert len(proof) <= 2 * max(1, new).bit_length()
    if not 0 < old < new:
        return
    # anything else is refused: another root, a flipped bit, a part too many or too few, another size
    other = hashlib.sha256(a).digest()
    assert not verify(old, other, new, b, proof)
    assert not verify(old, a, new, other, proof)
    place = data.draw(st.integers(0, len(proof) - 1))
    flipped = bytes([proof[place][0] ^ 1]) + proof[place][1:]
    assert not verify(old, a, new, b, [*proof[:place], flipped, *proof[place + 1 :]])
    assert not verify(old, a, new, b, proof[:-1])
    assert not verify(old, a, new, b, [*proof, other])
    assert not verify(old, a, new, b, [*proof, b""])


def test_a_fork_has_no_proof() -> None:
    ours, theirs = [b"a", b"b", b"c"], [b"a", b"x", b"c", b"d", b"e"]
    fork = tree_of(theirs)
    assert not verify(3, rfc_root(ours), 5, fork.root(), fork.prove(3, 5))


def test_a_root_is_of_one_size() -> None:
    """The proof from 4 to 8 leaves says nothing of a tree of 16 with the same root."""
    tree = tree_of([bytes([i]) for i in range(8)])
    assert verify(4, tree.root(4), 8, tree.root(), tree.prove(4))
    assert not verify(4, tree.root(4), 16, tree.root(), tree.prove(4))


def test_sizes_at_the_edge() -> None:
    empty, one = tree_of([]), tree_of([b"a"])
    assert verify(0, empty.root(), 1, one.root(), [])
    assert not verify(0, one.root(), 1, one.root(), [])
    assert not verify(0, empty.root(), 1, one.root(), [one.root()])
    assert not verify(1, one.root(), 1, empty.root(), [])
    assert not verify(2, one.root(), 1, one.root(), [])
    assert not verify(-1, one.root(), 1, one.root(), [])
    for call in (lambda: one.root(2), lambda: one.root(-1), lambda: one.prove(1, 2), lambda: one.prove(2)):
        with pytest.raises(ValueError, match="Expected"):
            call()


def test_a_node_is_no_leaf() -> None:
    """The first byte: without it, two leaves' hashes in a row would be a leaf with their parent's hash."""
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert node_hash(left, right) != leaf_hash(left + right)


def test_heads_of_a_witness() -> None:
    tree = tree_of([b"a", b"b", b"c"])
    heads = [Head(size=size, root=tree.root(size).hex()) for size in range(4)]
    assert verify_consistency(None, heads[3], ())
    assert verify_consistency(heads[2], heads[3], tree.prove(2))
    assert not verify_consistency(heads[3], heads[2], tree.prove(2))
    assert not verify_consistency(heads[2], heads[3], ())
