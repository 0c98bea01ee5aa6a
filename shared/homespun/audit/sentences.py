"""What a report says in words, each sentence from figures that stand beside it.

The rules: unit, adversary and window stand in the sentence that holds an epsilon; odds before numbers; nothing is called
anonymous; a lower bound finds bugs and proves no safety.

>>> odds({"epsilon": 1.0, "delta": 1e-5}, what="the backbone", unit="device")
'Whatever somebody concludes from the backbone is at most 2.8 times as likely with the data of one device as without it, \
but for a chance of 1 in 100,000.'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homespun.audit.masking import Masking
from homespun.audit.rounding import of_100, one_in, short, times

__all__ = ["HAZARDS", "POST_PROCESSING", "TITLES", "adversary", "claim", "kept", "limits", "odds", "test"]

TITLES = {
    "A": "Backbone: everything that one device holds",
    "B": "Adapter: one preference of one person",
    "C": "Both together: one preference, seen through backbone and adapter",
}
_SEEN = {
    "A": "every released backbone",
    "B": "the adapter, or whatever it ranks",
    "C": "every released backbone and the adapter, or whatever it ranks",
}
_SUBJECTS = {"A": "the backbone", "B": "the adapter", "C": "backbone and adapter together"}
_HOLDS = {"device": "the data of one device", "record": "one preference"}

POST_PROCESSING = (
    "Whatever the server does with a noisy mean costs nothing: shrinkage, eigenvectors, choosing how many directions to keep.",
    "An adapter is fitted to noisy sums alone where guarantee B is claimed; refitting it costs nothing.",
    "No round was chosen by looking at private data, unless a declared text says otherwise.",
)
HAZARDS = (
    ("floating point", "Sums and noise are whole numbers; real numbers only translate to the unit of the statistic."),
    (
        "random numbers",
        "Noise comes from ChaCha20, keyed by 32 bytes of the operating system, unless it is declared as seeded.",
    ),
    ("tables of noise", "128-bit inverse tables; what their ends lose is taken off delta before epsilon is computed."),
    ("timing", "Drawing noise takes nearly constant time; how long a device computes is not hidden."),
    (
        "logs and side channels",
        "A device sends one vector and a count; there is no field for a loss, a metric or a reason.",
    ),
    (
        "arithmetic of this report",
        "Figures are floats rounded up to six decimals; two machines may differ in the last one.",
    ),
)


def adversary(name: str, *, trust: set[str], sampled: bool, masks: Masking | None) -> str:
    """Whom a guarantee holds against, with the condition under which it does, to stand after "against".

    Args:
        name: ``A``, ``B`` or ``C``.
        trust: Trust models of the backbone's releases. One of them that is not ``distributed``, and the server is trusted.
        sampled: Whether amplification by a Poisson sample is counted.
        masks: What the backbone's ledger says of its masks; where not each round was masked, that the server saw sums
            alone stays a condition.
    """
    seen = _SEEN[name]
    if name == "B":
        return f"anyone who sees {seen}"
    alone = trust <= {"distributed"}
    if sampled:
        known = (
            "so not against the server" if alone else "the server being trusted with that and with each clipped vector"
        )
        return f"those who see {seen}, but not who was drawn, {known}"
    if alone:
        return f"anyone who sees {seen}, and against the server {server_condition(masks)}"
    return f"those who see {seen}, the server being trusted with each clipped vector"


def server_condition(masks: Masking | None) -> str:
    """Under which condition a claim holds against the server too, where devices add the noise."""
    if masks is None or not masks.everywhere:
        return "as long as it sees sums alone"
    forgot = "" if masks.lost == 0 else f", and it kept none of the {_lost(masks)}"
    return f"(computationally, as long as {colluders(masks, 'it')} and the roster holds keys of devices alone{forgot})"


def colluders(masks: Masking, server: str) -> str:
    """How many may collude with the server, named ``server``."""
    if masks.colluding is None:
        return f"no more devices of a round collude with {server} than its request allows"
    if masks.colluding == 0:
        return f"no device of a round colludes with {server}"
    return f"at most {masks.colluding:,} device{'' if masks.colluding == 1 else 's'} of a round collude with {server}"


def kept(masks: Masking, numbers: Mapping[str, Any]) -> str:
    """What holds against a server that kept the sums that were opened and lost."""
    found = (
        f"no bound is claimed: {numbers['epsilon_reason']}"
        if numbers["epsilon"] is None
        else f"epsilon = {short(numbers['epsilon'])} at delta = {short(numbers['delta'])} "
        f"({numbers['neighboring_relation']} of one {numbers['privacy_unit']})"
    )
    rounds = masks.opened - masks.lost
    return (
        f"For {rounds:,} round{'' if rounds == 1 else 's'}, {masks.opened:,} sums were unmasked. Against a server that kept "
        f"the {_lost(masks)}, over the same window, {found}."
    )


def _lost(masks: Masking) -> str:
    return f"{masks.lost:,} sum{'' if masks.lost == 1 else 's'} that {'was' if masks.lost == 1 else 'were'} opened and lost"


def claim(name: str, numbers: Mapping[str, Any], *, adversary: str, window: str) -> str:
    """One sentence with adversary, window, unit, relation, epsilon and delta."""
    unit = numbers["privacy_unit"]
    if numbers["epsilon"] is None:
        return f"No bound is claimed against {adversary}, over {window}: {numbers['epsilon_reason']}."
    return (
        f"Against {adversary}, over {window}, {_HOLDS[unit]} changes the chances of any outcome by at most "
        f"epsilon = {short(numbers['epsilon'])} at delta = {short(numbers['delta'])} "
        f"({numbers['neighboring_relation']} of one {unit})."
    )


def odds(numbers: Mapping[str, Any], *, what: str, unit: str) -> str:
    """An epsilon as odds."""
    if numbers["epsilon"] is None:
        return f"Whatever somebody concludes from {what} may be due to one {unit} alone."
    return (
        f"Whatever somebody concludes from {what} is at most {times(numbers['epsilon'])} times as likely with "
        f"{_HOLDS[unit]} as without it, but for a chance of {one_in(numbers['delta'])}."
    )


def test(numbers: Mapping[str, Any], *, unit: str) -> str:
    """The trade-off in people: what somebody finds who may be wrong once in a hundred times."""
    row = next((row for row in numbers.get("trade_off", ()) if row["false_alarms"] == 0.01), None)
    if row is None:
        return ""
    things = "devices that took part" if unit == "device" else "preferences that were given"
    return (
        f"Somebody who tries to tell which {unit if unit == 'device' else 'preference'}s are in it, and may raise 1 false alarm in 100, finds at most "
        f"{of_100(row['found_at_most'])} of 100 {things}; blind guessing finds 1."
    )


def of(name: str) -> str:
    """What a guarantee's outcome is concluded from."""
    return _SUBJECTS[name]


