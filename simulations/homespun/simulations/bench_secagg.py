"""``homespun bench secagg``: what a masked sum costs a client and the server, beside Flower's legacy SecAgg+ on the same work.

All parties run one after the other in this process on one thread; every message but the masked vector, which travels as an
array, is encoded and decoded as it would be on a network. What is timed is processor time: a client's is the sum over its
steps, the server's that of receiving and closing every step. Vectors are made outside the clock. Flower's clients and server
are timed in the same way, in the same process, right after; it is slow, so each of its rows has a limit.
"""

import gc
import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from homespun.secagg import Shape, Stage, choose_shape, rehearse
from homespun.secagg.shape import abort_bound, failure_bound
from homespun.simulations.bench import Reporter, machine
from homespun.simulations.peers.flower_secagg import OverLimit, secagg_plus

__all__ = ["SecAggOptions", "secagg"]

NOTES = (
    "processor time of one thread; copying messages between the sides counts for neither; bytes are the protocol's own",
    "leak: bound on the chance that the server learns more than one sum; abort: that the most tolerated dropouts end a round",
    "SecAgg+ promises less: seeds of masks have 32 bits (here 256), keys are not signed and nobody signs the list of survivors",
    "SecAgg+ averages floats, rounded at random to 22 bits; here integers are summed modulo 2^32, checked to be exact",
    "SecAgg+ has one ring in random order, with as many neighbours; split and threshold are the same",
)


@dataclass(frozen=True, kw_only=True)
class SecAggOptions:
    """What is measured: every number of parties with every dimension."""

    parties: Sequence[int] = (10, 100, 1000)
    dimension: Sequence[int] = (1000, 100_000)
    dropout: float = 0.1
    """Part of the parties, rounded down, that drop out before they send their vector."""
    max_dropout: float | None = None
    """Part of the parties, rounded down, that a sum may lack: what graph and thresholds are chosen for. By default half
    as many again as drop out, which is five standard deviations more where 100 of 1,000 drop out by chance."""
    colluding: float = 0.05
    """Part of the parties, rounded down, that may share what they know with the server."""
    peers: bool = True
    """Whether Flower's SecAgg+ is measured as well."""
    peer_seconds: float = 300
    """Limit of processor time of a row of Flower's, looked at between its messages."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be measured; whether a graph exists for the numbers is `choose_shape`'s to say."""
        for name, least in (("parties", 3), ("dimension", 1)):
            values = getattr(self, name)
            if not values or not all(isinstance(value, int) and value >= least for value in values):
                raise ValueError(f"Expected {name}={','.join(map(str, values))} as whole numbers in [{least}, inf).")
        for name, most in (("dropout", 0.34), ("colluding", 0.5)):
            if not 0 <= getattr(self, name) < most:
                raise ValueError(f"Expected {name}={getattr(self, name)} in [0, {most}).")
        if not self.dropout <= self.tolerated < 0.5:
            raise ValueError(f"Expected max_dropout={self.tolerated} in [dropout={self.dropout}, 0.5).")
        if not self.peer_seconds > 0:
            raise ValueError(f"Expected peer_seconds={self.peer_seconds} in (0, inf).")

    @property
    def tolerated(self) -> float:
        """The part that a sum may lack, its default filled in."""
        return 1.5 * self.dropout if self.max_dropout is None else self.max_dropout


