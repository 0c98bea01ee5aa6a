"""The owner's policy: what a device takes part in, and how much of its privacy it may spend in its life.

A server sends a request, never a rule; `homespun.privacy.policy_check` compares the two. The owner writes TOML:

>>> policy = Policy.from_toml("min-cohort = 500")
>>> policy.min_cohort, round(policy.cap, 3), policy.adapter
(500, Decimal('1.052'), 'record:2')
>>> Policy.from_toml(policy.to_toml()) == policy == Policy.from_dict(policy.to_dict())
True
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Self

import tomli_w

from homespun.privacy.accountant import orders_for, to_epsilon
from homespun.privacy.terms import Trust

__all__ = ["Policy", "rho_cap"]

_GRID = 10**18  # rho is written with 18 decimals


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the owner of a device allows.

    Raises:
        ValueError: A value is outside its range.
    """

    paused: bool = False
    phases: tuple[str, ...] | None = None
    """Names of the releases to take part in; None for every phase that is installed."""
    trust: tuple[Trust, ...] = (Trust.DISTRIBUTED,)
    min_noise_multiplier: float = 1.0
    """Least noise of a round's sum over the clip bound. At 1, one round costs at most rho = 0.5."""
    min_cohort: int = 100
    """Least number of devices that a round's noise may be spread over (the release's ``min_survivors``)."""
    max_epsilon: float = 8.0
    """Most epsilon over the device's life, all projects and runs together; inf promises nothing."""
    delta: float = 1e-6
    max_local_epsilon: float = math.inf
    """Most epsilon that one round may cost if nobody else's noise counts; inf does not look. A share of the noise that
    a thousand devices make together hides next to nothing alone, so a finite cap here declines most rounds."""
    max_rounds: int = 1000
    witness_required: bool = True
    """Whether a contribution needs a witness that countersigns its reservation."""
    adapter: str = "record:2"
    """``record:E`` spends at most E on any one preference, ``exact`` protects the adapter by encryption alone."""

    def __post_init__(self) -> None:
        """Refuse what cannot be held."""
        for name in ("paused", "witness_required"):
            value = getattr(self, name)
            _require(isinstance(value, bool), f"Expected {_kebab(name)}={value!r} as true or false.")
        names = () if self.phases is None else self.phases
        _require(
            isinstance(names, tuple) and all(isinstance(name, str) and name for name in names),
            f"Expected phases={self.phases!r} as names of phases; leave it out for all that are installed.",
        )
        _require(
            isinstance(self.trust, tuple) and len(self.trust) >= 1 and all(isinstance(t, Trust) for t in self.trust),
            f"Expected trust={self.trust!r} as one or more of {', '.join(t.value for t in Trust)}.",
        )
        for name, low, high in (
            ("min_noise_multiplier", 0.0, math.inf),
            ("max_epsilon", 0.0, math.inf),
            ("max_local_epsilon", 0.0, math.inf),
        ):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            _require(number and low <= value <= high, f"Expected {_kebab(name)}={value!r} in [{low:g}, {high:g}].")
        _require(self.min_noise_multiplier < math.inf, "Expected min-noise-multiplier in [0, inf).")
        _require(isinstance(self.delta, float) and 0.0 < self.delta < 1.0, f"Expected delta={self.delta!r} in (0, 1).")
        for name in ("min_cohort", "max_rounds"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            _require(whole and 1 <= value < 2**31, f"Expected {_kebab(name)}={value!r} in [1, 2^31).")
        _adapter_epsilon(self.adapter)

    @property
    def cap(self) -> Decimal | None:
        """The most rho that the device may spend in its life, 18 decimals; None where nothing is promised."""
        return None if math.isinf(self.max_epsilon) else rho_cap(float(self.max_epsilon), self.delta)

    @property
    def adapter_epsilon(self) -> float | None:
        """Epsilon that any one preference may cost through the adapter; None for the exact adapter."""
        return _adapter_epsilon(self.adapter)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without floats: numbers that are not whole are decimal strings that read back exactly."""
        content: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            content[field.name] = repr(float(value)) if field.name in _REAL else value
        content["phases"] = None if self.phases is None else list(self.phases)
        content["trust"] = [trust.value for trust in self.trust]
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ValueError: A field is missing, unknown or out of range.
        """
        expected = {field.name for field in dataclasses.fields(cls)}
        _require(
            set(content) == expected, f"Expected the fields of a Policy: {sorted(expected ^ set(content))} differ."
        )
        return cls._read({name: float(value) if name in _REAL else value for name, value in content.items()})

    def to_toml(self) -> str:
        """The owner's file, kebab-case; phases are left out where all that are installed are allowed."""
        content = self.to_dict() | {name: float(getattr(self, name)) for name in _REAL}
        return tomli_w.dumps({_kebab(name): value for name, value in content.items() if value is not None})

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read the owner's file; what is left out takes its default.

        Raises:
            ValueError: It is no TOML, or a name is unknown, or a value is out of range.
        """
        known = {_kebab(field.name): field.name for field in dataclasses.fields(cls)}
        found = tomllib.loads(text)
        unknown = sorted(set(found) - set(known))
        _require(not unknown, f"Expected known names in the policy, got {', '.join(unknown)}.")
        content = {known[name]: value for name, value in found.items()}
        for name in _REAL & set(content):
            if isinstance(content[name], int) and not isinstance(content[name], bool):
                content[name] = float(content[name])
        return cls._read(content)

    @classmethod
    def _read(cls, content: Mapping[str, Any]) -> Self:
        values = dict(content)
        if isinstance(values.get("phases"), list):
            values["phases"] = tuple(values["phases"])
        if "trust" in values:
            _require(isinstance(values["trust"], list), f"Expected trust={values['trust']!r} as a list.")
            values["trust"] = tuple(Trust(word) for word in values["trust"])
        return cls(**values)


_REAL = {"min_noise_multiplier", "max_epsilon", "delta", "max_local_epsilon"}


@lru_cache(maxsize=64)
def rho_cap(epsilon: float, delta: float) -> Decimal:
    """The largest rho of 18 decimals whose (epsilon, delta) on the accountant's grid of orders is at most ``epsilon``.

    >>> rho_cap(8.0, 1e-6), rho_cap(0.0, 1e-6)
    (Decimal('1.052357629878249434'), Decimal('0E-18'))

    Args:
        epsilon: Finite, at least 0.
        delta: In (0, 1).
    Source:
        Zero-concentrated differential privacy, Bun and Steinke 2016 (arXiv:1605.02635): rho is RDP(a) = rho a.
    """
    orders = orders_for(())

    def within(whole: int) -> bool:
        return whole == 0 or to_epsilon(orders, orders * (whole / _GRID), delta=delta).epsilon <= epsilon

    low, high = 0, _GRID
    while within(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return Decimal(low).scaleb(-18)


def _adapter_epsilon(adapter: object) -> float | None:
    if adapter == "exact":
        return None
    kind, _, number = adapter.partition(":") if isinstance(adapter, str) else ("", "", "")
    try:
        epsilon = float(number) if kind == "record" else math.nan
    except ValueError:
        epsilon = math.nan
    _require(0.0 < epsilon < math.inf, f"Expected adapter={adapter!r} as 'exact' or 'record:E', E > 0.")
    return epsilon


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)
