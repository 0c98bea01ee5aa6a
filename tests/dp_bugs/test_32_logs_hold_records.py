"""Bug 32: a log, a crash, a report, a temporary file or a message holds what somebody said.

Published: exceptions that quote the row they choked on; debug dumps of batches; SQLite's write-ahead log and journal beside
an encrypted database; error replies that carry a traceback to the server.

A whole run of engine ``faithful`` at a finite epsilon: every person a device with a vault, a ledger and a witness, strange
words in every prompt, answer and name. Everything is looked through, during the run and after it: files and their names
under the run folder, ``HOMESPUN_HOME``, the folder for temporary files and the working folder, stdout, stderr, every log
record at any level, every message in both directions. In plain, UTF-16, base64 at any offset, hexadecimal, JSON, HTML and
URL escapes. Some people's statistics fail with a text that quotes them, and a malformed request with strange words in it
reaches every device.

Seen to fail: a device that keeps its preferences beside the vault, a failure that is logged with its text, a ledger that
names a person, and a temporary file.
"""

import base64
import html
import json
import logging
import runpy
import sqlite3
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from homespun.audit.sources import find_sources
from homespun.audit.writing import write_report
from homespun.client import device as devices
from homespun.personal import Backbone, Pairs, SpreadPhase
from homespun.preferences import _division
from homespun.simulations import commands, engine, world
from homespun.simulations.grid import InProcessGrid
from homespun.wire import TRAIN

path = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("path.py"))))
made_up = runpy.run_path(str(Path(__file__).parents[1] / "made_up_data.py"))
CANARIES = ("qzxcanary7f31", "Zürauwörtchen")
MARK = " ".join(CANARIES)


