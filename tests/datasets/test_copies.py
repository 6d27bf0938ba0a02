"""Copies of photos are found by all of their bytes."""

from __future__ import annotations

from pathlib import Path

from tfplaces.datasets import ImageFiles
from tfplaces.datasets.copies import queries_in_database


def test_copies(tmp_path: Path) -> None:
    """Files of one size that begin alike are no copies unless they end alike; two copies of a file count both."""
    contents = {"q1": b"a" * 9000, "q2": b"a" * 8999 + b"b", "q3": b"a" * 9000, "q4": b"c", "q5": b""}
    others = {"d1": b"a" * 9000, "d2": b"a" * 8999 + b"d", "d3": b"e", "d4": b"a" * 9000}
    for name, content in (contents | others).items():
        (tmp_path / name).write_bytes(content)
    assert queries_in_database(ImageFiles(str(tmp_path), list(contents)), ImageFiles(str(tmp_path), list(others))) == 2
    assert queries_in_database(ImageFiles(str(tmp_path), []), ImageFiles(str(tmp_path), list(others))) == 0
