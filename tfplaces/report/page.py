"""The report page: accuracy, size and latency of each stage of a network, its weights and what it retrieves.

One HTML file that needs nothing else: no script, no network; photographs are embedded as JPEG and plots as SVG. The
plots take their colours from the page's style sheet, so they follow its light and its dark mode.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import itertools
import math
import re
import string
from collections.abc import Callable, Iterable

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, StrMethodFormatter
from matplotlib.transforms import Bbox
from PIL import Image

from tfplaces.common.errors import UserError
from tfplaces.common.files import replacing, write_text

# Photographs are embedded with at most this many pixels a side: twice as many as the page shows.
_THUMBNAIL = 360
# A layer with more distinct values than this (a scale per channel multiplies them) is drawn as a histogram.
_MAX_STEMS = 512

# Stand-ins for the page's colours while matplotlib draws, and what they become in the page.
_INK, _MUTED, _LINE, _ACCENT = "#010101", "#010102", "#010103", "#010104"
_PAGE_COLOURS = {_INK: "var(--ink)", _MUTED: "var(--muted)", _LINE: "var(--line)", _ACCENT: "var(--accent)"}
_PLOT_STYLE = {
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "tfplaces",
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.color": _LINE,
    "ytick.labelcolor": _MUTED,
}


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """A query with its best matches."""

    query: np.ndarray  # uint8 [h, w, 3]
    query_name: str
    matches: list[np.ndarray]  # uint8 [h, w, 3] each, best first
    correct: list[bool]  # of each match


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column of numbers: the key in a row, the head and its meaning, and which value is best (if any is)."""

    key: str
    head: str
    meaning: str
    best: Callable[[Iterable[float]], float] | None = None
    unit: float = 1.0
    fine: bool = False  # small values get more decimals

    def values(self, rows: list[dict]) -> list[float]:
        """The numbers of the column as they are shown: rounded, and no negative zero."""
        return [round(row[self.key] / self.unit, self._decimals(rows)) + 0.0 for row in rows]

    def texts(self, rows: list[dict]) -> list[str]:
        """The cells, all with the same number of decimals."""
        return [f"{value:.{self._decimals(rows)}f}" for value in self.values(rows)]

    def _decimals(self, rows: list[dict]) -> int:
        smallest = min((row[self.key] / self.unit for row in rows if row[self.key] > 0), default=1.0)
        return min(max(1 - math.floor(math.log10(smallest)), 1), 4) if self.fine else 1


_COLUMNS = (
    _Column("map", "mAP", "Mean average precision over all queries, in percent. Higher is better.", max),
    _Column("recall1", "R@1", "Recall at 1: percentage of queries whose first match is right.", max),
    _Column("drop", "drop", "Points of mAP lost against float32; negative is a gain.", min),
    _Column("pruned", "pruned %", "Zero kernel weights as a percentage of all parameters."),
    _Column("bytes", "MB", "Size of the whole file in megabytes (10^6 bytes).", min, unit=1e6, fine=True),
    _Column("ratio", "ratio", "Bytes of the parameters in float32 divided by the bytes of the file.", max),
    _Column("ms", "ms", "Milliseconds per image: median at batch 1 on one thread.", min, fine=True),
)


def format_table(rows: list[dict]) -> str:
    """The rows as a Markdown table that is aligned as plain text too.

    Args:
        rows: as for `write_report`.
    """
    names = ["name", *(row["name"] for row in rows)]
    return markdown_table([names, *([column.head, *column.texts(rows)] for column in _COLUMNS)])


def markdown_table(columns: list[list[str]]) -> str:
    """Columns, each with its head first, as a Markdown table that is aligned as plain text too; the first to the left.

    Args:
        columns: all of the same length.
    """
    columns = [[cell.replace("|", "\\|") for cell in column] for column in columns]
    widths = [max(4, *map(len, column)) for column in columns]
    lines = [
        " | ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])])
        for cells in zip(*columns, strict=True)
    ]
    rule = " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])


