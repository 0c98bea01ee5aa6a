"""Checkpoints: the coordinator's state on disk before anything is released.

    checkpoints/fold-0/round-0003/{backbone.safetensors, state.json}

Each is written aside and renamed, so a checkpoint exists whole or not at all. Beside the state it holds everything that
is known of its round, so that a run that was killed can still tell of it.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


class SharedState(Protocol):
    """What a learner shares: named tensors that come from a public projection."""

    @property
    def projection(self) -> str:
        """Digest of the public projection."""

    @property
    def version(self) -> int:
        """Number of releases that made this state."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything in it."""

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], *, projection: str, version: int) -> Self:
        """The inverse of ``tensors``."""


State = TypeVar("State", bound=SharedState)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a finished round left behind, beside its state."""

    round: int
    phase: str
    devices: int
    """How many people's vectors are in the sum."""
    messages: int
    """How many nodes were asked."""
    reply_bytes: int
    """Bytes that came from them; of a masked round, over all steps of the attempt that was opened."""
    seconds: float
    """From the reservation to the new state."""
    state_digest: str
    release_digest: str
    """SHA-256 of the noisy sum that made this state; the ledger's ``commit`` holds the same."""
    noise_std: float
    signal_to_noise: float | None
    """Norm of the noisy mean over the expected norm of its noise; ``None`` without noise."""
    attempts: int = 1
    """How many attempts the round has had."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """How many answered each step of the attempt that was opened; empty where nothing was masked."""


def save(folder: Path, state: SharedState, checkpoint: Checkpoint) -> Path:
    """Write a round's checkpoint atomically; returns its folder."""
    target = folder / f"round-{checkpoint.round:04d}"
    aside = folder / f".round-{checkpoint.round:04d}.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in state.tensors().items()}, aside / "backbone.safetensors")
    content = {**vars(checkpoint), "projection": state.projection, "version": state.version, "schema_version": 1}
    (aside / "state.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    for file in (*aside.iterdir(), aside):
        _sync(file)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    _sync(folder)
    _sync(folder.parent)
    return target


def latest(folder: Path, kind: type[State]) -> tuple[State, Checkpoint] | None:
    """The last whole checkpoint of a run, or ``None``.

    Raises:
        ValueError: It is not what was written: a file is damaged, or the tensors do not have the digest beside them.
    """
    found = sorted(folder.glob("round-[0-9]*"), key=lambda path: (len(path.name), path.name))
    if not found:
        return None
    try:
        return _read(found[-1], kind)
    except (ValueError, LookupError, TypeError, AttributeError, SafetensorError, FileNotFoundError):
        # The round before it cannot take its place: what this round released is out, and would be paid for twice.
        raise ValueError(
            f"Expected {found[-1]} to hold the checkpoint that was written; it is damaged. Restore it from a copy, or "
            "start a new run."
        ) from None


def _read(folder: Path, kind: type[State]) -> tuple[State, Checkpoint]:
    content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if content.pop("schema_version") != 1:
        raise ValueError("Expected schema_version 1.")
    tensors = load_file(folder / "backbone.safetensors")
    state = kind.from_tensors(tensors, projection=content.pop("projection"), version=content.pop("version"))
    checkpoint = Checkpoint(**content)
    if state.digest != checkpoint.state_digest:
        raise ValueError("Expected the state that the digest names.")
    return state, checkpoint


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
