"""MATLAB files (`.mat`, versions 5 to 7.2 and 7.3) that hold structs of numbers, texts and cells of texts.

They come from strangers: every size is checked against the bytes that are there before anything is made of it, what is
compressed is inflated up to a bound, and what is no data (functions, objects) is refused. scipy's reader trusts the
sizes it reads. The format of version 5 is that of "MAT-File Format", The MathWorks; version 7.3 is HDF5.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.extras import needed_by
from tfplaces.common.files import read_regular
from tfplaces.common.text import printable_name

# The largest published ground truth, of Pittsburgh's 250,000 images, has 0.5 MB, or 20 MB once inflated.
MAX_BYTES = 2**28
_MAX_DEPTH = 8

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 16: "utf-8"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)
_COMPLEX = 0x800


class _Malformed(Exception):
    """What is wrong with a file; the caller says with which."""


def read_struct(path: str | os.PathLike, variable: str) -> dict[str, Any]:
    """Reads a struct from a `.mat` file.

    Args:
        path: a regular file.
        variable: the name of the struct in the file.

    Returns:
        For each field an array of numbers of at least two dimensions, a text, or, of a cell, a list of these in
        MATLAB's order (column by column).

    Raises:
        UserError: the file is none of MATLAB's, is damaged or too large, or holds no such struct.
    """
    shown = printable_name(os.fsdecode(path))
    data = read_regular(path, MAX_BYTES)
    try:
        if data[512:520] == b"\x89HDF\r\n\x1a\n":
            return _read_hdf5(data, variable)
        return _read_version_5(data, variable)
    except _Malformed as error:
        raise UserError(f"{shown}: {error}") from None


def _read_version_5(data: bytes, variable: str) -> dict[str, Any]:
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise _Malformed("no .mat file of MATLAB's version 5 or later; in MATLAB, save it again with -v7")
    names = []
    left = MAX_BYTES
    for kind, content in _Elements(order, memoryview(data)[128:]):
        if kind == _COMPRESSED:
            content = memoryview(_inflate(content, left))
            left -= len(content)
            kind, content = _Elements(order, content).take()
        if kind != _MATRIX:
            raise _Malformed(f"damaged: an element of type {kind} where a variable should be")
        matrix = _Matrix(order, content, 0)
        names.append(printable_name(matrix.name[:40]))
        if matrix.name == variable:
            if matrix.kind != _STRUCT or matrix.count != 1:
                raise _Malformed(f"{variable} is no struct")
            return matrix.value()
    raise _Malformed(f"no variable {variable}, but {', '.join(names[:5]) or 'nothing'}")


def _inflate(content: memoryview, most: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(content, most + 1)
    except zlib.error as error:
        raise _Malformed(f"damaged: {error}") from None
    if len(data) > most:
        raise _Malformed(f"inflates to more than {MAX_BYTES:,} bytes")
    if not inflater.eof:
        raise _Malformed("damaged: it ends in the middle of compressed data")
    return data


class _Elements:
    """The elements of a stretch of a file, one after the other."""

    def __init__(self, order: str, data: memoryview | bytes):
        self._order, self._data, self._at = order, memoryview(data), 0

    def __iter__(self) -> Iterator[tuple[int, memoryview]]:
        while self.left:
            yield self.take()

    @property
    def left(self) -> int:
        """How many bytes are not yet taken."""
        return len(self._data) - self._at

    def take(self) -> tuple[int, memoryview]:
        """The type and content of the next element."""
        if self.left < 8:
            raise _Malformed("damaged: it ends in the middle of an element")
        kind, size = struct.unpack_from(self._order + "II", self._data, self._at)
        if kind >> 16:  # up to four bytes in the place of the size
            size, kind = kind >> 16, kind & 0xFFFF
            start, following = self._at + 4, self._at + 8
            fits = size <= 4
        else:
            start = self._at + 8
            following = start + size + (-size % 8 if kind != _COMPRESSED else 0)
            fits = size <= len(self._data) - start
        if not fits:
            raise _Malformed("damaged: an element is larger than what holds it")
        self._at = min(following, len(self._data))
        return kind, self._data[start : start + size]


class _Matrix:
    """An array of MATLAB: numbers, characters, a cell or a struct, whose content is read when it is asked for."""

    def __init__(self, order: str, content: memoryview, depth: int):
        if depth > _MAX_DEPTH:
            raise _Malformed("cells and structs are nested too deeply")
        self._order, self._depth = order, depth
        self._elements = _Elements(order, content)
        self.kind, self.count, self.name = 6, 0, ""
        self._shape: tuple[int, ...] = (0, 0)
        if not len(content):  # an empty array may be written so
            return
        (flags, *_) = self._integers("u4", 2)
        self.kind, self._complex = flags & 0xFF, bool(flags & _COMPLEX)
        self._shape = tuple(self._integers("i4", 2))
        if min(self._shape) < 0:
            raise _Malformed(f"damaged: an array of shape {self._shape}")
        self.count = math.prod(self._shape)
        self.name = bytes(self._elements.take()[1]).decode("latin-1")

    def value(self) -> Any:
        """The numbers, the text, the list of a cell or the dictionary of a struct."""
        if self.kind == _CELL:
            return self._members(self.count)
        if self.kind == _STRUCT:
            names = self._field_names()
            if self.count != 1:
                raise _Malformed("a struct array, of which only single structs are read")
            return dict(zip(names, self._members(len(names)), strict=True))
        if self.kind == _CHAR:
            return self._text()
        if self.kind in _NUMERIC:
            return self._numbers()
        raise _Malformed(f"an array of MATLAB's class {self.kind}, of which none is read: no numbers, text or cell")

    def _members(self, count: int) -> list[Any]:
        if count > self._elements.left // 8:
            raise _Malformed(f"damaged: {count:,} members announced, in {self._elements.left:,} bytes")
        members = []
        for _ in range(count):
            kind, content = self._elements.take()
            if kind != _MATRIX:
                raise _Malformed(f"damaged: an element of type {kind} where an array should be")
            members.append(_Matrix(self._order, content, self._depth + 1).value())
        return members

    def _field_names(self) -> list[str]:
        (length,) = self._integers("i4", 1)
        _, content = self._elements.take()
        if length < 1 or len(content) % length:
            raise _Malformed("damaged: the names of a struct's fields")
        ends = range(0, len(content), length)
        names = [bytes(content[k : k + length]).partition(b"\0")[0].decode("latin-1") for k in ends]
        if len(set(names)) < len(names):
            raise _Malformed("damaged: a struct has two fields of one name")
        return names

    def _integers(self, kind: str, fewest: int) -> list[int]:
        content = self._elements.take()[1]
        if len(content) % 4 or len(content) < 4 * fewest or len(content) > 128:
            raise _Malformed("damaged: the head of an array")
        return np.frombuffer(content, self._order + kind).tolist()

    def _text(self) -> str:
        if not self.count:
            return ""
        kind, content = self._elements.take()
        wide = {4: "utf-16", 17: "utf-16", 18: "utf-32"}.get(kind)
        encoding = _TEXTS.get(kind) or (wide and wide + ("-le" if self._order == "<" else "-be"))
        if encoding is None or math.prod(self._shape[:1]) > 1:
            raise _Malformed("a text of several lines, or of an unknown encoding")
        try:
            return bytes(content).decode(encoding)
        except UnicodeDecodeError:
            raise _Malformed("damaged: a text that cannot be decoded") from None

    def _numbers(self) -> np.ndarray:
        if not self.count:
            return np.empty(self._shape if math.prod(self._shape) == 0 else (0, 0))
        kind, content = self._elements.take()
        if kind not in _NUMBERS or self._complex:
            raise _Malformed("numbers of an unknown or complex type")
        stored = np.dtype(self._order + _NUMBERS[kind])
        if len(content) != self.count * stored.itemsize:
            raise _Malformed(f"damaged: {len(content):,} bytes for {self.count:,} numbers")
        return np.frombuffer(content, stored).reshape(self._shape, order="F")


def _read_hdf5(data: bytes, variable: str) -> dict[str, Any]:
    with needed_by("a .mat file of version 7.3"):
        import h5py
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            found = _member(h5py, file, variable)
            if not isinstance(found, h5py.Group):
                raise _Malformed(f"no struct {variable}, but {', '.join(map(printable_name, list(file)[:5]))}")
            return {name: _read_dataset(h5py, file, _member(h5py, found, name), name, [MAX_BYTES]) for name in found}
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise _Malformed(f"damaged: {printable_name(str(error))[:200]}") from None


def _member(h5py: Any, group: Any, name: str) -> Any:
    """A member of a group; never one of another file, to which a link could lead."""
    link = group.get(name, getlink=True)
    return group[name] if isinstance(link, h5py.HardLink) else None


def _read_dataset(h5py: Any, file: Any, found: Any, name: str, left: list[int], depth: int = 0) -> Any:
    shown = printable_name(name[:40])
    if not isinstance(found, h5py.Dataset):
        raise _Malformed(f"{shown} holds neither numbers nor texts")
    if found.external is not None or found.is_virtual or depth > _MAX_DEPTH:
        raise _Malformed(f"{shown} lies in another file, or is nested too deeply")
    size = found.size * found.dtype.itemsize
    left[0] -= max(size, 8)
    if left[0] < 0 or math.prod(found.chunks or ()) * found.dtype.itemsize > max(size, 2**20):
        raise _Malformed(f"{shown} holds more than {MAX_BYTES:,} bytes")
    kind = found.attrs.get("MATLAB_class", b"")
    kind = kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)
    if found.attrs.get("MATLAB_empty", 0):
        return {"cell": [], "char": ""}.get(kind, np.empty((0, 0)))
    if found.dtype == h5py.ref_dtype:
        if kind != "cell":
            raise _Malformed(f"{shown} is a {printable_name(kind) or 'list of references'}, no cell")
        # MATLAB counts along the first dimension, which HDF5 has last.
        return [_read_dataset(h5py, file, file[r], name, left, depth + 1) for r in found[()].ravel()]
    if found.dtype.kind not in "iufb":
        raise _Malformed(f"{shown} holds neither numbers nor texts")
    array = found[()].T
    if kind == "char":
        if array.ndim != 2 or array.shape[0] != 1 or array.dtype.kind != "u":
            raise _Malformed(f"{shown} holds a text of several lines")
        return array.astype("<u2").tobytes("F").decode("utf-16-le", "replace")
    return array
