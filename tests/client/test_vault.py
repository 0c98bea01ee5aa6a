"""What is sealed opens whole, for its owner, in its newest version, or not at all."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.backends import chainer, fail, null

from homespun.client.errors import KeyringUnusable, VaultError, VaultOlder
from homespun.client.vault import GivenKey, Identity, Kek, KeyringKey, Passphrase, Sealed, Vault, open_sealed, seal
from homespun.client.vault import keys as vault_keys
from homespun.client.vault.keys import CANNOT_OPEN

KEY, OTHER = GivenKey(b"k" * 32), GivenKey(b"o" * 32)
ANN = Identity(user="ann", device="phone")
CANARY = b"qzx-canary-7f31"
CHUNK = 64
KEK = KEY.fresh()
ABOUT: dict[str, Any] = {
    "name": "adapter", "version": 3, "user": "u", "device": "phone", "backbone": "b" * 64, "ledger_seq": 9,
    "ledger_root": "r" * 64, "created": "2026-03-14T00:00:00+00:00",
}  # fmt: skip


def sealed(payload: bytes, **changes: Any) -> Sealed:
    return seal(payload, KEK, chunk_size=CHUNK, **{**ABOUT, **changes})[1]


def chunks_of(body: bytes) -> tuple[bytes, list[bytes]]:
    """The part before the first chunk, and the chunks."""
    start = len(b"homespun sealed 1\n")
    start += 4 + int.from_bytes(body[start : start + 4], "big")
    size = CHUNK + 16
    return body[:start], [body[place : place + size] for place in range(start, len(body), size)]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK])
def test_what_was_sealed_comes_back(size: int) -> None:
    payload = os.urandom(size)
    core, opened = open_sealed(sealed(payload), KEK)
    assert opened == payload
    assert {name: getattr(core, name) for name in ABOUT} == ABOUT
    assert core.plaintext_len == size


@given(st.binary(max_size=400), st.integers(1, 90))
@settings(max_examples=40, deadline=None)
def test_any_bytes_in_any_chunks(payload: bytes, chunk_size: int) -> None:
    assert open_sealed(seal(payload, KEK, chunk_size=chunk_size, **ABOUT)[1], KEK)[1] == payload


def test_every_flipped_byte_is_found() -> None:
    """Of the body (magic, header and chunks) and of the wrapped key."""
    whole = sealed(bytes(2 * CHUNK))
    for part in ("body", "wrap"):
        content = getattr(whole, part)
        for place in range(len(content)):
            for bit in (1, 128):
                changed = bytearray(content)
                changed[place] ^= bit
                parts = {"body": whole.body, "wrap": whole.wrap, part: bytes(changed)}
                with pytest.raises(VaultError) as caught:
                    open_sealed(Sealed(**parts), KEK)
                assert str(caught.value) == CANNOT_OPEN


def reordered(chunks: list[bytes]) -> list[bytes]:
    return [chunks[1], chunks[0], *chunks[2:]]


CUTS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "two chunks swapped": reordered,
    "the first dropped": lambda chunks: chunks[1:],
    "the last dropped": lambda chunks: chunks[:-1],
    "one doubled": lambda chunks: [chunks[0], *chunks],
    "the last doubled": lambda chunks: [*chunks, chunks[-1]],
    "cut in the middle": lambda chunks: [*chunks[:-1], chunks[-1][:-5]],
    "something after the end": lambda chunks: [*chunks, b"x"],
    "nothing left": lambda chunks: [],
}


@pytest.mark.parametrize("what", CUTS)
def test_chunks_stand_where_they_were_written(what: str) -> None:
    whole = sealed(os.urandom(4 * CHUNK))
    head, chunks = chunks_of(whole.body)
    assert len(chunks) == 4
    with pytest.raises(VaultError, match="cannot be opened"):
        open_sealed(Sealed(body=head + b"".join(CUTS[what](chunks)), wrap=whole.wrap), KEK)


def test_chunks_of_two_bodies_do_not_mix() -> None:
    one, two = sealed(bytes(2 * CHUNK)), sealed(bytes(2 * CHUNK))
    head, chunks = chunks_of(one.body)
    with pytest.raises(VaultError):
        open_sealed(Sealed(body=head + chunks[0] + chunks_of(two.body)[1][1], wrap=one.wrap), KEK)
    with pytest.raises(VaultError):
        open_sealed(Sealed(body=one.body, wrap=two.wrap), KEK)


def test_nothing_repeats_between_two_writes_of_the_same() -> None:
    one, two = sealed(bytes(100)), sealed(bytes(100))
    assert chunks_of(one.body)[1] != chunks_of(two.body)[1]
    assert json.loads(one.wrap)["wrapped"] != json.loads(two.wrap)["wrapped"]


def test_keys_and_payloads_are_in_no_repr() -> None:
    shown = repr((KEK, KEY, Passphrase("opensesame"), sealed(CANARY), ANN))
    assert not any(secret in shown for secret in ("kkkk", "opensesame", "canary", "ann"))


# The file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.sqlite"


@pytest.fixture
def vault(path: Path) -> Iterator[Vault]:
    with Vault.create(path, KEY, ANN) as vault:
        vault.write("preferences", CANARY)
        yield vault


def rows(path: Path) -> dict[str, tuple[bytes, bytes]]:
    database = sqlite3.connect(path)
    found = {name: (body, wrap) for name, body, wrap in database.execute("SELECT name, body, wrap FROM items")}
    database.close()
    return found


def put(path: Path, name: str, body: bytes, wrap: bytes) -> None:
    database = sqlite3.connect(path)
    with database:
        database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", (name, body, wrap))
    database.close()


def test_items_by_name(vault: Vault, path: Path) -> None:
    vault.write("adapter", b"a", backbone="b1", ledger=(4, "root"))
    assert (vault.names, vault.read("adapter", backbone="b1"), vault.version) == (("adapter", "preferences"), b"a", 3)
    assert vault.written_at == (4, "root")
    vault.delete("adapter")
    vault.delete("adapter")
    assert (vault.names, vault.version, vault.written_at) == (("preferences",), 4, (4, "root"))
    with pytest.raises(KeyError):
        vault.read("adapter")
    with pytest.raises(ValueError, match="index"):
        vault.write("index", b"")
    assert repr(vault) == f"Vault({str(path)!r})"


def test_the_file_is_the_owner_s_alone(vault: Vault, path: Path) -> None:
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file
    with pytest.raises(FileExistsError):
        Vault.create(path, KEY, ANN)
    with pytest.raises(FileNotFoundError):
        Vault.open(path.with_name("none"), KEY, ANN)


@pytest.mark.parametrize(
    ("source", "who"),
    [
        (OTHER, ANN),
        (KEY, Identity(user="bob", device="phone")),
        (KEY, Identity(user="ann", device="laptop")),
    ],
    ids=["another key", "another user", "another device"],
)
def test_it_opens_for_its_owner_on_its_device(vault: Vault, path: Path, source: Any, who: Identity) -> None:
    with pytest.raises(VaultError) as caught:
        Vault.open(path, source, who)
    assert str(caught.value) == CANNOT_OPEN


def test_an_adapter_of_another_backbone_is_not_used(vault: Vault) -> None:
    vault.write("adapter", b"a", backbone="b1")
    with pytest.raises(VaultError, match="backbone"):
        vault.read("adapter", backbone="b2")


def test_an_older_item_beside_newer_ones_is_found(vault: Vault, path: Path) -> None:
    old = rows(path)["preferences"]
    vault.write("preferences", b"newer")
    put(path, "preferences", *old)
    with pytest.raises(VaultOlder, match="version=2"):
        vault.read("preferences")
    assert vault.version == 3


def test_an_older_file_is_found_by_whoever_remembers(vault: Vault, path: Path) -> None:
    with pytest.raises(VaultOlder, match=r"version=2 in \[3, inf\)"):
        Vault.open(path, KEY, ANN, at_least=3)
    Vault.open(path, KEY, ANN, at_least=2).close()


def test_an_item_under_another_s_name_is_found(vault: Vault, path: Path) -> None:
    vault.write("adapter", b"a")
    put(path, "adapter", *rows(path)["preferences"])
    with pytest.raises(VaultError):
        vault.read("adapter")


def test_an_item_of_another_vault_is_found(vault: Vault, path: Path, tmp_path: Path) -> None:
    """Same key, user, device, name and version."""
    with Vault.create(tmp_path / "second.sqlite", KEY, ANN) as second:
        second.write("preferences", b"theirs")
    put(path, "preferences", *rows(tmp_path / "second.sqlite")["preferences"])
    with pytest.raises(VaultError):
        vault.read("preferences")


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\0" + bytes(4096)])
def test_a_file_that_is_no_vault(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(VaultError) as caught:
        Vault.open(path, KEY, ANN)
    assert str(caught.value) == CANNOT_OPEN


def test_random_damage_to_the_file_never_opens_something_else(vault: Vault, path: Path) -> None:
    vault.write("evidence", bytes(range(256)) * 40)
    vault.close()
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        path.write_bytes(bytes(changed))
        try:
            with Vault.open(path, KEY, ANN) as opened:
                assert opened.read("evidence") == bytes(range(256)) * 40
                assert opened.read("preferences") == CANARY
        except (VaultError, KeyError):
            pass
        for part in ("-wal", "-shm"):
            path.with_name(path.name + part).unlink(missing_ok=True)


def test_no_byte_in_clear_in_any_file_at_any_time(path: Path) -> None:
    """The database, its log beside it while it is open, and after everything that can be done to it."""
    seen: dict[str, bytes] = {}

    def look() -> None:
        for file in path.parent.iterdir():
            seen[f"{len(seen)} {file.name}"] = file.read_bytes()

    with Vault.create(path, KEY, ANN) as vault:
        for step in (
            lambda: vault.write("preferences", CANARY * 50),
            lambda: vault.write("evidence", CANARY * 5000),
            lambda: vault.write("preferences", CANARY * 60),
            lambda: vault.delete("evidence"),
            lambda: vault.rotate(OTHER),
        ):
            step()
            look()
        assert any(name.endswith("-wal") and content for name, content in seen.items())
        vault.shred()
    look()
    assert [name for name, content in seen.items() if CANARY in content or b"ann" in content] == []


def test_a_rotation_changes_no_sealed_byte(vault: Vault, path: Path) -> None:
    vault.write("adapter", b"a" * 3000)
    before = rows(path)
    vault.rotate(OTHER)
    after = rows(path)
    assert {name: body for name, (body, _) in before.items()} == {name: body for name, (body, _) in after.items()}
    assert all(before[name][1] != after[name][1] for name in before)
    assert vault.read("adapter") == b"a" * 3000
    vault.write("adapter", b"new")
    with pytest.raises(VaultError):
        Vault.open(path, KEY, ANN)
    with Vault.open(path, OTHER, ANN) as again:
        assert (again.read("preferences"), again.read("adapter")) == (CANARY, b"new")


def test_what_was_shredded_opens_with_no_key(vault: Vault, path: Path) -> None:
    before = rows(path)
    vault.shred()
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    for body, wrap in before.values():
        assert wrap not in left
        assert chunks_of(body)[1][0] not in left
    for source in (KEY, OTHER):
        with pytest.raises(VaultError):
            Vault.open(path, source, ANN)


CUT = """
import os, sys
from pathlib import Path
from homespun.client.vault import GivenKey, Identity, Vault
path, left = Path(sys.argv[1]), int(sys.argv[2])
with Vault.open(path, GivenKey(b"k" * 32), Identity(user="ann", device="phone")) as vault:
    def count(statement):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
    vault._database.set_trace_callback(count)
    vault.write("preferences", b"after")
    vault.rotate(GivenKey(b"k" * 32))
