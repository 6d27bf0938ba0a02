"""The report page: accuracy, size and latency of each stage of a network, its weights and what it retrieves.

One HTML file that needs nothing else: no script, no network; photographs are embedded as JPEG and plots as SVG. The
plots take their colours from the page's style sheet, so they follow its light and its dark mode.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib.resources
import io
import string
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from tfplaces.common.errors import UserError
from tfplaces.common.files import write_text
from tfplaces.report.plots import size_plot, weights_plot
from tfplaces.report.rows import Row, summary
from tfplaces.report.tables import escape, html_meanings, html_table

# Photographs are embedded with at most this many pixels a side: twice as many as the page shows.
_THUMBNAIL = 360


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """A query with its best matches."""

    query: np.ndarray  # uint8 [h, w, 3]
    query_name: str
    matches: list[np.ndarray]  # uint8 [h, w, 3] each, best first
    correct: list[bool]  # of each match


def write_report(
    path: str,
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    rows: Sequence[Row],
    weights_before: Mapping[str, np.ndarray],
    weights_after: Mapping[str, np.ndarray],
    retrievals: Sequence[Retrieval],
) -> None:
    """Writes the page; it appears whole or not at all.

    Args:
        path: the HTML file.
        title: the heading.
        facts: what the reader should know of the run, each a name and a value.
        rows: the stages, at least one.
        weights_before: float32 kernels of any shape of a few layers of the float network, by name.
        weights_after: the same after pruning and sharing.
        retrievals: queries to show; may be empty.

    Raises:
        UserError: there are no rows, or the two sets of weights are not of the same layers.
    """
    if not rows:
        raise UserError(f"{path}: a report needs at least one row")
    if weights_before.keys() != weights_after.keys():
        odd = ", ".join(sorted(weights_before.keys() ^ weights_after.keys()))
        raise UserError(f"{path}: weights before and after are not of the same layers, see {odd}")
    layers = "".join(weights_plot(name, weights, weights_after[name]) for name, weights in weights_before.items())
    sections = _filled("stages", table=html_table(rows), plot=size_plot(rows), meanings=html_meanings(rows))
    if layers:
        sections += _filled("weights", layers=layers)
    if retrievals:
        sections += _filled("retrievals", queries="".join(map(_retrieval, retrievals)))
    page = _filled(
        "page",
        title=escape(title),
        style=_resource("page.css"),
        summary=escape(summary(rows)),
        facts="".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts),
        sections=sections,
    )
    write_text(path, page)


def _resource(name: str) -> str:
    """The text of a file beside this one."""
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _filled(name: str, **parts: str) -> str:
    """An HTML file beside this one with its $parts filled in."""
    return string.Template(_resource(f"{name}.html")).substitute(parts)


def _retrieval(retrieval: Retrieval) -> str:
    """The HTML of a query and its matches, the best first."""
    name = escape(retrieval.query_name)
    tiles = [_tile(retrieval.query, "query", f"query {name}", "query")]
    for rank, (match, correct) in enumerate(zip(retrieval.matches, retrieval.correct, strict=True), 1):
        word, mark = ("right", "✓") if correct else ("wrong", "✗")
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
