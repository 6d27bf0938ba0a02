"""The parts that a `.tflpack` divides a model's constants into: what its header says of them, checked.

The constants of the model are cut out and entropy-coded one by one, in *parts*; what is left is deflated. A part is
coded in one of three ways:

- planes: the first bytes of its values, the second ones, and so on; for any numbers.
- palettes: a row (or column) of a kernel after weight sharing has few different values. They are listed once, and the
  values coded as ranks in that list, counted from zero outwards: so that levels get the same ranks in every row,
  however each is scaled.
- multiples: the same where the floats of a row are whole multiples, at most 127, of one number, their scale, as levels
  on the int8 grid are; the scale is all that has to be listed.

FORMAT.md has the bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from tfplaces.coding.container import Container
from tfplaces.common.errors import UserError

MAX_PART_BYTES = 1 << 24  # bounds the memory that unpacking takes
MIN_LINE = 32  # values; palettes do not pay for less
MAX_SIDE = 128  # values of a palette on one side of zero; ranks are bytes

# What a coding is of: whole parts, or lines, each of which has a palette or a scale.
_KINDS = (("planes", None), *itertools.product(("palettes", "multiples"), ("rows", "columns")))

# Is told how many bytes of the model are done, and of how many.
Progress = Callable[[int, int], object]


def no_progress(done: int, of: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Part:
    """A constant, or a slice of one: a matrix of values, and how it is coded.

    Attributes:
        offset, bytes: where it is in the model.
        value_bytes: bytes of one value: 1, 2, 4 or 8.
        rows: number of rows of the matrix.
        coding: "planes", "palettes" or "multiples".
        lines: "rows" or "columns": what has a palette, or a scale, each. None for planes.
        transposed: whether what is coded are the columns, one after the other.
    """

    offset: int
    bytes: int
    value_bytes: int
    rows: int
    coding: str
    lines: str | None
    transposed: bool

    @property
    def values(self) -> int:
        """How many values it has."""
        return self.bytes // self.value_bytes

    @property
    def columns(self) -> int:
        """Columns of the matrix."""
        return self.values // self.rows

    @property
    def tensors(self) -> int:
        """How many tensors hold it."""
        return self.value_bytes if self.coding == "planes" else 1

    @classmethod
    def from_json(cls, entry: object, end: int) -> Part:
        """Checks a part of a header; `end` is where the one before it ends."""
        names = [field.name for field in fields(cls)]
        if not isinstance(entry, dict) or set(entry) != set(names):
            raise UserError(f"every part needs {', '.join(names)} and nothing else; upgrade tfplaces")
        part = cls(**entry)
        if not all(type(n) is int and n > 0 for n in (part.value_bytes, part.bytes, part.rows)):
            raise UserError("bytes, value_bytes and rows of a part have to be positive integers")
        if type(part.offset) is not int or part.offset < end or part.bytes > MAX_PART_BYTES:
            raise UserError(f"parts overlap or are larger than {MAX_PART_BYTES} bytes")
        if part.value_bytes not in (1, 2, 4, 8) or part.bytes % (part.value_bytes * part.rows):
            raise UserError("a part is not a matrix of values of 1, 2, 4 or 8 bytes")
        if (part.coding, part.lines) not in _KINDS or type(part.transposed) is not bool:
            raise UserError("a part is coded in an unknown way; upgrade tfplaces")
        if part.coding == "multiples" and part.value_bytes not in (2, 4):
            raise UserError("multiples have to be of 2 or 4 bytes")
        if part.coding == "planes" and part.transposed:
            raise UserError("planes cannot be transposed")
        if part.coding != "planes" and (part.columns if part.lines == "rows" else part.rows) < MIN_LINE:
            raise UserError(f"a part has palettes for lines of less than {MIN_LINE} values")
        return part


def check_header(container: Container, max_bytes: int) -> tuple[int, str, list[Part]]:
    """The size of the model, its SHA-256 and its parts, once everything is checked that can be before decoding."""
    try:
        header = container.header
        if set(header) != {"bytes", "sha256", "parts"} or not isinstance(header["parts"], list):
            raise UserError("the header has to be of bytes, sha256 and parts; upgrade tfplaces")
        size, digest, parts, end = header["bytes"], header["sha256"], [], 0
        if type(size) is not int or not 0 <= size <= max_bytes:
            raise UserError(f"the model takes {size!r:.40} bytes, max_bytes is {max_bytes}")
        for entry in header["parts"]:
            parts.append(part := Part.from_json(entry, end))
            end = part.offset + part.bytes
        if end > size:
            raise UserError("the parts are larger than the model")
        expected = {f"{n}/{p}": part.values for n, part in enumerate(parts) for p in range(part.tensors)}
        if set(container.names) != {*expected, "rest"}:
            raise UserError("the tensors are not those of the parts")
        for name in container.names:
            shape = container.shape(name)
            if container.dtype(name) != np.uint8 or len(shape) != 1 or shape[0] != expected.get(name, shape[0]):
                raise UserError(f"tensor {name!r} is not the bytes of its part")
    except ValueError as error:
        raise UserError(f"{container.label}: {error}") from None
    return size, digest, parts
