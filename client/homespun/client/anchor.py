"""What is remembered of a device outside its folder, so that an old copy of the folder is found out.

A signed ledger that is put back from a backup verifies. Only somebody who remembers a newer head can tell: the witness
(see :mod:`homespun.client.device`) and, on the device itself, an anchor.
"""

import json
import os
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, Self, final

from homespun.client.vault.keys import system_keyring
from homespun.privacy import canonical_json
from homespun.privacy.ledger import Head

__all__ = ["Anchor", "FileAnchor", "KeyringAnchor", "Mark", "MemoryAnchor"]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The newest state of a device that was seen.

    >>> mark = Mark(origin="a/1", head=Head(size=3, root="00"), spent=Decimal("0.5"), vault=7, witnessed=None)
    >>> Mark.parse(mark.text) == mark
    True
    """

    origin: str
    """Of the ledger; a new one is begun when a fork is acknowledged."""
    head: Head
    spent: Decimal
    """Rho."""
    vault: int
    """Version of the vault."""
    witnessed: Head | None
    """The newest head that the witness countersigned."""

    @property
    def text(self) -> str:
        """One line of JSON."""
        content = {"origin": self.origin, "head": _head_to(self.head), "witnessed": _head_to(self.witnessed)}
        return canonical_json({**content, "spent": str(self.spent), "vault": self.vault})

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of :attr:`text`.

        Raises:
            ValueError: It is not one.
        """
        try:
            row = json.loads(text)
            return cls(
                origin=str(row["origin"]),
                head=Head(**row["head"]),
                spent=Decimal(row["spent"]),
                vault=int(row["vault"]),
                witnessed=None if row["witnessed"] is None else Head(**row["witnessed"]),
            )
        except (ValueError, KeyError, TypeError, ArithmeticError):
            raise ValueError("Expected a device's mark; it was changed.") from None


def _head_to(head: Head | None) -> dict[str, Any] | None:
    return None if head is None else {"size": head.size, "root": head.root}


class Anchor(Protocol):
    """Remembers the newest mark of each device."""

    def remember(self, device: str, mark: Mark) -> None:
        """Keep a mark, in place of the one before."""

    def recall(self, device: str) -> Mark | None:
        """The mark that was kept last, or None; raise ``ValueError`` where it was changed."""


@final
class MemoryAnchor:
    """Remembers as long as the process lives: for simulations, whose devices are opened and closed round after round."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._marks: dict[str, Mark] = {}

    def remember(self, device: str, mark: Mark) -> None:
        """Keep a mark."""
        self._marks[device] = mark

    def recall(self, device: str) -> Mark | None:
        """The mark that was kept last."""
        return self._marks.get(device)


@final
@dataclass(frozen=True)
class FileAnchor:
    """Remembers in a folder; a help only as far as backups of the device's folder do not hold this one."""

    folder: Path

    def remember(self, device: str, mark: Mark) -> None:
        """Keep a mark, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self.folder / f"{device}.json"
        aside = target.with_name(f".{target.name}.{os.getpid()}.part")
        with aside.open("w", encoding="ascii") as stream:
            stream.write(mark.text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(target)

    def recall(self, device: str) -> Mark | None:
        """The mark that was kept last."""
        target = self.folder / f"{device}.json"
        return Mark.parse(target.read_text(encoding="ascii")) if target.is_file() else None


@final
@dataclass(frozen=True)
class KeyringAnchor:
    """Remembers in the keyring of the system.

    Raises:
        KeyringUnusable: When it is used: there is no keyring that keeps a secret.
    """

    service: str = "homespun"

    def remember(self, device: str, mark: Mark) -> None:
        """Keep a mark."""
        system_keyring().set_password(self.service, f"mark-{device}", mark.text)

    def recall(self, device: str) -> Mark | None:
        """The mark that was kept last."""
        text = system_keyring().get_password(self.service, f"mark-{device}")
        return None if text is None else Mark.parse(text)
