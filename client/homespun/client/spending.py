"""What a device spends on what leaves it (guarantee A), and who remembers that it did.

A ledger that was put back from a backup, or copied, verifies. So before a reservation is acted on, its head is shown to a
witness, and what is on the device (an anchor outside the folder, the vault, the ledger of the adapter) is compared, too.
"""

import logging
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, final

from homespun.client.anchor import Mark
from homespun.client.errors import Declined
from homespun.client.lineage import ACCOUNT, begin_after_fork, newest_ledger
from homespun.client.witnessed import (
    EMPTY,
    DeviceWitness,
    commitment,
    continues,
    epoch,
    heads_of,
    place_of,
    remembers,
)
from homespun.privacy import (
    GaussianEvent,
    HeadRefused,
    LedgerError,
    PrivacyBudgetExhausted,
    ReservationError,
)
from homespun.privacy.ledger import Head, Kind, Ledger, Reservation, SigningKey, read_receipt
from homespun.privacy.policy import Policy
from homespun.privacy.policy_check import Reason

__all__ = ["ADAPTER_LEDGER", "Spending"]

LOG = logging.getLogger("homespun.client")
ADAPTER_LEDGER = "adapter.sqlite"
_FORKED = (Reason.LEDGER_FORKED.value, Reason.HEAD_REFUSED.value)  # written down where a fork was found


