from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from homespun.privacy import (
    GaussianEvent,
    LedgerBusy,
    LedgerDamaged,
    LedgerError,
    PrivacyBudgetExhausted,
    ReservationError,
)
from homespun.privacy.ledger import (
    Entry,
    Genesis,
    KeyRole,
    Kind,
    Ledger,
    SigningKey,
    check,
    countersign,
    log,
    store,
    verify_consistency,
)
from homespun.privacy.ledger.envelope import take_apart

Make = Callable[..., Genesis]
DIGEST = "ab" * 32


def rows(path: Path) -> list[dict[str, object]]:
    """The entries as somebody with sqlite3 and nothing else finds them."""
    connection = sqlite3.connect(path)
    lines = [line for (line,) in connection.execute("SELECT line FROM log ORDER BY seq")]
    connection.close()
    return [take_apart(line).read() for line in lines]


def test_a_spend_is_on_disk_before_reserve_returns(ledger: Ledger, event: GaussianEvent) -> None:
    paid = ledger.reserve("device", event, {"run": 0, "round": 0})
    last = Entry.from_dict(rows(ledger.path)[-1])
    assert (last.kind, last.seq, last.body["spent_after"]) == (Kind.RESERVE, paid.seq, "0.500000000000000000")
    assert (paid.account, paid.event, paid.rho, paid.subject) == (
        "device",
        event,
        Decimal("0.5"),
        {"run": 0, "round": 0},
    )
    assert ledger.spent("device") == Decimal("0.5")
    assert ledger.events("device") == (event,)
    assert ledger.open_reservations() == (paid,)
    ledger.commit(paid, DIGEST, {"asked": 10, "answered": 9})
    assert ledger.open_reservations() == ()
    assert ledger.spent("device") == Decimal("0.5")
    assert ledger.spent("nobody") == 0
    assert ledger.events("nobody") == ()
    assert [entry.kind.value for entry in ledger.entries()] == ["genesis", "reserve", "commit"]


def test_what_is_refused_writes_nothing(ledger: Ledger, event: GaussianEvent) -> None:
    for number in range(4):
        paid = ledger.reserve("device", event, {"run": 0, "round": number})
    before = ledger.head
    for error, action in (
        (PrivacyBudgetExhausted, lambda: ledger.reserve("device", event, {"run": 0, "round": 9})),
        (PrivacyBudgetExhausted, lambda: ledger.reserve("other", None, {"run": 0, "round": 9})),
        (ReservationError, lambda: ledger.reserve("device", event, {"run": 0, "round": 0})),
        (ValueError, lambda: ledger.reserve("A B", event, {"run": 0, "round": 9})),
        (ValueError, lambda: ledger.reserve("device", event, {"user": "u17"})),
        (ValueError, lambda: ledger.commit(paid, "abc")),
        (ValueError, lambda: ledger.refuse("A sentence.", {})),
        (ValueError, lambda: ledger.record("reserve", {})),
        (ValueError, lambda: ledger.record("rumour", {})),
        (ValueError, lambda: ledger.record("declare", {"name": "x"})),
    ):  # fmt: skip
        with pytest.raises(error):
            action()
    assert ledger.head == before
    ledger.commit(paid, DIGEST)
    with pytest.raises(ReservationError):
        ledger.burn(paid, "crash")
    assert ledger.head.size == before.size + 1


def test_a_masked_sum_is_counted_before_it_is_opened(
    tmp_path: Path, event: GaussianEvent, key: SigningKey, make_genesis: Make
) -> None:
    """Whoever kills the server after the reveal cannot take back that there was one: a stranger's check counts it."""
    path = tmp_path / "server.sqlite"
    with Ledger.create(path, key, make_genesis(holder="server")) as ledger:
        paid = ledger.reserve("run-0", event, {"run": 0, "round": 0})
        ledger.opened(paid, attempt=1, survivors=9, transcript=bytes(range(32)))
    with Ledger.open(path, key) as ledger:
        (again,) = ledger.open_reservations()
        assert (again.seq, again.attempts, ledger.spent("run-0")) == (paid.seq, 2, Decimal("0.5"))
        before = ledger.head
        with pytest.raises(ReservationError, match="attempt=1 in"):
            ledger.opened(again, attempt=1, survivors=9, transcript=bytes(32))
        with pytest.raises(ValueError, match="transcript_sha256"):
            ledger.opened(again, attempt=2, survivors=9, transcript=bytes(31))
        assert ledger.head == before
        ledger.opened(again, attempt=2, survivors=8, transcript=bytes(32))
        ledger.commit(again, DIGEST)
        ledger.export(tmp_path)
    seen = check((tmp_path / "ledger.jsonl").read_bytes(), (tmp_path / "checkpoint.txt").read_bytes())
    assert seen.problems == ()
    opened = [entry.body for entry in seen.entries if entry.kind is Kind.OPEN]
    assert [(body["attempt"], body["survivors"]) for body in opened] == [(1, 9), (2, 8)]
    assert opened[0]["transcript_sha256"] == bytes(range(32)).hex()


