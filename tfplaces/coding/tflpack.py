"""Packs a `.tflite` for download, losslessly, and unpacks it: the same bytes, proved by their SHA-256. FORMAT.md.

The constants of the model are cut out and entropy-coded one by one, in *parts*; what is left is deflated. A part is
coded in one of three ways:

- planes: the first bytes of its values, the second ones, ...; for any numbers.
- palettes: a row (or column) of a kernel after weight sharing has few different values. They are listed once, and the
  values coded as ranks in that list, counted from zero outwards: so that levels get the same ranks in every row,
  however each is scaled.
- multiples: the same where the floats of a row are whole multiples, at most 127, of one number, their scale, as levels
  on the int8 grid are; the scale is all that has to be listed.
"""

import hashlib
import io
import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfplaces.coding import rans
from tfplaces.coding.container import MAX_BYTES, Container, read, replacing, write
from tfplaces.coding.tflite_constants import Constant, find_constants
from tfplaces.common.errors import UserError

MAX_PART_BYTES = 1 << 24  # bounds the memory that unpacking takes
MIN_LINE = 32  # values; palettes do not pay for less
MAX_SIDE = 128  # values of a palette on one side of zero; ranks are bytes
CODINGS = ("planes", "palettes", "multiples")

_MIN_PART_BYTES = 512  # smaller constants are deflated with the rest
_MAX_PARTS = 1024  # the header holds a few hundred bytes for each
_ENTRY_BYTES = 30  # of a part or a tensor in the deflated header, about
_SAMPLES, _SAMPLE = 16, 1 << 16  # so many times so many bytes tell how well a constant deflates
_CHUNK = 1 << 20

Progress = Callable[[int, int], object]  # is told how many bytes of the model are done, and of how many


def pack(model: str | os.PathLike, path: str | os.PathLike, progress: Progress = lambda done, of: None) -> int:
    """Packs a `.tflite`.

    Args:
        model: the `.tflite` file.
        path: the `.tflpack` file to make or replace; it is complete or is not there.
        progress: told how many bytes of the model are packed, and of how many.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: not a TFLite model, a damaged one, or one larger than `MAX_BYTES`.
        OSError: a file cannot be read or written.
    """
    if os.path.getsize(model) > MAX_BYTES:
        raise UserError(f"{os.fspath(model)}: larger than {MAX_BYTES} bytes")
    data = Path(model).read_bytes()
    try:
        constants = find_constants(data)
    except ValueError as error:
        raise UserError(f"{os.fspath(model)}: {error}") from None
    parts: list[dict[str, Any]] = []  # filled while the tensors are taken
    header = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "parts": parts}
    return write(path, "tflpack", header, _tensors(data, constants, parts, progress))


