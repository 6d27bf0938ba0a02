"""Tensors as PyTorch stores them: a stretch of numbers in a file, and how a tensor is laid over it."""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import Any, BinaryIO

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.npz_file import read_into
from tfplaces.common.pickle_machine import Malformed
from tfplaces.common.text import printable_reason

_MAX_DIMENSIONS = 32


@dataclasses.dataclass(frozen=True)
class ElementType:
    """A type of PyTorch's numbers.

    Attributes:
        name: as PyTorch says it, without `torch.`.
        stored: what the file has, in little-endian order.
        dtype: what it is read as.
    """

    name: str
    stored: np.dtype
    dtype: np.dtype

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Numbers as the file has them, made such as they are read."""
        if self.name == "bfloat16":  # the upper half of a float32
            wide = values.astype(np.uint32)
            wide <<= 16
            return wide.view(np.float32)
        if self.name == "bool":  # other bytes than 0 and 1 would be no truth values to numpy
            return values != 0
        return values.astype(self.dtype, copy=False)


def _element_type(name: str, stored: str, read: str | None = None) -> ElementType:
    return ElementType(name, np.dtype(stored), np.dtype(read or stored).newbyteorder("="))


# By the name of PyTorch's class of storages, `FloatStorage`, without `Storage`.
ELEMENT_TYPES = {
    "Float": _element_type("float32", "<f4"),
    "Double": _element_type("float64", "<f8"),
    "Half": _element_type("float16", "<f2"),
    "BFloat16": _element_type("bfloat16", "<u2", "f4"),
    "Long": _element_type("int64", "<i8"),
    "Int": _element_type("int32", "<i4"),
    "Short": _element_type("int16", "<i2"),
    "Char": _element_type("int8", "i1"),
    "Byte": _element_type("uint8", "u1"),
    "Bool": _element_type("bool", "u1", "?"),
}


@dataclasses.dataclass
class Storage:
    """Numbers that lie in a row in a file.

    Attributes:
        kind: their type.
        count: how many.
        position: the byte of the file at which they begin; None until it is known.
        big_endian: whether their bytes are in that order.
        checksum: the CRC-32 of all of them, where the file has it.
    """

    kind: ElementType
    count: int
    position: int | None = None
    big_endian: bool = False
    checksum: int | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * self.kind.stored.itemsize


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor over a storage; made by `tensor_over`, which checks that it fits."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """The type that it is read as."""
        return self.storage.kind.dtype

    def read(self, file: BinaryIO, source: str) -> np.ndarray:
        """The values, in an array of their own; of the storage no more is read than they span.

        Raises:
            UserError: the file ends before them, or is damaged here.
        """
        storage = self.storage
        stored = storage.kind.stored.newbyteorder(">" if storage.big_endian else "<")
        if storage.position is None:
            raise UserError(f"{source}: damaged: a tensor of {self.shape} has no values in the file")
        values = np.empty(_extent(self.shape, self.strides), stored)
        try:
            file.seek(storage.position + self.offset * stored.itemsize)
            read_into(file, values.view(np.uint8))
        except (OSError, ValueError) as error:
            raise UserError(f"{source}: damaged: the values of a tensor ({printable_reason(error)})") from None
        whole = values.nbytes == storage.size
        if whole and storage.checksum is not None and zlib.crc32(values.data) != storage.checksum:
            raise UserError(f"{source}: damaged: the values of a tensor of shape {self.shape} (their checksum)")
        if self.strides == _contiguous(self.shape):
            return storage.kind.decode(values.reshape(self.shape))
        steps = tuple(stride * stored.itemsize for stride in self.strides)
        laid = np.lib.stride_tricks.as_strided(values, self.shape, steps, writeable=False)
        return storage.kind.decode(np.array(laid, order="C"))


def storage_parts(identifier: Any) -> tuple[ElementType, str, int, Any]:
    """What a persistent identifier says of a storage: type, key, count of values and, in older files, a view of it.

    Raises:
        Malformed: it stands for something else.
    """
    if isinstance(identifier, tuple) and identifier and isinstance(identifier[0], str) and identifier[0] == "module":
        raise Malformed("it holds a whole network as a program; in torch, save its state_dict() alone")
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6):
        raise Malformed("damaged: a reference to something else than a storage")
    kind, key, _, count = identifier[1:5]
    (count,) = _sizes((count,))
    if not isinstance(kind, ElementType) or not isinstance(key, str):
        raise Malformed("damaged: a reference to something else than a storage")
    return kind, key, count, identifier[5] if len(identifier) == 6 else None


def storage_view(root: Storage, first: Any, count: Any) -> Storage:
    """A part of a storage, as older files describe it; its position follows from the storage's, if that is known.

    Raises:
        Malformed: it does not lie in the storage.
    """
    first, count = _sizes((first, count))
    if first + count > root.count:
        raise Malformed(f"damaged: a part of {count:,} values that lies outside of its storage of {root.count:,}")
    position = None if root.position is None else root.position + first * root.kind.stored.itemsize
    return Storage(root.kind, count, position, root.big_endian)


def tensor_over(storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
    """A tensor as a file describes it, once it is checked that its values lie in its storage.

    Raises:
        Malformed: they do not, or it is no description of a tensor.
    """
    if not isinstance(storage, Storage):
        raise Malformed("damaged: a tensor without a storage")
    shape, strides = _sizes(shape), _sizes(strides)
    (offset,) = _sizes((offset,))
    if len(shape) != len(strides):
        raise Malformed(f"damaged: a tensor of shape {shape} and strides {strides}")
    if math.prod(shape) > storage.count:
        raise Malformed(
            f"a tensor of shape {shape} over a storage of {storage.count:,} values: it is damaged, or was expanded; in "
            "torch, save its .contiguous() form"
        )
    if math.prod(shape) and offset + _extent(shape, strides) > storage.count:
        raise Malformed(f"damaged: a tensor of shape {shape} lies outside of its storage of {storage.count:,} values")
    return StoredTensor(storage, offset, shape, strides)


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > _MAX_DIMENSIONS:
        raise Malformed("damaged: the shape or the strides of a tensor")
    if not all(type(value) is int and 0 <= value < 2**62 for value in values):
        raise Malformed("damaged: a size, stride or offset of a tensor that is negative, too large or no number")
    return tuple(values)


def _extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """How many values of its storage a tensor spans, from its first to its last."""
    if not math.prod(shape):
        return 0
    return sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True)) + 1


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides: list[int] = []
    step = 1
    for side in reversed(shape):
        strides.append(step)
        step *= max(side, 1)
    return tuple(reversed(strides))
