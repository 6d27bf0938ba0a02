"""Zip archives of strangers: their table of contents is bounded, and its names are there once."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from tfplaces.common.errors import UserError
from tfplaces.common.zip_archive import open_zip

ENTRY = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, *[0] * 15)


def archive_of(*names: str) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return file


def test_members_are_read_after_the_table() -> None:
    archive, members = open_zip(archive_of("a", "b/c"), "f", "a zip archive")
    assert list(members) == ["a", "b/c"]
    assert archive.read(members["b/c"]) == b"b/c"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice() -> None:
    with pytest.raises(UserError, match=r"\Af: the archive has two members called a\\x1b\Z"):
        open_zip(archive_of("a\x1b", "b", "a\x1b"), "f", "a zip archive")


@pytest.mark.parametrize("count", [100_000, 2_000_000])
def test_a_table_without_end(count: int) -> None:
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, count * len(ENTRY), 0, 0)
    with pytest.raises(UserError, match="f: the archive's table of contents has more than 4,194,304 bytes"):
        open_zip(io.BytesIO(ENTRY * count + end), "f", "a zip archive")


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"PK\5\6" + b"\xff" * 18, b"x" * 10**6])
def test_what_is_no_archive(data: bytes) -> None:
    with pytest.raises(UserError, match=r"\Af: not an \.npz file \([^\n]+\)\Z"):
        open_zip(io.BytesIO(data), "f", "an .npz file")
