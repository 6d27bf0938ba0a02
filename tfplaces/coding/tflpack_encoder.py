"""Packs a `.tflite` for download, losslessly: the shortest coding of each constant is found by trying."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfplaces.coding import rans
from tfplaces.coding.container import MAX_BYTES, write
from tfplaces.coding.grid_scales import find_scale
from tfplaces.coding.tflite_constants import Constant, find_constants
from tfplaces.coding.tflpack_parts import MAX_PART_BYTES, MAX_SIDE, MIN_LINE, Part, Progress, no_progress
from tfplaces.common.errors import UserError

_MIN_PART_BYTES = 512  # smaller constants are deflated with the rest
_MAX_PARTS = 1024  # the header holds a few hundred bytes for each
_ENTRY_BYTES = 30  # of a part or a tensor in the deflated header, about
_SAMPLES, _SAMPLE = 16, 1 << 16  # so many times so many bytes tell how well a constant deflates


def pack(model: str | os.PathLike, path: str | os.PathLike, progress: Progress = no_progress) -> int:
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

    part: Part
    planes: list[np.ndarray]
    palettes: bytes

    def size(self) -> int:
        """Its bytes in the file, about."""
        tensors = sum(rans.encoded_bytes(plane) + _ENTRY_BYTES for plane in self.planes)
        return tensors + _ENTRY_BYTES + len(zlib.compress(self.palettes))


def _best(piece: Constant, data: np.ndarray) -> _Coded | None:
    """The shortest coding of a piece; None where it had better be deflated with the rest."""
    starts = range(0, len(data), max(_SAMPLE, len(data) // _SAMPLES))
    sample = b"".join(data[start : start + _SAMPLE].tobytes() for start in starts)
    shortest, best = len(zlib.compress(sample)) * (len(data) / len(sample)), None
    for coded in _codings(piece, data):
        if (size := coded.size()) < shortest:
            shortest, best = size, coded
    return best


def _codings(piece: Constant, data: np.ndarray) -> Iterator[_Coded]:
    place = (piece.offset, piece.bytes, piece.value_bytes)
    yield _Coded(Part(*place, 1, "planes", None, False), list(data.reshape(-1, piece.value_bytes).T.copy()), b"")
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
                yield _Coded(Part(*place, len(matrix), coding, lines, transposed), [plane], palettes)


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
        scale = find_scale(restore(palette).view(f"<f{lines.itemsize}")) if len(palette) <= 255 else None
        if scale is None:
            return None
        scales[number], multiples = scale
        multiples.take(np.searchsorted(palette, line), out=found[number])
    levels = np.unique(found)
    ranks = np.searchsorted(levels, found).astype(np.uint8)
    return "multiples", ranks, bytes([len(levels)]) + levels.tobytes() + _by_plane(scales)


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