def secagg(given: Mapping[str, object], reporter: Reporter) -> dict[str, Any]:
    """Measure, and return one row a pair of parties and dimension.

    Args:
        given: Fields of :class:`SecAggOptions` that somebody gave.
        reporter: Told what happens.

    Returns:
        JSON-able: ``rows``, each with the sizes, the shape and its bounds (``leak_log2``, ``abort_chance``), ``ours`` and
        ``peer``; ``notes``; ``settings``; ``machine``. A side has ``status``, and where that is ``measured``:
        ``client_ms`` and ``client_ms_max`` (of a client that stays to the end, all steps), ``server_seconds``,
        ``total_seconds`` (all such clients and the server), ``up_bytes``, ``down_bytes`` and ``up_bytes_per_coordinate`` (most
        of a client). A peer has also ``over_ours``: its total by ours; null unless measured, and ``note`` says why.

    Raises:
        ValueError: An option is unknown or out of its range, or no graph is safe for these numbers.
    """
    unknown = sorted(set(given) - {field.name for field in fields(SecAggOptions)})
    if unknown:
        raise ValueError(f"Expected options of SecAggOptions, got {', '.join(unknown)}.")
    options = SecAggOptions(**given)  # type: ignore[arg-type]  # checked by name above, by value in the class
    torch.set_num_threads(1)
    load = os.getloadavg()
    sizes = [_Size.of(parties, dimension, options) for parties in options.parties for dimension in options.dimension]
    over: set[int] = set()  # numbers of parties that took Flower too long
    rows = []
    for size in sizes:
        reporter.stage(f"{size.parties:,} parties, {size.dimension:,} coordinates", total=1 + options.peers)
        with _no_collector():
            ours = _ours(size, options.seed)
        reporter.advance()
        row = size.as_row() | {"ours": ours, "peer": None}
        if options.peers:
            with _no_collector():
                row["peer"] = _peer(size, options, over)
            total = row["peer"]["total_seconds"]
            row["peer"]["over_ours"] = None if total is None else total / ours["total_seconds"]
            reporter.advance()
        rows.append(row)
    return {
        "message_type": "summary",
        "success": True,
        "rows": rows,
        "notes": list(NOTES if options.peers else NOTES[:2]),
        "settings": {
            "dropout": options.dropout, "colluding": options.colluding, "seed": options.seed,
            "peer": "flwr SecAgg+ (legacy)" if options.peers else None, "peer_seconds": options.peer_seconds,
        },
        "machine": machine(load),
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Size:
    """One row's work."""

    parties: int
    dimension: int
    dropped: int
    min_survivors: int
    colluding: int
    shape: Shape

    @classmethod
    def of(cls, parties: int, dimension: int, options: SecAggOptions) -> "_Size":
        """Round the parts of the options down, and choose the graph."""
        min_survivors = parties - _part(options.tolerated, parties)
        colluding = _part(options.colluding, parties)
        return cls(
            parties=parties,
            dimension=dimension,
            dropped=_part(options.dropout, parties),
            min_survivors=min_survivors,
            colluding=colluding,
            shape=choose_shape(parties, min_survivors=min_survivors, colluding=colluding),
        )

    def as_row(self) -> dict[str, Any]:
        """Return the sizes, the shape and its bounds."""
        shape = self.shape
        return {
            "name": f"n={self.parties}, d={self.dimension}",
            "parties": self.parties,
            "dimension": self.dimension,
            "dropped": self.dropped,
            "min_survivors": self.min_survivors,
            "colluding": self.colluding,
            "degree": self.parties - 1 if shape.degree is None else shape.degree,
            "complete": shape.degree is None,
            "threshold": shape.threshold,
            "committee": shape.committee,
            "quorum": shape.quorum,
            "leak_log2": _finite(failure_bound(shape, self.parties, self.min_survivors, self.colluding)),
            "abort_chance": abort_bound(shape, self.parties, self.min_survivors),
        }


def _ours(size: _Size, seed: int) -> dict[str, Any]:
    """Run one session; a sum that is not exact is no measurement."""
    exact = np.zeros(size.dimension, dtype=np.uint32)

    def vector(index: int) -> NDArray[np.uint32]:
        own = np.random.default_rng((seed, index)).integers(0, 2**32, size.dimension, dtype=np.uint32)
        if index >= size.dropped:
            np.add(exact, own, out=exact)
        return own

    outcome = rehearse(
        vector,
        parties=size.parties,
        dimension=size.dimension,
        min_survivors=size.min_survivors,
        colluding=size.colluding,
        drops=dict.fromkeys(range(size.dropped), Stage.MASK),
    )
    if not np.array_equal(outcome.total, exact):
        raise RuntimeError("Expected the sum of the survivors' vectors.")
    return _side(
        size,
        outcome.client.mean,
        outcome.client.largest,
        outcome.server_seconds,
        outcome.upload_bytes,
        outcome.download_bytes,
    )


def _peer(size: _Size, options: SecAggOptions, over: set[int]) -> dict[str, Any]:
    """Run Flower's SecAgg+, unless as many parties took too long with fewer coordinates."""
    limit = f"> {options.peer_seconds:g} s"
    if size.parties in over:
        return _unmeasured("over limit", f"{limit} with fewer coordinates; not run")
    # A secret is split among the neighbours and its owner; the sides of a ring are equal, so the number is odd.
    shares = size.parties if size.shape.degree is None else size.shape.degree // 2 * 2 + 1
    try:
        run = secagg_plus(
            parties=size.parties,
            dimension=size.dimension,
            dropped=size.dropped,
            shares=shares,
            threshold=size.shape.threshold,
            limit_seconds=options.peer_seconds,
            seed=options.seed,
        )
    except OverLimit:
        over.add(size.parties)
        return _unmeasured("over limit", limit)
    except RuntimeError as error:
        return _unmeasured("failed", str(error))
    alive = slice(size.dropped, None)  # a client that drops out does less
    clients = run.client_seconds[alive]
    side = _side(
        size,
        statistics.fmean(clients),
        max(clients),
        run.server_seconds,
        max(run.up_bytes[alive]),
        max(run.down_bytes[alive]),
    )
    return side | {"shares": shares, "largest_error": run.error}


def _side(size: _Size, mean: float, largest: float, server: float, up: int, down: int) -> dict[str, Any]:
    return {
        "status": "measured",
        "note": "",
        "client_ms": 1e3 * mean,
        "client_ms_max": 1e3 * largest,
        "server_seconds": server,
        "total_seconds": mean * (size.parties - size.dropped) + server,
        "up_bytes": up,
        "down_bytes": down,
        "up_bytes_per_coordinate": up / size.dimension,
    }


def _unmeasured(status: str, note: str) -> dict[str, Any]:
    figures = (
        "client_ms", "client_ms_max", "server_seconds", "total_seconds", "up_bytes", "down_bytes", "up_bytes_per_coordinate",
    )  # fmt: skip
    return {"status": status, "note": note} | dict.fromkeys(figures)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Else whoever's step comes next pays for a look through the objects of all parties, which share this process."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _part(part: float, parties: int) -> int:
    """Round down; a millionth of a party is an error of floating point."""
    return math.floor(part * parties + 1e-6)


def _finite(bound: float) -> float | None:
    """A bound as JSON can hold it: null for a chance of zero."""
    return bound if math.isfinite(bound) else None