def summary(rows: list[dict]) -> str:
    """What came out, in one sentence: the smallest row within one point of mAP of the float network.

    Judged by the numbers as the table shows them; a row of about the float network's size does not count as smaller.

    Args:
        rows: as for `write_report`.
    """
    winner = _winner(rows)
    if winner is None:
        best = max(rows, key=lambda row: row["map"])
        return f"{best['name']} reaches {best['map']:.1f} mAP; nothing here is smaller than float32."
    drop = round(winner["drop"], 1)
    smaller = f"{winner['ratio']:.1f}x smaller than float32"
    if drop > 1:
        return f"{winner['name']} is {smaller} but loses {drop:.1f} points of mAP; nothing smaller is within one point."
    if drop > 0:
        return f"{winner['name']} is {smaller} at {drop:.1f} points of mAP."
    return f"{winner['name']} is {smaller} " + (
        f"and gains {-drop:.1f} points of mAP." if drop < 0 else "at the same mAP."
    )


def _winner(rows: list[dict]) -> dict | None:
    """The smallest row within one point, or else the one that loses least, of those smaller than the float network."""
    smaller = [row for row in rows if round(row["ratio"], 1) > 1]
    close = [row for row in smaller if round(row["drop"], 1) <= 1]
    if close:
        return min(close, key=lambda row: row["bytes"])
    return min(smaller, key=lambda row: row["drop"], default=None)


def write_report(
    path: str,
    *,
    title: str,
    facts: list[tuple[str, str]],
    rows: list[dict],
    weights_before: dict[str, np.ndarray],
    weights_after: dict[str, np.ndarray],
    retrievals: list[Retrieval],
) -> None:
    """Writes the page; it appears whole or not at all.

    Args:
        path: the HTML file.
        title: the heading.
        facts: name and value of what the reader should know of the run.
        rows: a stage each, with the keys `name`, `map` and `recall1` (0 to 100), `drop` (points of mAP lost against
            float32), `pruned` (% of the parameters), `bytes` (of the file), `ratio` (float32 parameter bytes / file
            bytes) and `ms` (median latency at batch 1, one thread).
        weights_before: float32 kernels of any shape of a few layers of the float network, by name.
        weights_after: the same after pruning and sharing.
        retrievals: queries to show; may be empty.

    Raises:
        ValueError: if there are no rows, or the two sets of weights are not of the same layers.
    """
    if not rows:
        raise UserError(f"{path}: a report needs at least one row")
    if weights_before.keys() != weights_after.keys():
        odd = ", ".join(sorted(weights_before.keys() ^ weights_after.keys()))
        raise UserError(f"{path}: weights before and after are not of the same layers, see {odd}")
    layers = "".join(_layer(name, weights, weights_after[name]) for name, weights in weights_before.items())
    sections = [
        _RESULTS.substitute(table=_table(rows), plot=_size_plot(rows), meanings=_meanings()),
        _WEIGHTS.substitute(layers=layers) if layers else "",
        _RETRIEVALS.substitute(queries="".join(map(_retrieval, retrievals))) if retrievals else "",
    ]
    page = _PAGE.substitute(
        title=_escape(title),
        summary=_escape(summary(rows)),
        facts="".join(f"<div><dt>{_escape(name)}</dt><dd>{_escape(value)}</dd></div>" for name, value in facts),
        sections="".join(sections),
    )
    write_text(path, page)


def _printable(text: str) -> str:
    """The text with a question mark for what a file name may hold but UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _escape(text: str) -> str:
    """The text as HTML, for elements and quoted attributes."""
    return html.escape(_printable(text))


def _table(rows: list[dict]) -> str:
    """The HTML table; the best of each column is marked, unless all are alike."""
    lines = [[f'<th scope="row">{_escape(row["name"])}</th>'] for row in rows]
    for column in _COLUMNS:
        values = column.values(rows)
        best = column.best(values) if column.best and len(set(values)) > 1 else None
        for line, value, text in zip(lines, values, column.texts(rows), strict=True):
            mark = ' class="best"' if value == best else ""
            line.append(f"<td{mark}>{text.replace('-', '−')}</td>")
    heads = "".join(
        f'<th scope="col" title="{_escape(column.meaning)}"><span>{_escape(column.head)}</span></th>'
        for column in _COLUMNS
    )
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f'<table><thead><tr><th scope="col">name</th>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _meanings() -> str:
    """The meaning of each column, for those who cannot hover."""
    return "".join(f"<dt>{_escape(column.head)}</dt><dd>{_escape(column.meaning)}</dd>" for column in _COLUMNS)


def _figure(width: int, height: int) -> Figure:
    """An empty figure of that many CSS pixels."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasAgg(figure)
    return figure


