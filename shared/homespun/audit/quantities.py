"""A guarantee's figures as a report holds them: rounded up, with every word that an epsilon needs beside it."""

from __future__ import annotations

from typing import Any

from homespun.audit.rounding import up
from homespun.privacy.guarantees import Figures, Guarantee, curve, figures, group, stand_alone
from homespun.privacy.terms import Unit

__all__ = ["ACCOUNTANT", "company", "guarantee_numbers"]

ACCOUNTANT = "Renyi DP of the integer mechanism (arXiv:2004.00010, 2102.06387, 1908.10530)"
_DRAWN_DELTAS = tuple(10.0**-power for power in range(3, 13))
_DRAWN_ALARMS = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def company(epsilon: float | None, guarantee: Guarantee, *, reason: str = "") -> dict[str, Any]:
    """An epsilon with everything that it means nothing without."""
    return {
        "epsilon": up(epsilon),
        **({"epsilon_reason": reason} if epsilon is None else {}),
        "delta": guarantee.delta,
        "privacy_unit": guarantee.unit.value,
        "neighboring_relation": guarantee.relation.value,
        "accountant": ACCOUNTANT,
    }


def guarantee_numbers(guarantee: Guarantee) -> dict[str, Any]:
    """All figures of one guarantee, JSON-able, the same on every machine."""
    found = figures(guarantee)
    content = {**company(found.points[0].epsilon, guarantee, reason=found.reason), "order": up(found.points[0].order)}
    if found.reason:
        return content
    content |= {
        "mu": up(found.mu),
        "rho": None if found.rho is None else str(found.rho),
        "points": [
            {
                "delta": point.delta,
                "epsilon": up(point.epsilon),
                "order": up(point.order),
                "second_epsilon": up(point.second),
                "discrepancy": up(point.discrepancy),
            }
            for point in found.points
        ],
        "second_accountant": found.second_accountant,
        "compared_on": "events on the public grid of 1 %" if found.snapped else "the events themselves",
        "renyi": [{"order": order, "divergence": up(value)} for order, value in found.renyi],
        "trade_off": _trade_off(found),
        "advantage": up(found.advantage),
        "advantage_continuous": up(found.advantage_continuous),
        "loss": up(found.loss),
        "posteriors": [{"prior": prior, "at_most": up(value)} for prior, value in found.posteriors],
        "curves": _curves(guarantee),
    }
    if guarantee.unit is Unit.DEVICE:
        content["devices_of_one_person"] = [_group(guarantee, devices) for devices in (2, 3)]
        alone = figures(stand_alone(guarantee), second=False)
        content["stand_alone"] = company(alone.points[0].epsilon, guarantee, reason=alone.reason)
    return content


def _trade_off(found: Figures) -> list[dict[str, Any]]:
    continuous = dict(found.power_continuous)
    return [
        {"false_alarms": alarms, "found_at_most": up(value), "continuous": up(continuous.get(alarms))}
        for alarms, value in found.power
    ]


def _group(guarantee: Guarantee, devices: int) -> dict[str, Any]:
    found = figures(group(guarantee, devices=devices), second=False)
    words = company(found.points[0].epsilon, guarantee, reason=found.reason)
    return {"devices": devices, **words, "privacy_unit": f"{devices} devices of one person"}


def _curves(guarantee: Guarantee) -> dict[str, Any]:
    whole = curve(guarantee)
    pairs = [(delta, whole.epsilon(delta)) for delta in _DRAWN_DELTAS]
    return {
        "epsilon_by_delta": [[delta, up(bound.epsilon)] for delta, bound in pairs if bound is not None],
        "found_by_false_alarms": [[alarms, up(whole.power(alarms))] for alarms in _DRAWN_ALARMS],
    }
