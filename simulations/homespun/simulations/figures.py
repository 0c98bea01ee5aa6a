"""The figures of a run: drawn from its folder, written to ``figures/*.svg``, each an element that a page can hold.

for figure in draw(read(Path("runs/20260314T091500Z-planted"))):
    print(figure.name, figure.caption)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from homespun.simulations.canvas import BLUE, INK, MUTED, RED, STYLES, canvas, label_ends, to_svg
from homespun.simulations.recorded import Recorded, headline_shots

__all__ = ["Figure", "accuracy_against_epsilon", "draw"]

_MAIN = ("personal", "gated", "global", "local_only", "pooled", "other_user", "shuffled", "optimum")
_OTHERS = ("personal", "global", "ditto", "ditto_private", "fedrep", "lore", "lore_repaired")
_ADAPTERS = ("personal", "private_8", "private_4", "private_2", "private_1", "private", "global")
_PHASES = ("#0072b2", "#3a93c8", "#008f68", "#c07800", "#a8578a")
_STEPS = 100  # corners of the outline of a group of people: more would not be seen, and the page would grow with them


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One drawing: ``svg`` is an element without prologue; ``caption`` says what to see and how it was made."""

    name: str
    title: str
    caption: str
    svg: str


def draw(recorded: Recorded, *, folder: Path | None = None) -> tuple[Figure, ...]:
    """Draw every figure that this run has the numbers for.

    Args:
        recorded: The run.
        folder: Where to write ``<name>.svg``; by default ``figures`` in the run folder.
    Guarantees:
        * reproducible: the same run folder gives the same bytes.
    """
    makers: tuple[Callable[[Recorded], Figure | None], ...] = (
        few_shot,
        adapters,
        others,
        people,
        privacy,
        budget,
        calibration,
    )
    figures = tuple(figure for make in (*makers, training) if (figure := make(recorded)) is not None)
    folder = folder or recorded.run / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        standalone = figure.svg.replace("<svg ", '<svg style="background:#ffffff" ', 1)
        (folder / f"{figure.name}.svg").write_text(standalone, encoding="utf-8")
    return figures


def few_shot(recorded: Recorded) -> Figure | None:
    """Accuracy by labels given, with the controls."""
    svg = _curves(recorded, _MAIN, name="few-shot", title="Accuracy on unseen people by labels given")
    return (
        svg
        if svg is None
        else Figure(
            name="few-shot",
            title="What a few labels bring",
            caption="Mean accuracy over people never seen in training, by the number of labels each has given; bands are "
            "95 % intervals over people. Dashed lines are controls that must not rise above the global model.",
            svg=svg,
        )
    )


def adapters(recorded: Recorded) -> Figure | None:
    """Exact and private adapters by labels given."""
    if not any(_has(recorded, method) for method in _ADAPTERS if method.startswith("private")):
        return None
    svg = _curves(recorded, _ADAPTERS, name="adapters", title="Exact and private adapters by labels given")
    return (
        svg
        if svg is None
        else Figure(
            name="adapters",
            title="What protecting each label costs",
            caption="Mean accuracy over people never seen in training. A private adapter is made of noisy sums over blocks of "
            "5, 5, 10, 20, 40 labels as they arrive; the number in record:E is what one label may reveal over its whole life.",
            svg=svg,
        )
    )


def others(recorded: Recorded) -> Figure | None:
    """The same beside other systems, where they were run."""
    if not any(f"accuracy.{m}" in recorded.evaluation or _has(recorded, m) for m in _OTHERS[2:]):
        return None
    svg = _curves(recorded, _OTHERS, name="others", title="Accuracy beside other systems by labels given")
    return (
        svg
        if svg is None
        else Figure(
            name="others",
            title="Beside other systems",
            caption="The same people, features and labels. What privacy each system gives is in the table below.",
            svg=svg,
        )
    )