print("whole")
"""


def test_a_power_cut_at_each_step_of_a_save_leaves_the_old_or_the_new(vault: Vault, path: Path) -> None:
    """The process dies before each statement of the transaction, in turn."""
    vault.close()
    kept, seen = path.read_bytes(), []
    for step in range(1, 40, 3):
        for part in ("", "-wal", "-shm"):
            path.with_name(path.name + part).unlink(missing_ok=True)
        path.write_bytes(kept)
        command = [sys.executable, "-c", CUT, str(path), str(step)]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        with Vault.open(path, KEY, ANN) as opened:
            seen.append(opened.read("preferences"))
            assert seen[-1] in (CANARY, b"after")
            opened.write("preferences", b"goes on")
        if "whole" in ran.stdout:
            break
        assert ran.returncode == -9, ran.stderr
    assert {CANARY, b"after"} == set(seen)


# Where keys come from


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id at the costs of a test."""
    monkeypatch.setattr(vault_keys, "ITERATIONS", 1)
    monkeypatch.setattr(vault_keys, "MEMORY_KIB", 64)


def test_a_passphrase(path: Path, cheap: None) -> None:
    with Vault.create(path, Passphrase("open sesame"), ANN) as vault:
        vault.write("preferences", CANARY)
    with Vault.open(path, Passphrase("open sesame"), ANN) as vault:
        assert vault.read("preferences") == CANARY
        vault.rotate(Passphrase("open, please"))
    messages = set()
    for wrong in ("open sesame", "open, pleas", "x"):
        with pytest.raises(VaultError) as caught:
            Vault.open(path, Passphrase(wrong), ANN)
        messages.add(str(caught.value))
    body, wrap = rows(path)["index"]
    put(path, "index", body, wrap[:-9] + b"0" + wrap[-8:])
    with pytest.raises(VaultError) as caught:
        Vault.open(path, Passphrase("open, please"), ANN)
    assert messages == {str(caught.value)} == {CANNOT_OPEN}


