"""What can go wrong with a masked sum: a message is refused, or a session is over.

::

    SecAggError
    |-- Refused      one message was not taken: nothing changed, the machine goes on as if it had never come
    `-- Aborted      the sum cannot be opened: the session is over, the next attempt starts with new keys

Both name a `Fault`, a public word about the message and never about what it holds, so that it may be logged.

>>> try:
...     raise Refused(Fault.TOO_FEW, "Expected survivors=2 in [3, 5].")
... except SecAggError as error:
...     print(error.fault.value, error)
too-few Expected survivors=2 in [3, 5].
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Aborted", "Fault", "Refused", "SecAggError", "Stage"]


class Stage(Enum):
    """Step that a machine is at, in the order in which they come."""

    ADVERTISE = "advertise"
    """Keys are announced."""

    SHARE = "share"
    """Secrets are split among neighbours."""

    MASK = "mask"
    """Masked vectors are added up."""

    CONSENT = "consent"
    """The committee signs who survived."""

    REVEAL = "reveal"
    """Shares that remove the masks are handed over."""

    DONE = "done"
    """The sum was opened, or the session was given up."""


class Fault(Enum):
    """Why a message was refused or a session ended; the value is a word for logs and ledgers."""

    MALFORMED = "malformed"
    """Wrong type, length or order: nobody who follows the protocol sends this."""

    WRONG_STAGE = "wrong-stage"
    """Too early, too late, or a second time."""

    UNKNOWN_PARTY = "unknown-party"
    """An index or a key that has no place here."""

    WRONG_SENDER = "wrong-sender"
    """A party speaks for another."""

    NOT_ADDRESSED = "not-addressed"
    """Meant for somebody else, or sent to the wrong ones."""

    DUPLICATE = "duplicate"
    """The same party twice."""

    BAD_SIGNATURE = "bad-signature"
    """A signature does not hold under the key on the roster."""

    OWN_ADVERT_CHANGED = "own-advert-changed"
    """The party's own keys are missing from the adverts, or are not those that it sent."""

    KEY_REUSED = "key-reused"
    """One public key or commitment in two places."""

    WEAK_KEY = "weak-key"
    """A public key with which everybody agrees on the same secret."""

    TOO_FEW = "too-few"
    """Fewer parties or shares than the terms ask for."""

    OUT_OF_RANGE = "out-of-range"
    """A vector of another type or length."""

    NOT_A_SUBSET = "not-a-subset"
    """A survivor that never advertised, or a neighbour that never shared."""

    NOT_IN_LIST = "not-in-list"
    """A party is asked about survivors of which it is none."""

    LIST_CHANGED = "list-changed"
    """Another list of survivors than the one that was signed."""

    NO_QUORUM = "no-quorum"
    """Too few of the committee signed the list."""

    BAD_SHARE = "bad-share"
    """A share of the wrong kind: its holder would give away both."""

    BAD_DEALER = "bad-dealer"
    """A party's shares do not add up to the secret that it announced."""

    TERMS_UNSOUND = "terms-unsound"
    """Terms under which a server could learn more than one sum of enough vectors."""


class SecAggError(Exception):
    """Base of every error of this package that is not a bad argument of its caller.

    Args:
        fault: What is wrong, in one word.
        text: The rule that was broken; no key, seed, share or vector in it.
    """

    def __init__(self, fault: Fault, text: str) -> None:
        """Keep the word beside the text."""
        super().__init__(text)
        self.fault = fault


class Refused(SecAggError):
    """A message was not taken. The machine is as it was before."""


class Aborted(SecAggError):
    """The sum cannot be opened. The machine is done and its secrets are gone.

    Args:
        fault: What is wrong, in one word.
        text: The rule that was broken.
        stage: Where it happened.
        party: Index of the party that is to blame, if one is.
    """

    def __init__(self, fault: Fault, text: str, *, stage: Stage, party: int | None = None) -> None:
        """Keep place and blame beside the text."""
        super().__init__(fault, text)
        self.stage = stage
        self.party = party