def forms(word: str) -> Iterator[bytes]:
    """Every spelling in which a word could lie somewhere."""
    plain = word.encode("utf-8")
    yield plain
    yield word.encode("utf-16-le")
    yield word.encode("utf-16-be")
    yield word.encode("latin-1")
    yield json.dumps(word)[1:-1].encode("ascii")
    yield repr(plain)[2:-1].encode("ascii")
    yield html.escape(word).encode("ascii", "xmlcharrefreplace")
    yield urllib.parse.quote(word).encode("ascii")
    yield plain.hex().encode("ascii")
    yield plain.hex().upper().encode("ascii")
    yield plain[::-1]
    for shift in range(3):  # base64 at any offset; the characters that a neighbour's bits are in are cut off
        inner = base64.b64encode(bytes(shift) + plain)[-(-8 * shift // 6) :].rstrip(b"=")
        yield inner[:-1]
        yield inner[:-1].translate(bytes.maketrans(b"+/", b"-_"))


NEEDLES = sorted({form for word in CANARIES for form in forms(word)})


def leaks(content: bytes) -> list[bytes]:
    return [needle for needle in NEEDLES if needle in content]


def searched(folders: Iterable[Path]) -> list[str]:
    """Files whose bytes or names hold a strange word, in any spelling."""
    found = []
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            content = b"" if file.is_dir() else file.read_bytes()
            if leaks(content) or leaks(str(file.relative_to(folder)).encode("utf-8")):
                found.append(file.name)
    return found


def everything(message: Message) -> bytes:
    """A message as bytes: content, metadata and error."""
    parts = [repr(message.metadata), repr(message.error) if message.has_error() else ""]
    objects = get_all_nested_objects(message.content).values() if message.has_content() else []
    return b"\n".join([*(part.encode("utf-8") for part in parts), *(part.deflate() for part in objects)])


class Overheard(InProcessGrid):
    """Keeps what crosses the edge, and sends every device one malformed request with strange words in it."""

    heard: list[bytes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        kept = list(messages)
        if not self.heard:
            for message in kept:
                strange = RecordDict({"round": ConfigRecord({"protocol": 1, "release": MARK, CANARIES[0]: MARK})})
                wrong = Message(strange, dst_node_id=message.metadata.dst_node_id, message_type=TRAIN)
                self.heard.append(everything(self._handle(wrong)))
        self.heard += [everything(message) for message in kept]
        return super().push_messages(kept)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(super().pull_messages(message_ids))
        self.heard += [everything(reply) for reply in replies]
        return replies


class Watching:
    """Looks at the disk after every round, while devices and their logs are there."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders, self.found, self.rounds, self.logs = folders, [], 0, 0

    def stage(self, name: str, total: int | None = None) -> None:
        print(name)

    def advance(self, n: int = 1) -> None: ...

    def note(self, text: str) -> None:
        print(text)

    def round(self, status: Any) -> None:
        print(status)
        self.rounds += 1
        self.look()

    def look(self) -> None:
        self.found += searched(self.folders)
        self.logs += sum(file.suffix in (".sqlite-wal", ".sqlite-journal") for file in self.folders[0].rglob("*"))


def run_and_search(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> set[str]:
    """Names of the files, and of what was told, in which something was found that somebody said."""
    runs, home, temporary, here = (tmp_path / name for name in ("runs", "home", "tmp", "here"))
    for folder in (runs, home, temporary, here):
        folder.mkdir()
    file = made_up["write_jsonl"](tmp_path / "said.jsonl", made_up["choices"](people=30, mark=MARK))
    assert len(leaks(file.read_bytes())) > 1
    monkeypatch.setenv("HOMESPUN_HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(here)
    monkeypatch.setattr(world, "load", path.toy["stand_in_encoder"])
    monkeypatch.setattr(world, "embed", path.toy["stand_in_embed"])
    monkeypatch.setattr(_division, "MIN_EVALUATED", 4)  # two dozen devices do
    monkeypatch.setattr(commands, "reference_methods", lambda *_: ({}, {}))
    monkeypatch.setattr(engine, "InProcessGrid", Overheard)
    monkeypatch.setattr(Overheard, "heard", [], raising=False)
    watching = Watching([runs, home, temporary, here])
    real = SpreadPhase.statistic

    def sometimes(self: SpreadPhase, backbone: Backbone, data: Pairs, round: int) -> torch.Tensor:
        if not watching.logs:
            watching.look()  # a vault and a ledger are open right now
        if int(data.chosen[0, 0]) % 3 == 0:
            raise ValueError(f"unexpected preference: {MARK}")
        return real(self, backbone, data, round)

    monkeypatch.setattr(SpreadPhase, "statistic", sometimes)
    given = {
        "data": str(file), "engine": "faithful", "epsilon": 4.0, "shots": (0, 5), "dim": 6, "rank": 2, "out": str(runs)
    }  # fmt: skip
    with caplog.at_level(logging.DEBUG):
        summary = commands.simulate(given, None, watching)
    run = Path(summary["run"])
    write_report(find_sources(run), run / "audit")

    assert summary["epsilon"] is not None
    assert watching.rounds == 3
    assert watching.logs > 1  # files that are gone when a device is closed
    assert "a statistic failed" in caplog.text  # it did happen
    assert "no request" in caplog.text
    assert len(Overheard.heard) > 7 * 20
    made = [folder for folder in (run / "devices").rglob("*") if (folder / "vault.sqlite").exists()]
    assert len(made) > 20  # and there was something to be found
    with sqlite3.connect(made[0] / "vault.sqlite") as vault:
        assert vault.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] > 0

    out, err = capfd.readouterr()
    records = "\n".join(f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records)
    told = {
        "stdout": out.encode(),
        "stderr": err.encode(),
        "log": f"{caplog.text}\n{records}".encode(),
        "summary": repr(summary).encode(),
        "messages": b"\n".join(Overheard.heard),
    }
    return {*watching.found, *searched(watching.folders), *(name for name, content in told.items() if leaks(content))}


def test_nothing_that_somebody_said_is_anywhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run_and_search(tmp_path, monkeypatch, caplog, capfd) == set()


def beside_the_vault(patch: pytest.MonkeyPatch) -> None:
    real = devices.Device.learn

    def learn(self: devices.Device, pairs: Pairs, preferences: Any = ()) -> None:
        real(self, pairs, preferences)
        (self.ledger.path.parent / "preferences.json").write_text(json.dumps(list(preferences)))

    patch.setattr(devices.Device, "learn", learn)


def with_its_text(patch: pytest.MonkeyPatch) -> None:
    def loudly(phase: Any, backbone: Backbone, pairs: Pairs, round: int) -> torch.Tensor:
        try:
            rows: torch.Tensor = phase.statistic(backbone, pairs, round)
            return rows
        except ValueError as error:
            devices.LOG.warning("a statistic failed: %s", error)
            return torch.zeros(0, phase.dimension)

    patch.setattr("homespun.client.statistic.statistic_or_nothing", loudly)


def in_the_ledger(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        commands, "declare_devices", lambda ledger, run: ledger.record("declare", {"name": "who", "text": MARK})
    )


def in_a_temporary_file(patch: pytest.MonkeyPatch) -> None:
    def render(run: Path) -> None:
        (Path(tempfile.gettempdir()) / "left-behind").write_bytes(base64.b64encode(b"x" + MARK.encode("utf-8")))

    patch.setattr(commands, "render", render)


def test_the_bugs_are_seen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """All at once, to save a minute: each is found in its own place."""
    for bug in (beside_the_vault, with_its_text, in_the_ledger, in_a_temporary_file):
        bug(monkeypatch)
    found = run_and_search(tmp_path, monkeypatch, caplog, capfd)
    assert {"preferences.json", "log", "privacy_ledger.jsonl", "left-behind", "messages"} - found == {"messages"}
    assert [name for name in found if name.startswith("privacy_ledger.sqlite")]


@pytest.mark.parametrize("word", CANARIES)
def test_the_search_finds_every_spelling(word: str) -> None:
    for form in forms(word):
        assert leaks(b"\x00before" + form + b"after"), form
    said = word.encode("utf-8")
    for before in (b"", b"a", b"ab", b"abc"):
        assert leaks(base64.b64encode(before + said + b"more"))
        assert leaks(base64.urlsafe_b64encode(before + said + b"more"))


def test_a_row_that_cannot_be_read_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line prints when it gives up: the line and the rule."""
    monkeypatch.setenv("HOMESPUN_HOME", str(tmp_path / "home"))
    rows = list(made_up["choices"](people=3, prompts=5, labels=4, mark=MARK))
    rows[5] = {**rows[5], "chosen": {"text": MARK}}
    file = made_up["write_jsonl"](tmp_path / "said.jsonl", rows)
    with pytest.raises(ValueError, match="said.jsonl:6: Expected chosen=<dict>") as raised:
        commands.simulate({"data": str(file), "out": str(tmp_path / "runs")}, None, Watching([tmp_path / "home"]))
    chain: BaseException | None = raised.value
    while chain is not None:
        assert leaks(f"{chain!r} {chain}".encode()) == []
        chain = chain.__cause__
