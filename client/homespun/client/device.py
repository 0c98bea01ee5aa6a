"""One person's device: what is theirs stays sealed in its folder, and one bounded noisy vector at a time leaves.

A round is: check the request against the owner's policy, reserve, show the ledger's head to the witness, compute, seal
the vector, commit, and only then hand it out. Whatever interrupts that leaves the reservation spent.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from homespun.client.belongings import Belongings
from homespun.client.errors import Declined
from homespun.client.evidence import Answer
from homespun.client.folder import Opened, make_folder, open_folder
from homespun.client.installation import Installation
from homespun.client.releases import finish_releases, open_releases, release_blocks, write_off
from homespun.client.request import is_answerable, read_request, request_digest, subject_of
from homespun.client.statistic import own_statistic, statistic_or_nothing
from homespun.client.vault import KeySource
from homespun.personal import Adapter, Backbone, BlockSum, Pairs, PublicMoments, Records, fit, private_adapter
from homespun.privacy import Phase, contribute
from homespun.privacy.ledger import Ledger, Reservation
from homespun.privacy.policy import Policy
from homespun.privacy.policy_check import Reason, check, contribution_event
from homespun.wire import Contribution, RoundRequest, UnknownPhase

__all__ = ["Device", "Installation", "read_request", "statistic_or_nothing"]

LOG = logging.getLogger("homespun.client")


@final
class Device:
    """A person's preferences, what they allow, and what was spent.

    It is a class because it owns a folder. :meth:`create` and :meth:`open` make one.

    Guarantees:
        * one door: :meth:`contribute` returns a vector in the ring of the private sum and nothing else leaves.
        * before the fact: when data is touched, the reservation is on disk and countersigned by the witness.
        * no silence about data: if the statistic cannot be computed from this person's preferences, the vector is
          noise alone; whether a request is declined depends on the request, the policy and public counters alone.
        * same question, same answer: a request that is repeated byte by byte gets the same bytes and costs nothing.
        * no second budget: an older copy of the folder, or a copy that went another way, is found out by whoever
          remembers a newer head, and declines until the owner acknowledges it.
    """

    def __init__(self, opened: Opened, around: Installation) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._name, self._vault, self._spending = opened.name, opened.vault, opened.spending
        self._around, self._closing = around, opened.closing
        self._own = Belongings(self._vault, lambda: self._spending.place)

    @classmethod
    def create(cls, folder: Path, source: KeySource, policy: Policy, around: Installation) -> Self:
        """Make a device, whole or not at all.

        Args:
            folder: Where; must not be there.
            source: Where the vault's key comes from.
            policy: What the owner allows.
            around: What is installed.
        Raises:
            FileExistsError: The folder is there.
        """
        make_folder(folder, source, policy, around)
        return cls.open(folder, source, around)

    @classmethod
    def open(cls, folder: Path, source: KeySource, around: Installation) -> Self:
        """Open a device: reservations that were left open are burned, and remembered heads are compared.

        Raises:
            DeviceBusy: Another process has it open.
            VaultError: The key is wrong, or a sealed byte was changed.
            LedgerDamaged: An entry was edited, dropped or moved.
        """
        device = cls(open_folder(folder, source, around), around)
        try:
            device._burn_open()
        except BaseException:
            device.close()
            raise
        return device

    @property
    def policy(self) -> Policy:
        """What the owner allows now."""
        return self._spending.policy

    @property
    def spent(self) -> Decimal:
        """Rho that was spent on everything that left this device."""
        return self._spending.spent

    @property
    def ledger(self) -> Ledger:
        """The ledger of guarantee A, for reports."""
        return self._spending.ledger

    @property
    def has_learnt(self) -> bool:
        """Whether anything is known of the person."""
        return "evidence" in self._vault.names

    @property
    def forked(self) -> bool:
        """Whether somebody remembers a newer ledger, or another one, than this."""
        return self._spending.forked

    def contribute(self, request: RoundRequest) -> Contribution:
        """Answer a round.

        Raises:
            Declined: The device does not answer; its reason is for the owner alone.
        """
        subject = subject_of(request, self._around.project)
        if not is_answerable(request):
            raise self._spending.decline(Reason.MALFORMED, subject)
        try:
            phase, backbone = read_request(request, self._around.phases)
        except UnknownPhase:
            raise self._spending.decline(Reason.UNKNOWN_PHASE, subject) from None
        subject |= {"backbone_sha256": backbone.digest, "request_sha256": request_digest(request)}
        if self.policy.paused:
            raise self._spending.decline(Reason.PAUSED, subject)
        if self.forked:
            raise self._spending.decline(Reason.LEDGER_FORKED, subject)
        known = self._own.answers.get(self._run(request))
        if known is not None and known.request == subject["request_sha256"] and self._is_ended(known):
            return Contribution(vector=known.vector, devices=1)
        reason = self._weigh(request, known)
        if reason is not None:
            raise self._spending.decline(reason, subject)
        reservation = self._spending.reserve(contribution_event(request.release), subject)
        return Contribution(vector=self._act(reservation, request, phase, backbone), devices=1)

    def note_malformed(self) -> None:
        """Write down that a message was declined because it was no request."""
        self._spending.decline(Reason.MALFORMED, {"project": self._around.project})

    def learn(
        self, pairs: Pairs, preferences: Sequence[Mapping[str, Any]] = (), *, records: Records | None = None
    ) -> None:
        """Seal what a person said, in place of what was known of them.

        Args:
            pairs: Of one person: what the rounds are about.
            preferences: The same as they said it, JSON-able.
            records: The same by arrival, a label a place: what a private adapter is made of. Places are never given
                away: a record that is taken back is made blank.
        Raises:
            ValueError: They are those of several people, or a record lost its place.
        """
        self._own.learn(pairs, preferences, records)
        self._remember()

    def refit(self, backbone: Backbone, public: PublicMoments) -> Adapter:
        """Make the adapter for a backbone, and seal it.

        With the policy's ``record:E``, every full block of records is released once, and the adapter is made of the
        sums; without a new full block that costs nothing. With ``exact`` it is the best fit, and protects nothing but
        by staying sealed.

        Raises:
            Declined: The ledger is forked: what was released is not known.
        """
        if self.forked:
            raise Declined(Reason.LEDGER_FORKED)
        if self.policy.adapter_epsilon is None:
            adapter = fit(backbone, self._own.pairs)
        else:
            adapter = private_adapter(backbone, public, self._release(backbone, public), users=1)
        self._own.set_adapter(adapter, backbone)
        self._remember()
        return adapter

    def adapter(self, backbone: Backbone) -> Adapter:
        """The adapter that was made for this backbone.

        Raises:
            KeyError: There is none yet.
            VaultError: It was made for another backbone.
        """
        return self._own.adapter(backbone)

    def set_policy(self, policy: Policy) -> None:
        """Change what is allowed from now on; it is written in the ledger. A higher cap counts for what is already spent."""
        self._spending.set_policy(policy)
        self._remember()

    def acknowledge(self) -> Decimal:
        """Go on after a fork: a new ledger begins, in which at least as much is spent as anybody saw.

        Where nobody knows how much that is (a copy went on elsewhere), the whole budget counts as spent.

        Returns:
            What now counts as spent, rho.
        Raises:
            ValueError: There is no fork.
        """
        if not self.forked:
            raise ValueError("Expected a forked ledger; this one is the newest that is remembered.")
        anchor = self._around.anchor
        spent = self._spending.begin_again(None if anchor is None else anchor.recall(self._name))
        write_off(self._spending.folder, self._spending.key, self._own.records)
        self._own.drop_all()
        self._remember()
        return spent

    def erase(self) -> None:
        """Shred everything that is personal; the ledger stays, and says so. The device cannot be used any more."""
        self._vault.shred()
        self._spending.ledger.record("erase", {"what": "vault", "reason": "owner"})
        self.close()

    def close(self) -> None:
        """Let go of the folder and of every key."""
        self._closing.close()

    def __enter__(self) -> Self:
        """Return the device; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Nothing of the person."""
        return "Device()"

    # Contributing

    def _run(self, request: RoundRequest) -> str:
        return f"{self._around.project}/{request.run}"

    def _is_ended(self, answer: Answer) -> bool:
        """Whether what paid for an answer was committed: what may yet be burned must not leave."""
        return all(paid.seq != answer.reservation for paid in self._spending.ledger.open_reservations())

    def _weigh(self, request: RoundRequest, known: Answer | None) -> Reason | None:
        """Why the request is declined, if it is; nothing personal is looked at."""
        if known is not None and known.plan != request.plan_digest:
            return Reason.OTHER_PLAN
        if known is not None and known.round >= request.round:
            return Reason.ROUND_REPLAYED
        spending, phases = self._spending, self._around.phases
        reason = check(self.policy, request.release, installed=phases, spent=self.spent, rounds=spending.rounds)
        if reason is not None:
            return reason
        reached = spending.ask_witness()
        if spending.forked:
            return Reason.LEDGER_FORKED
        return None if reached or not self.policy.witness_required else Reason.WITNESS_UNAVAILABLE

    def _act(
        self, reservation: Reservation, request: RoundRequest, phase: Phase[Backbone, Pairs], backbone: Backbone
    ) -> npt.NDArray[np.uint32]:
        """Everything after the reservation; whatever goes wrong burns it."""
        try:
            reason = self._spending.show_head()
            if reason is None:
                statistic = own_statistic(phase, backbone, lambda: self._own.pairs, request.phase_round)
                noise = self._around.noise(request.run, request.round)
                vector = contribute(statistic, request.release, devices=1, noise=noise)
                answer = Answer(
                    plan=request.plan_digest, round=request.round, request=str(reservation.subject["request_sha256"]),
                    reservation=reservation.seq, vector=vector,
                )  # fmt: skip
                self._own.keep(self._run(request), answer)
                self._spending.ledger.commit(reservation, hashlib.sha256(vector.astype("<u4").tobytes()).hexdigest())
        except Exception as error:  # noqa: BLE001  (whatever it is, its text may quote a preference)
            LOG.error("a contribution failed: %s", type(error).__name__)
            reason = Reason.FAILED
        if reason is not None:
            self._burn(reservation, reason.value)
        self._remember()
        if reason is not None:
            raise Declined(reason)
        return vector

    # Sealing and remembering

    def _burn_open(self) -> None:
        """End what a crash left open: nothing is known to have come of it, and it stays spent."""
        for reservation in self._spending.ledger.open_reservations():
            self._burn(reservation, "crash")
        finish_releases(self._spending.folder, self._spending.key, self._vault)

    def _release(self, backbone: Backbone, public: PublicMoments) -> list[BlockSum]:
        records, spending = self._own.records, self._spending
        if records is None:
            return []
        ledger, plan = open_releases(
            spending.folder, self._name, spending.key, self.policy, records, lost=spending.has_lost
        )
        with ledger:
            return release_blocks(ledger, plan, self._vault, records, backbone, public, spending.place)

    def _burn(self, reservation: Reservation, reason: str) -> None:
        """End a reservation, after what was sealed under it is dropped."""
        self._own.drop(reservation.seq)
        self._spending.ledger.burn(reservation, reason)

    def _remember(self) -> None:
        """Tell the anchor; not of a fork, whose mark would take the place of the newer one."""
        if self._around.anchor is None or self.forked:
            return
        try:
            self._around.anchor.remember(self._name, self._spending.mark(self._vault.version))
        except Exception as error:  # noqa: BLE001  (an anchor that lags behind is harmless)
            LOG.error("the anchor was not told: %s", type(error).__name__)
