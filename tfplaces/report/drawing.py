"""What the plots of the report share: their style, SVG in the colours of the page, and labels that do not clash."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tfplaces.report.tables import escape

# Stand-ins for the page's colours while matplotlib draws, and what they become in the page.
INK, MUTED, LINE, ACCENT = "#010101", "#010102", "#010103", "#010104"
_PAGE_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", ACCENT: "var(--accent)"}
# The page's colours in its light mode, for a picture that stands alone.
LIGHT = {INK: "#1b2026", MUTED: "#626a74", LINE: "#e2e5e9", ACCENT: "#2a6db5"}
PLOT_STYLE: Any = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "tfplaces",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
}


def new_figure(width: int, height: int) -> Figure:
    """An empty figure of that many CSS pixels."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasAgg(figure)
    return figure


def canvas_of(axes: Axes) -> FigureCanvasAgg:
    """The canvas of a figure that `new_figure` made."""
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    return canvas


def to_svg(figure: Figure, alt: str) -> str:
    """The figure as inline SVG in the page's colours.

    Args:
        figure: a figure in the stand-in colours.
        alt: a text that says what it shows, for those who cannot see it.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    head, _, text = file.getvalue().partition("<svg")[2].partition(">")
    box = re.findall(r'viewBox="[^"]*"', head)[0]
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for stand_in, colour in _PAGE_COLOURS.items():
        text = text.replace(stand_in, colour)
    return f'<svg {box} role="img" aria-label="{escape(alt)}">{text}'


# Where the name of a point may stand, best first: nearer, then above, below, beside, across. A line leads to a far one.
_LABEL_REACHES = (7, 16, 28, 42)
_LABEL_SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
_LABEL: dict[str, Any] = {
    "xycoords": "figure pixels",
    "textcoords": "figure pixels",
    "horizontalalignment": "center",
    "verticalalignment": "center",
    "arrowprops": {"arrowstyle": "-", "color": MUTED, "linewidth": 0.7, "shrinkB": 5},
}


def label_points(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str], line: float) -> None:
    """Writes each name beside its point, where it meets no other name, no point and not the horizontal line."""
    frame = axes.bbox
    renderer = canvas_of(axes).get_renderer()
    height = axes.transData.transform((points[0][0], line))[1]
    pixels = axes.transData.transform(points)
    taken = [Bbox.from_extents(frame.x0, height - 1, frame.x1, height + 1)]
    taken += [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]

    def clashes(box: Bbox) -> int:
        outside = not np.array_equal(Bbox.union([frame, box]).extents, frame.extents)
        return box.count_overlaps(taken) + 100 * outside

    for (x, y), name in zip(pixels, names, strict=True):
        label = axes.annotate(name, (x, y), **_LABEL)
        size = Text.get_window_extent(label, renderer)
        options = []
        for reach, (dx, dy) in itertools.product(_LABEL_REACHES, _LABEL_SIDES):
            middle_x, middle_y = x + dx * (reach + size.width / 2), y + dy * (reach + size.height / 2)
            options.append(Bbox.from_bounds(middle_x - size.width / 2, middle_y - size.height / 2, *size.size))
        best = min(options, key=clashes)
        taken.append(best)
        label.set_position((best.x0 + best.width / 2, best.y0 + best.height / 2))