def people(recorded: Recorded) -> Figure | None:
    """Who gains and who loses."""
    base = recorded.people("global")
    panels = [(m, recorded.people(m), recorded.evaluation.get(f"standard_error.{m}")) for m in ("personal", "gated")]
    known = [
        (m, own - base, np.asarray(error[-1]))
        for m, own, error in panels
        if own is not None and error is not None and base is not None
    ]
    if not known:
        return None
    shots = recorded.shots[-1]
    with canvas(height=3.4, panels=len(known)) as (drawing, axes):
        for place, (method, difference, error) in zip(axes, known, strict=True):
            _groups(place, 100 * difference, 100 * error)
            place.set_title(STYLES[method][0], loc="left", fontsize=10, color=INK, pad=18)
            place.set_xlabel("share of people (%)")
        axes[0].set_ylabel("accuracy minus global (points)")
        svg = to_svg(drawing, name="people", title=f"Each person's gain or loss with {shots} labels")
    return Figure(
        name="people",
        title="Who gains and who loses",
        caption=f"Each person's accuracy with {shots} labels minus that of the global model, sorted within three groups: "
        "worse, undecided, better. Worse and better mean beyond twice the person's own standard error, "
        f"by bootstrap over texts.{_worst_decile(recorded.summary, shots)}",
        svg=svg,
    )


def privacy(recorded: Recorded) -> Figure | None:
    """Accuracy against epsilon, as far as one run can tell."""
    if not headline_shots(recorded.summary):
        return None
    shots = headline_shots(recorded.summary)
    return Figure(
        name="privacy",
        title="What privacy costs",
        caption=f"Accuracy with {shots} labels against the epsilon of the backbone (one device, add-or-remove), with 95 % "
        "intervals; pooled data without privacy stands at infinity. More points: homespun runs compare RUN... --figure.",
        svg=accuracy_against_epsilon([recorded.summary]),
    )


