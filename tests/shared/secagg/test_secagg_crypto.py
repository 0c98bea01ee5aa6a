from __future__ import annotations

import hashlib
import hmac
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from homespun.secagg import Advert, Fault, Identity, Kind, Refused, Survivors, Terms
from homespun.secagg import derivations as d
from homespun.secagg.crypto import (
    Tag,
    add_mask,
    agree,
    derive,
    is_weak_key,
    keystream,
    open_box,
    private_key,
    public_key,
    seal_box,
    subtract_mask,
)
from homespun.secagg.identity import is_weak_identity, verify

KEY = bytes(range(32))


def _hkdf(secret: bytes, info: bytes) -> bytes:
    """One block of RFC 5869 with an empty salt, written out."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def _chacha_block(key: bytes, counter: int) -> list[int]:
    """RFC 8439, section 2.3, written out; nonce zero."""

    def quarter(s: list[int], a: int, b: int, c: int, e: int) -> None:
        for x, y, z, turn in ((a, b, e, 16), (c, e, b, 12), (a, b, e, 8), (c, e, b, 7)):
            s[x] = (s[x] + s[y]) % 2**32
            s[z] ^= s[x]
            s[z] = (s[z] << turn | s[z] >> (32 - turn)) % 2**32

    start = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key), counter, 0, 0, 0]
    state = list(start)
    for _ in range(10):
        for column in range(4):
            quarter(state, column, column + 4, column + 8, column + 12)
        for a, b, c, e in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(state, a, b, c, e)
    return [(x + y) % 2**32 for x, y in zip(state, start, strict=True)]


@pytest.mark.parametrize("dimension", [1, 15, 16, 17, 40])
def test_the_mask_is_chacha20_from_block_zero(dimension: int) -> None:
    words = [word for block in range(3) for word in _chacha_block(KEY, block)]
    assert keystream(KEY, dimension).tolist() == words[:dimension]


@pytest.mark.parametrize("dimension", [2**15 - 1, 2**15, 2**15 + 1, 2**16 + 7])
def test_a_mask_does_not_depend_on_chunks(dimension: int) -> None:
    mask = keystream(KEY, dimension)
    assert np.array_equal(mask[-5:], keystream(KEY, 2**17)[dimension - 5 : dimension])
    vector = np.full(dimension, 2**32 - 1, dtype=np.uint32)
    add_mask(vector, KEY)
    assert np.array_equal(vector, mask - np.uint32(1))  # modulo 2^32
    subtract_mask(vector, KEY)
    assert (vector == 2**32 - 1).all()


def test_derivation_is_hkdf_under_the_tag() -> None:
    assert derive(b"secret" * 6, Tag.SEAL, b"a", b"b") == _hkdf(b"secret" * 6, b"homespun secagg v1 seal\0ab")


def test_no_tag_begins_another() -> None:
    tags = [tag.value for tag in Tag]
    assert not [(one, two) for one in tags for two in tags if one != two and two.startswith(one)]
    assert all(tag.endswith(b"\0") and tag.count(b"\0") == 1 for tag in tags)


@pytest.fixture(scope="module")
def terms(identities: list[Identity]) -> Terms:
    roster = tuple(identity.public for identity in identities[:5])
    return Terms.of(context=bytes(32), dimension=2, roster=roster, min_survivors=4)


def test_known_derivations(terms: Terms) -> None:
    """Known answers: a change here is another protocol, and needs another tag."""
    private = private_key(KEY)
    peer = public_key(private_key(bytes(32)))
    agreed = agree(private, peer)
    advert = Advert(index=1, mask_key=KEY, seal_key=bytes(32), commitment=b"c" * 32, signature=b"s" * 64)
    found = {
        "terms": terms.digest,
        "commitment": d.commitment(terms, 1, 7),
        "mask": public_key(d.mask_private(terms, 1, 7)),
        "transcript": d.transcript_of(terms, [advert]),
        "self": d.self_key(7, KEY, 1),
        "pair": d.pair_key(private, peer, KEY, 1, 2),
        "seal": d.seal_key(agreed, KEY, 1, 2),
        "ack": d.ack_tag(d.ack_key(agreed, KEY, 1, 2), [2, 3]),
        "share": d.share_check(KEY, 1, 2, Kind.SELF, bytes(32)),
        "consent": hashlib.sha256(d.consent_content(terms, KEY, Survivors(indices=(0, 1)))).digest(),
    }
    assert {name: value.hex()[:16] for name, value in found.items()} == KNOWN
    assert len(set(found.values())) == len(found)


def test_every_place_counts(terms: Terms) -> None:
    """Direction, party, kind, session: none of two keys or digests is the same."""
    agreed = bytes(32)
    found = [
        *[d.seal_key(agreed, t, a, b) for t in (KEY, bytes(32)) for a, b in ((1, 2), (2, 1), (1, 3))],
        *[d.ack_key(agreed, t, a, b) for t in (KEY, bytes(32)) for a, b in ((1, 2), (2, 1), (1, 3))],
        *[d.self_key(7, t, a) for t in (KEY, bytes(32)) for a in (1, 2)],
        *[d.share_check(KEY, a, b, kind, agreed) for a, b in ((1, 2), (2, 1)) for kind in Kind],
        *[d.commitment(terms, a, 7) for a in (1, 2)],
        *[public_key(d.mask_private(terms, a, 7)) for a in (1, 2)],
        d.ack_tag(KEY, [1, 2]), d.ack_tag(KEY, [1]), d.ack_tag(KEY, []),
    ]  # fmt: skip
    assert len(set(found)) == len(found)


def test_pair_keys_agree_from_both_sides() -> None:
    one, two = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    keys = {d.pair_key(one, public_key(two), KEY, 4, 9), d.pair_key(two, public_key(one), KEY, 9, 4)}
    assert len(keys) == 1


def test_weak_keys_are_all_known() -> None:
    """RFC 7748: the result is zero for points of order 1, 2, 4 and 8, whatever the private key."""
    private = X25519PrivateKey.generate()
    prime = 2**255 - 19
    weak = [number for number in [*range(4), prime - 1, prime, prime + 1] if is_weak_key(number.to_bytes(32, "little"))]
    assert weak == [0, 1, prime - 1, prime, prime + 1]
    eight = [
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    ]
    for number in [*weak, *eight, 1 + 2**255]:
        public = number.to_bytes(32, "little")
        assert is_weak_key(public)
        with pytest.raises(Refused) as error:
            agree(private, public)
        assert error.value.fault is Fault.WEAK_KEY
    assert not is_weak_key(public_key(private))


def test_signatures_are_bound_to_their_tag(identities: list[Identity]) -> None:
    identity = identities[0]
    signature = identity.sign(Tag.CONSENT, b"text")
    assert verify(identity.public, signature, Tag.CONSENT, b"text")
    assert not verify(identity.public, signature, Tag.ADVERT, b"text")
    assert not verify(identity.public, signature, Tag.CONSENT, b"texts")
    assert not verify(identities[1].public, signature, Tag.CONSENT, b"text")
    assert not verify(identity.public, b"", Tag.CONSENT, b"text")
    assert not is_weak_identity(identity.public)


def test_identities(identities: list[Identity]) -> None:
    identity = Identity.generate()
    assert Identity.from_bytes(identity.to_bytes()).public == identity.public
    assert repr(identity) == f"Identity(public={identity.public.hex()})"
    with pytest.raises(ValueError, match="32 secret bytes"):
        Identity.from_bytes(bytes(31))


def test_boxes_open_under_their_own_key_and_context() -> None:
    box = seal_box(KEY, b"s" * 64, b"context")
    assert len(box) == 80
    assert open_box(KEY, box, b"context") == b"s" * 64
    assert open_box(KEY, box, b"other") is None
    assert open_box(bytes(32), box, b"context") is None
    assert open_box(KEY, box[:-1] + bytes([box[-1] ^ 1]), b"context") is None


KNOWN = {
    "terms": "1e0b2b99bb98e471",
    "commitment": "31a3f26c537df256",
    "mask": "700d40d88cda7edf",
    "transcript": "d7aa82a2ad182e83",
    "self": "3818400ebe135a5f",
    "pair": "ea7e5378060cb25a",
    "seal": "697fa9252f02e745",
    "ack": "53f1c0c1aa093316",
    "share": "07a8d91096df0b58",
    "consent": "260577fb98ccf71d",
}
