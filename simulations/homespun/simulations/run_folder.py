"""The run folder: everything a run leaves behind, and where a run that was stopped goes on.

runs/20260314T091500Z-embedded-new-items-eps-2/    permissions 0700, one writer at a time
"""

import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import tomli_w

from homespun.simulations.options import Options

PACKAGES = ("homespun", "flwr", "torch", "numpy", "dp-accounting", "cryptography", "sentence-transformers")


class RunFolderInUse(RuntimeError):
    """Another process is writing this run folder."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """An open run folder; holds its lock until :meth:`close`."""

    path: Path
    lock: int = field(repr=False)

    @classmethod
    def create(cls, options: Options) -> Self:
        """Make a new folder and write what is known before the run.

        Raises:
            OSError: The folder cannot be made; nothing has been read or spent.
        """
        parent = Path(options.out)
        parent.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = parent / f"{stamp}-{options.slug}"
        for attempt in range(2, 100):
            try:
                path.mkdir(mode=0o700)
                break
            except FileExistsError:
                path = parent / f"{stamp}-{options.slug}-{attempt}"
        else:
            raise FileExistsError(f"Expected a free name for a run folder in {parent}; 98 were begun in this second.")
        folder = cls(path=path, lock=_lock(path))
        folder.write_text("config.toml", tomli_w.dumps(options.to_toml()))
        folder.write_json("environment.json", _environment())
        return folder

    @classmethod
    def reopen(cls, path: Path) -> tuple[Self, Options]:
        """Open a folder to go on with its run.

        Raises:
            ValueError: It is not a run folder, or its options are none of this release.
            RunFolderInUse: Its run is still going.
        """
        config = path / "config.toml"
        if not config.is_file():
            raise ValueError(f"Expected {path} to be a run folder with a config.toml; see `homespun runs list`.")
        options = Options.from_toml(tomllib.loads(config.read_text(encoding="utf-8")))
        return cls(path=path, lock=_lock(path)), options

    def checkpoints(self, fold: int) -> Path:
        """Where a fold's checkpoints lie."""
        return self.path / "checkpoints" / f"fold-{fold}"

    def write_text(self, name: str, text: str) -> Path:
        """Write a file whole or not at all."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.part")
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(target)
        return target

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write one strict JSON document."""
        return self.write_text(name, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The lines of a JSON Lines file; none where there is no file."""
        file = self.path / name
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        return [json.loads(line) for line in text.splitlines()]

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a line to a JSON Lines file."""
        with (self.path / name).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, allow_nan=False) + "\n")

    def keep_rounds(self, name: str, done: Mapping[int, int]) -> None:
        """Drop lines of rounds that will be told of again, and a torn last line.

        Args:
            name: A JSON Lines file whose rows have ``fold`` and ``round``.
            done: Rounds that are committed, per fold.
        """
        file = self.path / name
        if not file.is_file():
            return
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if row["round"] < done.get(row["fold"], 0):
                kept.append(line)
        self.write_text(name, "".join(line + "\n" for line in kept))

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self.lock)


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise RunFolderInUse(
            f"Expected {path} to be free; another process is writing it. Wait for it, or stop it."
        ) from error
    return handle


def software() -> dict[str, str]:
    """Versions of what decides a result, by name of the package."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": software(),
        "git_commit": _commit(),
        "argv": ["homespun", *sys.argv[1:]],
    }


def _commit() -> str | None:
    """Commit of the source tree that runs, ``None`` for an installed wheel."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