@final
class Spending:
    """The ledger of everything that leaves a device, and the heads of it that others remember.

    It is a class because it owns the open ledger and must forget nothing that it learnt of a fork.

    Guarantees:
        * before the fact: when `reserve` and then `show_head` return, the spend is on disk, and the witness refuses
          every other history of this ledger.
        * a fork stays: once somebody is known to remember more than the ledger holds, `forked` stays true until
          `begin_again`, in which at least as much is spent as anybody saw.
    """

    def __init__(self, folder: Path, name: str, key: SigningKey, secret: bytes, witness: DeviceWitness | None) -> None:
        """Open the newest ledger of a device's folder.

        Args:
            folder: The device's.
            name: The device's.
            key: Signs the ledger.
            secret: Salts what the ledger says of the adapter's.
            witness: Who remembers heads, if anybody does.
        """
        self.folder, self._name, self.key, self._secret, self._witness = folder, name, key, secret, witness
        self.forked = False
        self._witnessed: Head | None = None
        self._take(Ledger.open(newest_ledger(folder), key))

    @property
    def ledger(self) -> Ledger:
        """The open ledger."""
        return self._ledger

    @property
    def policy(self) -> Policy:
        """What the owner allows now."""
        return self._policy

    @property
    def rounds(self) -> int:
        """How many rounds were paid for."""
        return self._rounds

    @property
    def spent(self) -> Decimal:
        """Rho."""
        return self._ledger.spent(ACCOUNT)

    @property
    def place(self) -> tuple[int, str]:
        """Size and root of the ledger, as the vault writes them down."""
        head = self._ledger.head
        return head.size, head.root

    @property
    def has_lost(self) -> bool:
        """Whether a fork was acknowledged: there is a history of this device that nobody has."""
        return epoch(self._ledger.genesis.origin) > 1

    def mark(self, vault: int) -> Mark:
        """What an anchor should remember now, beside the version of the vault."""
        origin = self._ledger.genesis.origin
        return Mark(origin=origin, head=self._ledger.head, spent=self.spent, vault=vault, witnessed=self._witnessed)

    def compare(self, mark: Mark | None, written_at: tuple[int, str]) -> None:
        """Find out whether anything on this device remembers more than the ledger holds.

        Args:
            mark: What the anchor remembers.
            written_at: Size and root of the ledger when the vault was last written.
        """
        size, root = written_at
        newest = mark is None or remembers(self._ledger, mark)
        newest = newest and (size == 0 or continues(self._ledger, Head(size=size, root=root)))
        if newest and self._last is not None:
            place, committed = place_of(self._last), str(self._last["adapter_head"])
            newest = any(
                commitment(self._secret, place, head) == committed for head in heads_of(self.folder / ADAPTER_LEDGER)
            )
        self.forked = self.forked or not newest

    def set_policy(self, policy: Policy) -> None:
        """Write down what the owner allows from now on."""
        cap = None if policy.cap is None else f"{policy.cap:.18f}"
        self._ledger.record("policy", {"policy": policy.to_dict(), "cap": cap})
        self._policy = policy
        self._raise_highest(policy.cap)

    def ask_witness(self) -> bool:
        """Compare with the head that the witness remembers; whether it could be asked."""
        witness, origin = self._witness, self._ledger.genesis.origin
        if witness is None:
            return False
        try:
            known = witness.latest(origin)
            if known is None:
                witness.enroll(origin, self._ledger.key)
                known = EMPTY
        except HeadRefused:
            self.forked = True
            return True
        except Exception as error:  # noqa: BLE001  (of whatever class: it did not answer)
            LOG.warning("the witness did not answer: %s", type(error).__name__)
            self._witnessed = None
            return False
        self._witnessed = known
        self.forked = self.forked or not continues(self._ledger, known)
        return True

    def reserve(self, event: GaussianEvent | None, subject: Mapping[str, str | int]) -> Reservation:
        """Pay for a round.

        Raises:
            Declined: It cannot be paid, or was; nothing is spent.
        """
        committed = commitment(self._secret, place_of(subject), next(heads_of(self.folder / ADAPTER_LEDGER)))
        try:
            paid = self._ledger.reserve(ACCOUNT, event, {**subject, "adapter_head": committed})
        except PrivacyBudgetExhausted:
            raise self.decline(Reason.BUDGET_EXHAUSTED, subject) from None
        except ReservationError:
            raise self.decline(Reason.ROUND_REPLAYED, subject) from None
        self._rounds += 1
        return paid

    def show_head(self) -> Reason | None:
        """Have the head countersigned; why not, if the device may not go on without."""
        witness, known = self._witness, self._witnessed
        missing = Reason.WITNESS_UNAVAILABLE if self._policy.witness_required else None
        if witness is None or known is None:
            return missing
        head = self._ledger.head
        try:
            receipt = witness.countersign(self._ledger.checkpoint, self._ledger.prove(known.size))
            found = read_receipt(receipt, witness.public)[:2]
        except HeadRefused:
            self.forked = True
            return Reason.HEAD_REFUSED
        except Exception as error:  # noqa: BLE001  (of whatever class: there is no receipt)
            LOG.warning("the witness gave no receipt: %s", type(error).__name__)
            return missing
        if found != (self._ledger.genesis.origin, head):
            return missing
        self._witnessed = head
        self._ledger.record("witness", {"witness": witness.public.text, "receipt": receipt.decode("utf-8")})
        return None

    def decline(self, reason: Reason, subject: Mapping[str, str | int]) -> Declined:
        """Write a refusal down; the error to raise."""
        self._ledger.refuse(reason.value, subject)
        return Declined(reason)

    def begin_again(self, mark: Mark | None) -> Decimal:
        """After a fork: begin a new ledger in which at least as much is spent as anybody saw.

        Args:
            mark: What the anchor remembers.
        Returns:
            What counts as spent, rho: what was seen, where that is known to be all, and the whole cap otherwise.
        """
        old, spent = self._ledger, self.spent if mark is None else max(self.spent, mark.spent)
        if self._highest_cap is not None and not self._knows_all(mark):
            spent = max(spent, self._highest_cap)
        number = max(epoch(old.genesis.origin), 0 if mark is None else epoch(mark.origin)) + 1
        begin_after_fork(old, self._name, self.key, self._policy, number=number, spent=spent, rounds=self._rounds)
        self.forked = False
        old.close()
        self._take(Ledger.open(newest_ledger(self.folder), self.key))
        self._witnessed = None
        return spent

    def close(self) -> None:
        """Let go of the ledger and of the key."""
        self._ledger.close()

    def _take(self, ledger: Ledger) -> None:
        """Go on with a ledger, and read what the owner allows and what was paid for."""
        self._ledger = ledger
        policy: Mapping[str, Any] | None = ledger.genesis.policy
        self._rounds = int(ledger.genesis.declared.get("rounds", "0"))
        self._last: Mapping[str, Any] | None = None
        self._highest_cap = ledger.genesis.cap
        for entry in ledger.entries():
            if entry.kind is Kind.POLICY:
                policy = entry.body["policy"]
                self._raise_highest(None if entry.body["cap"] is None else Decimal(entry.body["cap"]))
            elif entry.kind in (Kind.REFUSE, Kind.BURN):
                self.forked = self.forked or entry.body["reason"] in _FORKED
            elif entry.kind is Kind.RESERVE:
                self._rounds += 1
                self._last = entry.body["subject"]
        if policy is None:
            raise LedgerError(f"Expected the owner's policy in {ledger.path}; it is the ledger of something else.")
        self._policy = Policy.from_dict(policy)

    def _raise_highest(self, cap: Decimal | None) -> None:
        """Note a cap; of a history that is lost, nobody knows more than the highest that the owner ever allowed."""
        if cap is not None:
            self._highest_cap = cap if self._highest_cap is None else max(cap, self._highest_cap)

    def _knows_all(self, mark: Mark | None) -> bool:
        """Whether the anchor's mark is the newest that the witness saw, so that what it says was spent is all."""
        if mark is None or self._witness is None:
            return mark is not None
        try:
            return self._witness.latest(mark.origin) == mark.witnessed
        except Exception as error:  # noqa: BLE001
            LOG.warning("the witness did not answer: %s", type(error).__name__)
            return False
