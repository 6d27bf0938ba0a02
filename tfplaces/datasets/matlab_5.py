"""MATLAB files of versions 5 to 7.2, as "MAT-File Format" (The MathWorks) describes them.

scipy's reader trusts the sizes that it reads, so that a small file may ask for gigabytes.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name

_MAX_DEPTH = 8
# What an array takes at least, as it is counted: Python needs more for an empty one than the file.
_LEAST = 64

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 16: "utf-8"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)
_COMPLEX = 0x800


def read_version_5(data: bytes, variable: str, most: int) -> dict[str, Any]:
    """Reads a struct from the content of a file.

    Args:
        data: the content.
        variable: the name of the struct.
        most: how many bytes its compressed variables may inflate to.

    Returns:
        What `tfplaces.datasets.matlab.read_struct` does.

    Raises:
        UserError: the file is damaged or too large, or holds no such struct; the caller adds its name.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise UserError("no .mat file of MATLAB's version 5 or later; in MATLAB, save it again with -v7")
    names = []
    left = most
    for kind, content in _Elements(order, memoryview(data)[128:]):
        if kind == _COMPRESSED:
            content = memoryview(_inflate(content, left))
            left -= len(content)
            kind, content = _Elements(order, content).take()
        if kind != _MATRIX:
            raise UserError(f"damaged: an element of type {kind} where a variable should be")
        matrix = _Matrix(order, content, 0, [most // _LEAST])
        names.append(printable_name(matrix.name[:40]))
        if matrix.name == variable:
            if matrix.kind != _STRUCT or matrix.count != 1:
                raise UserError(f"{variable} is no struct")
            return matrix.value()
    raise UserError(f"no variable {variable}, but {', '.join(names[:5]) or 'nothing'}")


def _inflate(content: memoryview, most: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(content, most + 1)
    except zlib.error as error:
        raise UserError(f"damaged: {error}") from None
    if len(data) > most:
        raise UserError(f"inflates to more than {most:,} bytes")
    if not inflater.eof:
        raise UserError("damaged: it ends in the middle of compressed data")
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
            raise UserError("damaged: it ends in the middle of an element")
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
            raise UserError("damaged: an element is larger than what holds it")
        self._at = min(following, len(self._data))
        return kind, self._data[start : start + size]


class _Matrix:
    """An array of MATLAB: numbers, characters, a cell or a struct, whose content is read when it is asked for."""

    def __init__(self, order: str, content: memoryview, depth: int, arrays_left: list[int]):
        arrays_left[0] -= 1
        if depth > _MAX_DEPTH or arrays_left[0] < 0:
            raise UserError("cells and structs are nested too deeply, or have too many members")
        self._order, self._depth, self._arrays_left = order, depth, arrays_left
        self._elements = _Elements(order, content)
        self.kind, self.count, self.name = 6, 0, ""
        self._shape: tuple[int, ...] = (0, 0)
        if not len(content):  # an empty array may be written so
            return
        (flags, *_) = self._integers("u4", 2)
        self.kind, self._complex = flags & 0xFF, bool(flags & _COMPLEX)
        self._shape = tuple(self._integers("i4", 2))
        if min(self._shape) < 0:
            raise UserError(f"damaged: an array of shape {self._shape}")
        self.count = math.prod(self._shape)
        self.name = bytes(self._elements.take()[1]).decode("latin-1")

    def value(self) -> Any:
        """The numbers, the text, the list of a cell or the dictionary of a struct."""
        if self.kind == _CELL:
            return self._members(self.count)
        if self.kind == _STRUCT:
            names = self._field_names()
            if self.count != 1:
                raise UserError("a struct array, of which only single structs are read")
            return dict(zip(names, self._members(len(names)), strict=True))
        if self.kind == _CHAR:
            return self._text()
        if self.kind in _NUMERIC:
            return self._numbers()
        raise UserError(f"an array of MATLAB's class {self.kind}, of which none is read: no numbers, text or cell")

    def _members(self, count: int) -> list[Any]:
        if count > self._elements.left // 8:
            raise UserError(f"damaged: {count:,} members announced, in {self._elements.left:,} bytes")
        members = []
        for _ in range(count):
            kind, content = self._elements.take()
            if kind != _MATRIX:
                raise UserError(f"damaged: an element of type {kind} where an array should be")
            members.append(_Matrix(self._order, content, self._depth + 1, self._arrays_left).value())
        return members

    def _field_names(self) -> list[str]:
        (length,) = self._integers("i4", 1)
        _, content = self._elements.take()
        if length < 1 or len(content) % length:
            raise UserError("damaged: the names of a struct's fields")
        ends = range(0, len(content), length)
        names = [bytes(content[k : k + length]).partition(b"\0")[0].decode("latin-1") for k in ends]
        if len(set(names)) < len(names):
            raise UserError("damaged: a struct has two fields of one name")
        return names

    def _integers(self, kind: str, fewest: int) -> list[int]:
        content = self._elements.take()[1]
        if len(content) % 4 or len(content) < 4 * fewest or len(content) > 128:
            raise UserError("damaged: the head of an array")
        return np.frombuffer(content, self._order + kind).tolist()

    def _text(self) -> str:
        if not self.count:
            return ""
        kind, content = self._elements.take()
        wide = {4: "utf-16", 17: "utf-16", 18: "utf-32"}.get(kind)
        encoding = _TEXTS.get(kind) or (wide and wide + ("-le" if self._order == "<" else "-be"))
        if encoding is None or math.prod(self._shape[:1]) > 1:
            raise UserError("a text of several lines, or of an unknown encoding")
        try:
            return bytes(content).decode(encoding)
        except UnicodeDecodeError:
            raise UserError("damaged: a text that cannot be decoded") from None

    def _numbers(self) -> np.ndarray:
        if not self.count:
            return np.empty(self._shape if math.prod(self._shape) == 0 else (0, 0))
        kind, content = self._elements.take()
        if kind not in _NUMBERS or self._complex:
            raise UserError("numbers of an unknown or complex type")
        stored = np.dtype(self._order + _NUMBERS[kind])
        if len(content) != self.count * stored.itemsize:
            raise UserError(f"damaged: {len(content):,} bytes for {self.count:,} numbers")
        return np.frombuffer(content, stored).reshape(self._shape, order="F")
