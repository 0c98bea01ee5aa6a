"""One person's device: what is theirs stays sealed in its folder, and one bounded noisy vector at a time leaves.

A round is: check the request against the owner's policy, reserve, show the ledger's head to the witness, compute, mask or
seal the vector, commit, and only then hand it out. Whatever interrupts that leaves the reservation spent.
"""

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, final

from homespun.client.belongings import Belongings
from homespun.client.door import Door
from homespun.client.errors import Declined
from homespun.client.folder import Opened, make_folder, open_folder
from homespun.client.installation import Installation
from homespun.client.releases import finish_releases, open_releases, release_blocks, write_off
from homespun.client.vault import KeySource
from homespun.personal import Adapter, Backbone, BlockSum, Pairs, PublicMoments, Records, fit, private_adapter
from homespun.privacy.ledger import Ledger
from homespun.privacy.policy import Policy
from homespun.privacy.policy_check import Reason
from homespun.secagg import MaskedVector
from homespun.wire import Contribution, RoundRequest, StepRequest

__all__ = ["Device", "Installation"]

LOG = logging.getLogger("homespun.client")


@final
class Device:
    """A person's preferences, what they allow, and what was spent.

    It is a class because it owns a folder. :meth:`create` and :meth:`open` make one.

    Guarantees:
        * one door: what leaves is one of a closed list. Where the owner trusts the server, :meth:`contribute` returns
          the noisy vector. Otherwise a round is five messages, all made by one :class:`homespun.secagg.Client`: an
          advert, sealed shares, a masked vector, a consent, revealed shares. There is no other way out.
        * before the fact: when data is touched, the reservation is on disk and countersigned by the witness; of what
          leaves in a masked round, only the masked vector depends on data.
        * no silence about data: if the statistic cannot be computed from this person's preferences, the vector is
          noise alone; whether a request is declined depends on the request, the policy and public counters alone.
        * same question, same answer: a plain request that is repeated byte by byte gets the same bytes and costs nothing.
        * no question twice: no step of a masked round is answered twice. Another attempt has new keys and new noise, and
          is paid for anew.
        * no second budget: an older copy of the folder, or a copy that went another way, is found out by whoever
          remembers a newer head, and declines until the owner acknowledges it.
    """

    def __init__(self, opened: Opened, around: Installation) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._name, self._vault, self._spending = opened.name, opened.vault, opened.spending
        self._around, self._closing = around, opened.closing
        self._own = Belongings(self._vault, lambda: self._spending.place)
        self._door = Door(opened, around, self._own, self._remember)
        self.identity = opened.identity.public
        """Ed25519 public key, 32 bytes: who this device is on the roster of a masked sum."""

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
        """Answer a plain round: the vector itself, where the owner trusts the server to add the noise.

        Raises:
            Declined: The device does not answer; its reason is for the owner alone.
        """
        return self._door.contribute(request)

    def advertise(self, request: RoundRequest, step: StepRequest) -> bytes:
        """Begin a masked round: fresh keys, signed by this device's identity.

        Everything that :meth:`contribute` checks is checked here, and that the terms are about just this request, among
        no more people, and open no sum of fewer than its plan. An older session of the run ends.

        Returns:
            The encoded :class:`~homespun.secagg.Advert`.
        Raises:
            Declined: As above, and so in every step.
        """
        return self._door.advertise(request, step)

    def share(self, step: StepRequest) -> bytes:
        """Given everybody's keys, seal shares of this device's secrets to its neighbours."""
        return self._door.share(step)

    def mask(self, step: StepRequest) -> MaskedVector:
        """Given the shares sealed to it, pay for the round and make the masked vector; the only step that reads data."""
        return self._door.mask(step)

    def consent(self, step: StepRequest) -> bytes:
        """Given whose vectors arrived, sign that list: one, once."""
        return self._door.consent(step)

    def reveal(self, step: StepRequest) -> bytes:
        """Given the list and enough signatures, give away one share of each neighbour's secret, and end the session."""
        return self._door.reveal(step)

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
        self._around.sessions.end_all(self._name)
        self._remember()
        return spent

    def erase(self) -> None:
        """Shred everything that is personal; the ledger stays, and says so. The device cannot be used any more."""
        self._around.sessions.end_all(self._name)
        self._vault.shred()
        self._spending.ledger.record("erase", {"what": "vault", "reason": "owner"})
        self.close()

    def close(self) -> None:
        """Let go of the folder and of its keys; masked rounds that go on stay with the installation's sessions."""
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

    # Sealing and remembering

    def _burn_open(self) -> None:
        """End what a crash left open: nothing is known to have come of it, and it stays spent."""
        for reservation in self._spending.ledger.open_reservations():
            self._door.burn(reservation, "crash")
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

    def _remember(self) -> None:
        """Tell the anchor; not of a fork, whose mark would take the place of the newer one."""
        if self._around.anchor is None or self.forked:
            return
        try:
            self._around.anchor.remember(self._name, self._spending.mark(self._vault.version))
        except Exception as error:  # noqa: BLE001  (an anchor that lags behind is harmless)
            LOG.error("the anchor was not told: %s", type(error).__name__)
