"""The look of every figure, and how a figure becomes an SVG that can stand inside a page.

Drawn without a display, text kept as text, ids and bytes the same on every run. Colours are those of Okabe and Ito
(2008), told apart with any kind of colour vision; controls are dashed as well, so that a print without colour serves.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

if TYPE_CHECKING:
    from matplotlib.artist import Artist

__all__ = ["INK", "MUTED", "STYLES", "canvas", "label_ends", "to_svg"]

INK = "#22262a"
MUTED = "#6b7280"
GRID = "#e3e6e8"
BLUE, GREEN, ORANGE, RED, PURPLE, SKY = "#0072b2", "#008f68", "#c07800", "#c8500a", "#a8578a", "#3a93c8"

# method: (label, colour, dashes, width)
STYLES: dict[str, tuple[str, str, str, float]] = {
    "personal": ("personal, exact", BLUE, "-", 2.4),
    "private_8": ("personal, record:8", "#1f7fb8", "-", 1.2),
    "private_4": ("personal, record:4", "#4a96c9", "-", 1.2),
    "private_2": ("personal, record:2", "#74aed6", "-", 1.2),
    "private_1": ("personal, record:1", "#9bc5e1", "-", 1.2),
    "private": ("personal, record:E", SKY, ":", 1.6),
    "gated": ("personal, gated", GREEN, "-", 1.6),
    "global": ("global", INK, "-", 1.8),
    "local_only": ("local only", PURPLE, "-", 1.2),
    "pooled": ("pooled, no privacy", MUTED, "-", 1.4),
    "other_user": ("another user's", ORANGE, "--", 1.2),
    "shuffled": ("shuffled labels", RED, "--", 1.2),
    "optimum": ("planted truth", MUTED, ":", 1.6),
    "ditto": ("Ditto", ORANGE, "-", 1.2),
    "ditto_private": ("Ditto, private direction", ORANGE, ":", 1.2),
    "fedrep": ("FedRep", PURPLE, "-", 1.2),
    "lore": ("LoRe", RED, "-", 1.2),
    "lore_repaired": ("LoRe, repaired", SKY, "-", 1.2),
}

_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
    "svg.hashsalt": "homespun",  # else ids are random
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in the name of a data set is a dollar
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
}


@contextmanager
def canvas(*, width: float = 7.2, height: float = 3.8, panels: int = 1) -> Iterator[tuple[Drawing, list[Axes]]]:
    """A drawing of ``panels`` axes side by side that share their y axis; ``width`` and ``height`` in inches."""
    with mpl.rc_context(_SETTINGS):
        drawing = Drawing(figsize=(width, height), layout="constrained")
        grid = drawing.subplots(1, panels, squeeze=False, sharey=True)
        yield drawing, list(grid[0])


def to_svg(drawing: Drawing, *, name: str, title: str) -> str:
    """The drawing as one ``<svg>`` element, without prologue, date or metadata.

    Args:
        drawing: What ``canvas`` gave, still inside its ``with``.
        name: Prefix of all ids, so that several drawings can stand in one page.
        title: Read aloud in place of the drawing. Escaped here.
    """
    buffer = io.StringIO()
    drawing.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"'DejaVu Sans',[^;\"]*", "system-ui, 'DejaVu Sans', sans-serif", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)  # a hundredth of a pixel
    described = title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{described}" ', 1)


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], *, x: float, gap: float = 0.062) -> "list[Artist]":
    """Name lines at their right ends instead of in a legend, moved apart where they would overlap.

    Args:
        axes: Where the lines are; its limits must be final.
        ends: (y in data units, text, colour) for each line.
        x: Where the lines end, in data units.
        gap: Least distance of two names, as a share of the height of the axes.
    """
    low, high = axes.get_ylim()
    step = gap * (high - low)
    # Names that would overlap form a cluster, evenly spaced around the mean of where its lines end.
    clusters: list[list[tuple[float, str, str]]] = []
    starts: list[float] = []
    for end in sorted(ends):
        clusters.append([end])
        starts.append(end[0])
        while len(clusters) > 1 and starts[-2] + step * len(clusters[-2]) > starts[-1]:
            clusters[-2:] = [clusters[-2] + clusters[-1]]
            size = len(clusters[-1])
            middle = sum(y for y, _, _ in clusters[-1]) / size - step * (size - 1) / 2
            starts[-2:] = [max(low, min(middle, high - step * (size - 1)))]
    placed = [
        (start + step * position, text, colour)
        for start, cluster in zip(starts, clusters, strict=True)
        for position, (_, text, colour) in enumerate(cluster)
    ]
    return [
        axes.annotate(text, (x, y), xytext=(7, 0), textcoords="offset points", va="center", color=colour, fontsize=9)
        for y, text, colour in placed
    ]
