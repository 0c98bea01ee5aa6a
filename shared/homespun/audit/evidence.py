"""What an audit found, as evidence that a stranger can compute again from coins and scores.

``RUN/audit/evidence.json`` holds audits (`Audit.to_dict`) and attacks (`Attack.to_dict`); its SHA-256 stands in the
run's ledger, the commitment to the coins in an entry before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homespun.audit.bounds import (
    Game,
    Interval,
    epsilon_of,
    fdp_mu,
    gaussian_interval,
    mu_of,
    snj_epsilon,
)
from homespun.audit.checks import Check, Observation, check_all
from homespun.audit.game import Coins

__all__ = ["Attack", "Audit", "Bounds", "assess", "problems"]

BOUNDS = 2  # rigorous ones an audit: each gets half of what may be wrong
ESTIMATE_CONFIDENCE = 0.99  # of each side of the interval; it warns, and may do so wrongly in one audit of a hundred
CONTROL_CONFIDENCE = 0.999  # scores of the control know nothing, so its bounds are zero nearly always
SCORE_DIGITS = 6  # in units of the mean distance between in and out


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Lower bounds from one game. With `Audit.confidence` they hold together."""

    snj: float
    """Epsilon; for any mechanism."""
    fdp_mu: float
    """mu, for the family of Gaussians."""
    fdp: float
    """The epsilon of that mu at the claim's delta."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """One guessing game against one claim."""

    kind: str
    title: str
    claim_epsilon: float
    claim_mu: float | None
    """mu of the noise that the plan promises; None where it is no Gaussian."""
    delta: float
    confidence: float
    """Of all bounds together."""
    guesses: int
    coins: Coins = field(repr=False)
    scores: NDArray[np.float64] = field(repr=False)
    control_scores: NDArray[np.float64] = field(repr=False)
    """Of the same path with every canary left out."""
    checks: tuple[Check, ...]

    @property
    def canaries(self) -> int:
        """m."""
        return len(self.scores)

    @property
    def bounds(self) -> Bounds:
        """What the game proves."""
        return _bounds(self.coins.values, self.scores, self.guesses, self.delta, 1 - (1 - self.confidence) / BOUNDS)

    @property
    def control(self) -> Bounds:
        """What the game would prove had no canary been in: nothing, or the auditor is broken."""
        return _bounds(self.coins.values, self.control_scores, self.guesses, self.delta, CONTROL_CONFIDENCE)

    @property
    def estimate(self) -> Interval:
        """Near tight estimate of epsilon by normal scores; never a bound."""
        mu = self._estimate_mu
        return Interval(**{name: epsilon_of(value, delta=self.delta) for name, value in vars(mu).items()})

    @property
    def beaten(self) -> tuple[str, ...]:
        """Rigorous bounds above the claim."""
        bounds, found = self.bounds, []
        if bounds.snj > self.claim_epsilon:
            found.append("snj")
        if self.claim_mu is not None and bounds.fdp_mu > self.claim_mu:
            found.append("fdp")
        return tuple(found)

    @property
    def failed(self) -> tuple[str, ...]:
        """Everything that a correct build passes in 95 of 100 audits and that this one did not, bounds included."""
        found = list(self.beaten)
        claimed = mu_of(self.claim_epsilon, delta=self.delta) if self.claim_mu is None else self.claim_mu
        if self._estimate_mu.low > claimed:
            found.append("gauss")
        if max(self.control.snj, self.control.fdp) > 0.0:
            found.append("control")
        return (*found, *(check.name for check in self.checks if not check.passed))

    @property
    def _estimate_mu(self) -> Interval:
        return gaussian_interval(self.coins.values, self.scores, confidence=ESTIMATE_CONFIDENCE)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; infinities become None."""
        return {
            "kind": self.kind,
            "title": self.title,
            "claim_epsilon": self.claim_epsilon,
            "claim_mu": self.claim_mu,
            "delta": self.delta,
            "confidence": self.confidence,
            "canaries": self.canaries,
            "guesses": self.guesses,
            "bounds": _finite(asdict(self.bounds)),
            "control": _finite(asdict(self.control)),
            "estimates": {"gauss": _finite(asdict(self.estimate))},
            "checks": [{**_finite(asdict(check)), "passed": check.passed} for check in self.checks],
            "beaten": list(self.beaten),
            "failed": list(self.failed),
            "commitment": self.coins.commitment,
            "salt": self.coins.salt.hex(),
            "coins": self.coins.text,
            "scores": self.scores.tolist(),
            "control_scores": self.control_scores.tolist(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Audit:
        """Read what `to_dict` wrote; whatever follows from coins and scores is computed anew.

        Raises:
            ValueError: a field is missing or of another kind.
        """
        try:
            plain = ("kind", "title", "claim_epsilon", "claim_mu", "delta", "confidence", "guesses")
            return cls(
                **{name: content[name] for name in plain},
                coins=Coins(
                    values=np.array([{"0": False, "1": True}[value] for value in content["coins"]], dtype=np.bool_),
                    salt=bytes.fromhex(content["salt"]),
                ),
                scores=np.array(content["scores"], dtype=np.float64),
                control_scores=np.array(content["control_scores"], dtype=np.float64),
                checks=tuple(
                    Check(
                        name=row["name"],
                        value=row["value"],
                        low=row["low"],
                        high=math.inf if row["high"] is None else row["high"],
                    )
                    for row in content["checks"]
                ),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                "Expected an audit as homespun writes it; a field is missing or of another kind."
            ) from error


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack, beside its control and what no attack can exceed under the claim."""

    name: str
    title: str
    metric: str
    figure: Interval
    control: Interval
    bound: float | None
    """Largest value of the metric that the claim allows; None where the claim says nothing about it."""
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "figure": _finite(asdict(self.figure)), "control": _finite(asdict(self.control))}


def assess(
    *,
    kind: str,
    title: str,
    claim_epsilon: float,
    claim_mu: float | None,
    delta: float,
    confidence: float,
    guesses: int,
    coins: Coins,
    scores: NDArray[np.float64],
    control: NDArray[np.float64],
    observations: list[Observation],
) -> Audit:
    """Put an audit together; scores are rounded first, so that whoever reads them computes the same bounds."""
    return Audit(
        kind=kind,
        title=title,
        claim_epsilon=claim_epsilon,
        claim_mu=claim_mu,
        delta=delta,
        confidence=confidence,
        guesses=guesses,
        coins=coins,
        scores=np.round(scores, SCORE_DIGITS),
        control_scores=np.round(control, SCORE_DIGITS),
        checks=check_all(observations),
    )


def problems(content: Mapping[str, Any]) -> tuple[str, ...]:
    """What is wrong with an audit in ``evidence.json``: everything that does not follow from its coins and scores.

    Args:
        content: One entry of ``audits``.
    Returns:
        One sentence each; empty where every figure can be computed again.
    """
    try:
        audit = Audit.from_dict(content)
        again = audit.to_dict()
    except (ValueError, TypeError, ArithmeticError):  # a stranger may have put anything in any place
        return ("Expected an audit as homespun writes it; a field is missing, out of range or of another kind.",)
    found = [
        f"Expected {name} as computed from coins and scores." for name in again if again[name] != content.get(name)
    ]
    found += [f"Expected no field {name}." for name in content if name not in again]
    return tuple(found)


def _bounds(coins: NDArray[np.bool_], scores: NDArray[np.float64], guesses: int, delta: float, each: float) -> Bounds:
    game = Game(coins=coins, scores=scores, guesses=guesses)
    mu = fdp_mu(game, confidence=each)
    return Bounds(snj=snj_epsilon(game, delta=delta, confidence=each), fdp_mu=mu, fdp=epsilon_of(mu, delta=delta))


def _finite(content: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}
