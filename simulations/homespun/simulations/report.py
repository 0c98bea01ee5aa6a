"""One HTML file that tells a finished run: from the run folder alone, without network, light and dark, on paper too.

report = render(Path("runs/20260314T091500Z-planted"))
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from homespun.simulations import words
from homespun.simulations.canvas import STYLES
from homespun.simulations.figures import draw
from homespun.simulations.recorded import Recorded, headline_shots, read

__all__ = ["render"]

# What each line of the accuracy table is, in the order of the table.
_EXPLAINED: dict[str, str] = {
    "personal": "the private backbone with the person's own adapter, exact: for adapters that never leave their device",
    "private_8": "the same with an adapter made of noisy sums: record-level privacy, the option record:8",
    "private_4": "the same, record:4",
    "private_2": "the same, record:2",
    "private_1": "the same, record:1",
    "private": "the same, at what was asked for",
    "gated": "the same, but a person whose own labels do not bear out the adapter keeps the global model",
    "global": "the private backbone without any adapter: the same for everybody",
    "local_only": "each person alone, without a backbone: what sharing brings is the distance to this line",
    "pooled": "the same model on pooled data without privacy: what privacy costs is the distance to this line",
    "other_user": "control: another person's adapter; above the global line, the gain would not be personal",
    "shuffled": "control: an adapter fitted to shuffled labels; above the global line, the gain would be an artefact",
    "optimum": "the planted directions themselves, with adapters fitted to the same labels: a yardstick, not a bound",
    "ditto": "Ditto, run on the same people and features",
    "ditto_private": "Ditto around the private direction of this run",
    "fedrep": "FedRep, run on the same people and features",
    "lore": "LoRe, run on the same people and features",
    "lore_repaired": "LoRe with the prior that its published form lacks, on the same people and features",
}


def render(run: Path) -> Path:
    """Write ``report.html`` (and ``figures/*.svg``) into a run folder.

    Args:
        run: A folder with ``summary.json``; what else it holds is shown, what it lacks is left out.
    Returns:
        The path of the report.
    Guarantees:
        * self-contained: no address is fetched, no script runs.
        * escaped: a name or a note from the data is text, never markup.
        * epsilon in company: an epsilon stands beside its delta, unit and relation.
    Raises:
        OSError: There is no ``summary.json``, or the folder cannot be written.
        ValueError: A file in the folder is damaged.
    """
    recorded = read(run)
    page = _template().render(**_content(recorded))
    target = run / "report.html"
    aside = run / "report.html.part"
    aside.write_text(page, encoding="utf-8")
    aside.replace(target)
    return target


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent, interval=_interval, number=_number, points=_points, clause=words.clause
    )
    return environment.get_template("report.html.j2")


def _content(recorded: Recorded) -> dict[str, Any]:
    summary = recorded.summary
    accuracy: Mapping[str, Any] = summary.get("accuracy") or {}
    present = [method for method in _EXPLAINED if any(method in cell for cell in accuracy.values())]
    figures = {figure.name: figure for figure in draw(recorded)}
    return {
        "s": summary,
        "environment": recorded.environment,
        "command": shlex.join(str(word) for word in recorded.environment.get("argv") or ()),
        "shots": recorded.shots,
        "headline_shots": headline_shots(summary),
        "methods": [{"key": m, "label": STYLES[m][0], "explained": _EXPLAINED[m]} for m in present],
        "labels": {method: style[0] for method, style in STYLES.items()},
        "headline": words.headline(summary),
        "claim": words.claim(summary),
        "masking": words.masking(summary),
        "cohorts": words.cohorts(summary),
        "adapter_claim": words.adapter_claim(summary),
        "odds": words.odds(summary),
        "mu": words.composed_mu(summary.get("phases") or ()),
        "limits": words.limits(summary),
        "sent": _sent(recorded),
        "folds": _folds(summary),
        "figures": figures,
    }


def _sent(recorded: Recorded) -> list[dict[str, Any]]:
    """What left the cells or devices, one row a phase and sender; of masked rounds, how many answered each step."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for line in recorded.sent:
        key = (str(line.get("phase", "")), str(line.get("from", "")))
        row = rows.setdefault(key, {"phase": key[0], "sender": key[1], "messages": 0, "bytes": 0, "fields": {}})
        row["messages"] += line.get("messages", 0)
        row["bytes"] += line.get("bytes", 0)
        fields = [str(field) for field in line.get("fields") or ()]
        answers = list((line.get("steps") or {}).values()) or [None] * len(fields)
        for field, count in zip(fields, answers, strict=False):
            row["fields"][field] = None if count is None else (row["fields"].get(field) or 0) + count
    for row in rows.values():
        row["fields"] = [name if count is None else f"{name} ({count:,})" for name, count in row["fields"].items()]
    return list(rows.values())


def _folds(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each fold's accuracy by method, at the number of labels of the headline."""
    shots = headline_shots(summary)
    return [
        {
            "fold": number,
            "people": row.get("users_unseen"),
            "accuracy": (row.get("accuracy") or {}).get(shots, {}),
        }
        for number, row in enumerate(summary.get("folds") or (), start=1)
    ]


def _percent(value: object, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}" if isinstance(value, (int, float)) else "–"


def _points(value: object) -> str:
    return f"{100 * value:+.1f}".replace("-", "−") if isinstance(value, (int, float)) else "–"


def _interval(cell: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    if not isinstance(cell, Mapping) or cell.get("low") is None:
        return ""
    form = _points if sign else _percent
    return f"{form(cell['low'])} to {form(cell['high'])}"


def _number(value: object) -> str:
    """A number as a person would write it: 3,000 and 0.0213, not 3000.0 and 2.13e-02; text as it is."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else words.short(value)
    return str(value)
