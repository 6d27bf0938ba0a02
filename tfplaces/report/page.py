"""The report page: accuracy, size and latency of each stage of a network, its weights and what it retrieves.

One HTML file that needs nothing else: no script, no network; photographs are embedded as JPEG and plots as SVG. The
plots take their colours from the page's style sheet, so they follow its light and its dark mode.
"""

from __future__ import annotations

import importlib.resources
import string
from collections.abc import Mapping, Sequence

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import write_text
from tfplaces.report.plots import size_plot, weights_plot
from tfplaces.report.retrievals import Retrieval, retrieval_html
from tfplaces.report.rows import Row, summary
from tfplaces.report.tables import escape, html_meanings, html_table


def write_report(
    path: str,
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    rows: Sequence[Row],
    weights_before: Mapping[str, np.ndarray],
    weights_after: Mapping[str, np.ndarray],
    retrievals: Sequence[Retrieval],
    missed: tuple[int, int] | None = None,
) -> None:
    """Writes the page; it appears whole or not at all.

    Args:
        path: the HTML file.
        title: the heading.
        facts: what the reader should know of the run, each a name and a value.
        rows: the stages, at least one.
        weights_before: float32 kernels of any shape of a few layers of the float network, by name.
        weights_after: the same after pruning and sharing.
        retrievals: queries to show, in their order; may be empty.
        missed: how many queries have another place as their best match, and how many there are; None where unknown.

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
        sections += _filled("retrievals", missed=_missed(missed), queries="".join(map(retrieval_html, retrievals)))
    page = _filled(
        "page",
        title=escape(title),
        style=_resource("page.css"),
        summary=escape(summary(rows)),
        facts="".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts),
        sections=sections,
    )
    write_text(path, page)


def _missed(missed: tuple[int, int] | None) -> str:
    """The HTML that says how many queries are missed."""
    if missed is None:
        return ""
    return (
        f"<p>The best match is another place for {missed[0]:,} of {missed[1]:,} queries. Such queries come first.</p>"
    )


def _resource(name: str) -> str:
    """The text of a file beside this one."""
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _filled(name: str, **parts: str) -> str:
    """An HTML file beside this one with its $parts filled in."""
    return string.Template(_resource(f"{name}.html")).substitute(parts)
