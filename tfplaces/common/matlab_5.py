"""MATLAB files of versions 5 to 7.2, as "MAT-File Format" (The MathWorks) describes them.

scipy's reader trusts the sizes that it reads, so that a small file may ask for gigabytes; and it reads a variable
whole, where this one can leave its arrays in the file.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.matlab_value import NUMERIC, Budget, in_words
from tfplaces.common.stretches import DeflatedStretch, PlainStretch, Stretch

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 16: "utf-8"}
_MATRIX, _COMPRESSED = 14, 15
_CLASSES = {
    1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "double", 7: "single", 8: "int8", 9: "uint8",
    10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64", 16: "function_handle",
}  # fmt: skip
_OPAQUE, _COMPLEX = 17, 0x800
_HEAD_BYTES = 128
_MAX_HEAD_ELEMENT = 128
_MAX_FIELD_NAMES = 2**16
_MAX_TEXT = 2**20


def variables_of_version_5(file: BinaryIO, budget: Budget) -> Iterator[tuple[str, Matlab5Value]]:
    """The variables of a file, one after the other, each with its name.

    Args:
        file: the open file.
        budget: bounds what they hold, and what compressed ones may inflate to.

    Raises:
        UserError: the file is damaged or too large; the caller adds its name.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    order = {b"IM": "<", b"MI": ">"}.get(file.read(_HEAD_BYTES)[126:])
    if order is None:
        raise UserError("no .mat file of MATLAB's version 5 or later; in MATLAB, save it again with -v7")
    whole = PlainStretch(file, 0, size)
    elements = _Elements(order, whole, _HEAD_BYTES, size)
    while elements.left:
        kind, start, end = elements.take()
        data: Stretch = whole
        if kind == _COMPRESSED:
            data = DeflatedStretch(file, start, end, budget.most)
            kind, start, end = _Elements(order, data, 0, 2**33).take()
            if end > budget.most:
                raise UserError(f"inflates to more than {budget.most:,} bytes")
        if kind != _MATRIX:
            raise UserError(f"damaged: an element of type {kind} where a variable should be")
        value = Matlab5Value(order, data, start, end, budget)
        yield value.name, value


class _Elements:
    """The elements of a stretch, one after the other."""

    def __init__(self, order: str, data: Stretch, start: int, end: int):
        self._order, self._data, self._at, self._end = order, data, start, end

    @property
    def left(self) -> int:
        """How many bytes are not yet taken."""
        return self._end - self._at

    def take(self) -> tuple[int, int, int]:
        """The type of the next element, and where its content begins and ends."""
        if self.left < 8:
            raise UserError("damaged: it ends in the middle of an element")
        kind, size = struct.unpack(self._order + "II", self._data.read(self._at, 8))
        if kind >> 16:  # up to four bytes in the place of the size
            size, kind = kind >> 16, kind & 0xFFFF
            start, following = self._at + 4, self._at + 8
            fits = size <= 4
        else:
            start = self._at + 8
            following = start + size + (-size % 8 if kind != _COMPRESSED else 0)
            fits = size <= self._end - start
        if not fits:
            raise UserError("damaged: an element is larger than what holds it")
        self._at = min(following, self._end)
        return kind, start, start + size

    def small(self, most: int) -> tuple[int, bytes]:
        """The type and the content of the next element, which has at most so many bytes."""
        kind, start, end = self.take()
        if end - start > most:
            raise UserError(f"damaged: {end - start:,} bytes where at most {most:,} should be")
        return kind, self._data.read(start, end - start)


