from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from homespun.privacy import LedgerError, SignatureRefused
from homespun.privacy.ledger import KeyRole, PublicKey, SigningKey
from homespun.privacy.ledger.keys import decode_base64

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def order_divides_8(y: int) -> bool:
    """By the curve's own arithmetic: -x^2 + y^2 = 1 + d x^2 y^2."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        return False
    for _ in range(3):
        inverse = pow(1 + D * x * x * y * y, -1, P), pow(1 - D * x * x * y * y, -1, P)
        x, y = 2 * x * y * inverse[0] % P, (y * y + x * x) * inverse[1] % P
    return (x, y) == (0, 1)


# y of the points of order 8, as every list of them has it
FIFTH = int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little")


@pytest.mark.parametrize("y", [0, 1, P - 1, FIFTH, P - FIFTH])
@pytest.mark.parametrize("sign", [0, 1])
def test_small_order_is_refused(y: int, sign: int) -> None:
    """Under such a key one signature holds for many messages."""
    assert order_divides_8(y)
    with pytest.raises(ValueError, match="large order"):
        PublicKey(name="a", raw=(y | sign << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("y", [P, P + 1, P + 4, 2**255 - 1])
def test_another_encoding_of_a_key_is_refused(y: int) -> None:
    with pytest.raises(ValueError, match="canonical"):
        PublicKey(name="a", raw=y.to_bytes(32, "little"))


def test_the_text_form_is_that_of_signed_notes() -> None:
    """The key of the example in Go's golang.org/x/mod/sumdb/note."""
    key = PublicKey.parse(GO_KEY)
    assert (key.name, key.id.hex(), key.text) == ("PeterNeumann", "c74f20a3", GO_KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        GO_KEY.replace("c74f20a3", "c74f20a4"),
        GO_KEY.replace("PeterNeumann", "Peter"),
        GO_KEY.replace("PeterNeumann", "Peter Neumann"),
        GO_KEY[:-1] + "X",
        GO_KEY + "=",
        GO_KEY.replace("+AR", "+Ag"),
        GO_KEY.replace("c74f20a3", "C74F20A3"),
        "a+00000000+AQ==",
    ],
)
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Expected"):
        PublicKey.parse(text)


def test_roles_have_other_ids(key: SigningKey) -> None:
    cosigner = SigningKey.from_bytes(key.name, key.to_bytes(), role=KeyRole.COSIGNER)
    assert cosigner.public.id != key.public.id
    assert PublicKey.parse(cosigner.public.text).role is KeyRole.COSIGNER


def test_signatures(key: SigningKey) -> None:
    signature = key.sign(b"a")
    key.public.verify(signature, b"a")
    for false, message in ((signature, b"b"), (signature[:-1] + b"\0", b"a"), (signature[:63], b"a"), (b"", b"a")):
        with pytest.raises(SignatureRefused, match="example.org/device"):
            key.public.verify(false, message)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "ä", "a" * 201])
def test_names_that_break_a_note_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="key name"):
        SigningKey.generate(name)


def test_a_key_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "operator.key"
    first = SigningKey.load_or_create(path, "a")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert SigningKey.load_or_create(path, "a").public == first.public
    assert [path.name for path in path.parent.iterdir()] == ["operator.key"]
    for mode in (0o640, 0o604, 0o666):
        path.chmod(mode)
        with pytest.raises(LedgerError, match="mode 0600"):
            SigningKey.load_or_create(path, "a")


def test_a_lost_race_for_a_key_file_takes_the_winners_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "operator.key"
    link, won = os.link, []

    def slow(*args: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        won.append(SigningKey.load_or_create(path, "a"))
        link(*args)

    monkeypatch.setattr(os, "link", slow)
    assert SigningKey.load_or_create(path, "a").public == won[0].public


@pytest.mark.parametrize("content", [b"", b"a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "operator.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="Ed25519"):
        SigningKey.load_or_create(path, "a")


def test_the_secret_is_in_no_repr_and_no_error(tmp_path: Path) -> None:
    key = SigningKey.generate("a")
    secret = key.to_bytes()
    shown = [repr(key), str(key), f"{key}", repr(vars(type(key)))]
    try:
        SigningKey.from_bytes("a", secret[:31])
    except ValueError as error:
        shown += traceback.format_exception(error)
    for text in shown:
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
    assert not hasattr(key, "__dict__")


@pytest.mark.parametrize("text", ["AB==", "AA=", "AA", "A A==", "AA==\n", "_w==", "AAAA====", "ä==="])
def test_base64_has_one_spelling(text: str) -> None:
    assert decode_base64("AA==") == b"\0"
    with pytest.raises(ValueError, match="base64"):
        decode_base64(text)