def test_everything_is_known_again_after_reopening(
    ledger: Ledger, event: GaussianEvent, key: SigningKey, make_genesis: Make
) -> None:
    first = ledger.reserve("device", event, {"run": 0, "round": 0})
    second = ledger.reserve("device", event, {"run": 0, "round": 1})
    ledger.burn(first, "crash")
    ledger.refuse("paused", {"run": 0, "round": 2})
    known = (
        ledger.head,
        ledger.checkpoint,
        ledger.spent("device"),
        ledger.events("device"),
        ledger.open_reservations(),
    )
    ledger.close()
    with Ledger.open(ledger.path, key) as again:
        assert again.genesis == make_genesis()
        assert known == (
            again.head, again.checkpoint, again.spent("device"), again.events("device"), again.open_reservations()
        )  # fmt: skip
        assert again.open_reservations() == (second,)
        again.commit(second, DIGEST)
        assert again.cap == 2


def test_without_a_key_it_can_only_be_read(ledger: Ledger, event: GaussianEvent) -> None:
    with Ledger.open(ledger.path, None) as reader:
        with pytest.raises(LedgerError, match="only be read"):
            reader.reserve("device", event, {"round": 0})
        paid = ledger.reserve("device", event, {"round": 0})
        assert reader.open_reservations() == (paid,)  # what another wrote meanwhile
        assert reader.head == ledger.head


def test_another_key_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="Expected the key that signs"):
        Ledger.open(ledger.path, SigningKey.generate("example.org/device"))


def test_a_ledger_is_never_begun_over_another(ledger: Ledger, key: SigningKey, make_genesis: Make) -> None:
    before = ledger.head
    with pytest.raises(LedgerError, match="Expected no ledger"):
        Ledger.create(ledger.path, key, make_genesis(origin="example.org/device/2"))
    with Ledger.open(ledger.path, key) as again:
        assert again.head == before
    with pytest.raises(LedgerError, match="there is none"):
        Ledger.open(ledger.path.with_name("other"), key)
    assert list(ledger.path.parent.glob("*.part")) == []


def test_files_are_for_their_owner_alone(ledger: Ledger, tmp_path: Path, event: GaussianEvent) -> None:
    ledger.reserve("device", event, {"round": 0})
    ledger.export(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"ledger.sqlite", "ledger.sqlite-wal", "ledger.jsonl", "checkpoint.txt"} <= names
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_the_key_is_in_no_repr_no_error_and_no_file(ledger: Ledger, event: GaussianEvent, key: SigningKey) -> None:
    ledger.reserve("device", event, {"round": 0})
    secret = key.to_bytes()
    assert repr(ledger) == f"Ledger(path={str(ledger.path)!r})"
    for path in ledger.path.parent.iterdir():
        content = path.read_bytes()
        assert secret not in content
        assert secret.hex().encode() not in content


def test_two_open_ledgers_see_each_other(ledger: Ledger, event: GaussianEvent, key: SigningKey) -> None:
    with Ledger.open(ledger.path, key) as other:
        for number in range(4):
            paid = (ledger, other)[number % 2].reserve("device", event, {"round": number})
            (other, ledger)[number % 2].commit(paid, DIGEST)
        for one in (ledger, other):
            assert one.spent("device") == 2
            with pytest.raises(PrivacyBudgetExhausted):
                one.reserve("device", event, {"round": 9})
        assert ledger.head == other.head
        assert ledger.head.size == 9