def _svg(figure: Figure, alt: str) -> str:
    """The figure as inline SVG in the page's colours."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    box = re.search(r'viewBox="[^"]*"', text)[0]
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index(">", text.index("<svg")) + 1 :])
    for stand_in, colour in _PAGE_COLOURS.items():
        text = text.replace(stand_in, colour)
    return f'<svg {box} role="img" aria-label="{_escape(alt)}">{text}'


@matplotlib.rc_context(_PLOT_STYLE)
def _size_plot(rows: list[dict]) -> str:
    """Size against mAP, with the float network's mAP as a line and the row of the summary in colour."""
    figure = _figure(440, 300)
    axes = figure.add_axes((0.105, 0.15, 0.875, 0.82))
    sizes = [row["bytes"] / 1e6 for row in rows]
    scores = [row["map"] for row in rows]
    base = rows[0]["map"] + rows[0]["drop"]
    low, high = min(*scores, base - 1), max(*scores, base)
    margin = 0.15 * (high - low)
    axes.set(xscale="log", xlim=(min(sizes) / 2, max(sizes) * 2), ylim=(max(low - margin, 0), min(high + margin, 100)))
    axes.set(xlabel="size of the file, MB (log scale)", ylabel="mAP, %")
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter=StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.tick_params(length=0)
    axes.grid(color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.axhline(base, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.axhspan(base - 1, base, color=_ACCENT, alpha=0.08, linewidth=0)
    winner = _winner(rows)
    colours = [_ACCENT if row is winner else _MUTED for row in rows]
    axes.scatter(sizes, scores, s=42, c=colours, linewidth=0, zorder=3, clip_on=False)
    _label_points(axes, list(zip(sizes, scores, strict=True)), [_printable(row["name"]) for row in rows], base)
    return _svg(figure, f"File size in megabytes against mAP of {len(rows)} networks; the numbers are in the table.")


# The page's colours in its light mode, for a picture that stands alone.
_LIGHT = {_INK: "#1b2026", _MUTED: "#626a74", _LINE: "#e2e5e9", _ACCENT: "#2a6db5"}
# The first series of points is what the others are compared with.
_SERIES_COLOURS = (_LIGHT[_MUTED], "#c43d36", _LIGHT[_ACCENT])


def write_drop_plot(path: str, panels: dict[str, dict[str, dict[str, list[tuple[str, float, float]]]]]) -> None:
    """Draws size against drop of mAP as a PNG, a panel for each network.

    Args:
        path: the PNG file.
        panels: by title; in each up to three series by name, the first the one to compare with; in each of these up to
            two lines by name, which may be empty; of each point its label, megabytes and points of mAP lost.
    """
    style = {key: _LIGHT.get(value, value) for key, value in _PLOT_STYLE.items()}
    with matplotlib.rc_context({**style, "font.size": 15}):
        figure = _figure(760 * len(panels), 640)
        left, right = 0.09 / len(panels), 1 - 0.02 / len(panels)
        figure.subplots_adjust(left=left, right=right, bottom=0.21, top=0.93, wspace=0.13)
        for k, (title, series) in enumerate(panels.items(), 1):
            _drop_panel(figure.add_subplot(1, len(panels), k), title, series)
        lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
        handles = [line for label, line in lines.items() if not label.startswith("_")]
        figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False)
        with replacing(path) as temporary:
            figure.savefig(temporary, facecolor="white")


def _drop_panel(axes: Axes, title: str, series: dict[str, dict[str, list[tuple[str, float, float]]]]) -> None:
    axes.set_title(title, loc="left", fontsize=17)
    axes.set(xscale="log", xlabel="MB (log scale); labels: threshold", ylabel="mAP lost, points, mean of the data sets")
    axes.axhline(0, color=_LIGHT[_MUTED], linewidth=1, linestyle=(0, (4, 3)))
    points = []
    for (name, lines), colour in zip(series.items(), _SERIES_COLOURS, strict=False):
        face = "white" if colour == _SERIES_COLOURS[0] else colour
        for (line, values), marker in zip(lines.items(), "os", strict=False):
            if values:
                _, sizes, drops = zip(*values, strict=True)
                style = {"color": colour, "marker": marker, "markersize": 9, "markerfacecolor": face}
                axes.plot(sizes, drops, linewidth=1.2, label=f"{name}, {line}", **style)
                axes.plot(sizes, drops, linestyle="", zorder=4, **style)  # above the lines that lead to labels
            points += values
    axes.margins(0.12, 0.12)
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter=StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.tick_params(length=0)
    axes.grid(color=_LIGHT[_LINE], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.autoscale_view()
    _label_points(axes, [(size, drop) for _, size, drop in points], [label for label, _, _ in points], 0)


# Where the name of a point may stand, best first: nearer, then above, below, beside, across. A line leads to a far one.
_LABEL_REACHES = (7, 16, 28, 42)
_LABEL_SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
_LABEL = {
    "xycoords": "figure pixels",
    "textcoords": "figure pixels",
    "horizontalalignment": "center",
    "verticalalignment": "center",
    "arrowprops": {"arrowstyle": "-", "color": _MUTED, "linewidth": 0.7, "shrinkB": 5},
}


def _label_points(axes: Axes, points: list[tuple[float, float]], names: list[str], line: float) -> None:
    """Writes each name beside its point, where it meets no other name, no point and not the horizontal line."""
    frame = axes.bbox
    height = axes.transData.transform((points[0][0], line))[1]
    pixels = axes.transData.transform(points)
    taken = [Bbox.from_extents(frame.x0, height - 1, frame.x1, height + 1)]
    taken += [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]

    def clashes(box: Bbox) -> int:
        outside = not np.array_equal(Bbox.union([frame, box]).extents, frame.extents)
        return box.count_overlaps(taken) + 100 * outside

    for (x, y), name in zip(pixels, names, strict=True):
        label = axes.annotate(name, (x, y), **_LABEL)
        size = Text.get_window_extent(label, axes.figure.canvas.get_renderer())
        options = []
        for reach, (dx, dy) in itertools.product(_LABEL_REACHES, _LABEL_SIDES):
            middle_x, middle_y = x + dx * (reach + size.width / 2), y + dy * (reach + size.height / 2)
            options.append(Bbox.from_bounds(middle_x - size.width / 2, middle_y - size.height / 2, *size.size))
        best = min(options, key=clashes)
        taken.append(best)
        label.set_position((best.x0 + best.width / 2, best.y0 + best.height / 2))


@matplotlib.rc_context(_PLOT_STYLE)
def _layer(name: str, before: np.ndarray, after: np.ndarray) -> str:
    """The weights of a layer before, as a histogram, and after, as a stem at each level."""
    limit = 1.04 * max(np.abs(before).max(), np.abs(after).max()) or 1.0
    figure = _figure(320, 150)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.1, right=0.99, bottom=0.14, top=0.86, wspace=0.12)
    left.set_title("before", loc="left", fontsize=10, color=_MUTED)
    right.set_title("after", loc="left", fontsize=10, color=_MUTED)
    edges = np.linspace(-limit, limit, 62)
    filled = {"baseline": 0.5, "fill": True, "linewidth": 0}
    left.stairs(np.histogram(before, edges)[0], edges, color=_MUTED, **filled)
    levels, counts = np.unique(after, return_counts=True)
    if len(levels) <= _MAX_STEMS:
        right.vlines(levels, 0.5, counts, color=_ACCENT, linewidth=min(1.6, max(0.5, 100 / len(levels))))
    else:
        right.stairs(np.histogram(after, edges)[0], edges, color=_ACCENT, **filled)
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
    return f"<figure><figcaption><b>{_escape(name)}</b> {shape}<br>{values}</figcaption>{_svg(figure, alt)}</figure>"


def _retrieval(retrieval: Retrieval) -> str:
    """The row of a query: the query, then its matches, best first."""
    name = _escape(retrieval.query_name)
    tiles = [_tile(retrieval.query, "query", f"query {name}", "query")]
    for rank, (match, right) in enumerate(zip(retrieval.matches, retrieval.correct, strict=True), 1):
        word, mark = ("right", "✓") if right else ("wrong", "✗")
        tiles.append(_tile(match, word, f"match {rank} of {name}: {word}", f"<i>{mark}</i> {rank}"))
    right = f"{sum(retrieval.correct)} of {len(retrieval.correct)} right"
    return f'<article><h3>{name} <span>{right}</span></h3><div class="tiles">{"".join(tiles)}</div></article>'


def _tile(image: np.ndarray, kind: str, alt: str, caption: str) -> str:
    """A framed photograph; alt and caption are HTML."""
    picture = Image.fromarray(image)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure class="{kind}"><img src="data:image/jpeg;base64,{data}" width="{picture.width}" '
        f'height="{picture.height}" alt="{alt}"><figcaption>{caption}</figcaption></figure>'
    )


