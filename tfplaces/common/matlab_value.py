"""What a variable of a MATLAB file is, whatever the version of the file; and its content as plain Python."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name

NUMERIC = {
    "double": "f8", "single": "f4", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4",
    "uint32": "u4", "int64": "i8", "uint64": "u8", "logical": "u1",
}  # fmt: skip

# What a value takes at least, as values are counted: Python needs more for an empty one than the file.
LEAST = 64
MAX_DEPTH = 8


class MatlabValue(Protocol):
    """An array of MATLAB: numbers, characters, a cell or a struct; its content is read when it is asked for.

    Attributes:
        class_name: as MATLAB says it: one of `NUMERIC`, `char`, `cell`, `struct`, `function_handle`, or the class of
            an object.
        shape: at least two sizes.
    """

    @property
    def class_name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers of a numeric array; raises UserError where it is none."""

    def fields(self) -> Mapping[str, MatlabValue]:
        """The members of a single struct by name; raises UserError where it is none, or damaged."""

    def members(self) -> Iterator[MatlabValue]:
        """The members of a cell, column by column, each made in its turn; raises UserError as `fields` does."""

    def numbers(self) -> np.ndarray:
        """The numbers of a numeric array, in its own type; raises UserError where it is none, or damaged."""

    def text(self) -> str:
        """The characters of a single line; raises UserError where there are no such, or they are damaged."""

    def check_end(self) -> None:
        """Checks the checksum over a variable, where the file has one; raises UserError where it is wrong."""


def in_words(value: MatlabValue) -> str:
    """What a value is, for messages: its class and its shape."""
    sides = " x ".join(map(str, value.shape[:8]))
    return f"an array of MATLAB's class {printable_name(value.class_name[:40]) or 'unknown'} ({sides})"


class Budget:
    """Counts the values that are looked at in a file.

    Args:
        most: how many bytes of content are read from it in all, or at once.
    """

    def __init__(self, most: int):
        self.most, self._left = most, most // LEAST

    def take(self, depth: int) -> None:
        """Counts a value that lies in so many others.

        Raises:
            UserError: it is one too many.
        """
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise UserError("cells and structs are nested too deeply, or have too many members")


def plain(value: MatlabValue, most: int) -> Any:
    """The content of a value: a dictionary of a struct, a list of a cell, a text, or an array of numbers.

    Args:
        value: what is read whole.
        most: how many bytes of numbers it may have in all.

    Raises:
        UserError: it is larger or damaged, or something in it is no data (a function, an object).
    """
    left = most

    def content(value: MatlabValue) -> Any:
        nonlocal left
        if value.class_name == "struct":
            return {name: named(name, member) for name, member in value.fields().items()}
        if value.class_name == "cell":
            return [content(member) for member in value.members()]
        if value.class_name == "char":
            return value.text()
        left -= math.prod(value.shape) * np.dtype(NUMERIC.get(value.class_name, "u1")).itemsize
        if left < 0:
            raise UserError(f"its content has more than {most:,} bytes")
        return value.numbers()

    def named(name: str, member: MatlabValue) -> Any:
        try:
            return content(member)
        except UserError as error:
            raise UserError(f"{printable_name(name[:40])}: {error}") from None

    return content(value)
