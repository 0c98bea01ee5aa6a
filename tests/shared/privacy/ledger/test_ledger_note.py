from __future__ import annotations

import base64

import pytest

from homespun.privacy import SignatureRefused
from homespun.privacy.ledger import (
    Head,
    KeyRole,
    PublicKey,
    SigningKey,
    countersign,
    parse_checkpoint,
    parse_note,
    read_checkpoint,
    read_receipt,
)
from homespun.privacy.ledger.note import MOST_SIGNATURES, sign_checkpoint, verify_note

# The example of Go's golang.org/x/mod/sumdb/note, where the format comes from.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()
HEAD = Head(size=7, root="ab" * 32)
ORIGIN = "example.org/device/1"


@pytest.fixture(scope="module")
def cosigner() -> SigningKey:
    return SigningKey.from_bytes("example.org/witness", b"w" * 32, role=KeyRole.COSIGNER)


def test_a_note_that_go_signed() -> None:
    note = parse_note(GO_NOTE)
    key = PublicKey.parse(GO_KEY)
    assert note.text.startswith("If you think")
    assert note.text.endswith("is.\n")
    assert verify_note(note, [key]) == key


def test_a_checkpoint_byte_by_byte(key: SigningKey) -> None:
    note = sign_checkpoint(key, ORIGIN, HEAD)
    body = f"{ORIGIN}\n7\n{base64.b64encode(bytes.fromhex(HEAD.root)).decode()}\n"
    signature = base64.b64encode(key.public.id + key.sign(body.encode())).decode()
    assert note.decode() == f"{body}\n— {key.name} {signature}\n"
    assert read_checkpoint(note, [key.public]) == (ORIGIN, HEAD)
    assert parse_checkpoint(body) == (ORIGIN, HEAD)


def test_unknown_signatures_are_passed_over_and_false_ones_are_not(key: SigningKey) -> None:
    note = sign_checkpoint(key, ORIGIN, HEAD)
    stranger = SigningKey.generate("stranger")
    text = parse_note(note).text
    line = sign_checkpoint(stranger, ORIGIN, HEAD).decode().split("\n\n")[1]
    both = note + line.encode()
    assert read_checkpoint(both, [key.public]) == (ORIGIN, HEAD)
    assert verify_note(parse_note(both), [stranger.public, key.public]) == key.public
    with pytest.raises(SignatureRefused):
        read_checkpoint(note, [stranger.public])
    with pytest.raises(SignatureRefused):
        read_checkpoint(note, [])
    # one false signature under a known key spoils the note, whatever else stands there
    false = base64.b64encode(stranger.public.id + key.sign(b"x")).decode()
    with pytest.raises(SignatureRefused, match="stranger"):
        read_checkpoint(note + f"— stranger {false}\n".encode(), [key.public, stranger.public])
    assert read_checkpoint(note + f"— stranger {false}\n".encode(), [key.public]) == (ORIGIN, HEAD)
    assert text.count("\n") == 3


def test_sixteen_signatures_and_more(key: SigningKey) -> None:
    note = sign_checkpoint(key, ORIGIN, HEAD)
    line = f"— a {base64.b64encode(bytes(68)).decode()}\n".encode()
    assert MOST_SIGNATURES >= 16
    assert read_checkpoint(note + line * (MOST_SIGNATURES - 1), [key.public]) == (ORIGIN, HEAD)
    with pytest.raises(ValueError, match="at most 64 signatures"):
        parse_note(note + line * MOST_SIGNATURES)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a",
        b"a\n",
        b"a\n\n",
        b"a\n\nb\n",
        "a\n\n— a AAAAAAA=".encode(),
        b"a\n\n- a AAAAAAA=\n",
        "a\n\n— a b AAAAAAA=\n".encode(),
        "a\n\n— a AAAA\n".encode(),
        "a\n\n— a AAAAAAB=\n".encode(),
        "a\t\n\n— a AAAAAAA=\n".encode(),
        "a\r\n\n— a AAAAAAA=\n".encode(),
        b"\xff\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"a" * 70_000 + "\n\n— a AAAAAAA=\n".encode(),
    ],
)
def test_what_is_no_note_is_refused(content: bytes) -> None:
    assert parse_note("a\n\n— a AAAAAAA=\n".encode()).text == "a\n"
    with pytest.raises(ValueError, match="Expected"):
        parse_note(content)


