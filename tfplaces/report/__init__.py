"""The report page of a run, and its tables and plots."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tfplaces.report.retrievals import Map, Retrieval
from tfplaces.report.rows import Row, summary
from tfplaces.report.tables import format_table, markdown_table, text_table

if TYPE_CHECKING:
    from tfplaces.report.page import write_report
    from tfplaces.report.plots import write_drop_plot

# What needs matplotlib is imported when it is used: a table needs none.
_NAMES = {"write_drop_plot": "plots", "write_report": "page"}

__all__ = [
    "Map",
    "Retrieval",
    "Row",
    "format_table",
    "markdown_table",
    "summary",
    "text_table",
    "write_drop_plot",
    "write_report",
]


def __getattr__(name: str):
    if name in _NAMES:
        return getattr(importlib.import_module(f"tfplaces.report.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'tfplaces.report' has no attribute {name!r}")
