"""Checkpoints and receipts as C2SP signed notes.

A note is a text, a blank line, and signatures, one a line: ``— <name> base64(key id || signature)``. A **checkpoint** is
the note whose text says ``origin``, size and root of a ledger; a **receipt** is the same text with somebody else's
countersignature, which also says when.

>>> from homespun.privacy.ledger.keys import SigningKey
>>> key = SigningKey.from_bytes("example.org/log", bytes(32))
>>> note = sign_checkpoint(key, "example.org/log", Head(size=1, root="00" * 32))
>>> print(note.decode().splitlines()[1])
1
>>> read_checkpoint(note, [key.public])[1]
Head(size=1, root='0000000000000000000000000000000000000000000000000000000000000000')

Source: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint (without extension lines) and
https://c2sp.org/tlog-cosignature (version 1, Ed25519).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from homespun.privacy.errors import SignatureRefused
from homespun.privacy.ledger.keys import KeyRole, PublicKey, SigningKey, decode_base64

__all__ = [
    "Head",
    "Note",
    "countersign",
    "parse_checkpoint",
    "parse_note",
    "read_checkpoint",
    "read_receipt",
    "sign_checkpoint",
    "verify_note",
]

LARGEST_NOTE = 65_536  # bytes
MOST_SIGNATURES = 64  # a reader must take at least 16
_ORIGIN = re.compile(r"[!-~]{1,200}\Z")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,17})\Z")
_SIGNATURE = re.compile(r"— ([!-*,-~]{1,200}) ([A-Za-z0-9+/]+={0,2})\Z")


@dataclass(frozen=True, kw_only=True)
class Head:
    """How long a ledger was at some time, and what it then held."""

    size: int
    """Number of entries."""
    root: str
    """Root of the tree over them, 64 hexadecimal digits."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """A text and who signed it; whether they did is for `verify_note`."""

    text: str
    """Ends in a newline."""
    signatures: tuple[tuple[str, bytes, bytes], ...]
    """Name, key id and signature of each line."""


def parse_note(content: bytes) -> Note:
    """Take a note apart.

    Raises:
        ValueError: it is not one, or it is too large.
    """
    if len(content) > LARGEST_NOTE:
        raise ValueError(f"Expected a note of at most {LARGEST_NOTE} bytes, not {len(content)}.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("Expected a note in UTF-8.") from None
    if any(character < " " and character != "\n" or character == "\x7f" for character in text):
        raise ValueError("Expected a note without control characters.")
    cut = text.rfind("\n\n")  # the last one: a text may hold blank lines
    if cut < 0 or not text.endswith("\n"):
        raise ValueError("Expected a note: a text, a blank line and lines of signatures.")
    lines = text[cut + 2 : -1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise ValueError(f"Expected at most {MOST_SIGNATURES} signatures, not {len(lines)}.")
    signatures = []
    for line in lines:
        found = _SIGNATURE.match(line)
        if found is None:
            raise ValueError("Expected a note to end in lines of signatures.")
        raw = decode_base64(found[2])
        if len(raw) < 5:
            raise ValueError("Expected a key id and a signature in each line of signatures.")
        signatures.append((found[1], raw[:4], raw[4:]))
    return Note(text=text[: cut + 1], signatures=tuple(signatures))


def verify_note(note: Note, keys: Sequence[PublicKey]) -> PublicKey:
    """Return the first of ``keys`` that signed; signatures of unknown keys are passed over.

    Raises:
        SignatureRefused: none of them did, or a signature under one of them is false.
    """
    known = {(key.name, key.id): key for key in keys if key.role is KeyRole.LOG}
    good = None
    for name, key_id, signature in note.signatures:
        key = known.get((name, key_id))
        if key is None:
            continue
        key.verify(signature, note.text.encode("utf-8"))
        good = good or key
    if good is None:
        raise SignatureRefused(f"Expected a signature by one of {sorted(key.name for key in keys)}.")
    return good


def checkpoint_text(origin: str, head: Head) -> str:
    """Text of a checkpoint.

    Raises:
        ValueError: an origin that is not printable ASCII without blanks, or no head.
    """
    if not _ORIGIN.match(origin):
        raise ValueError(f"Expected origin={origin[:64]!r} of printable ASCII without blanks.")
    root = base64.b64encode(bytes.fromhex(head.root)).decode("ascii")
    return f"{origin}\n{head.size}\n{root}\n"


def sign_checkpoint(key: SigningKey, origin: str, head: Head) -> bytes:
    """Return the signed checkpoint of a head."""
    text = checkpoint_text(origin, head)
    return f"{text}\n{_line(key.public, key.sign(text.encode('ascii')))}".encode()


def parse_checkpoint(text: str) -> tuple[str, Head]:
    """Origin and head that a checkpoint's text says, without any signature.

    Raises:
        ValueError: the text is not a checkpoint's.
    """
    lines = text.split("\n")
    if len(lines) != 4 or not _ORIGIN.match(lines[0]) or not _SIZE.match(lines[1]):
        raise ValueError("Expected a checkpoint: origin, size and root, a line each.")
    root = decode_base64(lines[2])
    if len(root) != 32:
        raise ValueError("Expected a root of 32 bytes in a checkpoint.")
    return lines[0], Head(size=int(lines[1]), root=root.hex())


def read_checkpoint(content: bytes, keys: Sequence[PublicKey]) -> tuple[str, Head]:
    """Origin and head of a checkpoint that one of ``keys`` signed.

    Raises:
        ValueError: it is not a checkpoint.
        SignatureRefused: none of the keys signed it.
    """
    note = parse_note(content)
    verify_note(note, keys)
    return parse_checkpoint(note.text)


def countersign(key: SigningKey, checkpoint: bytes, *, time: int) -> bytes:
    """Return the receipt of a checkpoint: its text with a countersignature.

    Args:
        key: A key of the role `KeyRole.COSIGNER`.
        checkpoint: Note whose text is countersigned. Whether its signature and its head are right is for the caller.
        time: Seconds since 1970.
    """
    if key.public.role is not KeyRole.COSIGNER:
        raise ValueError(f"Expected the key {key.name!r} with the role of a cosigner: the roles must not share a key.")
    if not 0 <= time < 2**63:
        raise ValueError(f"Expected time={time} in [0, 2^63).")
    text = parse_note(checkpoint).text
    parse_checkpoint(text)
    signature = time.to_bytes(8, "big") + key.sign(_countersigned(text, time))
    return f"{text}\n{_line(key.public, signature)}".encode()


def read_receipt(receipt: bytes, key: PublicKey) -> tuple[str, Head, int]:
    """Origin, head and time (seconds since 1970) that a cosigner's receipt says.

    Raises:
        ValueError: it is not a receipt.
        SignatureRefused: the key did not give it.
    """
    note = parse_note(receipt)
    for name, key_id, signature in note.signatures:
        if (name, key_id) == (key.name, key.id) and key.role is KeyRole.COSIGNER and len(signature) == 72:
            time = int.from_bytes(signature[:8], "big")
            key.verify(signature[8:], _countersigned(note.text, time))
            return (*parse_checkpoint(note.text), time)
    raise SignatureRefused(f"Expected a countersignature by {key.name!r}.")


def _countersigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _line(key: PublicKey, signature: bytes) -> str:
    return f"— {key.name} {base64.b64encode(key.id + signature).decode('ascii')}\n"
