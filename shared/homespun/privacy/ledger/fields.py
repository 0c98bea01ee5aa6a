"""What may stand in a field of an entry: one question a field, whose docstring is the rule that an error names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from homespun.privacy.cost import whole_from_text
from homespun.privacy.ledger.keys import PublicKey

__all__ = ["FACTS", "SUBJECTS", "WORD", "check_subject"]

DIGEST = re.compile(r"[0-9a-f]{64}\Z")
WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_SHORT = re.compile(r"[ -~]{0,128}\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
LARGEST_NUMBER = 2**63 - 1

SUBJECTS = frozenset(
    {
        "project", "run", "round", "phase", "phase_round", "plan_sha256", "backbone_sha256", "policy_sha256",
        "request_sha256", "adapter_head", "block", "records", "trust", "population", "min_survivors", "software",
        "attempt", "colluding", "fault",
    }
)  # fmt: skip
"""What a reservation or a refusal may say it is about: public facts of the request, none of the data."""

FACTS = frozenset({"asked", "answered", "attempts", "dropped"})
"""Public counts that a commit may hold."""


def check_subject(subject: Mapping[str, Any]) -> None:
    """Refuse names that are not listed, and values that are no whole numbers or short strings.

    Raises:
        ValueError: see above.
    """
    for name, value in subject.items():
        if name not in SUBJECTS:
            raise ValueError(f"Expected a subject among {sorted(SUBJECTS)}, got {str(name)[:64]!r}.")
        if name.endswith("_sha256") or name == "adapter_head":
            if not digest(value):
                raise ValueError(f"Expected {name} as 64 lower-case hexadecimal digits.")
        elif not count(value) and not short(value):
            raise ValueError(f"Expected {name} as a whole number in [0, 2^63) or at most 128 printable characters.")


def count(value: object) -> bool:
    """a whole number in [0, 2^63)."""
    return type(value) is int and 0 <= value <= LARGEST_NUMBER


def digest(value: object) -> bool:
    """64 lower-case hexadecimal digits."""
    return isinstance(value, str) and DIGEST.match(value) is not None


def word(value: object) -> bool:
    """a lower-case word of at most 64 characters."""
    return isinstance(value, str) and WORD.match(value) is not None


def short(value: object) -> bool:
    """at most 128 printable characters."""
    return isinstance(value, str) and _SHORT.match(value) is not None


def text(value: object) -> bool:
    """a text of at most 4,000 characters."""
    return isinstance(value, str) and len(value) <= 4000


def time(value: object) -> bool:
    """UTC as YYYY-MM-DDTHH:MM:SSZ."""
    return isinstance(value, str) and _TIME.match(value) is not None


def mapping(value: object) -> bool:
    """a JSON object."""
    return isinstance(value, Mapping)


def mapping_or_none(value: object) -> bool:
    """a JSON object or null."""
    return value is None or isinstance(value, Mapping)


def cost(value: object) -> bool:
    """a decimal string with 18 decimals."""
    try:
        whole_from_text(value)
    except ValueError:
        return False
    return True


def cost_or_none(value: object) -> bool:
    """a decimal string with 18 decimals, or null."""
    return value is None or cost(value)


def costs(value: object) -> bool:
    """decimal strings with 18 decimals by account."""
    return isinstance(value, Mapping) and all(word(name) and cost(spent) for name, spent in value.items())


def subject(value: object) -> bool:
    """an object of listed names, whole numbers and short strings."""
    if not isinstance(value, Mapping):
        return False
    check_subject(value)
    return True


def facts(value: object) -> bool:
    """public counts by listed name."""
    return isinstance(value, Mapping) and value.keys() <= FACTS and all(count(number) for number in value.values())


def texts(value: object) -> bool:
    """texts of at most 4,000 characters by lower-case word."""
    return isinstance(value, Mapping) and all(word(name) and text(words) for name, words in value.items())


def real_or_none(value: object) -> bool:
    """a number as Python writes it, or null."""
    return value is None or real(value)


def real(value: object) -> bool:
    """a number as Python writes it."""
    try:
        return isinstance(value, str) and repr(float(value)) == value
    except ValueError:
        return False


def key(value: object) -> bool:
    """a C2SP verifier key."""
    if not isinstance(value, str):
        return False
    PublicKey.parse(value)
    return True
