"""The device's door: what is asked passes one list of checks, is paid for in one order, and leaves as one of a closed list.

plain (the owner trusts the server to add the noise)    contribute -> a vector
masked (the noise is the devices')                      advertise -> share -> mask -> consent -> reveal
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import final

import numpy as np
import numpy.typing as npt

from homespun import secagg
from homespun.client.belongings import Belongings
from homespun.client.errors import Declined
from homespun.client.evidence import Answer
from homespun.client.folder import Opened
from homespun.client.installation import Installation
from homespun.client.masked_round import MaskedRound
from homespun.client.request import Asked, is_answerable, read_request, subject_of
from homespun.client.statistic import own_statistic
from homespun.privacy import Trust, contribute
from homespun.privacy.ledger import Reservation
from homespun.privacy.policy_check import Reason, check, contribution_event
from homespun.wire import Contribution, RoundRequest, StepRequest, UnknownPhase, request_digest

__all__ = ["Door"]

LOG = logging.getLogger("homespun.client")
Vector = npt.NDArray[np.uint32]


@final
class Door:
    """All that can leave a device: :class:`~homespun.client.device.Device` says what is guaranteed of it.

    It is a class because an answer changes the ledger, the vault and the session together.
    """

    def __init__(self, opened: Opened, around: Installation, own: Belongings, remember: Callable[[], None]) -> None:
        """Stand in front of what was opened.

        Args:
            opened: The device's folder.
            around: What is installed.
            own: What the vault holds.
            remember: Tells the anchor of a spend.
        """
        self._name, self._spending, self._identity = opened.name, opened.spending, opened.identity
        self._around, self._own, self._remember = around, own, remember
        self._turn = threading.Lock()  # two lists of survivors, signed side by side, would open two sums

    def contribute(self, request: RoundRequest) -> Contribution:
        """Answer a plain round; see :meth:`homespun.client.device.Device.contribute`."""
        asked = self._read(request)
        if request.release.trust is not Trust.CENTRAL:
            raise self._spending.decline(Reason.UNMASKED, asked.subject)
        known = self._own.answers.get(asked.run)
        if known is not None and known.request == asked.digest and known.vector is not None and self._is_ended(known):
            return Contribution(vector=known.vector, devices=1)
        self._weigh(asked)
        self._reach_witness(asked)
        with self._paid(asked) as reservation:
            vector = self._compute(asked)
            self._commit(asked, reservation, vector, kept=vector)
        return Contribution(vector=vector, devices=1)

    def advertise(self, request: RoundRequest, step: StepRequest) -> bytes:
        """Begin a masked round; see :meth:`homespun.client.device.Device.advertise`."""
        asked, sessions = self._read(request), self._around.sessions
        self._weigh(asked)
        known = sessions.of_run(self._name, asked.run)
        if known is not None and known.asked.place > asked.place:
            raise self._spending.decline(Reason.ROUND_REPLAYED, asked.subject)
        with self._protocol(asked.subject):
            terms = secagg.Terms.decode(step.payload)
            if step.session != terms.digest or not self._fits(terms, asked):
                raise self._spending.decline(Reason.TERMS_UNFIT, asked.subject)
            self._reach_witness(asked)
            session = MaskedRound(asked=asked, terms=terms, party=secagg.Client(terms, self._identity))
        sessions.begin(self._name, session)
        return session.party.advert.encode()

    def share(self, step: StepRequest) -> bytes:
        """Split and seal the secrets of a session for its neighbours."""
        with self._within(step.session) as within:
            return within.party.share(secagg.Adverts.decode(step.payload).adverts).encode()

    def mask(self, step: StepRequest) -> secagg.MaskedVector:
        """Pay for the round, and make the masked vector: the only step that reads data."""
        with self._within(step.session) as within:
            asked, party, inbox = within.asked, within.party, secagg.Inbox.decode(step.payload)
            party.check_inbox(inbox)  # before it is paid for: a message that leads nowhere costs nothing
            self._weigh(asked)
            self._reach_witness(asked)
            try:
                with self._paid(asked) as reservation:
                    masked = party.mask(self._compute(asked), inbox)
                    self._commit(asked, reservation, masked.vector, kept=None)
            except BaseException:
                self._around.sessions.end(self._name, within)
                raise
            return masked

    def consent(self, step: StepRequest) -> bytes:
        """Sign the one list of survivors that a session has."""
        with self._within(step.session) as within:
            return within.party.consent(secagg.Survivors.decode(step.payload)).encode()

    def reveal(self, step: StepRequest) -> bytes:
        """Give away one share of each neighbour, and end the session."""
        with self._within(step.session) as within:
            revealed = within.party.reveal(secagg.RevealRequest.decode(step.payload)).encode()
            self._around.sessions.end(self._name, within)
            return revealed

    def burn(self, reservation: Reservation, reason: str) -> None:
        """End a reservation, after what was sealed under it is dropped."""
        self._own.drop(reservation.seq)
        self._spending.ledger.burn(reservation, reason)

    # What is asked

    def _read(self, request: RoundRequest) -> Asked:
        """Read a request; nothing of a policy but its pause is looked at."""
        subject = subject_of(request, self._around.project)
        if not is_answerable(request):
            raise self._spending.decline(Reason.MALFORMED, subject)
        try:
            phase, backbone = read_request(request, self._around.phases)
        except UnknownPhase:
            raise self._spending.decline(Reason.UNKNOWN_PHASE, subject) from None
        digest = request_digest(request)
        subject |= {"backbone_sha256": backbone.digest, "request_sha256": digest}
        self._require_willing(subject)
        return Asked(request=request, digest=digest, phase=phase, backbone=backbone, subject=subject)

    def _require_willing(self, subject: Mapping[str, str | int]) -> None:
        if self._spending.policy.paused:
            raise self._spending.decline(Reason.PAUSED, subject)
        if self._spending.forked:
            raise self._spending.decline(Reason.LEDGER_FORKED, subject)

    def _weigh(self, asked: Asked) -> None:
        """Decline what was answered before and what the owner does not allow; nothing personal is looked at."""
        known, request, spending = self._own.answers.get(asked.run), asked.request, self._spending
        if known is not None and known.plan != request.plan_digest:
            raise spending.decline(Reason.OTHER_PLAN, asked.subject)
        if known is not None and known.place >= asked.place:
            raise spending.decline(Reason.ROUND_REPLAYED, asked.subject)
        phases, spent = self._around.phases, spending.spent
        reason = check(spending.policy, request.release, installed=phases, spent=spent, rounds=spending.rounds)
        if reason is not None:
            raise spending.decline(reason, asked.subject)

    def _fits(self, terms: secagg.Terms, asked: Asked) -> bool:
        """Whether the terms are about what was asked, among no more people, and open no sum of fewer."""
        release = asked.request.release
        return (
            release.trust is Trust.DISTRIBUTED
            and terms.context == bytes.fromhex(asked.digest)
            and terms.dimension == release.dimension
            and self._identity.public in terms.roster
            and len(terms.roster) <= release.population
            and terms.min_survivors >= release.fewest
            and terms.colluding >= release.colluding
        )

    def _reach_witness(self, asked: Asked) -> None:
        """Ask who remembers the ledger whether it is the newest."""
        spending = self._spending
        reached = spending.ask_witness()
        if spending.forked:
            raise spending.decline(Reason.LEDGER_FORKED, asked.subject)
        if not reached and spending.policy.witness_required:
            raise spending.decline(Reason.WITNESS_UNAVAILABLE, asked.subject)

    def _is_ended(self, answer: Answer) -> bool:
        """Whether what paid for an answer was committed: what may yet be burned must not leave."""
        return all(paid.seq != answer.reservation for paid in self._spending.ledger.open_reservations())

    # Sessions

    @contextmanager
    def _within(self, digest: bytes) -> Iterator[MaskedRound]:
        """The session that a step is of, one step at a time; a message that it refuses is declined, and leaves it as it was."""
        with self._turn:
            within = self._around.sessions.find(self._name, digest)
            subject = {"project": self._around.project} if within is None else within.asked.subject
            self._require_willing(subject)
            with self._protocol(subject):
                if within is None:
                    raise secagg.Refused(secagg.Fault.WRONG_STAGE, "an open session")
                yield within

    @contextmanager
    def _protocol(self, subject: Mapping[str, str | int]) -> Iterator[None]:
        """Decline what the protocol refuses, with the word for it in the ledger."""
        try:
            yield
        except secagg.Refused as refused:
            raise self._spending.decline(Reason.PROTOCOL, {**subject, "fault": refused.fault.value}) from None

    # What is paid

    @contextmanager
    def _paid(self, asked: Asked) -> Iterator[Reservation]:
        """Reserve and show the head; whatever goes wrong from there on burns the reservation, and is declined."""
        reservation = self._spending.reserve(contribution_event(asked.request.release), asked.subject)
        try:
            reason = self._spending.show_head()
            if reason is not None:
                raise Declined(reason)
            yield reservation
        except Exception as error:  # noqa: BLE001  (whatever it is, its text may quote a preference)
            if not isinstance(error, Declined):
                LOG.error("a contribution failed: %s", type(error).__name__)
            reason = error.reason if isinstance(error, Declined) else Reason.FAILED
            self.burn(reservation, reason.value)
            self._remember()
            raise Declined(reason) from None
        self._remember()

    def _compute(self, asked: Asked) -> Vector:
        """The bounded vector with this device's noise."""
        request = asked.request
        statistic = own_statistic(asked.phase, asked.backbone, lambda: self._own.pairs, request.phase_round)
        return contribute(statistic, request.release, devices=1, noise=self._around.noise(request.run, *asked.place))

    def _commit(self, asked: Asked, reservation: Reservation, leaving: Vector, *, kept: Vector | None) -> None:
        """Remember that this place was answered, seal what may be given again, and then say in the ledger what leaves."""
        request = asked.request
        answer = Answer(
            plan=request.plan_digest, round=request.round, attempt=request.attempt, request=asked.digest,
            reservation=reservation.seq, vector=kept,
        )  # fmt: skip
        self._own.keep(asked.run, answer)
        self._spending.ledger.commit(reservation, hashlib.sha256(leaving.astype("<u4").tobytes()).hexdigest())
