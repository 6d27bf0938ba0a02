"""Arrays from an `.npz` file that someone brings: what is not asked for is not inflated, and nothing is unpickled."""

from __future__ import annotations

import contextlib
import io
import math
import os
import zipfile
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.lib import format as npy

from tfplaces.common.errors import UserError
from tfplaces.common.files import open_regular
from tfplaces.common.text import printable_name, printable_reason
from tfplaces.common.zip_archive import DAMAGES, open_zip

# VGG16 with all its layers has 553 MB.
MAX_FILE_BYTES = 2**32
# numpy's own headers have 128; it evaluates at most 10 000.
_MAX_HEADER_BYTES = 2**14
# Deflate makes at most so many bytes of one.
_MOST_INFLATED = 1032
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class NpzFile:
    """An `.npz` file, open for reading. Use it in a `with`.

    Args:
        path: a regular file.

    Raises:
        UserError: it is no regular file, no zip archive, or one that no `.npz` is.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = printable_name(os.fsdecode(path))
        self._file = open_regular(path, MAX_FILE_BYTES)
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._archive, members = open_zip(self._file, self._path, "an .npz file")
            self._members = self._by_array(members)
        except UserError:
            self._file.close()
            raise

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        self._file.close()

    @property
    def names(self) -> list[str]:
        """The names of the arrays, in the file's order."""
        return list(self._members)

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of an array, of which nothing else is read.

        Raises:
            KeyError: there is no such array.
            UserError: the array cannot be read.
        """
        with self._opened(name) as (shape, dtype, _, _file):
            return shape, dtype

    def read(self, name: str) -> np.ndarray:
        """An array; ask for its `header` first whether it is of the size that is wanted.

        Raises:
            KeyError: there is no such array.
            UserError: the array cannot be read.
        """
        with self._opened(name) as (shape, dtype, fortran, file):
            array = np.empty(shape[::-1] if fortran else shape, dtype)
            if array.nbytes:
                read_into(file, array.reshape(-1).view(np.uint8))
            if file.read(1):
                raise ValueError("it has more values than its shape")
            return array.T if fortran else array

    def _by_array(self, infos: dict[str, zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for filename, info in infos.items():
            name = filename.removesuffix(".npy")
            if name in members:
                raise UserError(f"{self._path}: the array {printable_name(name)} is there twice")
            members[name] = info
        return members

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[tuple[tuple[int, ...], np.dtype, bool, IO[bytes]]]:
        info = self._members[name]
        try:
            if info.flag_bits & 1 or info.compress_type not in _METHODS:
                raise ValueError("it is encrypted, or compressed in another way than numpy does")
            with self._archive.open(info) as file:
                shape, fortran, dtype = read_npy_header(file)
                if dtype.hasobject:
                    raise ValueError("it holds Python objects, which are not unpickled")
                if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize > info.file_size:
                    raise ValueError(f"its shape is {shape}, more than the archive holds of it")
                if info.file_size > _MOST_INFLATED * (info.compress_size + 1) or info.compress_size > self._size:
                    raise ValueError("it would inflate to more than such an archive can hold")
                yield shape, dtype, fortran, file
        except UserError:
            raise
        except DAMAGES as error:
            raise UserError(
                f"{self._path}: {printable_name(name)} cannot be read ({printable_reason(error)})"
            ) from None


def read_into(file: IO[bytes], array: np.ndarray) -> None:
    """Fills an array of bytes from a file, piece by piece: nothing as large is made beside it.

    Raises:
        ValueError: the file ends before.
    """
    done = 0
    while done < len(array):
        piece = file.read(min(2**20, len(array) - done))
        if not piece:
            raise ValueError(f"it is cut off: {done:,} bytes, expected {len(array):,}")
        array[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in the order of Fortran, and type of an array in `.npy` format; the file is then at its values.

    Raises:
        ValueError: there is no such header.
    """
    # numpy reads a header to its end before it asks how long it is, and 1 MB of a zip inflates to 1 GB of one.
    start = io.BytesIO(file.read(_MAX_HEADER_BYTES))
    version = npy.read_magic(start)
    if version not in _READ_HEADER:
        raise ValueError(f"its format is {version[0]}.{version[1]}")
    try:
        header = _READ_HEADER[version](start)
    except Exception:  # numpy evaluates it as a Python literal: tokenize, ast and dtype raise many kinds
        raise ValueError("its header is not one of an array") from None
    file.seek(start.tell())
    return header
