"""The ClientApp: what answers at a node of a Flower Grid.

Behind it stands a contributor: a :class:`~homespun.client.device.Device`, one person, or in a simulation a cell of
many. The app checks what comes in, asks the contributor, checks what goes out, and turns everything else into one
coded refusal, so that no exception text can leave.
"""

import homespun.wire.quiet  # noqa: F401  isort: skip   telemetry off, before flwr is imported
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, Protocol

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from homespun.client.errors import Declined
from homespun.secagg import MaskedVector
from homespun.wire import (
    ADVERTISE,
    CONSENT,
    MASK,
    MAX_PARTIES,
    REVEAL,
    SHARE,
    TRAIN,
    Contribution,
    Refusal,
    RoundRequest,
    StepRequest,
    UnknownPhase,
    advertise_from_record,
    contribution_from_record,
    contribution_to_record,
    masked_from_record,
    masked_to_record,
    reply_from_record,
    reply_to_record,
    request_from_record,
    step_from_record,
)

LOG = logging.getLogger("homespun.client")


class Contributor(Protocol):
    """Whoever stands at a node and answers plain rounds."""

    def contribute(self, request: RoundRequest) -> Contribution:
        """Answer a round with one bounded, noisy vector; raise :class:`Declined` or :class:`UnknownPhase` to decline."""

    def note_malformed(self) -> None:
        """Hear of a message that was no request; nothing of it is handed on."""


class Party(Contributor, Protocol):
    """Whoever takes part in masked rounds, too: a device. Each step raises :class:`Declined` to decline."""

    def advertise(self, request: RoundRequest, step: StepRequest) -> bytes:
        """Answer with fresh keys."""

    def share(self, step: StepRequest) -> bytes:
        """Answer with sealed shares of the secrets behind them."""

    def mask(self, step: StepRequest) -> MaskedVector:
        """Answer with one bounded, noisy, masked vector, and acks of whom it was masked with."""

    def consent(self, step: StepRequest) -> bytes:
        """Answer with a signature of who is in the sum."""

    def reveal(self, step: StepRequest) -> bytes:
        """Answer with one share a neighbour."""


def client_app(at_node: Callable[[Context], Contributor]) -> ClientApp:
    """Build the ClientApp.

    Args:
        at_node: Finds the contributor of a node from its Flower context; one that is no :class:`Party` declines the
            steps of masked rounds.

    Guarantees:
        * closed replies: a reply is one that fits the schema of its message type, or the one coded refusal.
        * one refusal: whatever the reason, the reply is the same; the reason is in the device's ledger.
        * quiet failures: of an exception, its class and nothing else is logged; its text may quote a preference.
    """
    app = ClientApp()
    for message_type in _READ:
        app.train(message_type.removeprefix("train."))(_handler(message_type, at_node))
    return app


def _handler(message_type: str, at_node: Callable[[Context], Contributor]) -> Callable[[Message, Context], Message]:
    def handle(message: Message, context: Context) -> Message:
        answer = _answer(message_type, message.content, lambda: at_node(context))
        if isinstance(answer, Refusal):
            return Message(answer.error(), reply_to=message)
        return Message(content=answer, reply_to=message)

    return handle


def _answer(message_type: str, content: RecordDict, contributor: Callable[[], Contributor]) -> RecordDict | Refusal:
    try:
        asked = _READ[message_type](content)
    except Exception as error:  # noqa: BLE001  (whatever it is, its text stays here)
        LOG.warning("a message was no request: %s", type(error).__name__)
        _tell(contributor)
        return Refusal.DECLINED
    try:
        return _ASK[message_type](contributor(), asked)
    except (Declined, UnknownPhase):
        LOG.warning("a request was declined; the device's ledger says why")
        return Refusal.DECLINED
    except Exception as error:  # noqa: BLE001  (whatever it is, its text stays here)
        LOG.error("a contribution failed: %s", type(error).__name__)
        return Refusal.DECLINED


def _contribute(who: Contributor, request: RoundRequest) -> RecordDict:
    answer = contribution_to_record(who.contribute(request))
    contribution_from_record(answer, dimension=request.release.dimension)
    return answer


def _mask(who: Party, step: StepRequest) -> RecordDict:
    masked = who.mask(step)
    answer = masked_to_record(masked.vector, masked.acks)
    masked_from_record(answer, dimension=len(masked.vector))
    return answer


def _payload(message_type: str, payload: bytes) -> RecordDict:
    answer = reply_to_record(payload)
    reply_from_record(answer, message_type, parties=MAX_PARTIES)
    return answer


_READ: dict[str, Callable[[RecordDict], Any]] = {
    TRAIN: request_from_record,
    ADVERTISE: advertise_from_record,
    **{step: partial(step_from_record, message_type=step) for step in (SHARE, MASK, CONSENT, REVEAL)},
}
_ASK: dict[str, Callable[[Any, Any], RecordDict]] = {
    TRAIN: _contribute,
    ADVERTISE: lambda who, asked: _payload(ADVERTISE, who.advertise(*asked)),
    SHARE: lambda who, step: _payload(SHARE, who.share(step)),
    MASK: _mask,
    CONSENT: lambda who, step: _payload(CONSENT, who.consent(step)),
    REVEAL: lambda who, step: _payload(REVEAL, who.reveal(step)),
}
"""By message type: what reads a message, and what asks the contributor and checks the reply."""


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
