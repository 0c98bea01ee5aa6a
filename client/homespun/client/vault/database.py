"""The SQLite file under a vault: writes whole or not at all, and no old page left behind."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homespun.client.errors import VaultError
from homespun.client.vault.keys import CANNOT_OPEN

__all__ = ["BROKEN", "clean", "connect", "transaction"]

BROKEN = (sqlite3.DatabaseError, UnicodeDecodeError)  # what a changed byte in the file makes SQLite's module raise
BUSY_SECONDS = 10.0


def connect(path: Path) -> sqlite3.Connection:
    """Open the file; what is deleted in it is overwritten.

    Raises:
        VaultError: It is no database.
    """
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY"):
        try:
            database.execute(f"PRAGMA {pragma}")
        except BROKEN:
            database.close()
            raise VaultError(CANNOT_OPEN) from None
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Everything in the block counts, on disk, or nothing of it."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def clean(database: sqlite3.Connection) -> None:
    """Leave no old page behind, in the file or in the log."""
    database.execute("VACUUM")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