def test_a_wrong_passphrase_and_damage_take_the_same_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both derive one key at the costs in the header, and both fail where the wrapped key does not open."""
    monkeypatch.setattr(vault_keys, "ITERATIONS", 1)
    monkeypatch.setattr(vault_keys, "MEMORY_KIB", 64)
    Vault.create(path, Passphrase("right"), ANN).close()
    derived: list[tuple[int, int]] = []
    original = vault_keys.Argon2id

    def counted(**named: Any) -> Any:
        derived.append((named["iterations"], named["memory_cost"]))
        return original(**named)

    monkeypatch.setattr(vault_keys, "Argon2id", counted)
    with pytest.raises(VaultError):
        Vault.open(path, Passphrase("wrong"), ANN)
    body, wrap = rows(path)["index"]
    put(path, "index", body[:-1] + bytes([body[-1] ^ 1]), wrap)
    with pytest.raises(VaultError):
        Vault.open(path, Passphrase("right"), ANN)
    put(path, "index", body, b"{}")
    with pytest.raises(VaultError):
        Vault.open(path, Passphrase("right"), ANN)
    assert derived == [(1, 64)] * 3


def test_a_hostile_header_cannot_take_the_machine(cheap: None) -> None:
    for parameters in (
        {"memory_kib": 2**40, "iterations": 2**40, "lanes": 2**20, "salt": "zz"},
        {"memory_kib": "x", "iterations": -1, "lanes": 0, "salt": ""},
        {},
    ):
        assert len(Passphrase("x").again(parameters).key) == 32  # type: ignore[arg-type]


def test_the_costs_of_a_passphrase_are_those_of_the_rfc() -> None:
    """RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes, 128-bit salt, 256-bit key."""
    kek = Passphrase("x").fresh()
    assert {name: value for name, value in kek.parameters.items() if name != "salt"} == {
        "kind": "argon2id", "iterations": 3, "lanes": 4, "memory_kib": 65536,
    }  # fmt: skip
    assert (len(bytes.fromhex(str(kek.parameters["salt"]))), len(kek.key)) == (16, 32)
    assert Passphrase("x").again(kek.parameters).key == kek.key


class Ring(KeyringBackend):
    """Keeps secrets in memory."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