class Matlab5Value:
    """A `MatlabValue` of these files."""

    def __init__(self, order: str, data: Stretch, start: int, end: int, budget: Budget, depth: int = 0):
        budget.take(depth)
        self._order, self._data, self._end, self._budget, self._depth = order, data, end, budget, depth
        self._elements = _Elements(order, data, start, end)
        self.class_name, self.name, self._complex = "double", "", False
        self._content: tuple[int, int, int] | None = None
        self.shape: tuple[int, ...] = (0, 0)
        if start == end:  # an empty array may be written so
            return
        (flags, *_) = self._integers("u4", 2)
        if flags & 0xFF == _OPAQUE:  # an object of a class that MATLAB alone knows
            self.name, _, self.class_name = (self._letters() for _ in range(3))
            self.shape = (1, 1)
            return
        self._complex = bool(flags & _COMPLEX)
        self.shape = tuple(self._integers("i4", 2))
        if min(self.shape) < 0:
            raise UserError(f"damaged: an array of shape {self.shape}")
        self.name = self._letters()
        self.class_name = _CLASSES.get(flags & 0xFF, f"class {flags & 0xFF}")
        if self.class_name == "object":
            self.class_name = self._letters() or "object"
        if self.class_name in ("char", *NUMERIC) and self._count:
            self._content = self._elements.take()

    @property
    def _count(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers of a numeric array."""
        if self.class_name not in NUMERIC:
            raise UserError(f"{in_words(self)}, of which none is read: no numbers, text or cell")
        return np.dtype(NUMERIC[self.class_name])

    def fields(self) -> dict[str, Matlab5Value]:
        """The members of a single struct by name."""
        if self.class_name != "struct" or self._count != 1:
            raise UserError(f"{in_words(self)} where a single struct should be")
        elements = self._again()
        _, content = elements.small(4)
        (length,) = np.frombuffer(content, self._order + "i4").tolist() if len(content) == 4 else [0]
        _, content = elements.small(_MAX_FIELD_NAMES)
        if length < 1 or len(content) % length:
            raise UserError("damaged: the names of a struct's fields")
        names = [content[k : k + length].partition(b"\0")[0].decode("latin-1") for k in range(0, len(content), length)]
        if len(set(names)) < len(names):
            raise UserError("damaged: a struct has two fields of one name")
        return dict(zip(names, self._members(elements, len(names)), strict=True))

    def members(self) -> Iterator[Matlab5Value]:
        """The members of a cell, column by column."""
        if self.class_name != "cell":
            raise UserError(f"{in_words(self)} where a cell should be")
        return self._members(self._again(), self._count)

    def text(self) -> str:
        """The characters of a single line."""
        if self.class_name != "char":
            raise UserError(f"{in_words(self)} where a text should be")
        if self._content is None:
            return ""
        kind, start, end = self._content
        wide = {4: "utf-16", 17: "utf-16", 18: "utf-32"}.get(kind)
        encoding = _TEXTS.get(kind) or (wide and wide + ("-le" if self._order == "<" else "-be"))
        if encoding is None or math.prod(self.shape[:1]) > 1 or end - start > _MAX_TEXT:
            raise UserError("a text of several lines, of an unknown encoding, or very long")
        try:
            return self._data.read(start, end - start).decode(encoding)
        except UnicodeDecodeError:
            raise UserError("damaged: a text that cannot be decoded") from None

    def numbers(self) -> np.ndarray:
        """The numbers of a numeric array, in MATLAB's order (of Fortran) and in its type."""
        dtype = self.dtype
        if self._content is None:
            return np.empty(self.shape, dtype)
        kind, start, end = self._content
        if kind not in _NUMBERS or self._complex:
            raise UserError("numbers of an unknown or complex type")
        stored = np.dtype(self._order + _NUMBERS[kind])
        if end - start != self._count * stored.itemsize:
            raise UserError(f"damaged: {end - start:,} bytes for {self._count:,} numbers")
        if self._count * max(dtype.itemsize, stored.itemsize) > self._budget.most:
            raise UserError(f"an array of more than {self._budget.most:,} bytes")
        values = np.empty(self._count, stored)
        self._data.read_into(start, values.view(np.uint8))
        # Whole numbers are written in the smallest type that holds them.
        return values.astype(dtype, copy=False).reshape(self.shape, order="F")

    def check_end(self) -> None:
        """Checks the checksum of a compressed variable; raises UserError where it is wrong."""
        if isinstance(self._data, DeflatedStretch):
            self._data.check_end(self._end)

    def _again(self) -> _Elements:
        """The elements behind the head."""
        at = self._end - self._elements.left
        return _Elements(self._order, self._data, at, self._end)

    def _members(self, elements: _Elements, count: int) -> Iterator[Matlab5Value]:
        if count > elements.left // 8:
            raise UserError(f"damaged: {count:,} members announced, in {elements.left:,} bytes")
        for _ in range(count):
            kind, start, end = elements.take()
            if kind != _MATRIX:
                raise UserError(f"damaged: an element of type {kind} where an array should be")
            yield Matlab5Value(self._order, self._data, start, end, self._budget, self._depth + 1)

    def _integers(self, kind: str, fewest: int) -> list[int]:
        _, content = self._elements.small(_MAX_HEAD_ELEMENT)
        if len(content) % 4 or len(content) < 4 * fewest:
            raise UserError("damaged: the head of an array")
        return np.frombuffer(content, self._order + kind).tolist()

    def _letters(self) -> str:
        return self._elements.small(_MAX_HEAD_ELEMENT)[1].decode("latin-1")
