"""Prints tables: the report's rows as Markdown and as HTML, and any cells for a terminal."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Iterable, Sequence

from tfplaces.report.rows import Row, interval_text


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column of numbers: the attribute of a row, the head and its meaning, and which value is best (if any is)."""

    key: str
    head: str
    meaning: str
    best: Callable[[Iterable[float]], float] | None = None
    unit: float = 1.0
    fine: bool = False  # small values get more decimals

    def values(self, rows: Sequence[Row]) -> list[float]:
        """The numbers of the column as they are shown: rounded, and no negative zero."""
        return [round(number, self._decimals(rows)) + 0.0 for number in self._numbers(rows)]

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """The cells, all with the same number of decimals."""
        return [f"{value:.{self._decimals(rows)}f}" for value in self.values(rows)]

    def _numbers(self, rows: Sequence[Row]) -> list[float]:
        return [getattr(row, self.key) / self.unit for row in rows]

    def _decimals(self, rows: Sequence[Row]) -> int:
        smallest = min((number for number in self._numbers(rows) if number > 0), default=1.0)
        return min(max(1 - math.floor(math.log10(smallest)), 1), 4) if self.fine else 1


class _Interval(_Column):
    """The interval of the drop: a text, of which none is best."""

    def values(self, rows: Sequence[Row]) -> list[float]:
        return [0.0] * len(rows)

    def texts(self, rows: Sequence[Row]) -> list[str]:
        return [interval_text(row.drop_interval) for row in rows]


_COLUMNS = (
    _Column("map", "mAP", "Mean average precision over all queries, in percent. Higher is better.", max),
    _Column("recall1", "R@1", "Recall at 1: percentage of queries whose first match is right.", max),
    _Column("drop", "drop", "Points of mAP lost against float32; negative is a gain."),
    _Interval(
        "drop_interval",
        "95 %",
        "Between these the drop lies with 95 % confidence, by a paired bootstrap over the queries. Where 0 lies "
        "between them, the drop may be chance.",
    ),
    _Column("pruned", "pruned %", "Zero kernel weights as a percentage of all parameters."),
    _Column("bytes", "MB", "Size of the whole file in megabytes (10^6 bytes).", min, unit=1e6, fine=True),
    _Column("ratio", "ratio", "Bytes of the parameters in float32 divided by the bytes of the file.", max),
    _Column("ms", "ms", "Milliseconds per image: median at batch 1 on one thread.", min, fine=True),
)


def _columns(rows: Sequence[Row]) -> list[_Column]:
    """All of them, but that of the interval only where it is known."""
    known = any(row.drop_interval for row in rows)
    return [column for column in _COLUMNS if known or not isinstance(column, _Interval)]


def format_table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table that is aligned as plain text too."""
    names = ["name", *(row.name for row in rows)]
    return markdown_table([names, *([column.head, *column.texts(rows)] for column in _columns(rows))])


def markdown_table(columns: Sequence[Sequence[str]]) -> str:
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


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal, its columns two spaces apart: texts to the left, numbers to the right.

    Args:
        head: the heads of the columns.
        rows: the cells, as many in each row as there are columns.
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    left = [not any(row[column].lstrip("-")[:1].isdigit() for row in rows) for column in range(len(head))]
    left[0] = True
    return "\n".join(
        "  ".join(
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in lines
    )


def html_table(rows: Sequence[Row]) -> str:
    """The rows as an HTML table; the best of each column is marked, unless all are alike."""
    columns = _columns(rows)
    lines = [[f'<th scope="row">{escape(row.name)}</th>'] for row in rows]
    for column in columns:
        values = column.values(rows)
        best = column.best(values) if column.best and len(set(values)) > 1 else None
        for line, value, text in zip(lines, values, column.texts(rows), strict=True):
            mark = ' class="best"' if value == best else ""
            line.append(f"<td{mark}>{text.replace('-', '−')}</td>")
    heads = "".join(
        f'<th scope="col" title="{escape(column.meaning)}"><span>{escape(column.head)}</span></th>'
        for column in columns
    )
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f'<table><thead><tr><th scope="col">name</th>{heads}</tr></thead><tbody>{body}</tbody></table>'


def html_meanings(rows: Sequence[Row]) -> str:
    """The meaning of each column as HTML, for those who cannot hover."""
    return "".join(f"<dt>{escape(column.head)}</dt><dd>{escape(column.meaning)}</dd>" for column in _columns(rows))


def printable(text: str) -> str:
    """The text with a question mark for what a file name may hold but UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def escape(text: str) -> str:
    """The text as HTML, for elements and quoted attributes."""
    return html.escape(printable(text))
