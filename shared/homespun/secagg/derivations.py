"""What both sides derive from keys and lists, each under its own tag and bound to terms or transcript."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from homespun.secagg.crypto import Tag, agree, derive, digest, place, private_key
from homespun.secagg.errors import Fault, Refused
from homespun.secagg.identity import verify
from homespun.secagg.messages import CHECK_BYTES, TAG_BYTES, Advert, Kind, Survivors
from homespun.secagg.terms import Terms

__all__ = [
    "ack_key",
    "ack_tag",
    "advert_content",
    "check_signature",
    "commitment",
    "consent_content",
    "field_bytes",
    "mask_private",
    "pair_key",
    "seal_context",
    "seal_key",
    "self_key",
    "share_check",
    "transcript_of",
]


def field_bytes(value: int) -> bytes:
    """Return a field element as 32 bytes, little-endian."""
    return value.to_bytes(32, "little")


def commitment(terms: Terms, index: int, secret: int) -> bytes:
    """Digest by which a party is held to its self-mask secret; the secret has 255 bits, so it hides."""
    return digest(Tag.COMMITMENT, terms.digest, place(index), field_bytes(secret))


def mask_private(terms: Terms, index: int, secret: int) -> X25519PrivateKey:
    """Key pair behind a party's pair masks: any field element is a secret of one."""
    return private_key(derive(field_bytes(secret), Tag.MASK_SECRET, terms.digest, place(index)))


def advert_content(terms: Terms, index: int, mask_key: bytes, seal_key: bytes, commitment: bytes) -> bytes:
    """What a party signs of its advert, after the tag."""
    return terms.digest + place(index) + mask_key + seal_key + commitment


def check_signature(terms: Terms, advert: Advert) -> None:
    """Return if the party on the roster signed the advert; `Refused` otherwise."""
    content = advert_content(terms, advert.index, advert.mask_key, advert.seal_key, advert.commitment)
    if not verify(terms.roster[advert.index], advert.signature, Tag.ADVERT, content):
        raise Refused(Fault.BAD_SIGNATURE, f"Expected the advert of party {advert.index} signed by its identity.")


def transcript_of(terms: Terms, adverts: Sequence[Advert]) -> bytes:
    """Digest of terms and adverts, 32 bytes: all that the parties must have seen alike."""
    return digest(Tag.TRANSCRIPT, terms.digest, *[advert.encode() for advert in adverts])


def self_key(secret: int, transcript: bytes, index: int) -> bytes:
    """ChaCha20 key of a party's self mask."""
    return derive(field_bytes(secret), Tag.SELF_MASK, transcript, place(index))


def pair_key(private: X25519PrivateKey, public: bytes, transcript: bytes, one: int, other: int) -> bytes:
    """ChaCha20 key of the mask of two parties, the same from both sides."""
    return derive(agree(private, public), Tag.PAIR_MASK, transcript, place(min(one, other), max(one, other)))


def seal_context(transcript: bytes, sender: int, to: int) -> bytes:
    """What a box is bound to, beside its key."""
    return transcript + place(sender, to)


def seal_key(agreed: bytes, transcript: bytes, sender: int, to: int) -> bytes:
    """AEAD key of the one box from ``sender`` to ``to``."""
    return derive(agreed, Tag.SEAL, transcript, place(sender, to))


def ack_key(agreed: bytes, transcript: bytes, sender: int, to: int) -> bytes:
    """Key of the one ack from ``sender`` to ``to``."""
    return derive(agreed, Tag.ACK, transcript, place(sender, to))


def ack_tag(key: bytes, masked_with: Iterable[int]) -> bytes:
    """Return the 16 bytes by which a party says with whom it masked; HKDF is the MAC here."""
    return derive(key, Tag.ACK, digest(Tag.ACK, place(*masked_with)))[:TAG_BYTES]


def share_check(transcript: bytes, dealer: int, holder: int, kind: Kind, value: bytes) -> bytes:
    """Return the 16 bytes by which the server knows a share again; a share has 255 bits, so they hide it."""
    content = Tag.SHARE.value + transcript + place(dealer, holder) + bytes([kind]) + value
    return hashlib.sha256(content).digest()[:CHECK_BYTES]


def consent_content(terms: Terms, transcript: bytes, survivors: Survivors) -> bytes:
    """What a committee member signs, after the tag."""
    return terms.digest + transcript + survivors.encode()
