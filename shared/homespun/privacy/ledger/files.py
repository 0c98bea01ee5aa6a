"""Files that exist whole or not at all, and that nobody but their owner reads."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["create_once", "sync_folder", "write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write or replace a file, mode 0600."""
    aside = _aside(path, content)
    try:
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create_once(path: Path, content: bytes) -> None:
    """Write a file, mode 0600, unless there is one: of several processes, the first one's stays."""
    aside = _aside(path, content)
    try:
        os.link(aside, path)  # unlike a rename, it never replaces what another process just made
    except FileExistsError:
        return
    finally:
        aside.unlink()
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Put the names in a folder on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _aside(path: Path, content: bytes) -> Path:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return aside