def test_a_key_in_the_keyring(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)
    with Vault.create(path, KeyringKey(), ANN) as vault:
        vault.write("preferences", CANARY)
        vault.rotate(KeyringKey())
        assert len(ring.kept) == 1  # the old one is gone
    with Vault.open(path, KeyringKey(), ANN) as vault:
        assert vault.read("preferences") == CANARY
        assert not any(key.encode() in path.read_bytes() for key in ring.kept.values())
        vault.shred()
    assert ring.kept == {}
    with pytest.raises(VaultError) as caught:
        KeyringKey().again({"item": "vault-gone"})
    assert str(caught.value) == CANNOT_OPEN


class PlaintextKeyring(Ring):
    """Stands for the backends of keyrings.alt, which keep secrets in readable files."""


PlaintextKeyring.__module__ = "keyrings.alt.file"


@pytest.mark.parametrize("backend", [fail.Keyring, null.Keyring, PlaintextKeyring])
def test_a_keyring_that_keeps_nothing_or_everything_readable_is_refused(
    backend: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "get_keyring", backend)
    with pytest.raises(KeyringUnusable, match="passphrase"):
        Vault.create(path, KeyringKey(), ANN)


def test_a_chain_with_such_a_keyring_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "get_keyring", chainer.ChainerBackend)
    monkeypatch.setattr(chainer.ChainerBackend, "backends", [Ring(), PlaintextKeyring()])
    with pytest.raises(KeyringUnusable):
        vault_keys.system_keyring()
    monkeypatch.setattr(chainer.ChainerBackend, "backends", [Ring()])
    vault_keys.system_keyring()


def test_keys_have_one_size_and_are_told_apart() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 3"):
        GivenKey(b"abc")
    with pytest.raises(ValueError, match="at least one"):
        Passphrase("")
    assert Kek(key=b"a" * 32, parameters={}).id != Kek(key=b"b" * 32, parameters={}).id
    assert len(KEK.id) == 16
