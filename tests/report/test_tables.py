"""Tables of the report's rows and of any texts."""

from __future__ import annotations

import subprocess
import sys

from tfplaces.report import Row, format_table, text_table

FLOAT = Row("float32", 86.42, 91.7, 0.0, 0.0, 12_412_344, 0.998, 14.23)


def test_rows_as_markdown() -> None:
    rows = [
        FLOAT,
        Row("8bit", 86.5, 91.7, -0.08, 12.2, 2_612_344, 4.75, 14.1, (-1.24, 0.96)),
        Row("a|b", 86.1, 100.0, 0.32, 71.4, 874_344, 14.2, 0.042, (-0.01, 0.6)),
    ]
    assert format_table(rows).splitlines() == [
        "| name    |  mAP |   R@1 | drop |        95 % | pruned % |    MB | ratio |     ms |",
        "| ------- | ---: | ----: | ---: | ----------: | -------: | ----: | ----: | -----: |",
        "| float32 | 86.4 |  91.7 |  0.0 |             |      0.0 | 12.41 |   1.0 | 14.230 |",
        "| 8bit    | 86.5 |  91.7 | -0.1 | -1.2 to 1.0 |     12.2 |  2.61 |   4.8 | 14.100 |",
        "| a\\|b    | 86.1 | 100.0 |  0.3 |  0.0 to 0.6 |     71.4 |  0.87 |  14.2 |  0.042 |",
    ]


def test_without_intervals_there_is_no_column_of_them() -> None:
    table = format_table([FLOAT, Row("8bit", 86.42, 91.7, -0.0, 0.0, 12_398_000, 1.001, 8.9)])
    assert table.splitlines()[0] == "| name    |  mAP |  R@1 | drop | pruned % |   MB | ratio |   ms |"
    assert "-0.0" not in table


def test_texts_to_the_left_and_numbers_to_the_right() -> None:
    table = text_table(["coder", "of", "bytes"], [["gzip -9", "a", "1,234"], ["tfplaces", "long", "9"], ["x", "", ""]])
    assert table.splitlines() == [
        "coder     of    bytes",
        "gzip -9   a     1,234",
        "tfplaces  long      9",
        "x",
    ]


def test_a_table_needs_no_matplotlib() -> None:
    code = "import sys; from tfplaces.report import format_table; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
