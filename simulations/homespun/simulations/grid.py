"""A Flower Grid inside this process: the same ServerApp and ClientApp, no network, no Ray.

A node is whatever the ClientApp finds behind its context: a Device (engine ``faithful``) or a Cell of up to a thousand
people (engine ``vectorised``). Messages are copied as the network would copy them, so no handler can reach into
another's input or into the server's.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import logging
from collections.abc import Iterable

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid

from homespun.simulations.dropouts import Answering
from homespun.wire.flower import SERVER_NODE, Run, Wire, assign_message_id

LOG = logging.getLogger("homespun.simulations")
APP_RAISED = 2  # Flower's error code for an exception inside a ClientApp


class InProcessGrid(Grid):
    """Runs each message's handler when it is pushed; replies wait until they are pulled.

    Node ids are 2, 3, ... because 1 is Flower's server. Contexts are made when a node is first used.
    """

    def __init__(self, client_app: Answering, nodes: int, run: Run) -> None:
        """Put ``nodes`` nodes behind one ClientApp.

        Args:
            client_app: The ClientApp, or what stands in front of it; handles every message; its context's ``node_config`` holds ``partition-id``.
            nodes: Number of nodes.
            run: Flower's run record, see ``wire.flower.in_process_identity``.
        """
        self._app = client_app
        self._nodes = nodes
        self._run = run
        self._contexts: dict[int, Context] = {}
        self._replies: dict[str, Message] = {}
        self._pushed = 0

    @property
    def run(self) -> Run:
        """Flower's run record."""
        return self._run

    def set_run(self, run: Run) -> None:
        """Replace the run record."""
        self._run = run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Build a message; deprecated in Flower, still part of the Grid interface."""
        return Message(content=content, message_type=message_type, dst_node_id=dst_node_id, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes."""
        return range(SERVER_NODE + 1, SERVER_NODE + 1 + self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages, in order; returns their ids."""
        wire = Wire()
        ids = []
        for message in messages:
            self._pushed += 1
            message_id = f"{self._run.run_id}-{self._pushed}"
            assign_message_id(message, message_id)
            self._replies[message_id] = Wire().copy(self._handle(wire.copy(message)))
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand out the replies to these messages, once."""
        return [self._replies.pop(message_id) for message_id in message_ids if message_id in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then pull; nothing is slow here, so ``timeout`` has no effect."""
        return self.pull_messages(self.push_messages(messages))

    def _handle(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        if node not in self._contexts:
            place: dict[str, bool | float | int | str] = {
                "partition-id": node - SERVER_NODE - 1,
                "num-partitions": self._nodes,
            }
            self._contexts[node] = Context(
                run_id=self._run.run_id, node_id=node, node_config=place, state=RecordDict(), run_config={}
            )
        try:
            return self._app(message, self._contexts[node])
        except Exception as error:  # noqa: BLE001  (as Flower does)
            # The class alone: an exception's text may quote what it choked on.
            LOG.error("a ClientApp raised: %s", type(error).__name__)
            return Message(Error(APP_RAISED, "the app raised"), reply_to=message)
