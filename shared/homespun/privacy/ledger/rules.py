"""Which entry may follow which: the one set of rules that admits a new entry and checks an old one.

Nothing here touches a file, a key or a clock. `State.admit` says whether an entry may come next and changes nothing;
`State.take` takes it in.

Guarantees:
    * spent rises at a reservation, or where an owner acknowledges that more was spent; it never falls.
    * never above the cap: the comparison is in whole numbers of 10^-18.
    * ends once: each reservation ends in at most one commit or burn.
    * paid once: one place (account, project, run, round, block, attempt) is not reserved again unless it was burned.
    * the cost is the event's: nobody can write another one beside it.
    * the plan's events only, where the genesis holds a plan.
    * opened by its reservation: a masked sum is opened for an open reservation of a server, each attempt once and in
      rising order, and from no fewer devices than the plan allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from homespun.privacy.accountant import GaussianEvent
from homespun.privacy.calibration import release_event
from homespun.privacy.cost import agrees, cost_text, whole_cost, whole_from_decimal, whole_from_text
from homespun.privacy.errors import LedgerDamaged, PrivacyBudgetExhausted, ReservationError
from homespun.privacy.ledger.entries import Entry, Kind, event_to_body
from homespun.privacy.ledger.fields import WORD, check_subject
from homespun.privacy.ledger.genesis import Genesis
from homespun.privacy.ledger.keys import PublicKey

__all__ = ["Account", "Reservation", "State"]


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """A spend that was written down."""

    seq: int
    """Place of its entry, and its number."""
    account: str
    event: GaussianEvent | None
    """None: no noise, so nothing is promised."""
    rho: Decimal | None
    """Its cost; None where there is no noise."""
    subject: Mapping[str, Any]
    attempts: int = 0
    """The lowest attempt of which no masked sum was opened, nor of any after it."""


@dataclass
class Account:
    """What one account has paid."""

    spent: int = 0
    """In 10^-18 of rho."""
    acknowledged: int = 0
    """The part of it that an owner acknowledged without events to show for it."""
    events: list[GaussianEvent] = field(default_factory=list)
    silent: int = 0
    """Number of releases without noise."""


class State:
    """What the entries so far say. Mutable: it grows by one entry at a time.

    Args:
        entry: The genesis.
    Raises:
        ValueError: it is not a genesis.
    """

    def __init__(self, entry: Entry) -> None:
        """Begin with the first entry."""
        if entry.kind is not Kind.GENESIS or entry.seq != 0 or entry.prev != "0" * 64:
            raise LedgerDamaged("Expected a genesis as the first entry.")
        self.genesis = Genesis.from_body(entry.origin, entry.body)
        self.keys = [PublicKey.parse(entry.body["key"])]
        """Every key that ever signed; the last one signs now."""
        self.cap = None if self.genesis.cap is None else whole_from_decimal(self.genesis.cap)
        """Most that an account may spend now, in 10^-18 of rho."""
        self.accounts: dict[str, Account] = {}
        self.open: dict[int, Reservation] = {}
        self._places: dict[tuple[object, ...], int] = {}

    def spent(self, account: str) -> int:
        """What an account has spent, in 10^-18 of rho."""
        return self.accounts[account].spent if account in self.accounts else 0

    def reserve(
        self, account: str, event: GaussianEvent | None, subject: Mapping[str, Any], *, written: str | None = None
    ) -> dict[str, Any]:
        """Return the body of the one reservation that may follow.

        Args:
            account: Who pays, a lower-case word.
            event: What will be released; None without noise.
            subject: What it is about.
            written: The cost as it already stands in an entry, where one is checked.
        Raises:
            PrivacyBudgetExhausted: the account would spend more than the cap, or nothing limits the spend.
            ReservationError: the place is taken, or the event is not the plan's.
            ValueError: a word, a name or a value that cannot stand in an entry.
        """
        if written is None:  # else it was checked when the entry was read
            if not WORD.match(account):
                raise ValueError(f"Expected account={account[:64]!r} as a lower-case word of at most 64 characters.")
            check_subject(subject)
        place = _place(account, subject)
        if place in self._places:
            raise ReservationError(f"Expected {_where(account, subject)} to be reserved once; a burn frees it.")
        self._require_planned(event, subject)
        spent, rho = self.spent(account), 0
        if event is None:
            if self.cap is not None:
                raise PrivacyBudgetExhausted(
                    f"Expected noise in {_where(account, subject)}: without, it would spend more than any cap."
                )
        else:
            order = self.genesis.order
            rho = whole_cost(event, order) if written is None else whole_from_text(written)
            if written is not None and not agrees(event, order, rho):
                raise ReservationError(
                    f"Expected rho={cost_text(whole_cost(event, order))} for its event, not {written}."
                )
        if self.cap is not None and spent + rho > self.cap:
            raise PrivacyBudgetExhausted(
                f"Expected spent={cost_text(spent + rho)} in [0, {cost_text(self.cap)}] (rho) in account {account}."
            )
        return {
            "account": account,
            "event": None if event is None else event_to_body(event, self.genesis.unit, self.genesis.relation),
            "rho": None if event is None else cost_text(rho),
            "spent_after": cost_text(spent + rho),
            "cap": None if self.cap is None else cost_text(self.cap),
            "subject": dict(subject),
        }

    def admit(self, entry: Entry) -> None:
        """Return if the entry may come next; its place in the chain is for the reader of the lines.

        Raises:
            PrivacyBudgetExhausted, ReservationError, LedgerDamaged, ValueError: it may not.
        """
        body = entry.body
        if entry.kind is Kind.GENESIS:
            raise LedgerDamaged("Expected one genesis.")
        if entry.kind is Kind.RESERVE:
            if self.reserve(body["account"], entry.event, body["subject"], written=body["rho"]) != body:
                raise ReservationError(
                    "Expected spent_after, cap, unit and relation as they follow from what stands before."
                )
        elif entry.kind in (Kind.COMMIT, Kind.BURN):
            if body["reservation"] not in self.open:
                raise ReservationError(
                    f"Expected an open reservation {body['reservation']} before its {entry.kind.value}."
                )
        elif entry.kind is Kind.POLICY:
            if self.genesis.holder != "device":
                raise ReservationError("Expected no policy in a server's ledger: its cap is that of its plan.")
        elif entry.kind is Kind.KEY_ROTATE:
            if any(key.text == body["key"] for key in self.keys):
                raise ReservationError("Expected a key that did not sign this ledger before.")
        elif entry.kind is Kind.ACKNOWLEDGE:
            self._require_raised(body["spent_after"])
        elif entry.kind is Kind.OPEN:
            self._require_openable(body)

    def take(self, entry: Entry) -> None:
        """Take in an entry that `admit` let pass."""
        body = entry.body
        if entry.kind is Kind.RESERVE:
            self._take_reservation(entry)
        elif entry.kind is Kind.COMMIT:
            del self.open[body["reservation"]]
        elif entry.kind is Kind.BURN:
            burned = self.open.pop(body["reservation"])
            del self._places[_place(burned.account, burned.subject)]
        elif entry.kind is Kind.OPEN:
            opened = self.open[body["reservation"]]
            self.open[opened.seq] = replace(opened, attempts=body["attempt"] + 1)
        elif entry.kind is Kind.POLICY:
            self.cap = None if body["cap"] is None else whole_from_text(body["cap"])
        elif entry.kind is Kind.KEY_ROTATE:
            self.keys.append(PublicKey.parse(body["key"]))
        elif entry.kind is Kind.ACKNOWLEDGE:
            for name, text in body["spent_after"].items():
                account, spent = self.accounts.setdefault(name, Account()), whole_from_text(text)
                account.acknowledged += spent - account.spent
                account.spent = spent

    def _take_reservation(self, entry: Entry) -> None:
        body, event = entry.body, entry.event
        account = self.accounts.setdefault(body["account"], Account())
        account.spent = whole_from_text(body["spent_after"])
        if event is None:
            account.silent += 1
        else:
            account.events.append(event)
        rho = None if body["rho"] is None else Decimal(body["rho"])
        self.open[entry.seq] = Reservation(
            seq=entry.seq, account=body["account"], event=event, rho=rho, subject=body["subject"]
        )
        self._places[_place(body["account"], body["subject"])] = entry.seq

    def _require_planned(self, event: GaussianEvent | None, subject: Mapping[str, Any]) -> None:
        plan = self.genesis.plan
        if plan is None:
            return
        phase = subject.get("phase")
        for release in plan.releases:
            if release.name == phase:
                planned = release_event(release, count=1) if release.variance > 0 else None
                if event != planned:
                    raise ReservationError(f"Expected the event of phase={phase!r} as the plan has it.")
                return
        raise ReservationError(f"Expected phase={phase!r} among {[release.name for release in plan.releases]}.")

    def _require_openable(self, body: Mapping[str, Any]) -> None:
        if self.genesis.holder != "server":
            raise ReservationError("Expected no open in a device's ledger: a device opens no sum.")
        reservation = self.open.get(body["reservation"])
        if reservation is None:
            raise ReservationError(f"Expected an open reservation {body['reservation']} before its open.")
        if body["attempt"] < reservation.attempts:
            raise ReservationError(
                f"Expected attempt={body['attempt']} in [{reservation.attempts}, inf): no attempt is opened twice."
            )
        for release in () if self.genesis.plan is None else self.genesis.plan.releases:
            within = release.fewest <= body["survivors"] <= release.population
            if release.name == reservation.subject.get("phase") and not within:
                raise ReservationError(
                    f"Expected survivors={body['survivors']} in [{release.fewest}, {release.population}], as planned."
                )

    def _require_raised(self, spent_after: Mapping[str, str]) -> None:
        for name, text in spent_after.items():
            spent, now = whole_from_text(text), self.spent(name)
            if spent < now:
                raise ReservationError(f"Expected spent={text} in [{cost_text(now)}, inf) (rho): spent never falls.")
            if self.cap is not None and spent > max(now, self.cap):
                raise ReservationError(f"Expected spent={text} in [0, {cost_text(self.cap)}] (rho), the cap.")


_PLACE = ("project", "run", "round", "block", "attempt")


def _place(account: str, subject: Mapping[str, Any]) -> tuple[object, ...]:
    # a place that names no attempt is its first: else the same round could be paid for, and answered, twice
    return account, *(subject.get(name) for name in ("project", "run", "round", "block")), subject.get("attempt", 0)


def _where(account: str, subject: Mapping[str, Any]) -> str:
    named = [f"{name}={subject[name]}" for name in _PLACE if name in subject]
    return " ".join([f"account={account}", *named])
