"""The ClientApp: what answers at a node of a Flower Grid.

Behind it stands a contributor: a :class:`~homespun.client.device.Device`, one person, or in a simulation a cell of
many. The app checks what comes in, asks the contributor, checks what goes out, and turns everything else into one
coded refusal, so that no exception text can leave.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import logging
from collections.abc import Callable
from typing import NoReturn, Protocol

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from homespun.client.errors import Declined
from homespun.wire import (
    TRAIN,
    Contribution,
    Refusal,
    RoundRequest,
    UnknownPhase,
    contribution_from_record,
    contribution_to_record,
    request_from_record,
)

LOG = logging.getLogger("homespun.client")


class Contributor(Protocol):
    """Whoever stands at a node."""

    def contribute(self, request: RoundRequest) -> Contribution:
        """Answer a round with one bounded, noisy vector; raise :class:`Declined` or :class:`UnknownPhase` to decline."""

    def note_malformed(self) -> None:
        """Hear of a message that was no request; nothing of it is handed on."""


def client_app(at_node: Callable[[Context], Contributor]) -> ClientApp:
    """Build the ClientApp.

    Args:
        at_node: Finds the contributor of a node from its Flower context.

    Guarantees:
        * closed replies: a reply is a contribution that fits the schema, or the one coded refusal.
        * one refusal: whatever the reason, the reply is the same; the reason is in the device's ledger.
        * quiet failures: of an exception, its class and nothing else is logged; its text may quote a preference.
    """
    app = ClientApp()

    @app.train(TRAIN.removeprefix("train."))
    def contribute(message: Message, context: Context) -> Message:
        answer = _answer(message.content, lambda: at_node(context))
        if isinstance(answer, Refusal):
            return Message(answer.error(), reply_to=message)
        return Message(content=answer, reply_to=message)

    return app


def _answer(content: RecordDict, contributor: Callable[[], Contributor]) -> RecordDict | Refusal:
    try:
        request = request_from_record(content)
    except Exception as error:  # noqa: BLE001  (whatever it is, its text stays here)
        LOG.warning("a message was no request: %s", type(error).__name__)
        _tell(contributor)
        return Refusal.DECLINED
    try:
        answer = contribution_to_record(contributor().contribute(request))
        contribution_from_record(answer, dimension=request.release.dimension)
    except (Declined, UnknownPhase):
        LOG.warning("a request was declined; the device's ledger says why")
        return Refusal.DECLINED
    except Exception as error:  # noqa: BLE001  (whatever it is, its text stays here)
        LOG.error("a contribution failed: %s", type(error).__name__)
        return Refusal.DECLINED
    return answer


def _tell(contributor: Callable[[], Contributor]) -> None:
    try:
        contributor().note_malformed()
    except Exception as error:  # noqa: BLE001  (the reply must not depend on it)
        LOG.error("a malformed message could not be noted: %s", type(error).__name__)


def _not_deployed(context: Context) -> NoReturn:
    # Enrollment, which would tell a node which device it stands for, is not part of this release.
    LOG.error(
        "Expected this ClientApp inside `homespun simulate`: this release does not train over a deployed Flower "
        "federation yet. Nothing was read and nothing left this device."
    )
    raise UnknownPhase("Expected an installed learner; this release has none outside `homespun simulate`.")


app = client_app(_not_deployed)
"""What ``pyproject.toml`` names as the project's ClientApp: declines every round, and logs why."""
