"""`.npy` files: what numpy writes, arrays of lists among it, real ones, and hostile ones."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.common.npy_file import read_npy


def rows(*lists: Any) -> np.ndarray:
    made = np.empty(len(lists), object)
    made[:] = lists
    return made


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
        np.array(["database/a.jpg", "ü.jpg"]),
        np.array([b"a", b"bc"]),
        np.array(3),
        np.empty((0, 2)),
        np.array([True, False]),
    ],
    ids=str,
)
def test_what_numpy_writes(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    read = read_npy(tmp_path / "a.npy")
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_lists_of_different_lengths(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", rows(np.arange(3), [7], []), allow_pickle=True)
    assert [list(row) for row in read_npy(tmp_path / "a.npy")] == [[0, 1, 2], [7], []]


class Caller:
    def __reduce__(self) -> Any:
        return print, ("called",)


def npy(header: str, content: bytes) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + content


def described(descr: str, shape: str, content: bytes = b"12345678") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n", content)


def pickled(*lists: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, rows(*lists), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an .npy file"),
        (b"PK\3\4", "not an .npy file"),
        (described("'<f8'", "(1000000000000,)"), "8 bytes for an array of type float64"),
        (described("'<f8'", "(2,)"), "8 bytes for"),
        (described("'<f8'", "(-1,)"), "is not read"),
        (described("'|S0'", "(1000000000000,)"), "is not read"),
        (described("[('a', '<f8')]", "(1,)"), "is not read"),
        (described("'<M8[s]'", "(1,)"), "is not read"),
        (described("'|O'", "(1,)", b""), "damaged: no sound pickle"),
        (described("'|O'", "(1,)", b"N."), "its pickle holds no array of shape"),
        (described("__import__('os')", "(1,)"), "not an .npy file"),
        (pickled(Caller(), [1]), "it would import (builtins|__builtin__).print"),
        (pickled([1], [2])[:-20], "damaged: no sound pickle"),
    ],
)
def test_hostile(data: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(UserError, match=message) as raised:
        read_npy(tmp_path / "a.npy")
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().out == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_refused_or_change_a_value(data: st.DataObject, tmp_path: Path) -> None:
    whole = bytearray(pickled(np.arange(2), [5]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.npy").write_bytes(whole)
    try:
        read_npy(tmp_path / "a.npy")
    except UserError as error:
        assert "\n" not in str(error)


def test_real_files_as_numpy_reads_them(tfplaces_data: Path) -> None:
    files = sorted((tfplaces_data / "importers" / "gsvcities_npy").glob("*.npy"))
    assert len(files) == 7
    for file in files:
        ours, theirs = read_npy(file), np.load(file, allow_pickle=True)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if ours.dtype.hasobject:
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_array_equal(ours, theirs)
