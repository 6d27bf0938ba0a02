"""Tables as programs write them, and numbers as people do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.datasets.table_files import named_lines, read_degrees, read_number, read_table, read_times

MEANINGS = {"path": ("path", "file"), "east": ("easting", "east"), "note": ("note",)}


@pytest.fixture
def write(tmp_path: Path):
    def write(content: bytes | str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_write(write, encoding: str, separator: str, end: str) -> None:
    lines = [["File", '"Easting (m)"', "note"], ['"a, b; é.jpg"', '"1,5"', ""], [], ["c.jpg", "2", '"x ""y"""']]
    table = read_table(write(end.join(separator.join(line) for line in lines) + end, encoding), MEANINGS)
    assert table.cells == {"path": ["a, b; é.jpg", "c.jpg"], "east": ["1,5", "2"], "note": ["", 'x "y"']}
    assert table.lines == [2, 4]
    assert bool(table.notes) == (encoding == "cp1252")


def test_a_first_line_may_name_the_separator(write) -> None:
    table = read_table(write("sep=|\r\nfile|east,ing\r\na|1\r\n"), MEANINGS)
    assert table.cells == {"path": ["a"], "east": ["1"]} and table.lines == [3]


def test_columns_are_found_by_any_spelling_and_the_preferred_wins(write) -> None:
    assert read_table(write("EAST;FILE;Pa_th;x\n1;2;3;4"), MEANINGS).cells == {"path": ["3"], "east": ["1"]}


def test_lines_count_breaks_within_cells(write) -> None:
    assert read_table(write('file;east\n"a\nb";1\nc;2\n'), MEANINGS).lines == [3, 4]


def test_short_rows_are_filled(write) -> None:
    assert read_table(write("file;east;note\na;1\n"), MEANINGS).cells["note"] == [""]


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"file\x00east", "no text in UTF-8"),
        (b"\xff\xfef", "no text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "no text in UTF-8"),
        (b"file,Path,PATH,east\n", "two columns mean the path: Path and PATH"),
        (b"file,east\na,1,2\nb,1\nc,52,2\n", "more cells than the 2 headers on lines 2 and 4; a decimal comma"),
        (b'file;east\n"a;1\n', "line 2 is no row of a table"),
        (b"file," + b"x" * 200_000, "line 1 is no row of a table"),
        (b"," * 2000, "is empty"),
    ],
)
def test_what_is_no_table_is_said_in_one_line(write, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        read_table(write(content), MEANINGS)
    assert "\n" not in str(raised.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_a_user_error(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        table = read_table(path, MEANINGS)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert all(len(table) == len(cells) for cells in table.cells.values())


@pytest.mark.parametrize(
    "text, number",
    [
        ("52.2055679", 52.2055679), ("52,2055679", 52.2055679), ("-0,5", -0.5), ("+3", 3), (",5", 0.5), ("7.", 7),
        ("5.787.827,87", 5787827.87), ("5,787,827.87", 5787827.87), ("5 787 827,87", 5787827.87),
        ("5\u00a0787\u00a0827,87", 5787827.87), ("5'787'827.87", 5787827.87), ("5,787,827", 5787827),
        ("1.5e3", 1500), ("1,5E-3", 0.0015), (" 12 ", 12), ("\u22120.5", -0.5), ("302.818", 302.818),
    ],
)  # fmt: skip
def test_numbers(text: str, number: float) -> None:
    assert read_number(text) == pytest.approx(number, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "1_000", "0x10", "1.2.3", "1,2,3", "1.234,567.8", ".", "-", "12 34", "é", "1" * 100, "٣",
     "1 000 0", "1e9999x"],
)  # fmt: skip
def test_no_numbers(text: str) -> None:
    assert math.isnan(read_number(text))


@pytest.mark.parametrize(
    "text, degrees",
    [
        ("52.5", 52.5), ("52,5", 52.5), ("-0.1", -0.1), ("52.5°", 52.5), ("52.5 N", 52.5), ("S 33,5", -33.5),
        # exiftool, then what maps and people write.
        ("52 deg 12' 20.04\" N", 52.2055666667), ("0 deg 6' 51.16\" W", -0.1142111111),
        ("52°12′20.04″N", 52.2055666667),
        ("N52°12.334'", 52.2055666667), ("-33°30'", -33.5),
    ],
)  # fmt: skip
def test_degrees(text: str, degrees: float) -> None:
    assert read_degrees(text) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize(
    "text", ["", "north", "N 52 N", "52°60'", "52° 12' 60\"", "-52 S", "+0.1 W", "1" * 100_000 + "x", "1.1.1 N"]
)
def test_no_degrees(text: str) -> None:
    assert math.isnan(read_degrees(text))


def test_lines_are_named() -> None:
    assert [named_lines(lines) for lines in ([3], [3, 7], [3, 7, 9])] == ["line 3", "lines 3 and 7", "lines 3, 7 and 9"]
    assert named_lines(range(1002)).endswith(", 999 and 2 more")


@pytest.mark.parametrize(
    "cells, kind",
    [
        (["1", "2,5"], "f"), (["2021-05-31", "2021:05:31 10:59:00"], "M"),
        (["2021-05-31T10:00+02:00", "20210531"], "M"),
        (["31.5.2021"], None), (["yesterday"], None), (["9999-12-31T23:59:59-14:00"], None), (["2021-99-99"], None),
        ([""], None), (["1", "2021-05-31"], None),
    ],
)  # fmt: skip
def test_times(cells: list[str], kind: str | None) -> None:
    times = read_times(cells)
    assert (times is None) if kind is None else (times is not None and times.dtype.kind == kind)


def test_times_of_several_zones_compare() -> None:
    times = read_times(["2021-05-31T10:00+02:00", "2021-05-31T08:00", "2021-05-31T08:00Z"])
    assert times is not None and len(set(times.tolist())) == 1