_RESULTS = string.Template("""
<section>
<h2>Stages</h2>
<div class="stages">
<div class="card"><div class="scroll">$table</div>
<details><summary>What the columns mean</summary><dl>$meanings</dl></details></div>
<figure class="card">$plot<figcaption>Size against accuracy. Up and to the left is better. The dashed line is the
float network, the band below it one point of mAP.</figcaption></figure>
</div>
</section>""")

_WEIGHTS = string.Template("""
<section>
<h2>Weights</h2>
<p>How many weights have each value, before and after, on a log scale. Pruning leaves a spike at zero and a gap
beside it; sharing leaves few levels in a layer, each times the scale of its output channel.</p>
<div class="layers">$layers</div>
</section>""")

_RETRIEVALS = string.Template("""
<section>
<h2>Retrieval</h2>
<p class="legend"><span class="query">query</span> <span class="right"><i>✓</i> the same place</span>
<span class="wrong"><i>✗</i> another place</span> matches best first</p>
$queries
</section>""")

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>$title</title>
<style>
:root {
  --page: #f6f7f8; --card: #ffffff; --ink: #1b2026; --muted: #626a74; --line: #e2e5e9;
  --accent: #2a6db5; --tint: #e8f0f9; --right: #1b8049; --wrong: #c43d36;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121519; --card: #1b1f25; --ink: #e7eaee; --muted: #9aa3ae; --line: #2e343c;
    --accent: #6fb0f2; --tint: #1f3146; --right: #3fbf7a; --wrong: #f27f76;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 48px 24px 72px; }
h1 { margin: 0; font-size: 30px; line-height: 1.2; letter-spacing: -0.015em; text-wrap: balance; }
h2 { margin: 48px 0 12px; font-size: 20px; letter-spacing: -0.01em; }
h3 { margin: 0 0 8px; font-size: 14px; font-weight: 600; }
h3 span, p, figcaption, dt { color: var(--muted); }
h3 span { font-weight: 400; margin-left: 6px; }
p { margin: 0 0 16px; max-width: 70ch; }
figure { margin: 0; }
figcaption { font-size: 13px; line-height: 1.45; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit !important; }
.lead { margin: 12px 0 28px; font-size: 20px; line-height: 1.4; color: var(--ink); text-wrap: balance; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 16px 32px; margin: 0; }
.facts dt, details dt { font-size: 13px; }
dd { margin: 0; }
.card, .layers figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; }
.stages { display: grid; grid-template-columns: minmax(0, 1.28fr) minmax(0, 1fr); gap: 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
table { overflow-wrap: normal; }
th, td { padding: 9px 8px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { color: var(--muted); font-weight: 500; font-size: 13px; vertical-align: bottom; }
thead span { border-bottom: 1px dotted var(--muted); cursor: help; }
tr > :first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--card); }
tbody th { font-weight: 500; }
.best { font-weight: 650; color: var(--accent); }
details { margin-top: 14px; font-size: 13px; }
details summary { color: var(--muted); cursor: pointer; }
details dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 14px; margin: 10px 0 0; }
.layers { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); gap: 16px; }
.layers figcaption { margin-bottom: 6px; }
.layers b { color: var(--ink); font-weight: 600; }
article { margin-bottom: 24px; }
.tiles { display: flex; gap: 10px; }
.tiles figure { flex: 0 1 168px; min-width: 0; }
.tiles .query { margin-right: 10px; }
.tiles img { display: block; width: 100%; height: auto; border-radius: 6px; border: 3px solid var(--kind); }
.tiles figcaption { margin-top: 3px; }
.query { --kind: var(--muted); }
.right { --kind: var(--right); }
.wrong { --kind: var(--wrong); }
i { font-style: normal; font-weight: 700; color: var(--kind); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; }
.legend span { border: 2px solid var(--kind); border-radius: 6px; padding: 0 8px; color: var(--ink); }
@media (max-width: 900px) { .stages { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 600px) {
  main { padding: 28px 16px 48px; }
  h1 { font-size: 25px; }
  .lead { font-size: 18px; }
  .card, .layers figure { padding: 12px; }
  table { font-size: 12px; }
  th, td { padding: 8px 2px; }
  thead th { font-size: 12px; white-space: normal; }
  .tiles { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .tiles .query { margin: 0; }
}
</style>
</head>
<body>
<main>
<header>
<h1>$title</h1>
<p class="lead">$summary</p>
<dl class="facts">$facts</dl>
</header>
$sections
</main>
</body>
</html>
""")
