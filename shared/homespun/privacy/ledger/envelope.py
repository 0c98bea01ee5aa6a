"""One line of a ledger: a DSSE envelope around canonical JSON, in the only spelling that is read.

    {"payload":"<base64>","payloadType":"application/vnd.homespun.ledger+json","signatures":[{"keyid":"<8 hex>","sig":"<base64>"}]}

The signature is over the type as well as the content (DSSE's PAE), so a line of another kind of file cannot stand in for
an entry. One spelling means that nobody can change a byte of a line and leave its content as it was.

>>> key = SigningKey.from_bytes("example.org/log", bytes(32))
>>> line = seal(key, {"b": 1, "a": "x"})
>>> open_line(line, {key.public.id: key.public})
{'a': 'x', 'b': 1}

Source: https://github.com/secure-systems-lab/dsse (protocol and envelope, version 1.0.2).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from homespun.privacy.errors import SignatureRefused
from homespun.privacy.ledger.keys import PublicKey, SigningKey, decode_base64
from homespun.privacy.plan import canonical_json

__all__ = ["LARGEST_LINE", "PAYLOAD_TYPE", "Sealed", "open_line", "seal", "take_apart"]

PAYLOAD_TYPE = "application/vnd.homespun.ledger+json"
LARGEST_LINE = 262_144  # bytes; a genesis with plan and policy takes about 6,000, an entry about 1,200
_LINE = re.compile(
    rb'\{"payload":"([A-Za-z0-9+/]+={0,2})","payloadType":"([!#-\[\]-~]*)",'
    rb'"signatures":\[\{"keyid":"([0-9a-f]{8})","sig":"([A-Za-z0-9+/]{86}==)"\}\]\}\Z'
)


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A line taken apart; nothing in it is known to be true."""

    payload: bytes
    key_id: bytes
    signature: bytes

    def verify(self, key: PublicKey) -> None:
        """Return if ``key`` signed the payload as a ledger's entry; `SignatureRefused` otherwise."""
        if key.id != self.key_id:
            raise SignatureRefused(f"Expected a signature by {key.name!r} ({key.id.hex()}), not {self.key_id.hex()}.")
        key.verify(self.signature, _signed(self.payload))

    def read(self) -> dict[str, Any]:
        """Return the content: for payloads whose signature was verified, or that are only replayed.

        Raises:
            ValueError: it is not one JSON object in canonical spelling, without floats.
        """
        try:
            text = self.payload.decode("ascii")
            content = _DECODER.decode(text)
            # a repeated key, a blank or a number spelt in another way does not survive this
            same = _ENCODER.encode(content) == text
        except (ValueError, RecursionError):
            raise ValueError("Expected JSON without floats in the payload.") from None
        if not same or not isinstance(content, dict):
            raise ValueError("Expected one JSON object in canonical spelling in the payload.")
        return content


def seal(key: SigningKey, content: Mapping[str, Any]) -> bytes:
    """Return the signed line of a content, without a newline.

    Raises:
        ValueError: the content holds a float, or is too long.
    """
    payload = canonical_json(content).encode("ascii")
    envelope = {
        "payload": base64.b64encode(payload).decode("ascii"),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"keyid": key.public.id.hex(), "sig": base64.b64encode(key.sign(_signed(payload))).decode("ascii")}
        ],
    }
    line = canonical_json(envelope).encode("ascii")
    if len(line) > LARGEST_LINE:
        raise ValueError(f"Expected an entry of at most {LARGEST_LINE} bytes, not {len(line)}.")
    return line


def take_apart(line: bytes) -> Sealed:
    """Take a line apart without believing it.

    Raises:
        ValueError: it is not an envelope of a ledger's entry, or it is too long.
    """
    if len(line) > LARGEST_LINE:
        raise ValueError(f"Expected a line of at most {LARGEST_LINE} bytes, not {len(line)}.")
    found = _LINE.match(line)
    if found is None:
        raise ValueError("Expected a DSSE envelope in canonical spelling: payload, payloadType and one signature.")
    if found[2] != PAYLOAD_TYPE.encode("ascii"):
        raise ValueError(f"Expected payloadType={PAYLOAD_TYPE}, got {found[2][:64].decode('ascii')!r}.")
    return Sealed(
        payload=decode_base64(found[1].decode("ascii")),
        key_id=bytes.fromhex(found[3].decode("ascii")),
        signature=decode_base64(found[4].decode("ascii")),
    )


def open_line(line: bytes, keys: Mapping[bytes, PublicKey]) -> dict[str, Any]:
    """Content of a line that one of ``keys``, by id, signed: verified first, parsed after.

    Raises:
        ValueError: not a line, or no canonical content.
        SignatureRefused: none of the keys signed it.
    """
    sealed = take_apart(line)
    key = keys.get(sealed.key_id)
    if key is None:
        raise SignatureRefused(f"Expected a signature by a known key, not {sealed.key_id.hex()}.")
    sealed.verify(key)
    return sealed.read()


def _signed(payload: bytes) -> bytes:
    """Pre-authentication encoding: what is signed."""
    kind = PAYLOAD_TYPE.encode("ascii")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"Expected {text[:32]} as a decimal string: a float has no canonical text.")


# Made once, because making them takes as long as a line does. The encoder is that of canonical_json, without its search
# for floats: the decoder refuses those.
_DECODER = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
