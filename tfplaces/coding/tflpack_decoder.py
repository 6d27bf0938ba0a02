"""Unpacks a `.tflpack` to the very `.tflite` that was packed, which is proved by its SHA-256."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from tfplaces.coding.container import MAX_BYTES, Container, read
from tfplaces.coding.grid_scales import products
from tfplaces.coding.tflpack_parts import MAX_SIDE, Part, Progress, check_header, no_progress
from tfplaces.common.errors import UserError
from tfplaces.common.files import replacing

_CHUNK = 1 << 20

# From a slice of lines to their values by rank, as unsigned integers `[lines, 256]`. A rank without a value is 0: what
# comes of it is not what was packed, which SHA-256 finds.
_Entries = Callable[[slice], np.ndarray]


def unpack(
    packed: str | os.PathLike,
    path: str | os.PathLike,
    max_bytes: int = MAX_BYTES,
    progress: Progress = no_progress,
) -> int:
    """Unpacks a `.tflpack` to a file. Takes the memory of what is deflated, and less than 0.2 GB for a part at a time.

    Args:
        packed: the `.tflpack` file.
        path: the `.tflite` file to make or replace; it is complete and the one that was packed, or is not there.
        max_bytes: a larger model is refused before it is unpacked.
        progress: told how many bytes of the model are written, and of how many.

    Returns:
        The bytes of the model.

    Raises:
        ValueError: not a sound `.tflpack` file, or too large a model.
        OSError: a file cannot be read or written.
    """
    with read(packed, "tflpack", max_bytes) as container, replacing(path) as temporary, open(temporary, "wb") as file:
        return _unpack(container, file, max_bytes, progress)


def unpack_bytes(packed: str | os.PathLike | bytes | BinaryIO, max_bytes: int = MAX_BYTES) -> bytes:
    """Unpacks a `.tflpack`, given as whatever `read` takes, to the bytes of the model; otherwise as `unpack`."""
    file = io.BytesIO()
    with read(packed, "tflpack", max_bytes) as container:
        _unpack(container, file, max_bytes, no_progress)
    return file.getvalue()


def _unpack(container: Container, file: BinaryIO, max_bytes: int, progress: Progress) -> int:
    size, digest, parts = check_header(container, max_bytes)
    rest = _Rest(container.tensor("rest"), container.label)
    sha256, done = hashlib.sha256(), 0

    def put(data: bytes | memoryview) -> None:
        nonlocal done
        sha256.update(data)
        file.write(data)
        done += len(data)
        progress(done, size)

    for number, part in enumerate(parts):
        rest.copy(part.offset - done, put)
        put(_decode(container, number, part, rest))
    rest.copy(size - done, put)
    rest.end()
    if sha256.hexdigest() != digest:
        raise UserError(f"{container.label}: what it unpacks to is not what was packed; its writer is at fault")
    return size


def _decode(container: Container, number: int, part: Part, rest: _Rest) -> memoryview:
    """The bytes of a part."""
    planes = [container.tensor(f"{number}/{plane}") for plane in range(part.tensors)]
    if part.coding == "planes":
        return np.stack(planes, axis=1).reshape(-1).data
    by_row = part.lines == "rows"
    ranks = planes[0].reshape((part.columns, part.rows) if part.transposed else (part.rows, part.columns))
    ranks = np.ascontiguousarray(ranks.T if part.transposed == by_row else ranks)
    lines, length = ranks.shape
    entries = (_read_palettes if part.coding == "palettes" else _read_multiples)(rest, lines, length, part.value_bytes)
    values = np.empty(ranks.shape, f"<u{part.value_bytes}")
    step = max(1, min(1024, _CHUNK // length))
    for first in range(0, lines, step):
        some = slice(first, min(first + step, lines))
        values[some] = entries(some)[np.arange(some.stop - first)[:, None], ranks[some]]
    return np.ascontiguousarray(values if by_row else values.T).reshape(-1).view(np.uint8).data


def _read_multiples(rest: _Rest, lines: int, length: int, value_bytes: int) -> _Entries:
    levels = np.zeros(256, np.int8)
    used = rest.take_numbers(rest.take(1)[0], "i1")
    levels[: len(used)] = used
    scales = rest.take_numbers(lines, "<f4")
    return lambda some: products(levels, scales[some, None], np.dtype(f"<f{value_bytes}")).view(f"<u{value_bytes}")


def _read_palettes(rest: _Rest, lines: int, length: int, value_bytes: int) -> _Entries:
    above, below = rest.take_numbers(2 * lines, "u1").reshape(2, lines).astype(np.intp)
    total = above + below
    if max(above.max(), below.max()) > MAX_SIDE or total.max() > length:
        raise UserError(f"{rest.label}: a palette is too large; its writer is at fault")
    ends = np.cumsum(total)
    words = rest.take_numbers(int(ends[-1]), f"<u{value_bytes}")

    def entries(some: slice) -> np.ndarray:
        line = np.repeat(np.arange(some.stop - some.start), total[some])
        start = ends[some.start] - total[some.start]
        order = np.arange(start, ends[some.stop - 1]) - np.repeat(ends[some] - total[some], total[some])
        upward = np.repeat(above[some], total[some])
        rank = np.where(order < upward, 2 * order, 2 * (order - upward) + 1)
        table = np.zeros((some.stop - some.start, 256), words.dtype)
        table[line, rank] = words[start : ends[some.stop - 1]]
        return table

    return entries


class _Rest:
    """The deflated bytes: what lies between parts, and palettes. No more than is asked for is ever made."""

    def __init__(self, deflated: np.ndarray, label: str):
        self._inflater, self.label = zlib.decompressobj(), label
        self._deflated: memoryview = deflated.data
        self._next: bytes | memoryview = b""

    def take(self, size: int) -> bytes:
        taken = bytearray()
        self.copy(size, taken.extend)
        return bytes(taken)

    def take_numbers(self, count: int, dtype: str) -> np.ndarray:
        """Numbers that are stored as their first bytes, then the second ones, ...; `[count]`."""
        value_bytes = np.dtype(dtype).itemsize
        planes = np.frombuffer(self.take(count * value_bytes), np.uint8).reshape(value_bytes, count)
        return planes.T.copy().view(dtype).reshape(-1)

    def copy(self, size: int, put: Callable[[bytes], object]) -> None:
        """Gives the next `size` bytes to `put`, in pieces."""
        while size:
            data = self._inflate(min(size, _CHUNK))
            if not data and (self._inflater.eof or not len(self._next) + len(self._deflated)):
                raise UserError(f"{self.label}: the rest ends too early; its writer is at fault")
            size -= len(data)
            put(data)

    def end(self) -> None:
        """Refuses what is left over."""
        more = b"" if self._inflater.eof else self._inflate(1)  # it may hold the last bytes it was given
        while not more and not self._inflater.eof and (self._next or self._deflated):
            more = self._inflate(1)
        if more or not self._inflater.eof or self._inflater.unused_data or self._deflated:
            raise UserError(f"{self.label}: the rest does not end where it should; its writer is at fault")

    def _inflate(self, most: int) -> bytes:
        if not self._next:
            self._next, self._deflated = self._deflated[:_CHUNK], self._deflated[_CHUNK:]
        try:
            data = self._inflater.decompress(self._next, most)
        except zlib.error as error:
            raise UserError(f"{self.label}: the rest cannot be inflated ({error})") from None
        self._next = self._inflater.unconsumed_tail
        return data
