"""A run in plain words: what was gained, what is claimed about privacy, and what is not.

The rules: unit, adversary and window stand in the sentence that holds an epsilon; odds come from the trade-off curve;
nobody is called unidentifiable; what the numbers do not show is not said.

>>> round(trade_off(mu=1.0, false_alarms=0.01), 4)
0.0924
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

from homespun.simulations.recorded import headline_shots

__all__ = [
    "adapter_claim",
    "claim",
    "clause",
    "cohorts",
    "composed_mu",
    "headline",
    "limits",
    "masking",
    "odds",
    "short",
    "trade_off",
]

_NORMAL = NormalDist()
_TRUST = {
    "protocol": "each device adds its share of the noise and masks its vector, so that a server with bounded computing power"
    + " learns the sum and nothing else about it",
    "cells": "each device adds its share of the noise and the server sees only sums; in this run, cells of simulated people"
    + " stand for the secure aggregation that makes it so",
    "none": "the server is trusted with each clipped message and adds the noise itself",
}
"""By what became of single vectors, see `masking`."""

_NEVER_CLAIMED = (
    "That a device took part is not hidden from the server that talks to it: the claim covers what it contributed.",
    "The accuracies are measured on the labels of simulated people, in the clear; a deployed server has none of them.",
    "What people show to others is outside the claim, the texts that their own model picks included; so is an unlocked "
    + "device in other hands.",
    "Choosing settings by comparing runs on real people costs privacy as well; it is not counted here.",
    "An upper bound that was computed says nothing about bugs in the program: attacks and audits look for those.",
)


def trade_off(*, mu: float, false_alarms: float) -> float:
    """Largest share of the true cases found by any test with this share of false alarms, under mu-GDP.

    Source: Phi(Phi^-1(x) + mu), Dong, Roth and Su 2019, arXiv:1905.02383, equation 6.
    """
    return _NORMAL.cdf(_NORMAL.inv_cdf(false_alarms) + mu)


def composed_mu(phases: Sequence[Mapping[str, Any]]) -> float | None:
    """mu of all rounds together: mu^2 = sum of rounds / noise_multiplier^2; None if a phase added no noise.

    Exact for Gaussian noise; for the discrete Gaussian on a fine lattice the difference is far below what is shown.
    Sampling is not counted, so that the odds hold against someone who knows who took part.
    """
    total = 0.0
    for phase in phases:
        sigma = phase.get("noise_multiplier")
        if not sigma or not math.isfinite(sigma):
            return None
        total += phase["rounds"] / sigma**2
    return math.sqrt(total) if total > 0 else None


def headline(summary: Mapping[str, Any]) -> list[str]:
    """What was gained, of 100 choices and of 100 people; says plainly if nothing was."""
    shots = headline_shots(summary)
    cell = (summary.get("accuracy") or {}).get(shots) or {}
    personal, average = cell.get("personal"), cell.get("global")
    if not personal or not average:
        return ["This run measured no accuracy."]
    trained = "personal model" if summary.get("epsilon") is not None else "personal model, trained without privacy,"
    given = (
        f"After {shots} labels from a person it has never seen" if shots != "0" else "For a person it has never seen"
    )
    right, usual = _of_100(personal["mean"]), _of_100(average["mean"])
    first = f"{given}, the {trained} puts the text that this person prefers first in {right} of 100 choices; the global model, "
    sentences = [first + f"the same for everybody, in {usual} of 100."]
    gain = ((summary.get("gain") or {}).get(shots) or {}).get("personal")
    if gain:
        bounds = f"{_points(gain['mean'])} points, 95 % interval {_points(gain['low'])} to {_points(gain['high'])}"
        if gain["low"] > 0:
            sentences.append(f"That is a gain of {bounds}.".replace("+", ""))
        elif gain["high"] < 0:
            sentences.append(f"That is a loss ({bounds}): on average people are better served by the global model.")
        else:
            sentences.append(f"The difference ({bounds}) cannot be told from none.")
    row = _asked(summary)
    if row is not None and row in cell:
        sentences.append(
            f"That is with an exact adapter, for its owner's eyes; with one that protects each single label, as this "
            f"run claims ({summary['adapter_privacy']['mode']}), it is {_of_100(cell[row]['mean'])} of 100."
        )
    harm = ((summary.get("harm") or {}).get(shots) or {}).get("personal")
    if harm:
        better, worse = _people(harm["improved"]), _people(harm["harmed"])
        sentences.append(
            f"Of 100 people {better} are clearly better served by it and {worse} clearly worse; for the others the test, "
            "which has only so many of their labels, cannot tell."
        )
    return sentences


def claim(summary: Mapping[str, Any]) -> str:
    """The privacy claim in one sentence, with unit, adversary, window, epsilon, delta, relation and sampling."""
    unit = summary.get("privacy_unit", "device")
    if summary.get("epsilon") is None:
        reason = summary.get("epsilon_reason")
        return (
            f"This run claims no privacy (epsilon = infinity{f': {reason}' if reason else ''}); its backbone may reveal \
what a single {unit} holds."
        )
    trust = str(summary.get("trust", "central"))
    sampling = clause(str(summary.get("sampling", "none")))
    # The server of a sampled cohort knows who was drawn: what sampling amplifies does not hold against it.
    secret_from_server = trust == "distributed" and "poisson" not in sampling.lower()
    whom = "the server and anyone" if secret_from_server else "anyone other than the server"
    return (
        f"Against {whom} who sees every backbone this training releases, over all {summary.get('rounds', '?')} rounds of it, "
        f"whatever one {unit} contributed changes the chances of any outcome by at most epsilon = "
        f"{short(summary['epsilon'])} at delta = {short(summary['delta'])} ({summary.get('neighboring_relation', 'add-or-remove')} "
        f"of one {unit}; sampling: {sampling}; {_TRUST[masking(summary)]}{_allowing(summary)})."
    )


def masking(summary: Mapping[str, Any]) -> str:
    """What kept single vectors from the server: the ``protocol``, ``cells`` that stand for it, or ``none``."""
    if summary.get("trust", "central") != "distributed":
        return "none"
    return "protocol" if summary.get("engine") == "faithful" else "cells"


def _allowing(summary: Mapping[str, Any]) -> str:
    """Who may collude and who may be missing, where the noise was sized for it."""
    colluding, population = summary.get("colluding") or 0, summary.get("population")
    if summary.get("trust") != "distributed":
        return ""
    return (
        f"; it holds if at most {colluding} of {population} devices collude with the server"
        if colluding
        else "; it assumes that no device colludes with the server"
    )


def adapter_claim(summary: Mapping[str, Any]) -> str | None:
    """The claim about adapters in one sentence; None where they are exact and nothing is claimed."""
    adapter = summary.get("adapter_privacy") or {}
    if adapter.get("epsilon") is None:
        return None
    unit = adapter["privacy_unit"]
    return (
        f"Adapters have a claim of their own, which is never added to that of the backbone. Against anyone who sees a person's "
        f"adapter at any time, and all that is made of it, whatever one {unit} (one label that this person gave) says changes "
        f"the chances of any outcome by at most epsilon = {short(adapter['epsilon'])} at delta = {short(adapter['delta'])} "
        f"({adapter['neighboring_relation']} of one {unit}: it counts, or its place is blank; each {unit} is released once in "
        f"its life). What many labels say together is not hidden: {clause(adapter['public'])}."
    )


def odds(summary: Mapping[str, Any]) -> str | None:
    """The claim as odds, from the trade-off curve; None without privacy."""
    mu = composed_mu(summary.get("phases") or ())
    if summary.get("epsilon") is None or mu is None:
        return None
    most = math.ceil(100 * trade_off(mu=mu, false_alarms=0.01))
    return (
        f"In odds: suppose someone tries to tell from the backbone which {summary.get('privacy_unit', 'device')}s are in it. "
        f"Someone allowed 1 false alarm in 100 finds at most {most} of 100 that are; pure guessing finds 1. "
        f"(Gaussian trade-off curve, mu = {mu:.3g}, all rounds together, sampling not counted.)"
    )


def cohorts(summary: Mapping[str, Any]) -> str:
    """Who was asked, who was in the sums, and from how many people a sum is opened, in one sentence."""
    survivors = summary.get("survivors") or {}
    fewest = (summary.get("min_survivors") or 0) + (summary.get("colluding") or 0)
    told = f"sums are divided by the public number {summary.get('population', 0):,}; "
    if "poisson" in str(summary.get("sampling", "")).lower():
        return told + "the size of a cohort is a secret, and any is opened"
    told += f"none is opened from fewer than {fewest:,} people"
    if not survivors:
        return told
    least, mean, asked = survivors["least"], survivors["mean"], survivors["asked"]
    told += f"; of {asked:,} people asked, {short(mean) if mean < 1000 else f'{mean:,.0f}'} were in a sum on average"
    told += f" and {least:,} in the smallest" if least != mean else ""
    again = survivors["attempts"] - survivors["rounds"]
    return told + (f"; {again:,} attempts failed and were made again" if again else "")


def limits(summary: Mapping[str, Any]) -> list[str]:
    """What this run does not claim."""
    adapter = summary.get("adapter_privacy") or {}
    told = list(_NEVER_CLAIMED)
    if adapter.get("mode", "exact") == "exact":
        told.insert(
            0,
            "Adapters are exact in this run: no epsilon protects a person's own records from someone who reads that person's "
            "adapter or its outputs.",
        )
    else:
        told.insert(
            0,
            "The line 'personal, exact' is measured to compare with: no epsilon protects a record from someone who reads an "
            "exact adapter.",
        )
    if summary.get("seeded_noise"):
        told.append(
            "The noise was drawn from a seed, so that the run can be repeated. Whoever knows the seed can take the noise away: "
            "this is for simulation only."
        )
    return told


def short(value: float) -> str:
    """Three significant digits, without the padding of an exponent.

    >>> short(0.00001), short(1.0), short(0.0213)
    ('1e-5', '1', '0.0213')
    """
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e+")


def clause(text: str) -> str:
    """A sentence made fit to stand inside another one.

    >>> clause("Everybody takes part. ")
    'everybody takes part'
    """
    text = text.strip().removesuffix(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _asked(summary: Mapping[str, Any]) -> str | None:
    """The accuracy row of the private adapters that this run claims; None where they are exact."""
    kind, _, number = str((summary.get("adapter_privacy") or {}).get("mode", "exact")).partition(":")
    if kind != "record":
        return None
    row = f"private_{float(number):g}"
    return row if any(row in cell for cell in (summary.get("accuracy") or {}).values()) else "private"


def _people(value: float) -> str:
    if value < 0.005:
        return "none" if value == 0 else "fewer than 1"
    return f"about {_of_100(value)}"


def _of_100(value: float) -> str:
    return f"{100 * value:.0f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"
