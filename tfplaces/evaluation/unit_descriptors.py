"""Descriptors that are fit to be compared: finite, none of them zero, and given out at unit length."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.describers import check_finite

# Lengths that differ from 1 by no more are those of a network that normalises, in any float type.
_TOLERANCE = 1e-4
# Components of two descriptors of unit length that differ by no more are equal but for the rounding of float32.
_EQUAL = 1e-6
# Numbers looked at at a time: 64 MB of float32.
_BLOCK = 2**24


class Vectors(Protocol):
    """An array of two dimensions, in memory or mapped from files, that is read by slices of rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> np.ndarray: ...


def checked_lengths(block: np.ndarray, what: str, names: Sequence[str] | None = None, start: int = 0) -> np.ndarray:
    """The Euclidean lengths of descriptors that are fit to be compared, float64 `[n]`.

    Args:
        block: float32 `[n, dim]`.
        what: they are, for messages, such as "queries".
        names: names of the images of all blocks, for messages; numbers by default.
        start: number of the first of these.

    Raises:
        UserError: one is not finite, or zero.
    """
    numbers = range(start, start + len(block))
    check_finite(block, names[start : start + len(block)] if names else numbers, what)
    lengths = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
    if not lengths.all():
        index = start + int(np.argmin(lengths))
        name = printable_name(str(names[index] if names else index))
        raise UserError(
            f"{what}: the descriptor of {name} is zero: the model is broken, or it cannot describe this image"
        )
    return lengths


def check_vectors(vectors: Vectors, what: str) -> None:
    """Raises UserError unless descriptors are floats of two dimensions."""
    if len(vectors.shape) != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise UserError(
            f"{what}: descriptors of type {vectors.dtype} and shape {list(vectors.shape)}, expected floats "
            "[images, dim]"
        )


class UnitDescriptors:
    """Descriptors, checked once, that come at unit length when they are sliced. What they are made from is not copied.

    Args:
        vectors: `[n, dim]` of any float type; may be a memory map.
        what: they are, for messages, such as "queries".
        names: names of their images, for messages; numbers by default.

    Attributes:
        dim: length of a descriptor in numbers.
        normalized: how many are not of unit length as they are.
        lengths: the least and the greatest Euclidean length, as they are; (1, 1) where there are none.
        first_equal: for each descriptor the first one that is equal to it in every bit, int64 `[n]`; None where all
            differ.
        all_equal: whether there are at least two, and no two of them differ by more than float32's rounding.

    Raises:
        UserError: they are no floats of two dimensions, or some are not finite or zero.
    """

    def __init__(self, vectors: Vectors, what: str = "descriptors", names: Sequence[str] | None = None):
        check_vectors(vectors, what)
        self._vectors = vectors
        self.dim = int(vectors.shape[1])
        self._rows = max(1, _BLOCK // max(self.dim, 1))
        self._lengths = np.ones(len(vectors))
        first: dict[bytes, int] = {}
        first_equal = np.arange(len(vectors))
        reference, self.all_equal = None, len(vectors) > 1
        for start in range(0, len(vectors), self._rows):
            block = self._block(slice(start, start + self._rows))
            lengths = checked_lengths(block, what, names, start)
            self._lengths[start : start + len(block)] = lengths
            for i, row in enumerate(block, start):
                first_equal[i] = first.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), i)
            if self.all_equal:
                directions = block / lengths[:, None]
                reference = directions[0] if reference is None else reference
                self.all_equal = bool(np.abs(directions - reference).max() <= _EQUAL)
        self.first_equal = None if len(first) == len(vectors) else first_equal
        self.normalized = int(np.sum(np.abs(self._lengths - 1) > _TOLERANCE))
        known = self._lengths if len(vectors) else np.ones(1)
        self.lengths = (float(known.min()), float(known.max()))

    def __len__(self) -> int:
        return len(self._vectors)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Some of them, float32 `[n, dim]`, of unit length; untouched where all are so already."""
        block = self._block(rows)
        if not self.normalized:
            return block
        return (block / self._lengths[rows, None]).astype(np.float32)

    def _block(self, rows: slice) -> np.ndarray:
        with np.errstate(over="ignore"):  # of larger float types; found out by the check
            # Adding 0 makes −0 equal to 0 in its bits too.
            return np.asarray(self._vectors[rows], np.float32) + np.float32(0)
