"""The vault's file: sealed items by name in SQLite, and one sealed index that ties them together.

The index names the version and the digest of each item's header, so an older copy of one item does not pass beside newer
ones. The whole file put back is found out by whoever remembers its version (see :mod:`homespun.client.anchor`).
"""

import hashlib
import hmac
import json
import os
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, final

from homespun.client.errors import VaultError, VaultOlder
from homespun.client.vault.database import BROKEN, clean, connect, transaction
from homespun.client.vault.keys import CANNOT_OPEN, Kek, KeySource
from homespun.client.vault.seal import Core, Sealed, open_sealed, rewrap, seal, wrap_parameters
from homespun.privacy import canonical_json

__all__ = ["Identity", "Vault"]

INDEX = "index"
_SCHEMA = "CREATE TABLE items (name TEXT PRIMARY KEY, body BLOB NOT NULL, wrap BLOB NOT NULL) STRICT"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whose vault it is."""

    user: str = field(repr=False)
    """The person's name; it is not stored, a keyed hash of it is."""
    device: str
    """The device's own random name."""


@final
class Vault:
    """Sealed items by name.

    It is a class because it owns a database connection and the vault's key.

    Guarantees:
        * nothing in clear: of an item, its name, size, version and the fields of :class:`~.seal.Core` can be read
          without the key, and nothing else, in any file that is ever written.
        * whole or not at all: a write that a power cut interrupts leaves the vault as it was before.
        * no going back: an item that is older than the index says, or an index that is older than `at_least`, raises.
        * a rotation changes no sealed byte, and a vault that was shredded opens with no key.
    Raises:
        VaultError: It cannot be opened: wrong key, wrong user or device, or a changed byte.
        VaultOlder: It is older than `at_least`.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, kek: Kek, source: KeySource, who: Identity) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._path, self._database, self._kek, self._source, self._who = path, database, kek, source, who

    @classmethod
    def create(cls, path: Path, source: KeySource, who: Identity) -> Self:
        """Make an empty vault.

        Raises:
            FileExistsError: There is one.
        """
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        vault = cls(path, connect(path), source.fresh(), source, who)
        with transaction(vault._database):
            vault._database.execute(_SCHEMA)
            index = {"user_key": os.urandom(32).hex(), "items": {}}
            vault._put(INDEX, _json(index), index, version=1)
        return vault

    @classmethod
    def open(cls, path: Path, source: KeySource, who: Identity, *, at_least: int = 0) -> Self:
        """Open a vault, and check its index.

        Args:
            path: The file.
            source: Finds its key.
            who: Whose vault it must be.
            at_least: The newest version that somebody remembers.
        """
        if not path.is_file():
            raise FileNotFoundError(f"Expected a vault at {path}.")
        database = connect(path)
        try:
            wrap = database.execute("SELECT wrap FROM items WHERE name = ?", (INDEX,)).fetchone()
            kek = source.again(wrap_parameters(wrap[0] if wrap else b""))
            vault = cls(path, database, kek, source, who)
            version = vault.version
        except BROKEN:
            database.close()
            raise VaultError(CANNOT_OPEN) from None
        except BaseException:
            database.close()
            raise
        if version < at_least:
            database.close()
            raise VaultOlder(
                f"Expected the vault's version={version} in [{at_least}, inf): a newer one was written, and this copy of "
                "the file was put back."
            )
        return vault

    @property
    def version(self) -> int:
        """Rises by one with every write."""
        return self._index()[0].version

    @property
    def written_at(self) -> tuple[int, str]:
        """Size and root of the device's ledger when the vault was last written."""
        core, _ = self._index()
        return core.ledger_seq, core.ledger_root

    @property
    def names(self) -> tuple[str, ...]:
        """What is in it."""
        return tuple(sorted(self._index()[1]["items"]))

    def read(self, name: str, *, backbone: str | None = None) -> bytes:
        """An item's content.

        Args:
            name: Which.
            backbone: The digest of the backbone that it must belong to; None does not ask.
        Raises:
            KeyError: There is no such item.
            VaultError: It cannot be opened, or belongs to another backbone.
            VaultOlder: It is not the one that was written last.
        """
        _, index = self._index()
        entry = index["items"][name]
        core, payload = self._get(name)
        if core.user != _user(index, self._who.user):
            raise VaultError(CANNOT_OPEN)
        if core.version != entry["version"] or _digest(core) != entry["core"]:
            raise VaultOlder(f"Expected {name} of version={core.version} to be of version={entry['version']}.")
        if backbone is not None and core.backbone != backbone:
            raise VaultError(f"Expected {name} of this backbone; it was made with another. Make it again.")
        return payload

    def write(self, name: str, payload: bytes, *, backbone: str = "", ledger: tuple[int, str] = (0, "")) -> None:
        """Seal an item, in place of the one of that name.

        Args:
            name: Which.
            payload: Its content.
            backbone: Digest of the backbone that it belongs to, if it does.
            ledger: Size and root of the device's ledger.
        """
        if name == INDEX:
            raise ValueError(f"Expected name={name} to be free for an item.")
        with transaction(self._database):
            core, index = self._index()
            version = core.version + 1
            item = self._put(name, payload, index, version=version, backbone=backbone, ledger=ledger)
            index["items"][name] = {"version": version, "core": _digest(item)}
            self._put(INDEX, _json(index), index, version=version, ledger=ledger)

    def delete(self, name: str) -> None:
        """Delete an item and its wrapped key; nothing happens where there is none."""
        with transaction(self._database):
            core, index = self._index()
            if index["items"].pop(name, None) is not None:
                self._database.execute("DELETE FROM items WHERE name = ?", (name,))
                place = (core.ledger_seq, core.ledger_root)
                self._put(INDEX, _json(index), index, version=core.version + 1, ledger=place)

    def rotate(self, source: KeySource) -> None:
        """Wrap every item's key under a new vault key and forget the old one.

        Copies that were made before still open with the old key, if somebody kept it.
        """
        old, new = self._kek, source.fresh()
        with transaction(self._database):
            rows = self._database.execute("SELECT name, body, wrap FROM items").fetchall()
            for name, body, wrap in rows:
                sealed = rewrap(Sealed(body=body, wrap=wrap), old, new)
                self._database.execute("UPDATE items SET wrap = ? WHERE name = ?", (sealed.wrap, name))
        clean(self._database)
        before, self._kek, self._source = self._source, new, source
        if new.parameters != old.parameters:
            before.forget(old.parameters)

    def shred(self) -> None:
        """Delete every wrapped key, the vault's key where its source keeps one, and then everything else; close."""
        with transaction(self._database):
            self._database.execute("UPDATE items SET wrap = zeroblob(length(wrap))")
        self._source.forget(self._kek.parameters)
        with transaction(self._database):
            self._database.execute("DELETE FROM items")
        clean(self._database)
        self.close()

    def close(self) -> None:
        """Let go of the file and of the key."""
        self._database.close()
        self._kek = Kek(key=bytes(32), parameters={})

    def __enter__(self) -> Self:
        """Return the vault; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Where it is."""
        return f"Vault({str(self._path)!r})"

    def _index(self) -> tuple[Core, dict[str, Any]]:
        core, payload = self._get(INDEX)
        index = json.loads(payload)
        if core.user != _user(index, self._who.user):
            raise VaultError(CANNOT_OPEN)
        return core, index

    def _get(self, name: str) -> tuple[Core, bytes]:
        try:
            row = self._database.execute("SELECT body, wrap FROM items WHERE name = ?", (name,)).fetchone()
        except BROKEN:
            raise VaultError(CANNOT_OPEN) from None
        if row is None or not all(isinstance(part, bytes) for part in row):
            raise VaultError(CANNOT_OPEN)
        core, payload = open_sealed(Sealed(body=row[0], wrap=row[1]), self._kek)
        if core.name != name or core.device != self._who.device:
            raise VaultError(CANNOT_OPEN)
        return core, payload

    def _put(
        self,
        name: str,
        payload: bytes,
        index: dict[str, Any],
        *,
        version: int,
        backbone: str = "",
        ledger: tuple[int, str] = (0, ""),
    ) -> Core:
        about: dict[str, Any] = {
            "name": name,
            "version": version,
            "user": _user(index, self._who.user),
            "device": self._who.device,
            "backbone": backbone,
            "ledger_seq": ledger[0],
            "ledger_root": ledger[1],
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        core, sealed = seal(payload, self._kek, **about)
        self._database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", (name, sealed.body, sealed.wrap))
        return core


def _user(index: dict[str, Any], user: str) -> str:
    return hmac.new(bytes.fromhex(index["user_key"]), user.encode("utf-8"), hashlib.sha256).hexdigest()


def _digest(core: Core) -> str:
    return hashlib.sha256(canonical_json(vars(core)).encode("ascii")).hexdigest()


def _json(content: dict[str, Any]) -> bytes:
    return canonical_json(content).encode("ascii")
