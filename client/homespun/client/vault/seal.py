"""One sealed item: authenticated encryption under a key of its own, wrapped by the vault's key.

::

    body = "homespun sealed 1\n" | length of core, 4 bytes big-endian | core | chunk 0 | chunk 1 | ...
    wrap = canonical JSON: kek_id, kdf parameters, nonce and the wrapped key        (replaced by a rotation)

``core`` is canonical JSON that everybody may read and nobody may change: each chunk is bound to its SHA-256 and to its
place, and so is the wrapped key. A chunk is AES-256-GCM of at most ``chunk_size`` bytes under a key that is used for this
body alone; its nonce is 7 random bytes, the chunk's number and whether it is the last (the STREAM construction, Hoang,
Reyhanitabar, Rogaway and Vizar 2015, eprint 2015/189). So a body that was cut, reordered, doubled or joined from two does
not open.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from homespun.client.errors import VaultError
from homespun.client.vault.keys import CANNOT_OPEN, Kek
from homespun.privacy import canonical_json

__all__ = ["CHUNK_SIZE", "Core", "Sealed", "open_sealed", "rewrap", "seal", "wrap_parameters"]

MAGIC = b"homespun sealed 1\n"
ALGORITHM = "AES-256-GCM-STREAM"
CHUNK_SIZE = 2**20  # 1 MiB: an adapter or a vector is one chunk
TAG_BYTES = 16
MOST_CORE_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Core:
    """What a sealed item says of itself, in clear and bound to every byte of it."""

    name: str
    version: int
    """Of the vault, when the item was written; rises with every write."""
    user: str
    """Keyed hash of the user's name."""
    device: str
    backbone: str
    """Digest of the backbone that the content belongs to; empty where it belongs to none."""
    ledger_seq: int
    ledger_root: str
    """Head of the device's ledger when the item was written."""
    created: str
    """UTC, for people; nothing depends on it."""
    plaintext_len: int
    chunk_size: int
    nonce_prefix: str
    alg: str = ALGORITHM


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """An item as it is stored."""

    body: bytes = field(repr=False)
    wrap: bytes = field(repr=False)


def seal(payload: bytes, kek: Kek, *, chunk_size: int = CHUNK_SIZE, **core: Any) -> tuple[Core, Sealed]:
    """Seal bytes under a fresh key.

    Args:
        payload: What to seal.
        kek: Wraps the fresh key.
        chunk_size: Most bytes of a chunk.
        core: The fields of :class:`Core` that are the caller's.
    """
    prefix = os.urandom(7)
    what = Core(plaintext_len=len(payload), chunk_size=chunk_size, nonce_prefix=prefix.hex(), **core)
    text = canonical_json(asdict(what)).encode("ascii")
    if len(text) > MOST_CORE_BYTES:
        raise ValueError(f"Expected a header of at most {MOST_CORE_BYTES} bytes, not {len(text)}; use shorter names.")
    digest, dek = hashlib.sha256(text).digest(), AESGCM.generate_key(256)
    cipher, count = AESGCM(dek), _chunks(what)
    chunks = [
        cipher.encrypt(
            _nonce(prefix, place, count), payload[place * chunk_size : (place + 1) * chunk_size], _bound(digest, place)
        )
        for place in range(count)
    ]
    body = b"".join([MAGIC, len(text).to_bytes(4, "big"), text, *chunks])
    return what, Sealed(body=body, wrap=_wrap(dek, kek, digest))


def open_sealed(sealed: Sealed, kek: Kek) -> tuple[Core, bytes]:
    """What was sealed, and what it says of itself.

    Guarantees:
        * all or nothing: if any byte of the body or of the wrap is not as it was written, nothing is returned.
        * one error: a wrong key and every change raise the same error with the same text.

    Raises:
        VaultError: It does not open.
    """
    try:
        text, chunks = _split(sealed.body)
        digest = hashlib.sha256(text).digest()
        cipher = AESGCM(_unwrap(sealed.wrap, kek, digest))
        core = Core(**json.loads(text))
        count, size = _chunks(core), core.chunk_size + TAG_BYTES
        whole = core.plaintext_len + count * TAG_BYTES == len(chunks) and core.alg == ALGORITHM
        if not whole or core.chunk_size < 1:
            raise ValueError("another length")
        prefix = bytes.fromhex(core.nonce_prefix)
        parts = [
            cipher.decrypt(
                _nonce(prefix, place, count), chunks[place * size : (place + 1) * size], _bound(digest, place)
            )
            for place in range(count)
        ]
    except (InvalidTag, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise VaultError(CANNOT_OPEN) from None
    return core, b"".join(parts)


def rewrap(sealed: Sealed, old: Kek, new: Kek) -> Sealed:
    """The same body, byte for byte, under another vault key.

    Raises:
        VaultError: The old key does not open it.
    """
    try:
        digest = hashlib.sha256(_split(sealed.body)[0]).digest()
        dek = _unwrap(sealed.wrap, old, digest)
    except (InvalidTag, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise VaultError(CANNOT_OPEN) from None
    return Sealed(body=sealed.body, wrap=_wrap(dek, new, digest))


def wrap_parameters(wrap: bytes) -> dict[str, str | int]:
    """What finds the vault key again, as a wrap names it; empty where it cannot be read. Not yet authenticated."""
    try:
        parameters = json.loads(wrap)["kdf"]
        return {str(name): value for name, value in parameters.items() if type(value) in (str, int)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _split(body: bytes) -> tuple[bytes, bytes]:
    start = len(MAGIC) + 4
    length = int.from_bytes(body[len(MAGIC) : start], "big")
    if not body.startswith(MAGIC) or length > MOST_CORE_BYTES or len(body) < start + length:
        raise ValueError("another format")
    return body[start : start + length], body[start + length :]


def _chunks(core: Core) -> int:
    """How many chunks; nothing at all is one empty chunk, so that its end is marked, too."""
    return max(1, -(-core.plaintext_len // core.chunk_size))


def _nonce(prefix: bytes, place: int, count: int) -> bytes:
    if len(prefix) != 7:
        raise ValueError("another prefix")
    return prefix + place.to_bytes(4, "big") + bytes([place == count - 1])


def _bound(digest: bytes, place: int) -> bytes:
    return digest + place.to_bytes(4, "big")


def _wrap(dek: bytes, kek: Kek, digest: bytes) -> bytes:
    about: dict[str, Any] = {"kek_id": kek.id, "kdf": dict(kek.parameters)}
    nonce = os.urandom(12)
    wrapped = AESGCM(kek.key).encrypt(nonce, dek, digest + canonical_json(about).encode("ascii"))
    return canonical_json({**about, "nonce": nonce.hex(), "wrapped": wrapped.hex()}).encode("ascii")


def _unwrap(wrap: bytes, kek: Kek, digest: bytes) -> bytes:
    content = json.loads(wrap)
    if canonical_json(content).encode("ascii") != wrap or set(content) != {"kek_id", "kdf", "nonce", "wrapped"}:
        raise ValueError("another wrap")
    about = canonical_json({"kek_id": content["kek_id"], "kdf": content["kdf"]}).encode("ascii")
    nonce, wrapped = bytes.fromhex(content["nonce"]), bytes.fromhex(content["wrapped"])
    return AESGCM(kek.key).decrypt(nonce, wrapped, digest + about)
