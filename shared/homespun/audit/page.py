"""The report as one HTML file that a privacy officer can read: no network, no script, light and dark, on paper too.

A pure function of ``report.json``, drawings included, so that a check renders the page again and compares every byte.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from homespun.audit.drawing import Axis, Line, bars, dots, lines
from homespun.audit.rounding import of_100, short

__all__ = ["render_page"]

_NAMES = {"A": "first", "B": "second", "C": "third"}


def render_page(report: Mapping[str, Any]) -> str:
    """The page.

    Args:
        report: What `homespun.audit.report.build_report` returns, or its JSON read back.
    Guarantees:
        * self-contained: no address is fetched, no script runs.
        * escaped: a declared text is text, never markup.
        * epsilon in company: an epsilon stands beside its delta, unit and relation.
    """
    guarantees = list(report["guarantees"].values())
    return _template().render(
        r=report,
        guarantees=guarantees,
        bounded=[one for one in guarantees if one["epsilon"] is not None],
        pictures=_pictures(report),
        dots={one["name"]: _found(one) for one in guarantees},
        single={"device": "device", "record": "preference"},
    )


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, floor=_floor, minute=_minute)
    return environment.get_template("report.html.j2")


def _found(one: Mapping[str, Any]) -> dict[str, Any] | None:
    """The picture of the trade-off sentence."""
    row = next((row for row in one.get("trade_off", ()) if row["false_alarms"] == 0.01), None)
    if row is None:
        return None
    found = of_100(row["found_at_most"])
    return {"found": found, "picture": Markup(dots(found)), "blind": Markup(dots(1))}


def _pictures(report: Mapping[str, Any]) -> dict[str, Any]:
    bounded = [one for one in report["guarantees"].values() if one["epsilon"] is not None]
    return {
        "over_time": {
            role: _over_time(report, role, rows) for role, rows in report["over_time"].items() if len(rows) > 1
        },
        "epsilon_by_delta": _by_delta(bounded) if bounded else None,
        "trade_off": _trade_off(bounded) if bounded else None,
        "spend": {
            role: _spend(budget, role)
            for role, budget in report["budgets"].items()
            if budget["histogram"] and (role == "adapter" or report["identity"]["holder"] == "server")
        },
    }


def _over_time(report: Mapping[str, Any], role: str, rows: list[dict[str, Any]]) -> Markup:
    known = [row for row in rows if row["epsilon"] is not None]
    claimed = (report["guarantees"].get("A" if role == "backbone" else "B") or {}).get("claimed")
    limit = claimed.get("epsilon") if claimed else None
    top = max([row["epsilon"] for row in known] + ([limit] if limit else []), default=1.0)
    last = float(rows[-1]["releases"])
    drawn = [Line(name="spent", points=[(0.0, 0.0), *((row["releases"], row["epsilon"]) for row in known)], steps=True)]
    if limit:
        drawn.append(Line(name="promised at most", points=[(0.0, limit), (last, limit)], kind="guide"))
    title = f"Epsilon at delta {short(rows[0]['delta'])} after each release of the {role}"
    return Markup(
        lines(
            title,
            Axis(label="releases", low=0.0, high=last, whole=True),
            Axis(label=f"epsilon at delta {short(rows[0]['delta'])}", low=0.0, high=1.08 * top),
            drawn,
        )
    )


def _by_delta(bounded: list[Mapping[str, Any]]) -> Markup:
    curves = [(one, one["curves"]["epsilon_by_delta"]) for one in bounded]
    top = max(row[1] for _, rows in curves for row in rows)
    return Markup(
        lines(
            "Epsilon for each delta",
            Axis(label="delta", low=1e-12, high=1e-3, log=True),
            Axis(label="epsilon", low=0.0, high=1.08 * top),
            [Line(name=_name(one), points=rows, kind=_NAMES[one["name"]]) for one, rows in curves],
        )
    )


def _trade_off(bounded: list[Mapping[str, Any]]) -> Markup:
    drawn = [
        Line(name=_name(one), points=one["curves"]["found_by_false_alarms"], kind=_NAMES[one["name"]])
        for one in bounded
    ]
    blind = [(alarms, alarms) for alarms, _ in bounded[0]["curves"]["found_by_false_alarms"]]
    drawn.append(Line(name="blind guessing", points=blind, kind="guide"))
    return Markup(
        lines(
            "Largest share found for each share of false alarms",
            Axis(label="share of false alarms allowed", low=1e-4, high=0.9, log=True),
            Axis(label="largest share found", low=0.0, high=1.0),
            drawn,
        )
    )


def _spend(budget: Mapping[str, Any], role: str) -> Markup:
    counted = "accounts" if role == "adapter" else "devices"
    columns = [(row["share_of_cap"].removesuffix(" %"), row[counted]) for row in budget["histogram"]]
    named = "blocks" if role == "adapter" else "devices"
    return Markup(bars(f"Spend of the {role} as a share of its cap", "share of the cap spent, %", named, columns))


def _name(one: Mapping[str, Any]) -> str:
    words = {"A": "A: one device", "B": "B: one preference", "C": "C: one preference, both"}
    return words[one["name"]]


def _minute(time: str) -> str:
    return f"{time[:10]} {time[11:16]} UTC"


def _number(value: object, digits: int = 3) -> str:
    """A figure as a person would write it, rounded up; text as it is."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return short(value, digits) if isinstance(value, float) else str(value)


def _floor(value: object) -> str:
    """A lower bound, rounded down: nobody is said to have shown more than they did."""
    return f"{math.floor(value * 1000.0) / 1000.0:g}" if isinstance(value, float) else _number(value)
