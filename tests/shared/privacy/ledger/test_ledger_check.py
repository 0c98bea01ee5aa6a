"""A stranger's view: an export, a checkpoint, and what somebody remembers."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homespun.privacy import GaussianEvent
from homespun.privacy.ledger import Genesis, Head, KeyRole, Ledger, SigningKey, check, countersign
from homespun.privacy.ledger.chain import Chain
from homespun.privacy.ledger.entries import Entry
from homespun.privacy.ledger.envelope import LARGEST_LINE, PAYLOAD_TYPE, seal, take_apart
from homespun.privacy.ledger.note import sign_checkpoint

Make = Callable[..., Genesis]
DIGEST = "ab" * 32


class Export:
    """What a ledger left behind at two moments."""

    def __init__(self, folder: Path, key: SigningKey, genesis: Genesis, event: GaussianEvent) -> None:
        cosigner = SigningKey.from_bytes("example.org/witness", b"w" * 32, role=KeyRole.COSIGNER)
        with Ledger.create(folder / "ledger.sqlite", key, genesis) as ledger:
            ledger.commit(ledger.reserve("device", event, {"run": 0, "round": 0}), DIGEST, {"asked": 3})
            receipt = countersign(cosigner, ledger.checkpoint, time=1).decode()
            self.old_head, self.old_note = ledger.head, ledger.checkpoint
            ledger.export(folder)
            self.old = (folder / "ledger.jsonl").read_bytes()
            ledger.record("witness", {"witness": cosigner.public.text, "receipt": receipt})
            ledger.burn(ledger.reserve("device", event, {"run": 0, "round": 1}), "crash")
            ledger.refuse("paused", {"run": 0, "round": 2})
            ledger.reserve("device", event, {"run": 0, "round": 3})
            ledger.export(folder)
            self.head = ledger.head
        self.lines = (folder / "ledger.jsonl").read_bytes()
        self.note = (folder / "checkpoint.txt").read_bytes()


@pytest.fixture(scope="module")
def export(
    tmp_path_factory: pytest.TempPathFactory, key: SigningKey, make_genesis: Make, event: GaussianEvent
) -> Export:
    return Export(tmp_path_factory.mktemp("export"), key, make_genesis(), event)


def rules(lines: bytes, note: bytes, **named: Any) -> list[str]:
    """Where each problem is."""
    return [problem.where for problem in check(lines, note, **named).problems]


def test_a_good_export(export: Export, key: SigningKey, make_genesis: Make) -> None:
    remembered = [export.old_head, export.old_note, export.head, export.note]
    checked = check(export.lines, export.note, keys=[key.public], remembered=remembered)
    assert checked.problems == ()
    assert checked.genesis == make_genesis()
    assert checked.head == export.head
    kinds = ["genesis", "reserve", "commit", "witness", "reserve", "burn", "refuse", "reserve"]
    assert [entry.kind.value for entry in checked.entries] == kinds
    assert checked.accounts["device"].spent == 15 * 10**17
    assert len(checked.accounts["device"].events) == 3


def edits(export: Export, count: int) -> list[tuple[str, bytes, bytes]]:
    """Random edits of an export: a flipped bit anywhere; a line dropped, swapped, repeated, or cut off at the end."""
    coin = random.Random(7)
    lines = export.lines.splitlines(keepends=True)
    found = []
    for number in range(count):
        what = ("flip", "flip", "flip note", "drop", "swap", "repeat", "cut", "cut bytes")[number % 8]
        rows, note, i = list(lines), export.note, coin.randrange(len(lines))
        if what == "flip":
            place = coin.randrange(len(export.lines))
            changed = bytearray(export.lines)
            changed[place] ^= 1 << coin.randrange(8)
            found.append((f"{what} {place}", bytes(changed), note))
            continue
        if what == "flip note":
            place = coin.randrange(len(note))
            changed = bytearray(note)
            changed[place] ^= 1 << coin.randrange(8)
            found.append((f"{what} {place}", export.lines, bytes(changed)))
            continue
        if what == "drop":
            del rows[i]
        elif what == "swap":
            j = (i + 1 + coin.randrange(len(rows) - 1)) % len(rows)
            rows[i], rows[j] = rows[j], rows[i]
        elif what == "repeat":
            rows.insert(coin.randrange(len(rows) + 1), rows[i])
        elif what == "cut":
            rows = rows[:i]
        content = b"".join(rows)
        if what == "cut bytes":
            content = content[: coin.randrange(len(content))]
        found.append((f"{what} {i}", content, note))
    return found


def test_every_edit_is_caught(export: Export) -> None:
    for what, lines, note in edits(export, 240):
        assert check(lines, note).problems != (), what


def test_an_old_copy_is_caught_by_whoever_remembers(export: Export) -> None:
    """By itself it verifies: nothing in it is wrong."""
    assert rules(export.old, export.old_note) == []
    for memory in (export.head, export.note):
        assert rules(export.old, export.old_note, remembered=[export.old_head, memory]) == ["remembered 2"]
    other = Head(size=export.old_head.size, root="00" * 32)
    assert rules(export.lines, export.note, remembered=[other]) == ["remembered 1"]


def test_a_problem_has_its_line_and_the_others_are_found_too(export: Export) -> None:
    rows = export.lines.splitlines(keepends=True)
    rows[2] = rows[2].replace(b'"sig":"', b'"sig":"A', 1)
    rows[5] = rows[5].replace(b"+json", b"+text")
    where = rules(b"".join(rows), export.note)
    assert where[:2] == ["line 3", "line 4"]  # the line, and the next one, which names another line before it
    assert "line 6" in where
    assert where[-1] == "checkpoint"
    rows = export.lines.splitlines(keepends=True)
    del rows[6]
    assert rules(b"".join(rows), export.note) == ["line 7", "checkpoint"]  # one gap, and nothing of the lines after it


def test_an_unsigned_tail_and_a_checkpoint_ahead(export: Export) -> None:
    checked = check(export.lines, export.old_note)
    assert [problem.where for problem in checked.problems] == ["checkpoint"]
    assert "unsigned tail: lines 4 to 8" in checked.problems[0].rule
    checked = check(export.old, export.note)
    assert [problem.where for problem in checked.problems] == ["checkpoint"]
    assert "cut off" in checked.problems[0].rule


def test_keys(export: Export, key: SigningKey) -> None:
    assert rules(export.lines, export.note, keys=[SigningKey.generate(key.name).public]) != []
    assert rules(export.lines, export.note, keys=[]) != []


def test_nothing_at_all() -> None:
    for lines in (b"", b"\n", b"{}\n", b"[" * 100_000 + b"\n"):
        checked = check(lines, b"")
        assert checked.genesis is None
        assert checked.problems != ()


def test_an_incomplete_last_line(export: Export) -> None:
    assert "ledger" in rules(export.lines[:-1], export.note)


def forge(export: Export, key: SigningKey, change: Callable[[list[dict[str, Any]]], Any], **named: Any) -> list[str]:
    """Problems of a ledger that its own key signed after a change: chain, tree and checkpoint are all in order."""
    rows = [take_apart(line).read() for line in export.lines.splitlines()]
    change(rows)
    lines, prev = [], "0" * 64
    for row in rows:
        row["prev"] = row["prev"] if row["prev"] == "f" * 64 else prev
        lines.append(seal(key, row))
        prev = hashlib.sha256(lines[-1]).hexdigest()
    chain = Chain(Entry.from_dict(rows[0]), lines[0])
    for line in lines[1:]:
        chain._advance(line)
    note = sign_checkpoint(key, named.get("origin", rows[0]["origin"]), chain.head)
    return [problem.rule for problem in check(b"\n".join(lines) + b"\n", note).problems]


def drop(rows: list[dict[str, Any]], place: int) -> None:
    del rows[place]
    for seq, row in enumerate(rows):
        row["seq"] = seq


FORGED: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "a lower cost": (lambda rows: rows[1]["body"].update(rho="0.000000000000000001"), "for its event"),
    "a lower sum": (lambda rows: rows[4]["body"].update(spent_after="0.500000000000000000"), "as they follow"),
    "another cap": (lambda rows: rows[0]["body"].update(cap="1.000000000000000000"), "as they follow"),
    "another unit": (lambda rows: rows[1]["body"]["event"].update(unit="record"), "as they follow"),
    "another relation": (lambda rows: rows[0]["body"].update(relation="replace-one"), "as they follow"),
    "less noise": (lambda rows: rows[1]["body"]["event"].update(variance=1024**2 // 4), "for its event"),
    "no reservation": (lambda rows: drop(rows, 1), "open reservation"),
    "one round twice": (lambda rows: rows[7]["body"]["subject"].update(round=0), "reserved once"),
    "a clock as a number": (lambda rows: rows[2].update(time=5), "time of an entry"),
    "a number as a text": (lambda rows: rows[2].update(seq="2"), "seq of an entry"),
    "a skipped number": (lambda rows: rows[7].update(seq=9), "missing, repeated or moved"),
    "a broken chain": (lambda rows: rows[7].update(prev="f" * 64), "SHA-256 of the line before"),
    "another version": (lambda rows: rows[2].update(v=2), "version 1"),
    "true for one": (lambda rows: rows[1].update(v=True), "version 1"),
    "a new field": (lambda rows: rows[2].update(note="x"), "fields of an entry"),
    "a new kind": (lambda rows: rows[2].update(kind="refund"), "kind='refund'"),
    "a user's id": (lambda rows: rows[1]["body"]["subject"].update(user="u17"), "subject among"),
    "another ledger's entry": (lambda rows: rows[2].update(origin="example.org/device/2"), "another ledger"),
    "another ledger's receipt": (
        lambda rows: [row.update(origin="example.org/device/2") for row in rows],
        "a head of another ledger",
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_the_holder_of_the_key_cannot_write(export: Export, key: SigningKey, what: str) -> None:
    change, rule = FORGED[what]
    problems = forge(export, key, change)
    assert any(rule in problem for problem in problems), problems


def test_the_forger_is_not_caught_for_nothing(export: Export, key: SigningKey) -> None:
    assert forge(export, key, lambda rows: rows.__delitem__(slice(3, None))) == []


def test_the_checkpoint_of_another_ledger(export: Export, key: SigningKey) -> None:
    problems = forge(export, key, lambda rows: rows.__delitem__(slice(3, None)), origin="example.org/device/2")
    assert len(problems) == 1
    assert "another ledger" in problems[0]


def signed(key: SigningKey, payload: bytes, kind: str = PAYLOAD_TYPE, *, shown: str | None = None) -> bytes:
    """An envelope around any bytes, signed as a ``kind`` and shown as another one."""
    signature = key.sign(b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": shown or kind,
        "signatures": [{"keyid": key.public.id.hex(), "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(envelope, separators=(",", ":"), sort_keys=True).encode()


def test_payload_types_are_not_confused(export: Export, key: SigningKey) -> None:
    """CVE-2022-35929: what was signed as something else is no entry, whatever it says it is."""
    rows = export.lines.splitlines()
    payload = take_apart(rows[-1]).payload
    rows[-1] = signed(key, payload)
    assert rows[-1] == export.lines.splitlines()[-1]
    for line, rule in (
        (signed(key, payload, "text/plain"), "Expected payloadType"),
        (signed(key, payload, "text/plain", shown=PAYLOAD_TYPE), "Expected a signature"),
        (signed(key, payload, PAYLOAD_TYPE, shown="text/plain"), "Expected payloadType"),
    ):
        rows[-1] = line
        assert rule in check(b"\n".join(rows) + b"\n", export.note).problems[0].rule


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "a repeated key": lambda text: text.replace(b'"v":1', b'"v":1,"v":1'),
    "a repeated key inside": lambda text: text.replace(b'"reason":', b'"reason":"a","reason":', 1),
    "a blank": lambda text: text.replace(b'"v":1', b'"v": 1'),
    "another order": lambda text: b'{"v":1,' + text[1:].replace(b',"v":1', b""),
    "a float": lambda text: text.replace(b'"v":1', b'"v":1.0'),
    "an exponent": lambda text: text.replace(b'"v":1', b'"v":1e0'),
    "a number that is none": lambda text: text.replace(b'"v":1', b'"v":NaN'),
    "an escape": lambda text: text.replace(b"paused", b"\\u0070aused"),
    "a list": lambda text: b"[" + text + b"]",
    "a depth": lambda text: b"[" * 60_000,
    "not ASCII": lambda text: text.replace(b"paused", "päused".encode()),
    "a long number": lambda text: text.replace(b'"v":1', b'"v":' + b"1" * 9_000),
}


@pytest.mark.parametrize("what", SPELLINGS)
def test_other_spellings_of_a_payload_are_refused(export: Export, key: SigningKey, what: str) -> None:
    rows = export.lines.splitlines()
    text = SPELLINGS[what](take_apart(rows[6]).payload)
    assert text != take_apart(rows[6]).payload
    rows[6] = signed(key, text)
    problem = check(b"\n".join(rows) + b"\n", export.note).problems[0]
    assert problem.where == "line 7"
    assert "in the payload" in problem.rule


ENVELOPES: dict[str, Callable[[bytes], bytes]] = {
    "a blank": lambda line: line.replace(b":", b": ", 1),
    "another order": lambda line: b'{"payloadType":"x",' + line[1:],
    "a repeated key": lambda line: line.replace(b',"signatures"', b',"payload":"AAAA","signatures"'),
    "no signature": lambda line: line[: line.index(b"[")] + b"[]}",
    "two signatures": lambda line: line.replace(b"}]}", b"}," + line[line.index(b"[") + 1 :]),
    "a carriage return": lambda line: line + b"\r",
    "base64 that is not minimal": lambda line: line.replace(b'=="}]}', b'="}]}'),
    "unpadded base64": lambda line: line.replace(b'=="}]}', b'"}]}'),
}


@pytest.mark.parametrize("what", ENVELOPES)
def test_other_spellings_of_an_envelope_are_refused(export: Export, what: str) -> None:
    rows = export.lines.splitlines()
    rows[6] = ENVELOPES[what](rows[6])
    problem = check(b"\n".join(rows) + b"\n", export.note).problems[0]
    assert (problem.where, "Expected" in problem.rule) == ("line 7", True)


def test_lines_are_bounded(export: Export, key: SigningKey) -> None:
    rows = export.lines.splitlines()
    rows[6] = signed(key, b"1" * LARGEST_LINE)
    problem = check(b"\n".join(rows) + b"\n", export.note).problems[0]
    assert problem.where == "line 7"
    assert f"at most {LARGEST_LINE} bytes" in problem.rule
    with pytest.raises(ValueError, match="at most"):
        seal(key, {"a": "x" * LARGEST_LINE})


def test_a_float_is_not_sealed(key: SigningKey) -> None:
    with pytest.raises(ValueError, match="decimal string"):
        seal(key, {"a": 0.5})


def test_problems_are_bounded(export: Export) -> None:
    checked = check(b"x\n" * 5000, export.note)
    assert len(checked.problems) <= 100
    rows = export.lines.splitlines(keepends=True)[:1] + [b"x\n"] * 5000
    assert len(check(b"".join(rows), export.note).problems) == 100
