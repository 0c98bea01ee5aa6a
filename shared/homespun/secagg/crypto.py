"""Keys, seals and masks: what `cryptography` does, under one domain tag a purpose.

Every derived key is ``HKDF-SHA256(secret, salt = none, info = tag ‖ context)`` with a tag of its own and a context of fixed
length, so no two purposes, sessions, parties or directions share one. A key is therefore used once, and a nonce of zero
with it is right.

>>> total = np.zeros(4, dtype=np.uint32)
>>> add_mask(total, bytes(32))
>>> total
array([2917185654, 2419978656, 3848953152,  683509331], dtype=uint32)
>>> subtract_mask(total, bytes(32))
>>> total.any()
np.False_

Sources: X25519 RFC 7748, HKDF RFC 5869, ChaCha20 and its AEAD RFC 8439.
"""

from __future__ import annotations

import hashlib
import struct
from enum import Enum

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from homespun.secagg.errors import Fault, Refused

__all__ = [
    "Tag",
    "add_mask",
    "agree",
    "derive",
    "digest",
    "is_weak_key",
    "keystream",
    "open_box",
    "place",
    "private_key",
    "public_key",
    "seal_box",
    "subtract_mask",
]

_PRIME = 2**255 - 19
_CHUNK = 2**15  # words of keystream at a time: 128 KiB stay in a core's cache
_ZEROS = bytes(4 * _CHUNK)
_NONCE = bytes(12)


class Tag(Enum):
    """What a digest, a derived key or a signature is for. All begin alike and none begins another."""

    TERMS = b"homespun secagg v1 terms\0"
    ADVERT = b"homespun secagg v1 advert\0"
    COMMITMENT = b"homespun secagg v1 commitment\0"
    TRANSCRIPT = b"homespun secagg v1 transcript\0"
    MASK_SECRET = b"homespun secagg v1 mask secret\0"
    SELF_MASK = b"homespun secagg v1 self mask\0"
    PAIR_MASK = b"homespun secagg v1 pair mask\0"
    SEAL = b"homespun secagg v1 seal\0"
    SHARE = b"homespun secagg v1 share\0"
    ACK = b"homespun secagg v1 ack\0"
    CONSENT = b"homespun secagg v1 consent\0"


def digest(tag: Tag, *parts: bytes) -> bytes:
    """Return the SHA-256 of ``tag ‖ parts``; whoever calls it makes sure that the parts have fixed lengths."""
    content = hashlib.sha256(tag.value)
    for part in parts:
        content.update(part)
    return content.digest()


def derive(secret: bytes, tag: Tag, *context: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA256 with ``info = tag ‖ context``, parts of fixed lengths."""
    return HKDF(SHA256(), 32, salt=None, info=tag.value + b"".join(context)).derive(secret)


def place(*indices: int) -> bytes:
    """Return indices as 4 bytes each, little-endian: how parties are named in what is hashed."""
    return struct.pack(f"<{len(indices)}I", *indices)


def private_key(secret: bytes) -> X25519PrivateKey:
    """X25519 key of 32 secret bytes; every string of that length is one."""
    return X25519PrivateKey.from_private_bytes(secret)


def public_key(private: X25519PrivateKey) -> bytes:
    """Return the 32 public bytes."""
    return private.public_key().public_bytes_raw()


def agree(private: X25519PrivateKey, public: bytes) -> bytes:
    """Return the 32 bytes that both sides of X25519 get; to be derived from, never used as they are.

    Raises:
        Refused: ``WEAK_KEY``, the result does not depend on the private key.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Refused(Fault.WEAK_KEY, "Expected an X25519 public key of large order.") from None


def is_weak_key(public: bytes) -> bool:
    """Say whether X25519 with these 32 bytes gives zero to everybody."""
    return (int.from_bytes(public, "little") & (2**255 - 1)) % _PRIME in _WEAK_X25519


def seal_box(key: bytes, content: bytes, context: bytes) -> bytes:
    """Encrypt and authenticate under a key that is used for nothing else; 16 bytes longer."""
    return ChaCha20Poly1305(key).encrypt(_NONCE, content, context)


def open_box(key: bytes, box: bytes, context: bytes) -> bytes | None:
    """Inverse of `seal_box`; None if it was not sealed under this key and context."""
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, box, context)
    except InvalidTag:
        return None


def keystream(key: bytes, dimension: int) -> NDArray[np.uint32]:
    """Return the mask of a 32-byte key: ChaCha20 from block 0, nonce zero, words little-endian, shape ``(dimension,)``.

    Uniform modulo 2^32 without rejection, because the modulus is that of a word.
    """
    mask = np.zeros(dimension, dtype=np.uint32)
    add_mask(mask, key)
    return mask


def add_mask(vector: NDArray[np.uint32], key: bytes) -> None:
    """Add the mask of ``key`` modulo 2^32, in place; memory for one chunk alone."""
    _apply(np.add, vector, key)


def subtract_mask(vector: NDArray[np.uint32], key: bytes) -> None:
    """Subtract the mask of ``key`` modulo 2^32, in place; memory for one chunk alone."""
    _apply(np.subtract, vector, key)


def _apply(operation: np.ufunc, vector: NDArray[np.uint32], key: bytes) -> None:
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    for start in range(0, len(vector), _CHUNK):
        part = vector[start : start + _CHUNK]
        words = np.frombuffer(stream.update(_ZEROS[: 4 * len(part)]), dtype="<u4")
        operation(part, words, out=part)


# The u-coordinates of the points whose order divides 8, on the curve and on its twist (RFC 7748, section 7; the list is
# that of https://cr.yp.to/ecdh.html#validate without second spellings).
_WEAK_X25519 = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)
