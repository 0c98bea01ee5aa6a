"""What can go wrong with privacy, and nothing else.

::

    PrivacyError
    |-- PrivacyBudgetExhausted      a reservation would spend more than the plan allows
    |-- CohortTooSmall              fewer devices answered than the noise was sized for
    |-- AccountantsDisagree         the second accountant contradicts the claim
    |-- LatticeOverflow             no lattice holds the sum, or a sum had more devices than planned
    |-- NoiseStreamForked           a seeded stream was used in a forked process: its noise would repeat
    `-- LedgerError
        |-- LedgerBusy              another process is writing this ledger
        |-- LedgerDamaged           an entry was edited, dropped or moved, or does not follow from those before it
        |-- ReservationError        an entry out of order: reserved twice, or ended without a reservation
        |-- SignatureRefused        a signature is missing or false
        `-- HeadRefused             a head that is older than, or not a continuation of, one that is remembered

A bad argument is a ``ValueError`` of the standard library.

>>> try:
...     raise PrivacyBudgetExhausted("Expected spent=2 in [0, 1].")
... except PrivacyError as error:
...     print(error)
Expected spent=2 in [0, 1].
"""

__all__ = [
    "AccountantsDisagree",
    "CohortTooSmall",
    "HeadRefused",
    "LatticeOverflow",
    "LedgerBusy",
    "LedgerDamaged",
    "LedgerError",
    "NoiseStreamForked",
    "PrivacyBudgetExhausted",
    "PrivacyError",
    "ReservationError",
    "SignatureRefused",
]


class PrivacyError(Exception):
    """Base of every error of this package that is not a bad argument."""


class PrivacyBudgetExhausted(PrivacyError):
    """A reservation was refused because the composed spend would exceed the plan's. Nothing was written."""


class CohortTooSmall(PrivacyError):
    """A sum was not opened: fewer devices answered than the noise shares were sized for."""


class AccountantsDisagree(PrivacyError):
    """A plan was not built: the second accountant says more than the first one claims."""


class LatticeOverflow(PrivacyError, ValueError):
    """A plan or a sum was refused because a sum modulo 2^32 could wrap, or a noise share would be too coarse."""


class NoiseStreamForked(PrivacyError):
    """A seeded noise stream was used in a child process, where it would repeat the parent's noise."""


class LedgerError(PrivacyError):
    """Base of the ledger's errors."""


class LedgerBusy(LedgerError):
    """An entry was not written because another process held the ledger for too long."""


class LedgerDamaged(LedgerError):
    """A ledger was not opened because an entry was edited, dropped or moved, or is not an entry."""


class ReservationError(LedgerError):
    """An entry was refused because it does not follow from those before it. Nothing was written."""


class SignatureRefused(LedgerError):
    """A signature is missing, false, or by a key that may not sign here."""


class HeadRefused(LedgerError):
    """A witness did not countersign: it remembers a head that this one does not continue."""