def test_the_last_blank_line_parts_text_and_signatures() -> None:
    note = parse_note("a\n\n— a AAAAAAA=\n\n— b AAAAAAA=\n".encode())
    assert note.text == "a\n\n— a AAAAAAA=\n"
    assert [name for name, _, _ in note.signatures] == ["b"]


@pytest.mark.parametrize(
    "text",
    [
        "a\n1\n",
        "a\n1\n" + "A" * 43 + "=",
        "a\n01\n" + "A" * 43 + "=\n",
        "a\n-1\n" + "A" * 43 + "=\n",
        "a b\n1\n" + "A" * 43 + "=\n",
        "\n1\n" + "A" * 43 + "=\n",
        "a\n1\nAAAA\n",
        "a\n1\n" + "A" * 42 + "B=\n",
        "a\n1\n" + "A" * 43 + "=\nmore\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    assert parse_checkpoint("a\n1\n" + "A" * 43 + "=\n")[1].size == 1
    with pytest.raises(ValueError, match="Expected"):
        parse_checkpoint(text)


def test_a_receipt_byte_by_byte(key: SigningKey, cosigner: SigningKey) -> None:
    """C2SP tlog-cosignature, version 1: the time stands in the message and before the signature."""
    checkpoint = sign_checkpoint(key, ORIGIN, HEAD)
    receipt = countersign(cosigner, checkpoint, time=1_700_000_000)
    note = parse_note(receipt)
    assert note.text == parse_note(checkpoint).text
    ((name, key_id, signature),) = note.signatures
    assert (name, key_id) == (cosigner.name, cosigner.public.id)
    assert int.from_bytes(signature[:8], "big") == 1_700_000_000
    cosigner.public.verify(signature[8:], b"cosignature/v1\ntime 1700000000\n" + note.text.encode())
    assert read_receipt(receipt, cosigner.public) == (ORIGIN, HEAD, 1_700_000_000)


def test_roles_are_kept_apart(key: SigningKey, cosigner: SigningKey) -> None:
    checkpoint = sign_checkpoint(key, ORIGIN, HEAD)
    receipt = countersign(cosigner, checkpoint, time=5)
    with pytest.raises(ValueError, match="role of a cosigner"):
        countersign(key, checkpoint, time=5)
    with pytest.raises(SignatureRefused):
        read_checkpoint(receipt, [cosigner.public])  # a countersignature does not make a checkpoint
    with pytest.raises(SignatureRefused):
        read_receipt(checkpoint, key.public)
    other = SigningKey.generate("example.org/witness", role=KeyRole.COSIGNER)
    with pytest.raises(SignatureRefused):
        read_receipt(receipt, other.public)
    later = receipt.replace(receipt.split(b" ")[-1], b"")
    with pytest.raises(ValueError, match="Expected"):
        read_receipt(later, cosigner.public)


@pytest.mark.parametrize("place", range(8))
def test_the_time_of_a_receipt_is_signed(key: SigningKey, cosigner: SigningKey, place: int) -> None:
    receipt = countersign(cosigner, sign_checkpoint(key, ORIGIN, HEAD), time=5)
    head, _, encoded = receipt.decode().rstrip("\n").rpartition(" ")
    raw = bytearray(base64.b64decode(encoded))
    raw[4 + place] ^= 1
    with pytest.raises(SignatureRefused):
        read_receipt(f"{head} {base64.b64encode(raw).decode()}\n".encode(), cosigner.public)
