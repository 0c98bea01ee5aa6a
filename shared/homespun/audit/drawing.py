"""Small drawings for the report: lines, bars and dots, as SVG text that is the same byte for byte wherever it is made.

No library draws here, because a check of a report renders the page anew and compares it. Colours are classes that the
page gives meaning to, so that a dark page and a print need no drawing of their own.

>>> dots(2, of=4).count('class="dot on"')
2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Axis", "Line", "bars", "dots", "lines"]

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 16, 46


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis: its label and range; ``log`` needs ``low`` above 0."""

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    """Whether only whole numbers get a tick: something is counted."""

    def place(self, value: float) -> float:
        """Where a value lies between 0 and 1; values outside are put on the edge."""
        low, high, value = (self._scale(part) for part in (self.low, self.high, max(value, self.low)))
        return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5

    def ticks(self) -> list[float]:
        """Round values within the range, at most eight."""
        if self.log:
            low, high = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            stride = max(1, math.ceil((high - low + 1) / 8))
            return [10.0**power for power in range(low, high + 1, stride)]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        step = 10.0 ** math.floor(math.log10(span / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
        step = max(1.0, step) if self.whole else step
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else value


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line with its name; ``kind`` is the class that the page colours: first, second, third or guide."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = "first"
    steps: bool = False


def lines(title: str, x: Axis, y: Axis, drawn: Sequence[Line]) -> str:
    """Lines over two axes, with a key above."""
    parts = [_frame(x, y)]
    for line in drawn:
        path: list[str] = []
        for index, (across, up) in enumerate(line.points):
            here_x, here_y = _x(x.place(across)), _y(y.place(up))
            if not index:
                path.append(f"M{here_x} {here_y}")
            else:
                path.append(f"H{here_x}V{here_y}" if line.steps else f"L{here_x} {here_y}")
        parts.append(f'<path class="line {line.kind}" d="{"".join(path)}"/>')
    return _svg(title, "".join(parts), key=[(line.name, line.kind) for line in drawn if line.name])


def bars(title: str, x_label: str, y_label: str, columns: Sequence[tuple[str, int]]) -> str:
    """Counted things in named bins, each count written above its bar."""
    highest = max((count for _, count in columns), default=0)
    y = Axis(label=y_label, low=0.0, high=float(max(1, highest)) * 1.1, whole=True)
    parts = [_frame(None, y, x_label=x_label)]
    width = (WIDTH - LEFT - RIGHT) / max(1, len(columns))
    for index, (name, count) in enumerate(columns):
        left, top = LEFT + width * (index + 0.12), TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - y.place(count))
        middle = f"{LEFT + width * (index + 0.5):.1f}"
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{width * 0.76:.1f}" '
            f'height="{HEIGHT - BOTTOM - top:.1f}"/>'
            f'<text x="{middle}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(name)}</text>'
        )
        if count:
            parts.append(f'<text x="{middle}" y="{top - 4:.1f}" text-anchor="middle">{count:,}</text>')
    return _svg(title, "".join(parts), key=[])


def dots(on: int, *, of: int = 100, across: int = 25) -> str:
    """``of`` dots, the first ``on`` of them filled."""
    size = 14
    rows = math.ceil(of / across)
    drawn = "".join(
        f'<circle class="dot{" on" if index < on else ""}" cx="{(index % across) * size + 7}" '
        f'cy="{(index // across) * size + 7}" r="5"/>'
        for index in range(of)
    )
    label = escape(f"{on} of {of} dots filled", quote=True)
    return (
        f'<svg class="dots" role="img" aria-label="{label}" viewBox="0 0 {across * size} {rows * size}">{drawn}</svg>'
    )


def number(value: float) -> str:
    """A tick's label: 0.25, 40, 1e-6.

    >>> [number(v) for v in (0.25, 40.0, 1e-6, 20000.0)]
    ['0.25', '40', '1e-6', '20,000']
    """
    if value and not 1e-3 <= abs(value) < 1e6:
        mantissa, _, power = f"{value:.0e}".partition("e")
        return f"{mantissa}e{int(power)}"
    return f"{value:,.4f}".rstrip("0").rstrip(".")


def _x(place: float) -> str:
    return f"{LEFT + (WIDTH - LEFT - RIGHT) * place:.1f}"


def _y(place: float) -> str:
    return f"{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * place:.1f}"


def _frame(x: Axis | None, y: Axis, *, x_label: str = "") -> str:
    """Grid, ticks and labels."""
    parts = []
    for value in y.ticks():
        at = _y(y.place(value))
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at}" dy="4" text-anchor="end">{number(value)}</text>')
    if x is not None:
        for value in x.ticks():
            at = _x(x.place(value))
            parts.append(f'<path class="grid" d="M{at} {TOP}V{HEIGHT - BOTTOM}"/>')
            parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(value)}</text>')
        x_label = x.label
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text class="label" x="14" y="{middle:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle:.1f})">{escape(y.label)}</text>'
    )
    return "".join(parts)


def _svg(title: str, inside: str, *, key: Sequence[tuple[str, str]]) -> str:
    named, at, row = [], LEFT, 0
    for name, kind in key if len(key) > 1 else ():  # a single line needs no key: the caption names it
        width = 28 + 6 * len(name) + 20
        if at + width > WIDTH:
            at, row = LEFT, row + 1
        up = 10 + 20 * row
        named.append(
            f'<path class="line {kind}" d="M{at} -{up}h22"/><text x="{at + 28}" y="-{up}" dy="4">{escape(name)}</text>'
        )
        at += width
    raised = 22 + 20 * row if named else 0
    return (
        f'<svg role="img" aria-label="{escape(title, quote=True)}" viewBox="0 {-raised} {WIDTH} {HEIGHT + raised}">'
        f"{''.join(named)}{inside}</svg>"
    )
