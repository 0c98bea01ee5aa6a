"""One sum under Flower's legacy SecAgg+ (flwr 1.41), over a grid in this process: what it costs each side.

It runs as its authors ship it: ``DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(...))`` on a ``LegacyContext``, clients
behind ``secaggplus_mod``, everybody sampled, every weight 1. Copying messages between the two sides is transport, and is
counted for neither.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.client import Client, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import NDArrays, Scalar, ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid
from numpy.typing import NDArray

from homespun.simulations.grid import InProcessGrid
from homespun.wire.flower import SERVER_NODE, Run, in_process_identity

__all__ = ["OverLimit", "SecAggPlusRun", "secagg_plus"]

STEPS = 4  # set-up, shares, masked vectors, unmasking
MASK_STEP = 2  # of these, from 0: who drops out does so before its vector is sent
WORD_BYTES = 8  # of a number in a record


class OverLimit(Exception):
    """The run was given up: its processor time, which is looked at before every message, was over the limit."""


@dataclass(frozen=True, kw_only=True)
class SecAggPlusRun:
    """What one run cost; processor seconds and bytes of the protocol's own records, by client where it is a tuple."""

    client_seconds: tuple[float, ...]
    server_seconds: float
    up_bytes: tuple[int, ...]
    down_bytes: tuple[int, ...]
    error: float
    """Largest difference between its average and the exact one: it quantises and rounds at random."""


def secagg_plus(
    *, parties: int, dimension: int, dropped: int, shares: int, threshold: int, limit_seconds: float, seed: int = 0
) -> SecAggPlusRun:
    """Average vectors with entries in [-1, 1].

    Args:
        parties: Clients.
        dimension: Length of a vector.
        dropped: Clients that fail before they send their masked vector.
        shares: Into how many a secret is split, with one for its owner: neighbours and 1. Odd, or all parties.
        threshold: Shares that give a secret, below ``shares``.
        limit_seconds: Of processor time.
        seed: Of the vectors.

    Raises:
        OverLimit: It took longer.
        RuntimeError: Flower gave no average.
    """
    ledger = _Costs(deadline=time.process_time() + limit_seconds)
    with _quiet(), in_process_identity() as run:
        grid = _TimedGrid(_client_app(ledger, dimension, dropped, seed), parties, run, ledger)
        zeros = ndarrays_to_parameters([np.zeros(dimension, dtype=np.float32)])
        strategy = FedAvg(
            fraction_fit=1.0, fraction_evaluate=0.0, min_fit_clients=parties, min_available_clients=parties,
            initial_parameters=zeros, fit_metrics_aggregation_fn=lambda _: {},
        )  # fmt: skip
        context = LegacyContext(
            Context(run_id=1, node_id=SERVER_NODE, node_config={}, state=RecordDict(), run_config={}),
            config=ServerConfig(num_rounds=1),
            strategy=strategy,
        )
        DefaultWorkflow(fit_workflow=_timed(SecAggPlusWorkflow(shares, threshold), ledger))(grid, context)
    averages = ledger.averages(context)
    exact = sum(_vector(seed, client, dimension).astype(np.float64) for client in range(dropped, parties))
    return SecAggPlusRun(
        client_seconds=tuple(ledger.client[client] for client in range(parties)),
        server_seconds=ledger.workflow - ledger.grid,
        up_bytes=tuple(ledger.up[client] for client in range(parties)),
        down_bytes=tuple(ledger.down[client] for client in range(parties)),
        error=float(np.abs(averages - exact / (parties - dropped)).max()),
    )


@dataclass(kw_only=True)
class _Costs:
    """Processor seconds and bytes, as they arise."""

    deadline: float
    client: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    up: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    down: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    grid: float = 0.0
    """All that happens while the server waits: clients and copies."""
    workflow: float = 0.0

    def averages(self, context: LegacyContext) -> NDArray[np.float64]:
        """Return what the workflow left in its state."""
        found = list(context.state.array_records.values())
        arrays = found[0].to_numpy_ndarrays() if found else []
        if self.workflow == 0.0 or len(arrays) != 1 or not np.any(arrays[0]):
            raise RuntimeError("Expected an average, and SecAgg+ gave none: raise the least number of survivors.")
        return np.asarray(arrays[0], dtype=np.float64)


class _TimedGrid(InProcessGrid):
    """Counts bytes, and the seconds that are not the server's own."""

    def __init__(self, app: Callable[[Message, Context], Message], nodes: int, run: Run, costs: _Costs) -> None:
        super().__init__(app, nodes, run)
        self._costs = costs

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        began = time.process_time()
        replies = []
        for message in messages:
            if time.process_time() > self._costs.deadline:
                raise OverLimit
            client = message.metadata.dst_node_id - SERVER_NODE - 1
            self._costs.down[client] += _size(message)
            # One by one, so that the limit is looked at between them.
            for reply in super().send_and_receive([message], timeout=timeout):
                if not reply.has_error():
                    self._costs.up[client] += _size(reply)
                replies.append(reply)
        self._costs.grid += time.process_time() - began
        return replies


def _size(message: Message) -> int:
    """Bytes of what the protocol itself says: keys, shares, masked vectors; the model that Flower sends along is not it."""
    records = message.content.config_records.values()
    return sum(len(name) + _bytes(value) for record in records for name, value in record.items())


def _bytes(value: object) -> int:
    # Flower's own count_bytes fails on an empty list, such as that of the dropped when nobody is.
    if isinstance(value, list):
        return sum(map(_bytes, value))
    return len(value) if isinstance(value, bytes | str) else WORD_BYTES


def _client_app(costs: _Costs, dimension: int, dropped: int, seed: int) -> Callable[[Message, Context], Message]:
    made: dict[int, NDArray[np.float32]] = {}

    class Person(NumPyClient):
        def fit(self, parameters: NDArrays, config: dict[str, Scalar]) -> tuple[NDArrays, int, dict[str, Scalar]]:
            return [made.pop(0)], 1, {}

    def client_fn(context: Context) -> Client:
        return Person().to_client()

    app = ClientApp(client_fn=client_fn, mods=[secaggplus_mod])
    steps: defaultdict[int, int] = defaultdict(int)

    def handle(message: Message, context: Context) -> Message:
        client = context.node_id - SERVER_NODE - 1
        step, steps[client] = steps[client], steps[client] + 1
        if step == MASK_STEP:
            if client < dropped:
                raise ConnectionError
            made[0] = _vector(seed, client, dimension)  # its own data: no cost of the protocol
        began = time.process_time()
        try:
            return app(message, context)
        finally:
            costs.client[client] += time.process_time() - began

    return handle


def _timed(workflow: SecAggPlusWorkflow, costs: _Costs) -> Callable[[Grid, Context], None]:
    def run(grid: Grid, context: Context) -> None:
        began = time.process_time()
        workflow(grid, context)
        costs.workflow = time.process_time() - began

    return run


def _vector(seed: int, client: int, dimension: int) -> NDArray[np.float32]:
    return np.random.default_rng((seed, client)).uniform(-1, 1, dimension).astype(np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Flower's log, and the grid's word on every dropout, to errors that are none of this run's making."""
    logs = [logging.getLogger(name) for name in ("flwr", "homespun.simulations")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
