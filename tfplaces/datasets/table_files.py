"""Tables that people export from spreadsheets and other programs, read into rows of text, and the numbers in them."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import math
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import read_regular
from tfplaces.common.text import printable_name

_MAX_BYTES = 2**28
_MAX_ROWS = 10_000_000
# Letters of a number; longer text is none.
_MAX_NUMBER = 60


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        lines: for each row the line of the file that it ends on, from 1.
        cells: for each meaning that a column has the cells of that column, row by row, without blanks around them.
        notes: what is to be known of how it was read, a sentence each.
    """

    lines: list[int]
    cells: dict[str, list[str]]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.lines)


def read_table(path: str | os.PathLike, meanings: Mapping[str, Sequence[str]]) -> Table:
    """Reads a table that begins with a line of headers.

    Cells are separated by commas, semicolons, tabs or bars, whichever divides the headers into most; a first line
    `sep=;` says so. Text is UTF-8 or UTF-16, or what Western Windows writes if it is neither. Empty rows are skipped.

    Args:
        path: the file.
        meanings: for each meaning that a column may have its headers, in small letters and digits alone, the one that
            is preferred first. Case, blanks, punctuation and what stands in brackets do not matter in the file.

    Raises:
        UserError: the file is missing, larger than 256 MiB, not a table, or has two columns of one name.
    """
    shown = printable_name(os.fsdecode(path))
    text, notes = _decode(shown, read_regular(path, _MAX_BYTES))
    first, _, rest = text.partition("\n")
    skipped = 0
    if match := re.fullmatch(r"sep=(.)\r?", first):
        separator, text, skipped = match[1], rest, 1
    else:
        headers_alone = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]
        outside = re.sub(r'"[^"]*"', "", headers_alone)
        separator = max(",;\t|", key=outside.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    headers: list[str] = []
    columns: dict[str, int] = {}
    lines: list[int] = []
    cells: dict[str, list[str]] = {}
    too_long: list[int] = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            line = reader.line_num + skipped
            if not headers:
                headers = row
                columns = _find_columns(shown, headers, meanings)
                cells = {meaning: [] for meaning in columns}
                continue
            if len(lines) == _MAX_ROWS:
                raise UserError(f"{shown}: has more than {_MAX_ROWS:,} rows; divide it")
            if any(cell.strip() for cell in row[len(headers) :]):
                too_long.append(line)
            lines.append(line)
            for meaning, column in columns.items():
                cells[meaning].append(row[column].strip() if column < len(row) else "")
    except csv.Error as error:
        raise UserError(f"{shown}: line {reader.line_num + skipped} is no row of a table ({error})") from None
    if not headers:
        raise UserError(f"{shown}: is empty; expected a line of headers and a row for each photo")
    if too_long:
        comma = "; a decimal comma in a table with commas needs quotes" if separator == "," else ""
        raise UserError(f"{shown}: more cells than the {len(headers)} headers on {named_lines(too_long)}{comma}")
    return Table(lines, cells, notes)


def _decode(shown: str, content: bytes) -> tuple[str, list[str]]:
    # Spreadsheets begin UTF-16 with a mark; scripts may not, but a header has plain letters, so every other byte is 0.
    start = content[:64]
    encodings = ["utf-8-sig"]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif len(start) >= 4 and not any(start[1::2]) and all(start[::2]):
        encodings = ["utf-16-le"]
    elif len(start) >= 4 and not any(start[::2]) and all(start[1::2]):
        encodings = ["utf-16-be"]
    elif b"\0" not in content:
        encodings.append("cp1252")
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            notes = ["the table is no UTF-8 and was read as Windows-1252 text"] if encoding == "cp1252" else []
            return text, notes
    raise UserError(f"{shown}: is no text in UTF-8 or UTF-16; save the table as CSV")


def _find_columns(shown: str, headers: Sequence[str], meanings: Mapping[str, Sequence[str]]) -> dict[str, int]:
    plain = [re.sub(r"[\W_]", "", re.sub(r"\(.*?\)|\[.*?\]", "", header[:80]).casefold()) for header in headers]
    columns = {}
    for meaning, names in meanings.items():
        for name in names:
            if plain.count(name) > 1:
                twice = [printable_name(header) for header, one in zip(headers, plain, strict=True) if one == name]
                raise UserError(f"{shown}: two columns mean the {meaning}: {' and '.join(twice)}; rename one")
            if name in plain:
                columns[meaning] = plain.index(name)
                break
    return columns


def named_lines(lines: Sequence[int]) -> str:
    """Lines for a message, such as `lines 3, 7 and 9`; of more than a thousand the first thousand."""
    listed = ", ".join(map(str, lines[:1000]))
    if len(lines) > 1000:
        return f"lines {listed} and {len(lines) - 1000} more"
    return f"lines {' and '.join(listed.rsplit(', ', 1))}" if len(lines) > 1 else f"line {listed}"


def read_number(text: str) -> float:
    """A number as people and spreadsheets write it; NaN if it is none.

    A decimal comma is as good as a point. Where both occur, the last one is decimal; what occurs more than once
    separates thousands, as blanks and apostrophes do.
    """
    if len(text) > _MAX_NUMBER:
        return math.nan
    text = re.sub(r"(?<=\d)[\s'\u2019](?=\d{3})", "", text.strip().replace("\u2212", "-"))
    if not re.fullmatch(r"[-+]?[\d.,]{1,40}(e[-+]?\d{1,3})?", text, re.IGNORECASE | re.ASCII):
        return math.nan
    last = max(text.rfind("."), text.rfind(","))
    if last >= 0:
        whole, mark, rest = text[:last], text[last], text[last + 1 :]
        decimal = mark not in whole
        thousands = whole.replace(",", ".").split(".")[1:] + ([] if decimal else [rest])
        if any(len(part) != 3 for part in thousands):
            return math.nan
        text = re.sub("[.,]", "", whole) + ("." if decimal else "") + rest
    try:
        return float(text)
    except ValueError:
        return math.nan


_DEGREES = re.compile(
    r"""([NSEW])?\s*([-+]?[\d.,]+)\s*(?:°|º|deg|d)?\s*(?:([\d.,]+)\s*(?:'|′|’|m)\s*)?(?:([\d.,]+)\s*(?:"|″|”|''|s)\s*)?([NSEW])?""",
    re.IGNORECASE,
)


def read_degrees(text: str) -> float:
    """Degrees as a number, or with minutes, seconds and a letter, such as `52° 12' 20.04" N`; NaN if it is neither."""
    number = read_number(text)
    if not math.isnan(number):
        return number
    match = _DEGREES.fullmatch(text.strip()) if len(text) <= _MAX_NUMBER else None
    if not match or (match[1] and match[5]):
        return math.nan
    degrees, minutes, seconds = (read_number(part) if part else 0.0 for part in match.group(2, 3, 4))
    if not (0 <= minutes < 60 and 0 <= seconds < 60):
        return math.nan
    letter = (match[1] or match[5] or "").upper()
    negative = match[2].startswith("-")
    if letter and (negative or match[2].startswith("+")):
        return math.nan
    size = abs(degrees) + minutes / 60 + seconds / 3600
    return -size if negative or letter in ("S", "W") else size


def read_times(cells: Sequence[str]) -> np.ndarray | None:
    """Times as numbers or as dates such as ISO 8601 and EXIF write them, `[n]`; None where one is neither."""
    numbers = np.array([read_number(cell) for cell in cells])
    if np.isfinite(numbers).all():
        return numbers
    try:
        moments = [datetime.datetime.fromisoformat(_iso(cell)) for cell in cells]
        # What names no time zone is taken to be in UTC.
        utc = [m.astimezone(datetime.UTC).replace(tzinfo=None) if m.tzinfo else m for m in moments]
    except (ValueError, OverflowError):
        return None
    return np.array(utc, "datetime64[us]")


def _iso(cell: str) -> str:
    """A date as EXIF writes it, 2021:05:31 10:59:00, as ISO 8601 does."""
    return re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", cell)
