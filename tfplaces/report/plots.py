"""The report's plots: sizes against accuracies, the weights of a layer, and sizes against drops as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, StrMethodFormatter

from tfplaces.common.files import replacing
from tfplaces.report.drawing import ACCENT, LIGHT, LINE, MUTED, PLOT_STYLE, label_points, new_figure, to_svg
from tfplaces.report.rows import Row, best_of_the_smaller
from tfplaces.report.tables import escape, printable

# A layer with more distinct values than this (a scale per channel multiplies them) is drawn as a histogram.
_MAX_STEMS = 512
# A point is a label, a number of megabytes and a number of points of mAP lost.
Point = tuple[str, float, float]


@matplotlib.rc_context(PLOT_STYLE)
def size_plot(rows: Sequence[Row]) -> str:
    """Size against mAP as inline SVG, the float network's mAP as a line and the row of the summary in colour."""
    figure = new_figure(440, 300)
    axes = figure.add_axes((0.105, 0.15, 0.875, 0.82))
    sizes = [row.bytes / 1e6 for row in rows]
    scores = [row.map for row in rows]
    base = rows[0].map + rows[0].drop
    low, high = min(*scores, base - 1), max(*scores, base)
    margin = 0.15 * (high - low)
    axes.set(xscale="log", xlim=(min(sizes) / 2, max(sizes) * 2), ylim=(max(low - margin, 0), min(high + margin, 100)))
    axes.set(xlabel="size of the file, MB (log scale)", ylabel="mAP, %")
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter=StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.tick_params(length=0)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.axhline(base, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.axhspan(base - 1, base, color=ACCENT, alpha=0.08, linewidth=0)
    winner = best_of_the_smaller(rows)
    colours = [ACCENT if row is winner else MUTED for row in rows]
    axes.scatter(sizes, scores, s=42, c=colours, linewidth=0, zorder=3, clip_on=False)
    label_points(axes, list(zip(sizes, scores, strict=True)), [printable(row.name) for row in rows], base)
    return to_svg(figure, f"File size in megabytes against mAP of {len(rows)} networks; the numbers are in the table.")


@matplotlib.rc_context(PLOT_STYLE)
def weights_plot(name: str, before: np.ndarray, after: np.ndarray) -> str:
    """An HTML figure: the weights of a layer before, as a histogram, and after, as a stem at each level."""
    limit = 1.04 * max(np.abs(before).max(), np.abs(after).max()) or 1.0
    figure = new_figure(320, 150)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.1, right=0.99, bottom=0.14, top=0.86, wspace=0.12)
    left.set_title("before", loc="left", fontsize=10, color=MUTED)
    right.set_title("after", loc="left", fontsize=10, color=MUTED)
    edges = np.linspace(-limit, limit, 62)
    filled = {"baseline": 0.5, "fill": True, "linewidth": 0}
    left.stairs(np.histogram(before, edges)[0], edges, color=MUTED, **filled)
    levels, counts = np.unique(after, return_counts=True)
    if len(levels) <= _MAX_STEMS:
        right.vlines(levels, 0.5, counts, color=ACCENT, linewidth=min(1.6, max(0.5, 100 / len(levels))))
    else:
        right.stairs(np.histogram(after, edges)[0], edges, color=ACCENT, **filled)
    zeros = 100 * np.mean(after == 0)
    if zeros:
        right.text(0.99, 1.05, f"{zeros:.0f}% are zero", transform=right.transAxes, ha="right", fontsize=10)
    for axes in (left, right):
        axes.set(yscale="log", xlim=(-limit, limit), ylim=(0.5, None))
        axes.minorticks_off()
        axes.xaxis.set_major_locator(MaxNLocator(3, symmetric=True))
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.tick_params(length=0, labelsize=9)
    shape = " × ".join(map(str, before.shape))
    values = f"{len(np.unique(before)):,} distinct values before, {len(levels):,} after"
    alt = f"Histograms of the weights of {name}: {values}, {zeros:.0f}% of them zero."
    return f"<figure><figcaption><b>{escape(name)}</b> {shape}<br>{values}</figcaption>{to_svg(figure, alt)}</figure>"


# The first series of points is what the others are compared with.
_SERIES_COLOURS = (LIGHT[MUTED], "#c43d36", LIGHT[ACCENT])


def write_drop_plot(path: str, panels: dict[str, dict[str, dict[str, list[Point]]]]) -> None:
    """Draws size against drop of mAP as a PNG, a panel for each network.

    Args:
        path: the PNG file.
        panels: the panels by title. Each holds up to three series by name, the first of which the others are compared
            with; each series holds up to two lines by name, and each line its points, of which there may be none.
    """
    style: Any = {key: LIGHT.get(value, value) for key, value in PLOT_STYLE.items()}
    with matplotlib.rc_context({**style, "font.size": 15}):
        figure = new_figure(760 * len(panels), 640)
        left, right = 0.09 / len(panels), 1 - 0.02 / len(panels)
        figure.subplots_adjust(left=left, right=right, bottom=0.21, top=0.93, wspace=0.13)
        for k, (title, series) in enumerate(panels.items(), 1):
            _drop_panel(figure.add_subplot(1, len(panels), k), title, series)
        lines = {str(line.get_label()): line for axes in figure.axes for line in axes.lines}
        handles = [line for label, line in lines.items() if not label.startswith("_")]
        figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False)
        with replacing(path) as temporary:
            figure.savefig(temporary, facecolor="white")


def _drop_panel(axes: Axes, title: str, series: dict[str, dict[str, list[Point]]]) -> None:
    axes.set_title(title, loc="left", fontsize=17)
    axes.set(xscale="log", xlabel="MB (log scale); labels: threshold", ylabel="mAP lost, points, mean of the data sets")
    axes.axhline(0, color=LIGHT[MUTED], linewidth=1, linestyle=(0, (4, 3)))
    points: list[Point] = []
    for (name, lines), colour in zip(series.items(), _SERIES_COLOURS, strict=False):
        face = "white" if colour == _SERIES_COLOURS[0] else colour
        for (line, values), marker in zip(lines.items(), "os", strict=False):
            if values:
                _, sizes, drops = zip(*values, strict=True)
                style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 9, "markerfacecolor": face}
                axes.plot(sizes, drops, linewidth=1.2, label=f"{name}, {line}", **style)
                axes.plot(sizes, drops, linestyle="", zorder=4, **style)  # above the lines that lead to labels
            points += values
    axes.margins(0.12, 0.12)
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter=StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.tick_params(length=0)
    axes.grid(color=LIGHT[LINE], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.autoscale_view()
    label_points(axes, [(size, drop) for _, size, drop in points], [label for label, _, _ in points], 0)
