"""What a device spends on what leaves it (guarantee A), and who remembers that it did.

A ledger that was put back from a backup, or copied, verifies. So before a reservation is acted on, its head is shown to a
witness, and what is on the device (an anchor outside the folder, the vault, the ledger of the adapter) is compared, too.
"""

import hashlib
import importlib.metadata
import logging
import os
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, final

from homespun.client.anchor import Mark
from homespun.client.errors import Declined
from homespun.client.witnessed import (
    DeviceWitness,
    commitment,
    continues,
    epoch,
    origin_of,
    place_of,
    remembers,
)
from homespun.privacy import (
    GaussianEvent,
    HeadRefused,
    LedgerError,
    PrivacyBudgetExhausted,
    Relation,
    ReservationError,
    Unit,
)
from homespun.privacy.ledger import Genesis, Head, Kind, Ledger, Reservation, SigningKey, read_receipt
from homespun.privacy.policy import Policy
from homespun.privacy.policy_check import Reason

__all__ = ["ACCOUNT", "ADAPTER_LEDGER", "Spending", "newest_ledger"]

LOG = logging.getLogger("homespun.client")
ACCOUNT = "device"  # one for everything that leaves, whatever the number of projects and runs
ADAPTER_LEDGER = "adapter.sqlite"
_EMPTY = Head(size=0, root=hashlib.sha256(b"").hexdigest())
_ASIDE = ".next.sqlite"


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

    @staticmethod
    def begin(folder: Path, name: str, key: SigningKey, policy: Policy) -> None:
        """Make the first ledger of a device."""
        Ledger.create(folder / "ledger-1.sqlite", key, _genesis(name, 1, policy)).close()

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
            newest = any(commitment(self._secret, place, head) == committed for head in self._adapter_heads())
        self.forked = self.forked or not newest

    def set_policy(self, policy: Policy) -> None:
        """Write down what the owner allows from now on."""
        cap = None if policy.cap is None else f"{policy.cap:.18f}"
        self._ledger.record("policy", {"policy": policy.to_dict(), "cap": cap})
        self._policy = policy

    def ask_witness(self) -> bool:
        """Compare with the head that the witness remembers; whether it could be asked."""
        witness, origin = self._witness, self._ledger.genesis.origin
        if witness is None:
            return False
        try:
            known = witness.latest(origin)
            if known is None:
                witness.enroll(origin, self._ledger.key)
                known = _EMPTY
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
        committed = commitment(self._secret, place_of(subject), next(self._adapter_heads()))
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
        old, cap = self._ledger, self._ledger.cap
        spent = max(self.spent, mark.spent if mark is not None else Decimal(0))
        if cap is not None:
            spent = max(self.spent, min(spent, cap) if self._knows_all(mark) else cap)
        number = max(epoch(old.genesis.origin), 0 if mark is None else epoch(mark.origin)) + 1
        for file in self.folder.glob(f"{_ASIDE}*"):
            file.unlink()
        head = old.head
        declared = {"continues": f"{old.genesis.origin} {head.size} {head.root}", "rounds": str(self._rounds)}
        genesis = _genesis(self._name, number, self._policy, declared)
        with Ledger.create(self.folder / _ASIDE, self.key, genesis) as begun:
            begun.record("acknowledge", {"incident": "ledger-forked", "spent_after": {ACCOUNT: f"{spent:.18f}"}})
        old.close()
        (self.folder / _ASIDE).rename(self.folder / f"ledger-{number}.sqlite")
        sync(self.folder)
        self._take(Ledger.open(newest_ledger(self.folder), self.key))
        self._witnessed, self.forked = None, False
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
        for entry in ledger.entries():
            if entry.kind is Kind.POLICY:
                policy = entry.body["policy"]
            elif entry.kind is Kind.RESERVE:
                self._rounds += 1
                self._last = entry.body["subject"]
        if policy is None:
            raise LedgerError(f"Expected the owner's policy in {ledger.path}; it is the ledger of something else.")
        self._policy = Policy.from_dict(policy)

    def _adapter_heads(self) -> Iterator[Head]:
        """Every head that the adapter's ledger has had, the newest first; the empty one where there is none."""
        path = self.folder / ADAPTER_LEDGER
        if path.is_file():
            with Ledger.open(path, None) as adapter:
                newest = adapter.head.size
                yield from (Head(size=n, root=adapter.root_at(n)) for n in range(newest, 0, -1))
        yield _EMPTY

    def _knows_all(self, mark: Mark | None) -> bool:
        """Whether the anchor's mark is the newest that the witness saw, so that what it says was spent is all."""
        if mark is None or self._witness is None:
            return mark is not None
        try:
            return self._witness.latest(mark.origin) == mark.witnessed
        except Exception as error:  # noqa: BLE001
            LOG.warning("the witness did not answer: %s", type(error).__name__)
            return False


def sync(folder: Path) -> None:
    """Make what was renamed in a folder last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def newest_ledger(folder: Path) -> Path:
    """The ledger of guarantee A that a device's folder goes on with; there is more than one after a fork.

    Raises:
        LedgerError: There is none.
    """
    ledgers = sorted(folder.glob("ledger-*.sqlite"), key=lambda path: int(path.stem.split("-")[1]))
    if not ledgers:
        raise LedgerError(f"Expected a ledger in {folder}; without it, nobody knows what was spent.")
    return ledgers[-1]


def _genesis(name: str, number: int, policy: Policy, declared: Mapping[str, str] | None = None) -> Genesis:
    return Genesis(
        origin=origin_of(name, number),
        guarantee="backbone",
        holder="device",
        unit=Unit.DEVICE,
        relation=Relation.ADD_OR_REMOVE,
        delta=policy.delta,
        cap=policy.cap,
        policy=policy.to_dict(),
        declared=declared or {},
        software={"homespun": importlib.metadata.version("homespun")},
    )
