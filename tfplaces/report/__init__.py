"""The report page of a run, and its tables and plots."""

from tfplaces.report.page import Retrieval, format_table, markdown_table, summary, write_drop_plot, write_report

__all__ = ["Retrieval", "format_table", "markdown_table", "summary", "write_drop_plot", "write_report"]
