"""The ledger: every spend of privacy signed and on disk before it happens, and checked by anybody afterwards.

`Ledger` writes one (device or server), `check` reads an export of one without any private key, a `Witness` remembers how
long it was. Rules, formats and limits are in ``docs/design/09-ledger.md``.
"""

from homespun.privacy.cost import event_cost
from homespun.privacy.ledger.check import Checked, Problem, check
from homespun.privacy.ledger.entries import Entry, Kind
from homespun.privacy.ledger.fields import FACTS, SUBJECTS
from homespun.privacy.ledger.genesis import Genesis
from homespun.privacy.ledger.keys import KeyRole, PublicKey, SigningKey
from homespun.privacy.ledger.log import Ledger
from homespun.privacy.ledger.note import Head, countersign, parse_checkpoint, parse_note, read_checkpoint, read_receipt
from homespun.privacy.ledger.rules import Account, Reservation
from homespun.privacy.ledger.store import CHECKPOINT_NAME, EXPORT_NAME, LEDGER_NAME
from homespun.privacy.ledger.witness import Witness, verify_consistency

__all__ = [
    "CHECKPOINT_NAME",
    "EXPORT_NAME",
    "FACTS",
    "LEDGER_NAME",
    "SUBJECTS",
    "Account",
    "Checked",
    "Entry",
    "Genesis",
    "Head",
    "KeyRole",
    "Kind",
    "Ledger",
    "Problem",
    "PublicKey",
    "Reservation",
    "SigningKey",
    "Witness",
    "check",
    "countersign",
    "event_cost",
    "parse_checkpoint",
    "parse_note",
    "read_checkpoint",
    "read_receipt",
    "verify_consistency",
]
