"""What the vault holds of one person, as bytes: pairs with the features that they use, and the last vectors that left.

Everything numeric is safetensors: reading it runs no code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from homespun.personal import Adapter, Pairs, Records

__all__ = [
    "Answer",
    "adapter_from_bytes",
    "adapter_to_bytes",
    "answers_from_bytes",
    "answers_to_bytes",
    "extends",
    "pairs_from_bytes",
    "pairs_to_bytes",
    "records_from_bytes",
    "records_to_bytes",
]

_COLUMNS = ("chosen", "rejected", "scale", "weight", "half", "tier")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What left last for a run: no earlier place is answered again, and no place twice with two draws of noise."""

    plan: str
    """Digest of the privacy plan that the run was begun under."""
    round: int
    attempt: int
    request: str
    """Digest of the whole request."""
    reservation: int
    """Number of the reservation that paid for it; it counts once that is committed."""
    vector: npt.NDArray[np.uint32] | None = field(repr=False)
    """So that the same question gets the same answer; None where it was masked, and nothing of it is kept."""

    @property
    def place(self) -> tuple[int, int]:
        """Round and attempt."""
        return self.round, self.attempt


def pairs_to_bytes(pairs: Pairs) -> bytes:
    """One person's pairs; of the table of features, only the rows that they use.

    Raises:
        ValueError: The pairs are not those of one person.
    """
    if pairs.users != 1:
        raise ValueError(f"Expected users={pairs.users} to be 1 on a device: one share of noise hides one person.")
    features, (chosen, rejected) = _used(pairs.features, pairs.chosen, pairs.rejected)
    columns = {name: getattr(pairs, name).contiguous() for name in _COLUMNS}
    return save_tensors({**columns, "features": features, "chosen": chosen, "rejected": rejected})


def pairs_from_bytes(content: bytes) -> Pairs:
    """The inverse of :func:`pairs_to_bytes`, over the smaller table."""
    return Pairs(**load_tensors(content))


def records_to_bytes(records: Records) -> bytes:
    """One person's records by arrival, with the features that they use.

    Raises:
        ValueError: The records are not those of one person.
    """
    if records.users != 1:
        raise ValueError(f"Expected users={records.users} to be 1 on a device.")
    features, (first, second) = _used(records.features, records.first, records.second)
    columns = {"features": features, "first": first, "second": second, "votes": torch.tensor(records.votes)}
    return save_tensors({**columns, "answer": records.answer.contiguous(), "tier": records.tier.contiguous()})


def records_from_bytes(content: bytes) -> Records:
    """The inverse of :func:`records_to_bytes`, over the smaller table."""
    columns = load_tensors(content)
    return Records(votes=bool(columns.pop("votes")), **columns)


def extends(new: Records, old: Records) -> bool:
    """Whether every record keeps its place; one may have been made blank, and new ones may follow."""
    if new.places < old.places or new.votes != old.votes or new.dim != old.dim:
        return False
    same, said = new.between(0, old.places), new.answer[:, : old.places] != 0
    first = (same.features[same.first.long()] == old.features[old.first.long()]).all(-1)
    second = (same.features[same.second.long()] == old.features[old.second.long()]).all(-1)
    kept = first & (second | new.votes) & (same.answer == old.answer) & (same.tier == old.tier)
    return bool((kept | ~said).all())


def adapter_to_bytes(adapter: Adapter) -> bytes:
    """Coefficients and their covariance."""
    return save_tensors({"coefficients": adapter.coefficients, "covariance": adapter.covariance.contiguous()})


def adapter_from_bytes(content: bytes) -> Adapter:
    """The inverse of :func:`adapter_to_bytes`."""
    return Adapter(**load_tensors(content))


def _used(features: Tensor, *items: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The rows of a table that some items use, and the items in the smaller table.

    An item that is not in the table stays outside of the smaller one: what fails because of it, still fails.
    """
    both = torch.stack([item.long() for item in items])
    known = (both >= 0) & (both < len(features))
    rows = torch.unique(both[known])
    places = torch.where(known, torch.searchsorted(rows, both), len(rows)).int()
    return features[rows], [place.clone() for place in places]


def answers_to_bytes(answers: Mapping[str, Answer]) -> bytes:
    """Answers by project and run."""
    rows: dict[str, Any] = {}
    vectors: dict[str, npt.NDArray[np.uint32]] = {}
    for run, answer in sorted(answers.items()):
        rows[run] = {name: value for name, value in vars(answer).items() if name != "vector"}
        rows[run]["vector"] = None if answer.vector is None else str(len(vectors))
        if answer.vector is not None:
            vectors[rows[run]["vector"]] = answer.vector
    text = np.frombuffer(json.dumps(rows, sort_keys=True).encode("ascii"), dtype=np.uint8)
    return save_arrays({"about": text, **vectors})


def answers_from_bytes(content: bytes) -> dict[str, Answer]:
    """The inverse of :func:`answers_to_bytes`."""
    arrays = load_arrays(content)
    rows = json.loads(arrays["about"].tobytes())
    vectors = {run: row.pop("vector") for run, row in rows.items()}
    return {
        run: Answer(vector=None if vectors[run] is None else arrays[vectors[run]].astype(np.uint32), **row)
        for run, row in rows.items()
    }
