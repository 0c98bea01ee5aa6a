"""How the rounds are run: people behind nodes, nodes behind a Flower Grid, one training over it.

``vectorised`` puts up to a thousand people behind a node (a Cell), ``faithful`` one (a Device); both run the same
ServerApp and ClientApp and, given the same randomness, release the same backbone. ``ray`` runs Cells on Flower's own
simulation runtime.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from flwr.app import Context, RecordDict
from flwr.serverapp import Grid

from homespun.client.app import Contributor, client_app
from homespun.personal import Backbone, Pairs
from homespun.privacy import Noise, NoiseStream, Phase
from homespun.privacy.ledger import Ledger
from homespun.server.app import server_app
from homespun.server.coordinator import RoundReport, Training, coordinate
from homespun.simulations.cell import Cell
from homespun.simulations.dropouts import Answering, Dropouts, silencing
from homespun.simulations.grid import InProcessGrid
from homespun.wire.flower import SERVER_NODE, in_process_identity

Observer = Callable[[RoundReport[Backbone]], None]


def members(engine: str, people: int, cell_size: int) -> tuple[int, ...]:
    """How many people stand behind each node."""
    size = 1 if engine == "faithful" else cell_size
    return tuple(min(size, people - start) for start in range(0, people, size))


def contributors(
    pairs: Pairs,
    phases: Mapping[str, Phase[Backbone, Pairs]],
    *,
    cell_size: int,
    seed: int,
    dropouts: Dropouts | None = None,
) -> Callable[[Context], Contributor]:
    """Find the cell at a node from its Flower context; devices are found by `simulations.devices`."""
    sizes = members("vectorised", pairs.users, cell_size)
    step = sizes[0]

    def at_node(context: Context) -> Contributor:
        place = int(context.node_config["partition-id"])

        def noise(run: int, round: int) -> Noise:
            return NoiseStream.seeded(seed, "shares", run, round, place)

        people = slice(place * step, place * step + sizes[place])
        return Cell(pairs=pairs.select(people), phases=phases, noise=noise, dropouts=dropouts, first=people.start)

    return at_node


def train(
    training: Training[Backbone],
    at_node: Callable[[Context], Contributor],
    ledger: Ledger,
    checkpoints: Path,
    *,
    engine: str,
    observe: Observer,
    dropouts: Dropouts | None = None,
) -> Backbone:
    """Run a training through a Flower ServerApp and ClientApp.

    Args:
        training: What to do.
        at_node: Who answers at a node.
        ledger: Ledger of the run, open.
        checkpoints: Folder of the training's checkpoints.
        engine: ``vectorised``, ``faithful`` or ``ray``.
        observe: Called after each round.
        dropouts: Which devices fall silent, where each node is one; cells leave people out themselves.

    Raises:
        Whatever :func:`~homespun.server.coordinator.coordinate` raises.
    """
    torch.set_num_threads(1)  # a second thread makes these small products slower
    result: list[Backbone] = []

    def body(grid: Grid) -> None:
        result.append(coordinate(training, grid, ledger, checkpoints, observe))

    if engine == "ray":
        from homespun.simulations.ray_runtime import run_on_ray

        run_on_ray(body, client_app(at_node), nodes=len(training.members))
        return result[0]
    with in_process_identity() as run:
        app: Answering = client_app(at_node)
        grid = InProcessGrid(app if dropouts is None else silencing(app, dropouts), len(training.members), run)
        context = Context(run_id=run.run_id, node_id=SERVER_NODE, node_config={}, state=RecordDict(), run_config={})
        server_app(body)(grid, context)
    return result[0]