def limits(
    names: set[str], *, trust: set[str], sampled: bool, masks: Masking | None, declared: Mapping[str, str]
) -> list[str]:
    """What is not claimed."""
    told = ["That a device took part is hidden from nobody who talks to it: a guarantee covers what it contributed."]
    if "B" not in names:
        told.append(
            "Nothing is claimed about adapters: whoever reads a person's adapter, or what it ranks, is bound by no epsilon here."
        )
    told.append(
        "What people show to others themselves is outside every guarantee; so is an unlocked device in other hands."
    )
    if "central" in trust:
        told.append(
            "Where the server adds the noise it sees each clipped vector before noise: nothing is claimed against it."
        )
    if "distributed" in trust:
        told.append(_limit_of_masks(masks))
    if sampled:
        told.append(
            "Amplification by sampling rests on nobody knowing who was drawn; it does not hold against the server."
        )
    if "C" in names:
        told.append(
            "Guarantees of a device and of a preference have different units; C is their only sum, for one preference."
        )
    told += [
        "Choosing settings by comparing runs on the same people is charged only for the ledgers that this report names.",
        "Several devices of one person add up; the table 'several devices' says how.",
        "A ledger shows what was reserved by those who kept it, not that the program did what it reserved: attacks look for that.",
        "A lower bound finds bugs; it does not prove safety.",
        "Nobody is called anonymous.",
    ]
    if declared.get("seeded-noise") or declared.get("seeded_noise"):
        told.append(
            "The noise was drawn from a seed, so that the run can be repeated: whoever knows the seed can take it away."
        )
    return told


def _limit_of_masks(masks: Masking | None) -> str:
    alone = "What one device's messages are worth alone stands in the figures, as 'stand-alone'."
    if masks is not None and masks.everywhere:
        most = (
            "more of a round's devices than its request allows"
            if masks.colluding is None
            else f"more than {masks.colluding:,} of a round's devices"
        )
        return (
            f"Where devices add the noise, nothing is claimed against a server with which {most} collude, or that put keys "
            f"on the roster which are no device's: masks hide one among strangers, not among accomplices. {alone}"
        )
    return (
        "Where devices add the noise, nothing is claimed against a server that sees single messages, and not every round "
        f"of the ledger was masked: where cells of a simulation stood for secure aggregation, no device was masked. {alone}"
    )
