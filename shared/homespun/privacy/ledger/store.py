"""The file of a ledger: an SQLite database that only grows.

Every transaction adds one line and puts the checkpoint that covers it in place of the last one, in the write-ahead log,
synced before it counts (``synchronous=FULL``). ``BEGIN IMMEDIATE`` lets one process at a time look and then write.
Triggers refuse to change or delete a line: against accidents, not against somebody with the file, whom only signatures
and remembered heads reveal.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import final

from homespun.privacy.errors import LedgerBusy, LedgerDamaged, LedgerError
from homespun.privacy.ledger.files import sync_folder

__all__ = ["CHECKPOINT_NAME", "EXPORT_NAME", "LEDGER_NAME", "Store"]

LEDGER_NAME = "privacy_ledger.sqlite"
"""The ledger of a run folder."""
EXPORT_NAME = "privacy_ledger.jsonl"
"""Its lines, for everybody who wants to check them."""
CHECKPOINT_NAME = "checkpoint.txt"
"""Its signed head, beside an export."""

PATIENCE = 30.0  # seconds that a writer waits for another one; an append takes milliseconds
_SCHEMA = (
    "CREATE TABLE log (seq INTEGER PRIMARY KEY, line BLOB NOT NULL)",
    "CREATE TABLE checkpoint (id INTEGER PRIMARY KEY CHECK (id = 0), note BLOB NOT NULL)",
    "CREATE TRIGGER log_update BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'a ledger only grows'); END",
    "CREATE TRIGGER log_delete BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'a ledger only grows'); END",
)


@final
class Store:
    """An open database. It is a class because it owns a connection.

    Args:
        path: An existing ledger.
    Raises:
        LedgerError: there is no such file.
        LedgerDamaged: it is not a database.
    """

    def __init__(self, path: Path) -> None:
        """Open an existing file; see the class."""
        self.path = Path(path)
        if not self.path.is_file():
            raise LedgerError(f"Expected a ledger at {self.path}; there is none.")
        self._connection = _connect(self.path)
        try:
            sync_folder(self.path.parent)  # the log beside the file may be new
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def create(cls, path: Path, line: bytes, note: bytes) -> Store:
        """Make the file with its first line and checkpoint, whole or not at all, mode 0600.

        Raises:
            LedgerError: there is a file already; it is left alone.
        """
        path = Path(path)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with closing(_connect(aside)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute("INSERT INTO log VALUES (0, ?)", (line,))
                connection.execute("INSERT INTO checkpoint VALUES (0, ?)", (note,))
                connection.execute("COMMIT")
            try:
                os.link(aside, path)  # unlike a rename, it never replaces a ledger
            except FileExistsError:
                raise LedgerError(f"Expected no ledger at {path} yet; open it instead.") from None
        finally:
            aside.unlink()
        return cls(path)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the one right to write; what was added counts if the block ends well, and not at all if it does not.

        Raises:
            LedgerBusy: another process held it for too long.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise LedgerBusy(f"Expected one writer of {self.path}: another held it for {PATIENCE:g} s.") from error
        try:
            yield
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise LedgerError(f"Expected to write to {self.path}: {error}. Nothing was written.") from error
        except BaseException:
            self._undo()
            raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See lines and checkpoint of one moment."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def append(self, seq: int, line: bytes, note: bytes) -> None:
        """Add a line and the checkpoint that covers it, within `writing`."""
        self._connection.execute("INSERT INTO log VALUES (?, ?)", (seq, line))
        self._connection.execute("UPDATE checkpoint SET note = ?", (note,))

    def lines(self, first: int = 0) -> Iterator[bytes]:
        """The lines from a place on, in order.

        Raises:
            LedgerDamaged: the database is broken, or a place is empty.
        """
        try:
            for expected, (seq, line) in enumerate(
                self._connection.execute("SELECT seq, line FROM log WHERE seq >= ? ORDER BY seq", (first,)), start=first
            ):
                if seq != expected or not isinstance(line, bytes):
                    raise LedgerDamaged(f"Expected line {expected + 1} of {self.path}; it is gone.")
                yield line
        except sqlite3.DatabaseError as error:
            raise LedgerDamaged(f"Expected {self.path} to be a ledger: {error}.") from error

    def note(self) -> bytes:
        """The checkpoint.

        Raises:
            LedgerDamaged: the database is broken, or there is none.
        """
        try:
            found = self._connection.execute("SELECT note FROM checkpoint").fetchone()
        except sqlite3.DatabaseError as error:
            raise LedgerDamaged(f"Expected {self.path} to be a ledger: {error}.") from error
        if found is None or not isinstance(found[0], bytes):
            raise LedgerDamaged(f"Expected a checkpoint in {self.path}; it is gone.")
        return found[0]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _undo(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous=FULL")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise LedgerDamaged(f"Expected {path} to be a ledger: {error}.") from error
    return connection