def unpack(
    packed: str | os.PathLike,
    path: str | os.PathLike,
    max_bytes: int = MAX_BYTES,
    progress: Progress = lambda done, of: None,
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
    with read(packed, "tflpack", max_bytes) as container, replacing(Path(path)) as file:
        return _unpack(container, file, max_bytes, progress)


def unpack_bytes(packed: str | os.PathLike | bytes | BinaryIO, max_bytes: int = MAX_BYTES) -> bytes:
    """Unpacks a `.tflpack`, given as whatever `read` takes, to the bytes of the model; otherwise as `unpack`."""
    file = io.BytesIO()
    with read(packed, "tflpack", max_bytes) as container:
        _unpack(container, file, max_bytes, lambda done, of: None)
    return file.getvalue()


@dataclass(frozen=True)
class _Part:
    """A constant, or a slice of one: a matrix of values, and how it is coded.

    Attributes:
        offset, bytes: where it is in the model.
        value_bytes: of one value: 1, 2, 4 or 8.
        rows: of the matrix.
        coding: one of `CODINGS`.
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
        return self.bytes // self.value_bytes

    @property
    def columns(self) -> int:
        return self.values // self.rows

    @property
    def tensors(self) -> int:
        """How many hold it."""
        return self.value_bytes if self.coding == "planes" else 1

    @classmethod
    def from_json(cls, entry: object, end: int) -> "_Part":
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


_KINDS = (("planes", None), *itertools.product(("palettes", "multiples"), ("rows", "columns")))


# Packing.


def _tensors(
    data: bytes, constants: list[Constant], parts: list[dict[str, Any]], progress: Progress
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the tensors by name, and lists the parts that they hold."""
    deflater, rest, end = zlib.compressobj(9), [], 0
    largest = sorted((c for c in constants if c.bytes >= _MIN_PART_BYTES), key=lambda c: -c.bytes)[:_MAX_PARTS]
    for constant in sorted(largest, key=lambda c: c.offset):
        for piece in _pieces(constant):
            best = _best(piece, np.frombuffer(data, np.uint8, piece.bytes, piece.offset))
            if best is not None:
                rest += [deflater.compress(data[end : piece.offset]), deflater.compress(best.palettes)]
                for number, plane in enumerate(best.planes):
                    yield f"{len(parts)}/{number}", plane
                parts.append(asdict(best.part))
                end = piece.offset + piece.bytes
            progress(piece.offset + piece.bytes, len(data))
    rest += [deflater.compress(data[end:]), deflater.flush()]
    yield "rest", np.frombuffer(b"".join(rest), np.uint8)
    progress(len(data), len(data))


def _pieces(constant: Constant) -> Iterator[Constant]:
    """A constant in slices of at most `MAX_PART_BYTES`, along its first dimension where that is possible."""
    shape = constant.shape
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    row_bytes = constant.bytes // shape[0] if shape else constant.value_bytes
    if row_bytes > MAX_PART_BYTES:
        shape, row_bytes = (), constant.value_bytes
    step = MAX_PART_BYTES // row_bytes * row_bytes
    for start in range(0, constant.bytes, step):
        size = min(step, constant.bytes - start)
        sliced = (size // row_bytes, *shape[1:]) if shape else ()
        yield Constant(constant.offset + start, size, constant.value_bytes, sliced)


@dataclass(frozen=True)
class _Coded:
    """A part of a model, coded: its tensors, uint8 `[values]` each, and its palettes or scales as they are stored."""

    part: _Part
    planes: list[np.ndarray]
    palettes: bytes

    def size(self) -> int:
        """Its bytes in the file, about."""
        tensors = sum(rans.encoded_bytes(plane) + _ENTRY_BYTES for plane in self.planes)
        return tensors + _ENTRY_BYTES + len(zlib.compress(self.palettes))


def _best(piece: Constant, data: np.ndarray) -> _Coded | None:
    """The shortest coding of a piece; None where it had better be deflated with the rest."""
    starts = range(0, len(data), max(_SAMPLE, len(data) // _SAMPLES))
    sample = b"".join(data[start : start + _SAMPLE] for start in starts)
    shortest, best = len(zlib.compress(sample)) * (len(data) / len(sample)), None
    for coded in _codings(piece, data):
        if (size := coded.size()) < shortest:
            shortest, best = size, coded
    return best


def _codings(piece: Constant, data: np.ndarray) -> Iterator[_Coded]:
    place = (piece.offset, piece.bytes, piece.value_bytes)
    yield _Coded(_Part(*place, 1, "planes", None, False), list(data.reshape(-1, piece.value_bytes).T.copy()), b"")
    words = data.view(f"<u{piece.value_bytes}")
    shape = piece.shape or (1, len(words))
    # The channels are the first dimension of most kernels, the last one of some. Grams of neighbours are shorter along
    # one or the other.
    for lines, matrix in (("rows", words.reshape(shape[0], -1)), ("columns", words.reshape(-1, shape[-1]))):
        by_line = np.ascontiguousarray(matrix if lines == "rows" else matrix.T)
        if by_line.shape[1] >= MIN_LINE and (coded := _multiples(by_line) or _palettes(by_line)):
            coding, ranks, palettes = coded
            if lines == "columns":
                ranks = ranks.T
            for transposed in (False,) if 1 in matrix.shape else (False, True):
                plane = np.ascontiguousarray(ranks.T if transposed else ranks).reshape(-1)
                yield _Coded(_Part(*place, len(matrix), coding, lines, transposed), [plane], palettes)


def _palettes(lines: np.ndarray) -> tuple[str, np.ndarray, bytes] | None:
    """Codes each line as ranks in its palette: 0, 2, 4, ... from zero upwards, 1, 3, 5, ... downwards.

    Args:
        lines: unsigned integers `[lines, values]`, the bits of whatever they are.

    Returns:
        "palettes", ranks, uint8 `[lines, values]`, and the palettes as they are stored; or None where one is too large.
    """
    keys, restore = _keys(lines)
    ranks, counts, palettes = np.empty(lines.shape, np.uint8), [], []
    for line, out in zip(keys, ranks, strict=True):
        palette = np.unique(line)
        below = int(np.searchsorted(palette, 0))
        above = len(palette) - below
        if max(below, above) > MAX_SIDE or 2 * len(palette) > len(line):
            return None
        rank = np.concatenate([np.arange(2 * below - 1, 0, -2), np.arange(0, 2 * above, 2)]).astype(np.uint8)
        rank.take(np.searchsorted(palette, line), out=out)
        counts.append((above, below))
        palettes += [palette[below:], palette[:below][::-1]]
    words = restore(np.concatenate(palettes))
    return "palettes", ranks, np.array(counts, np.uint8).T.tobytes() + _by_plane(words)


def _multiples(lines: np.ndarray) -> tuple[str, np.ndarray, bytes] | None:
    """Codes each line of floats as multiples of its scale: ranks in the list of those that occur in any line.

    Args:
        lines: unsigned integers `[lines, values]`, the bits of float16 or float32.

    Returns:
        "multiples", ranks, uint8 `[lines, values]`, and the list and the scales as they are stored; or None where a
        line's values are no multiples of anything.
    """
    if lines.itemsize not in (2, 4):
        return None
    keys, restore = _keys(lines)
    found, scales = np.empty(lines.shape, np.int8), np.empty(len(lines), np.float32)
    for number, line in enumerate(keys):
        palette = np.unique(line)
        scale = _find_scale(restore(palette).view(f"<f{lines.itemsize}")) if len(palette) <= 255 else None
        if scale is None:
            return None
        scales[number], multiples = scale
        multiples.take(np.searchsorted(palette, line), out=found[number])
    levels = np.unique(found)
    ranks = np.searchsorted(levels, found).astype(np.uint8)
    return "multiples", ranks, bytes([len(levels)]) + levels.tobytes() + _by_plane(scales)


def _find_scale(values: np.ndarray) -> tuple[np.float32, np.ndarray] | None:
    """A float32 of which all values are whole multiples, at most 127, once rounded to their type; the multiples too.

    Args:
        values: float16 or float32 `[n]`, all different.
    """
    if not np.isfinite(values).all():
        return None
    # Zero times a negative scale is the negative zero that a negated kernel holds.
    sign = -1 if np.signbit(values[values == 0]).any() else 1
    size = np.abs(values.astype(np.float64))
    largest = size.max()
    if not largest:
        return np.float32(sign), np.zeros(len(values), np.int8)
    # What largest / n comes near to enough: within half a unit in the last place of values, or nearly.
    near = largest / np.arange(1, 128)[:, None]
    multiples = np.rint(size / near)
    slack = np.spacing(values.dtype.type(largest)).astype(np.float64)
    fits = (np.abs(size - multiples * near) <= slack).all(axis=1)
    for multiple in multiples[fits]:
        used = multiple > 0
        half = np.spacing(np.abs(values[used])).astype(np.float64) / 2
        least = np.max((size[used] - half) / multiple[used])
        most = np.min((size[used] + half) / multiple[used])
        middle = np.float32((least + most) / 2)
        signed = np.where(np.signbit(values), -sign, sign) * multiple
        for scale in (middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))):
            if _products(signed, sign * scale, values.dtype).tobytes() == values.tobytes():
                return sign * scale, signed.astype(np.int8)
    return None


def _keys(words: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Signed integers in the order of the numbers that words, unsigned integers, are the bits of; and the way back.

    One byte is taken for an integer, more for a float; other numbers come in an order of no meaning, but come back.
    """
    keys = words.view(f"<i{words.itemsize}")
    if words.itemsize == 1:
        return keys, lambda keys: keys.view(words.dtype)
    magnitude = np.iinfo(keys.dtype).max

    def flip(keys: np.ndarray) -> np.ndarray:
        return keys ^ (keys >> (8 * words.itemsize - 1) & magnitude)

    return flip(keys), lambda keys: flip(keys).view(words.dtype)


def _by_plane(words: np.ndarray) -> bytes:
    return words.view(np.uint8).reshape(-1, words.itemsize).T.tobytes()


# Unpacking.


def _unpack(container: Container, file: BinaryIO, max_bytes: int, progress: Progress) -> int:
    size, digest, parts = _check_header(container, max_bytes)
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


def _check_header(container: Container, max_bytes: int) -> tuple[int, str, list[_Part]]:
    """The size of the model, its SHA-256 and its parts, once everything is checked that can be before decoding."""
    try:
        header = container.header
        if set(header) != {"bytes", "sha256", "parts"} or not isinstance(header["parts"], list):
            raise UserError("the header has to be of bytes, sha256 and parts; upgrade tfplaces")
        size, digest, parts, end = header["bytes"], header["sha256"], [], 0
        if type(size) is not int or not 0 <= size <= max_bytes:
            raise UserError(f"the model takes {size!r:.40} bytes, max_bytes is {max_bytes}")
        for entry in header["parts"]:
            parts.append(part := _Part.from_json(entry, end))
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


def _decode(container: Container, number: int, part: _Part, rest: "_Rest") -> memoryview:
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


# From a slice of lines to their values by rank, as unsigned integers `[lines, 256]`. A rank without a value is 0: what
# comes of it is not what was packed, which SHA-256 finds.
_Entries = Callable[[slice], np.ndarray]


def _read_multiples(rest: "_Rest", lines: int, length: int, value_bytes: int) -> _Entries:
    levels = np.zeros(256, np.int8)
    used = rest.take_numbers(rest.take(1)[0], "i1")
    levels[: len(used)] = used
    scales = rest.take_numbers(lines, "<f4")
    return lambda some: _products(levels, scales[some, None], np.dtype(f"<f{value_bytes}")).view(f"<u{value_bytes}")


def _products(multiples: np.ndarray, scales: np.ndarray | np.float32, dtype: np.dtype) -> np.ndarray:
    """One float32 product, rounded once more where dtype is float16."""
    with np.errstate(all="ignore"):  # a hostile scale may overflow; SHA-256 finds it
        return (multiples.astype(np.float32) * scales).astype(dtype)


def _read_palettes(rest: "_Rest", lines: int, length: int, value_bytes: int) -> _Entries:
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
        self._deflated, self._next = deflated.data, b""

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