def accuracy_against_epsilon(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy against epsilon over runs, as SVG.

    Args:
        summaries: ``summary.json`` of one run or more. Drawn at the headline number of labels of the first that all
            have; an epsilon of null stands at infinity.
    Raises:
        ValueError: There is no number of labels that all runs have.
    """
    common = set.intersection(*(set(summary.get("accuracy") or {}) for summary in summaries)) if summaries else set()
    if not common:
        raise ValueError("Expected runs with a number of labels in common, found none.")
    shots = headline_shots({"accuracy": {shot: {} for shot in common}})
    finite = sorted({float(s["epsilon"]) for s in summaries if s.get("epsilon")})
    lowest, highest = (np.log10(finite[0]), np.log10(finite[-1])) if finite else (0.0, 0.0)
    infinity = highest + max(0.35, 0.25 * (highest - lowest))
    with canvas(height=3.4) as (drawing, (axes,)):
        ends = []
        for method in ("personal", "gated", "global", "pooled"):
            points = [
                (
                    np.log10(s["epsilon"]) if s.get("epsilon") and method != "pooled" else infinity,
                    s["accuracy"][shots][method],
                )
                for s in summaries
                if (s["accuracy"][shots].get(method) or {}).get("mean") is not None
            ]
            if not points:
                continue
            points.sort(key=lambda point: (point[0], point[1]["mean"]))
            label, colour, _, width = STYLES[method]
            x = np.array([point[0] for point in points]) + 0.008 * ("personal", "gated", "global", "pooled").index(
                method
            )
            mean, low, high = (
                100 * np.array([_bound(point[1], part) for point in points]) for part in ("mean", "low", "high")
            )
            bars = np.maximum(0, [mean - low, high - mean])
            line = "-" if len({*x}) > 1 else "none"
            axes.errorbar(
                x, mean, yerr=bars, color=colour, lw=width, ls=line, marker="o", ms=5, elinewidth=1, capsize=2
            )
            ends.append((float(mean[-1]), label, colour))
        ticks = [float(np.log10(value)) for value in finite]
        axes.set_xlim((ticks[0] if ticks else infinity) - 0.25, infinity + 0.12)
        axes.set_xticks([*ticks, infinity], [*(f"{value:.3g}" for value in finite), "∞"])
        axes.minorticks_off()
        axes.set_xlabel("epsilon of the backbone: one device, add-or-remove (log scale)")
        axes.set_ylabel(f"accuracy with {shots} labels (%)")
        _roomy(axes)
        label_ends(axes, ends, x=infinity + 0.12)
        return to_svg(drawing, name="privacy", title="Accuracy against epsilon")


def budget(recorded: Recorded) -> Figure | None:
    """Where the privacy budget went."""
    phases = [phase for phase in recorded.summary.get("phases") or () if phase.get("share")]
    if not phases:
        return None
    total = sum(phase["share"] for phase in phases)
    with canvas(height=1.25) as (drawing, (axes,)):
        left = 0.0
        for phase, colour in zip(phases, _PHASES * len(phases), strict=False):
            wide = 100 * phase["share"] / total
            axes.barh(0, wide, left=left, height=0.5, color=colour, edgecolor="white", linewidth=1.5)
            if wide >= 6:  # a narrower piece has no room for words; the table has them
                axes.text(left + wide / 2, 0, f"{wide:.0f} %", ha="center", va="center", color="white", fontsize=10)
                told = f"{phase['name']} × {phase['rounds']}"
                for name, key in (("noise", "noise_multiplier"), ("signal/noise", "signal_to_noise")):
                    if phase.get(key) and wide >= 18:
                        told += f"\n{name} {phase[key]:.3g}"
                axes.text(left + 0.6, -0.36, told, va="top", fontsize=9, color=INK)
            left += wide
        axes.set(xlim=(0, 100), ylim=(-0.95, 0.3), yticks=[], xticks=[])
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        svg = to_svg(drawing, name="budget", title="Share of the privacy budget by phase")
    return Figure(
        name="budget",
        title="Where the budget went",
        caption="Share of the backbone's privacy budget (rho) by phase, with the number of rounds, the noise multiplier of "
        "a round (standard deviation over clipping norm) and the signal-to-noise ratio, which only a simulation can know.",
        svg=svg,
    )


def calibration(recorded: Recorded) -> Figure | None:
    """Is a stated 80 % right 80 % of the time."""
    drawn = [(m, recorded.evaluation.get(f"calibration.{m}")) for m in ("global", "personal")]
    bins = [(m, np.asarray(rows, dtype=np.float64)) for m, rows in drawn if rows is not None]
    bins = [(m, rows[np.isfinite(rows).all(axis=1) & (rows[:, 2] > 0)]) for m, rows in bins]
    bins = [(m, rows) for m, rows in bins if len(rows)]
    if not bins:
        return None
    with canvas(height=3.6) as (drawing, (axes,)):
        axes.plot([50, 100], [50, 100], color=MUTED, lw=1, ls=":")
        for method, rows in bins:
            label, colour, _, width = STYLES[method]
            axes.plot(100 * rows[:, 0], 100 * rows[:, 1], color=colour, lw=width, marker="o", ms=4, label=label)
        least = min(50.0, *(100 * float(rows[:, 1].min()) for _, rows in bins))
        axes.set(xlim=(49, 101), ylim=(least - 1, 101))
        axes.set_xlabel("what the model says (%)")
        axes.set_ylabel("how often it is right (%)")
        axes.legend(loc="upper left")
        svg = to_svg(drawing, name="calibration", title="Reliability of the stated confidence")
    return Figure(
        name="calibration",
        title="Is its confidence earned",
        caption="Stated confidence against observed accuracy, in bins of equal mass; on the dotted line the two agree.",
        svg=svg,
    )


def training(recorded: Recorded) -> Figure | None:
    """Accuracy after each round, where there are more than two."""
    folds: dict[int, list[tuple[int, float, float]]] = {}
    for row in recorded.rounds:
        if row.get("accuracy") is not None:
            beside = row.get("global_accuracy")
            entry = (1 + int(row["round"]), 100 * row["accuracy"], 100 * beside if beside is not None else np.nan)
            folds.setdefault(int(row.get("fold", 0)), []).append(entry)
    if not folds or max(len(rows) for rows in folds.values()) <= 2:
        return None
    with canvas(height=3.0) as (drawing, (axes,)):
        for column, method in ((2, "global"), (1, "personal")):
            label, colour, _, width = STYLES[method]
            for rows in folds.values():
                line = np.array(sorted(rows))
                axes.plot(line[:, 0], line[:, column], color=colour, lw=0.8, alpha=0.45)
            means = _mean_by_round(folds, column)
            axes.plot(*means.T, color=colour, lw=width, marker="o", ms=4, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("round")
        axes.set_ylabel("accuracy (%)")
        _roomy(axes)
        axes.legend(loc="lower right", ncols=2)
        svg = to_svg(drawing, name="training", title="Accuracy on unseen people after each round")
    return Figure(
        name="training",
        title="Round by round",
        caption="Accuracy on unseen people with 20 labels after each round; thin lines are single folds. Measured by the "
        "simulation alone: a deployed server sees nothing of the kind.",
        svg=svg,
    )


def _curves(recorded: Recorded, methods: Sequence[str], *, name: str, title: str) -> str | None:
    shots = recorded.shots
    if not shots:
        return None
    accuracy = recorded.summary["accuracy"]
    x = np.sqrt([int(shot) for shot in shots])  # spreads the first few labels, where most happens
    with canvas(height=4.2) as (drawing, (axes,)):
        ends = []
        for method in reversed(methods):
            cells = [accuracy[shot].get(method) or {} for shot in shots]
            mean = 100 * np.array([_bound(cell, "mean") for cell in cells])
            if not np.isfinite(mean).any():
                continue
            label, colour, dashes, width = STYLES[method]
            axes.plot(x, mean, color=colour, ls=dashes, lw=width, marker="o" if dashes == "-" else None, ms=3.5)
            if method in {"personal", "global"}:
                low, high = (100 * np.array([_bound(cell, part) for cell in cells]) for part in ("low", "high"))
                axes.fill_between(x, low, high, color=colour, alpha=0.14, lw=0)
            ends.append((float(mean[np.isfinite(mean)][-1]), label, colour))
        axes.set_xticks(x, shots)
        axes.set_xlabel("labels given by the person")
        axes.set_ylabel("accuracy on unseen people (%)")
        _roomy(axes)
        label_ends(axes, ends, x=float(x[-1]))
        return to_svg(drawing, name=name, title=title)


def _groups(axes: Axes, difference: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> None:
    """Three blocks side by side, each as wide as its share of the people and sorted within."""
    finite = np.isfinite(difference) & np.isfinite(error)
    difference, error = difference[finite], error[finite]
    worse, better = difference < -2 * error, difference > 2 * error
    left = 0.0
    for chosen, colour, word in (
        (worse, RED, "worse"),
        (~worse & ~better, "#a9b0b6", "undecided"),
        (better, BLUE, "better"),
    ):
        wide = 100 * float(chosen.mean()) if chosen.size else 0.0
        if wide > 0:
            heights = np.quantile(difference[chosen], np.linspace(0, 1, min(_STEPS, int(chosen.sum()) + 1)))
            axes.fill_between(np.linspace(left, left + wide, len(heights)), 0, heights, color=colour, lw=0)
        place = {"worse": (0.0, "left"), "undecided": (0.5, "center"), "better": (1.0, "right")}[word]
        told = MUTED if word == "undecided" else colour
        axes.text(place[0], 1.02, f"{wide:.0f} % {word}", ha=place[1], transform=axes.transAxes, color=told, fontsize=9)
        left += wide
    axes.axhline(0, color=MUTED, lw=0.8)
    axes.set_xlim(0, 100)


def _worst_decile(summary: Mapping[str, Any], shots: str) -> str:
    cells = summary["accuracy"].get(shots) or {}
    told = [
        f"{cells[method]['worst_decile']:.1%} {name}"
        for method, name in (("global", "global"), ("personal", "personal"), ("gated", "gated"))
        if (cells.get(method) or {}).get("worst_decile") is not None
    ]
    return f" The worst-served tenth of people, taken anew for each method: {', '.join(told)}." if told else ""


def _mean_by_round(folds: Mapping[int, list[tuple[int, float, float]]], column: int) -> npt.NDArray[np.float64]:
    values: dict[int, list[float]] = {}
    for rows in folds.values():
        for row in rows:
            values.setdefault(row[0], []).append(row[column])
    return np.array([(number, float(np.mean(found))) for number, found in sorted(values.items())])


def _has(recorded: Recorded, method: str) -> bool:
    return any(method in cell for cell in (recorded.summary.get("accuracy") or {}).values())


def _bound(cell: Mapping[str, Any], part: str) -> float:
    value = cell.get(part)
    return float(value) if value is not None else np.nan


def _roomy(axes: Axes) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
