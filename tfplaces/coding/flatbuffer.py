"""Reads the tables of a flatbuffer with bounds checked: https://flatbuffers.dev/internals.

Nothing outside of the file is read, and nothing is copied or allocated before it is known to be in the file.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError

# The field of a table is at the offset that its list of fields, the vtable, has for it behind two sizes.
_FIRST_FIELD = 4


class DamagedError(UserError):
    """A flatbuffer that is cut short or damaged; the message says how, but not of which file."""

    def __init__(self, reason: str):
        super().__init__(f"a TFLite model cut short or damaged: {reason}")


class Table:
    """A table of a flatbuffer; a field that is absent is 0, its default, or an empty vector.

    Args:
        data: the whole file: bytes or anything else that has a buffer of bytes.
        position: of the table in it.
        parent: the table that refers to it. All that a root and its children list may be at most twice as long as the
            file, as lists that share their bytes could make reading endless.

    Raises:
        DamagedError: the table, or in a method the field, is not wholly in the file.
    """

    def __init__(self, data: Any, position: int, parent: Table | None = None):
        self.data, self.position = data, position
        self._bytes_left: list[int] = parent._bytes_left if parent else [2 * len(data)]
        self._fields = position - read_number(data, "<i", position)
        self._fields_bytes = read_number(data, "<H", self._fields)
        self._bytes = read_number(data, "<H", self._fields + 2)
        if self._fields_bytes < _FIRST_FIELD or self._fields_bytes % 2 or self._bytes < 4:
            raise DamagedError("a table has no list of its fields")
        if max(position + self._bytes, self._fields + self._fields_bytes) > len(data):
            raise DamagedError("a table ends outside of the file")

    def fields(self) -> range:
        """The numbers of the fields that the table has room for."""
        return range((self._fields_bytes - _FIRST_FIELD) // 2)

    def place(self, field: int) -> int:
        """Where a field is in the file; 0 if the table is without it."""
        slot = _FIRST_FIELD + 2 * field
        if slot + 2 > self._fields_bytes:
            return 0
        offset = read_number(self.data, "<H", self._fields + slot)
        if offset and not 4 <= offset < self._bytes:
            raise DamagedError("a field lies outside of its table")
        return self.position + offset if offset else 0

    def number(self, field: int, form: str, default: int = 0) -> Any:
        """A number, of the form that `struct` has."""
        place = self.place(field)
        return read_number(self.data, form, place) if place else default

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """The position of a vector's first item, and how many there are."""
        place = self.place(field)
        if not place:
            return 0, 0
        start = place + read_number(self.data, "<I", place)
        count = read_number(self.data, "<I", start)
        if start + 4 + count * item_bytes > len(self.data):
            raise DamagedError("a vector ends outside of the file")
        return start + 4, count

    def numbers(self, field: int, form: str) -> np.ndarray:
        """A vector of numbers, of the type that numpy has; a view of the file."""
        dtype = np.dtype(form)
        start, count = self._listed(field, dtype.itemsize)
        return np.frombuffer(self.data, dtype, count, start) if count else np.zeros(0, dtype)

    def text(self, field: int) -> str:
        """A string, empty where the table is without it; C++ reads it up to the zero byte that must follow."""
        start, count = self._listed(field, 1)
        if not start:
            return ""
        if start + count >= len(self.data) or self.data[start + count] != 0:
            raise DamagedError("a text does not end")
        try:
            return bytes(self.data[start : start + count]).decode()
        except UnicodeDecodeError:
            raise DamagedError("a text is not UTF-8") from None

    def table(self, field: int) -> Table | None:
        """A table that this one refers to."""
        place = self.place(field)
        return Table(self.data, place + read_number(self.data, "<I", place), self) if place else None

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        start, count = self._listed(field, 4)
        places = range(start, start + 4 * count, 4)
        return [Table(self.data, place + read_number(self.data, "<I", place), self) for place in places]

    def _listed(self, field: int, item_bytes: int) -> tuple[int, int]:
        """A vector that is going to be walked through."""
        start, count = self.vector(field, item_bytes)
        self._bytes_left[0] -= count * item_bytes
        if self._bytes_left[0] < 0:
            raise DamagedError("its lists share their bytes")
        return start, count


def read_number(data: Any, form: str, position: int) -> Any:
    """A number at a position of a file.

    Raises:
        DamagedError: it is not in the file.
    """
    if not 0 <= position <= len(data) - struct.calcsize(form):
        raise DamagedError("an offset leads outside of the file")
    return struct.unpack_from(form, data, position)[0]
