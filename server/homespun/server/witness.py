"""The witness: remembers the newest head of every device's ledger, and countersigns what continues it.

A device that was restored from a backup, or copied, sooner or later shows a head that does not continue the one that is
remembered here. It learns so before any of its data is touched.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, final

from homespun.privacy.errors import HeadRefused
from homespun.privacy.ledger import (
    Head,
    PublicKey,
    SigningKey,
    countersign,
    parse_checkpoint,
    parse_note,
    read_checkpoint,
    verify_consistency,
)

__all__ = ["WitnessBook"]

BUSY_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS heads (
    origin TEXT PRIMARY KEY, key TEXT NOT NULL, size INTEGER NOT NULL, root TEXT NOT NULL
) STRICT
"""
_EMPTY = Head(size=0, root="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")  # SHA-256 of nothing


@final
class WitnessBook:
    """The newest head of every ledger that was shown.

    It is a class because it owns a database. Several processes may use one file.

    Args:
        path: SQLite file; made where it is not there.
        key: A cosigner's key.
        clock: Seconds since 1970, for the receipts; nothing is decided by it.
    Guarantees:
        * never back: a head that is smaller than the remembered one, or does not continue it, is refused.
        * first key: the key that an origin was enrolled with signs for it ever after.
        * before the receipt: a head is on disk before its receipt is returned.
    """

    def __init__(self, path: Path, key: SigningKey, *, clock: Callable[[], float] = time.time) -> None:
        """Open or begin a book."""
        self._key, self._clock = key, clock
        self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(_SCHEMA)

    @property
    def public(self) -> PublicKey:
        """The key that receipts are checked with."""
        return self._key.public

    def enroll(self, origin: str, key: PublicKey) -> None:
        """Register the key of a ledger; the same key may be registered again.

        Raises:
            HeadRefused: Another key is registered.
        """
        row = (origin, key.text, _EMPTY.size, _EMPTY.root)
        self._database.execute("INSERT INTO heads VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
        if self._row(origin)[0] != key:
            raise HeadRefused("Expected the key that this ledger was enrolled with.")

    def latest(self, origin: str) -> Head | None:
        """The newest head that was countersigned; None for a ledger that is not enrolled."""
        found = self._database.execute("SELECT size, root FROM heads WHERE origin = ?", (origin,)).fetchone()
        return None if found is None else Head(size=found[0], root=found[1])

    def countersign(self, checkpoint: bytes, proof: Sequence[bytes]) -> bytes:
        """Remember a head and return the receipt for it.

        Args:
            checkpoint: Signed note of the ledger.
            proof: That it continues `latest`, RFC 6962.
        Raises:
            HeadRefused: The ledger is not enrolled, its key did not sign, or the head does not continue the remembered
                one.
        """
        try:
            origin, _ = parse_checkpoint(parse_note(checkpoint).text)
        except ValueError:
            raise HeadRefused("Expected a signed checkpoint.") from None
        self._database.execute("BEGIN IMMEDIATE")
        try:
            key, known = self._row(origin)
            new = _read(checkpoint, key)
            if not verify_consistency(known, new, proof):
                raise HeadRefused("Expected a head that continues the one that is remembered.")
            self._database.execute("UPDATE heads SET size = ?, root = ? WHERE origin = ?", (new.size, new.root, origin))
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        return countersign(self._key, checkpoint, time=int(self._clock()))

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def __enter__(self) -> Self:
        """Return the book; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _row(self, origin: str) -> tuple[PublicKey, Head]:
        found = self._database.execute("SELECT key, size, root FROM heads WHERE origin = ?", (origin,)).fetchone()
        if found is None:
            raise HeadRefused("Expected a ledger that was enrolled.")
        return PublicKey.parse(found[0]), Head(size=found[1], root=found[2])


def _read(checkpoint: bytes, key: PublicKey) -> Head:
    try:
        return read_checkpoint(checkpoint, [key])[1]
    except Exception:  # noqa: BLE001  (of whatever class: it is not signed by the one key that may)
        raise HeadRefused("Expected a checkpoint that the ledger's own key signed.") from None