def test_threads_may_share_a_ledger(ledger: Ledger, event: GaussianEvent) -> None:
    won: list[int] = []

    def spend(number: int) -> None:
        with contextlib.suppress(PrivacyBudgetExhausted):
            won.append(ledger.reserve("device", event, {"round": number}).seq)

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [1, 2, 3, 4]


def test_a_writer_that_holds_on_is_not_waited_for_for_ever(
    ledger: Ledger, event: GaussianEvent, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PATIENCE", 0.05)
    with Ledger.open(ledger.path, key) as other:
        holder = sqlite3.connect(ledger.path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusy, match="one writer"):
            other.reserve("device", event, {"round": 0})
        holder.execute("ROLLBACK")
        holder.close()
        other.reserve("device", event, {"round": 0})


def test_a_write_that_fails_leaves_nothing(
    ledger: Ledger, event: GaussianEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, or anything else between the line and the end of the transaction."""
    before = ledger.head

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store.Store, "append", full)
    with pytest.raises(LedgerError, match="disk is full. Nothing was written"):
        ledger.reserve("device", event, {"round": 0})
    monkeypatch.undo()
    assert (ledger.head, ledger.spent("device")) == (before, 0)
    ledger.reserve("device", event, {"round": 0})


@pytest.mark.parametrize("method", ["take", "_advance"])
def test_an_interrupt_after_the_write_is_made_good(
    ledger: Ledger, event: GaussianEvent, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The entry is on disk: the next look at the ledger must know it, or the budget would be spent twice."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(log.Chain, method, interrupt)
    with pytest.raises(KeyboardInterrupt):
        ledger.reserve("device", event, {"round": 0})
    monkeypatch.undo()
    assert ledger.spent("device") == Decimal("0.5")
    assert [paid.subject for paid in ledger.open_reservations()] == [{"round": 0}]


def test_every_transaction_is_synced(ledger: Ledger) -> None:
    connection = ledger._store._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM log", "UPDATE log SET line = x'00'", "DELETE FROM log WHERE seq = 1"]
)
def test_the_log_only_grows(ledger: Ledger, event: GaussianEvent, statement: str) -> None:
    ledger.reserve("device", event, {"round": 0})
    connection = sqlite3.connect(ledger.path)
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        connection.execute(statement)
    connection.close()


DAMAGE = {
    "dropped": "DELETE FROM log WHERE seq = 1",
    "cut off": "DELETE FROM log WHERE seq = 3",
    "swapped": "UPDATE log SET seq = CASE seq WHEN 1 THEN -1 WHEN 2 THEN 1 ELSE seq END;"
    "UPDATE log SET seq = 2 WHERE seq = -1",
    "repeated": "INSERT INTO log SELECT 4, line FROM log WHERE seq = 3",
    "edited": "UPDATE log SET line = CAST(replace(CAST(line AS TEXT), 'e', 'f') AS BLOB) WHERE seq = 2",
    "a text": "UPDATE log SET line = 'line' WHERE seq = 2",
    "emptied": "DELETE FROM log",
    "no checkpoint": "DELETE FROM checkpoint",
    "another checkpoint": "UPDATE checkpoint SET note = x'00'",
    "no table": "DROP TABLE log",
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_file_is_not_opened(ledger: Ledger, event: GaussianEvent, key: SigningKey, what: str) -> None:
    for number in range(3):
        ledger.reserve("device", event, {"round": number})
    ledger.close()
    connection = sqlite3.connect(ledger.path)
    connection.executescript(f"DROP TRIGGER log_update; DROP TRIGGER log_delete; {DAMAGE[what]}")
    connection.close()
    for holder in (key, None):
        with pytest.raises(LedgerDamaged, match="Expected"):
            Ledger.open(ledger.path, holder)


def test_a_file_that_is_no_database_is_not_opened(tmp_path: Path, key: SigningKey) -> None:
    for content in (b"", b"a ledger, honestly" * 100):
        (tmp_path / "ledger.sqlite").write_bytes(content)
        with pytest.raises(LedgerDamaged, match="Expected"):
            Ledger.open(tmp_path / "ledger.sqlite", key)


def test_an_older_state_under_an_open_ledger_is_found(ledger: Ledger, event: GaussianEvent, key: SigningKey) -> None:
    ledger.reserve("device", event, {"round": 0})
    connection = sqlite3.connect(ledger.path)
    old = connection.execute("SELECT note FROM checkpoint").fetchone()[0]
    ledger.reserve("device", event, {"round": 1})
    connection.executescript("DROP TRIGGER log_delete; DELETE FROM log WHERE seq = 2")
    connection.execute("UPDATE checkpoint SET note = ?", (old,))
    connection.commit()
    connection.close()
    with pytest.raises(LedgerDamaged, match="cut off"):
        ledger.reserve("device", event, {"round": 2})


def test_another_key_goes_on(ledger: Ledger, event: GaussianEvent, key: SigningKey, tmp_path: Path) -> None:
    new = SigningKey.generate("example.org/device")
    ledger.reserve("device", event, {"round": 0})
    with Ledger.open(ledger.path, key) as old:
        ledger.rotate(new)
        assert ledger.key == new.public
        ledger.reserve("device", event, {"round": 1})
        with pytest.raises(LedgerError, match="signs .* now"):
            old.reserve("device", event, {"round": 2})
    with pytest.raises(ReservationError, match="did not sign"):
        ledger.rotate(key)
    ledger.export(tmp_path)
    ledger.close()
    with pytest.raises(LedgerError, match="Expected the key"):
        Ledger.open(ledger.path, key)
    Ledger.open(ledger.path, new).close()
    checked = check((tmp_path / "ledger.jsonl").read_bytes(), (tmp_path / "checkpoint.txt").read_bytes())
    assert checked.problems == ()
    assert checked.key == key.public


def test_every_kind_that_can_be_recorded(ledger: Ledger, tmp_path: Path) -> None:
    cosigner = SigningKey.generate("example.org/witness", role=KeyRole.COSIGNER)
    receipt = countersign(cosigner, ledger.checkpoint, time=1).decode()
    for kind, body in (
        ("policy", {"policy": {"paused": True}, "cap": "1.000000000000000000"}),
        ("witness", {"witness": cosigner.public.text, "receipt": receipt}),
        ("export", {"to": "a new phone", "size": 1, "root": DIGEST}),
        ("erase", {"what": "preferences", "reason": "owner"}),
        ("audit", {"title": "one run", "commitment": DIGEST}),
        ("audit", {"evidence_sha256": DIGEST}),
        ("declare", {"name": "purpose", "text": "A test."}),
        ("acknowledge", {"incident": "rollback", "spent_after": {"device": "0.250000000000000000"}}),
    ):
        assert ledger.record(kind, body).kind == kind
    assert ledger.cap == 1
    assert ledger.spent("device") == Decimal("0.25")
    ledger.export(tmp_path)
    assert check((tmp_path / "ledger.jsonl").read_bytes(), (tmp_path / "checkpoint.txt").read_bytes()).problems == ()


def test_entries_hold_no_floats(ledger: Ledger, event: GaussianEvent, tmp_path: Path) -> None:
    ledger.commit(ledger.reserve("device", event, {"round": 0}), DIGEST)
    for row in rows(ledger.path):
        json.loads(json.dumps(row), parse_float=pytest.fail)


def test_a_proof_leads_from_every_head_to_the_newest(ledger: Ledger, event: GaussianEvent) -> None:
    heads = [ledger.head]
    for number in range(4):
        ledger.reserve("device", event, {"round": number})
        heads.append(ledger.head)
    for head in heads:
        assert ledger.root_at(head.size) == head.root
        assert verify_consistency(head, ledger.head, ledger.prove(head.size))
        assert verify_consistency(heads[0], head, ledger.prove(1, head.size))
    with pytest.raises(ValueError, match="Expected"):
        ledger.prove(9)


def test_an_export_is_whole_or_not_at_all(
    ledger: Ledger, event: GaussianEvent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.export(tmp_path, "privacy_ledger.jsonl")
    before = (tmp_path / "privacy_ledger.jsonl").read_bytes()
    ledger.reserve("device", event, {"round": 0})

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        ledger.export(tmp_path, "privacy_ledger.jsonl")
    assert (tmp_path / "privacy_ledger.jsonl").read_bytes() == before
    assert list(tmp_path.glob("*.part")) == []
