"""Headers of arrays from strangers: bounded before they are read, and whatever they say is refused in one line."""

from __future__ import annotations

import io
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.common.npz_file import NpzFile


def npy_start(header: bytes, version: int = 1) -> bytes:
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header)) + header


def npz(member: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", member)
    return file


def test_a_header_that_inflates_to_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    """numpy alone takes 2.7 GB for this file of 1 MB before it says that the header is too long."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(b"\x93NUMPY\2\0" + struct.pack("<I", 2**28))
        for _ in range(16):
            member.write(bytes(2**24))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with NpzFile(path) as file, pytest.raises(UserError, match=r"a cannot be read .its header is not one of an array"):
        file.header("a")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # KiB


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_values_come_after_the_header(version: tuple[int, int], method: int, tmp_path: Path) -> None:
    """Small and large, more than is read for the header; in both orders."""
    arrays = [np.arange(3.0), np.arange(60_000.0).reshape(3, -1), np.asfortranarray(np.arange(12).reshape(3, 4))]
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        for number, array in enumerate(arrays):
            with archive.open(f"{number}.npy", "w") as member:
                np.lib.format.write_array(member, array, version=version)
    with NpzFile(tmp_path / "a.npz") as file:
        for number, array in enumerate(arrays):
            assert file.header(str(number)) == (array.shape, array.dtype)
            np.testing.assert_array_equal(file.read(str(number)), array)


HOSTILE = [
    b"",
    b"(" * 9000,
    b"-" * 9000 + b"1",
    b"{'descr': [('a', '<f4', ()), 3], 'fortran_order': False, 'shape': (1,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (1e9,)}",
    b"{'descr': 'O', 'fortran_order': False, 'shape': (1,)}",
    b"{'descr': '|V2000000000', 'fortran_order': False, 'shape': (10,)}",
    b"{'descr': ('<f4', (10**9,)), 'fortran_order': False, 'shape': (10,)}",
    b"'" * 3 + b"{",
    b"\0" * 100,
    b"__import__('os').abort()",
]


@pytest.mark.parametrize("header", HOSTILE)
@pytest.mark.parametrize("version", [1, 2])
def test_a_hostile_header_is_one_line(header: bytes, version: int, tmp_path: Path) -> None:
    check_one_line(npy_start(header, version) + bytes(40), tmp_path / "a.npz")


@given(st.data())
def test_any_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A good header with some bytes replaced, as fuzzers do."""
    good = bytearray(npy_start(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 5), }") + bytes(40))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, 70))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "any.npz"
    path.write_bytes(npz(bytes(good)).getvalue())
    with NpzFile(path) as file:
        try:
            assert file.read("a").nbytes <= 40
        except UserError as error:
            assert "\n" not in str(error)


def check_one_line(member: bytes, path: Path) -> None:
    path.write_bytes(npz(member).getvalue())
    with NpzFile(path) as file, pytest.raises(UserError, match="a cannot be read") as error:
        file.read("a")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
