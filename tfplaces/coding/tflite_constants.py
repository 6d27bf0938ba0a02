"""Where a `.tflite` file keeps its constants: the few fields of its flatbuffer that say so, read with bounds checked.

The schema is tflite/schema/schema.fbs of LiteRT.
"""

import math
import struct
from dataclasses import dataclass

from tfplaces.coding.flatbuffer import DamagedError, Table, read_number
from tfplaces.common.errors import UserError

IDENTIFIER = b"TFL3"  # at byte 4

# Bytes of a value by TensorType; 1 for the others: int8, uint8, bool, and those of less than a byte, which are packed.
_VALUE_BYTES = {0: 4, 1: 2, 2: 4, 4: 8, 7: 2, 8: 4, 10: 8, 11: 8, 12: 8, 15: 4, 16: 2, 18: 2}

# Numbers of the fields in their tables.
_MODEL_SUBGRAPHS, _MODEL_BUFFERS = 2, 4
_SUBGRAPH_TENSORS = 0
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER = 0, 1, 2
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2


@dataclass(frozen=True)
class Constant:
    """The data of a constant tensor.

    Attributes:
        offset: position of its first byte in the file.
        bytes: how many.
        value_bytes: bytes of one value: 1, 2, 4 or 8.
        shape: shape of the tensor; empty where it does not fit the bytes, as with two values a byte.
    """

    offset: int
    bytes: int
    value_bytes: int
    shape: tuple[int, ...]


def find_constants(data: bytes) -> list[Constant]:
    """The constants in a `.tflite`, inside its flatbuffer or behind it, in the file's order, none overlapping another.

    Raises:
        ValueError: not a TFLite model, or one cut short or damaged.
    """
    if data[4:8] != IDENTIFIER:
        raise UserError("not a TFLite model")
    model = Table(data, read_number(data, "<I", 0))
    buffers = [extent(buffer) for buffer in model.tables(_MODEL_BUFFERS)]
    owners: dict[int, Table] = {}
    for subgraph in model.tables(_MODEL_SUBGRAPHS):
        for tensor in subgraph.tables(_SUBGRAPH_TENSORS):
            owners.setdefault(tensor.number(_TENSOR_BUFFER, "<I"), tensor)
    constants, end = [], 0
    for (offset, size), index in sorted((extent, index) for index, extent in enumerate(buffers)):
        if size and offset >= end:  # two buffers may share their bytes
            constants.append(_constant(offset, size, owners.get(index)))
            end = offset + size
    return constants


def extent(buffer: Table) -> tuple[int, int]:
    """Offset and size of a buffer's bytes in the file."""
    offset, size = buffer.number(_BUFFER_OFFSET, "<Q"), buffer.number(_BUFFER_SIZE, "<Q")
    if offset > 1:  # behind the flatbuffer; 0 and 1 say that it is not
        if offset + size > len(buffer.data):
            raise DamagedError("a buffer lies outside of the file")
        return offset, size
    return buffer.vector(_BUFFER_DATA, 1)


def _constant(offset: int, size: int, tensor: Table | None) -> Constant:
    if tensor is None:
        return Constant(offset, size, 1, ())
    value_bytes = _VALUE_BYTES.get(tensor.number(_TENSOR_TYPE, "<b"), 1)
    start, dimensions = tensor.vector(_TENSOR_SHAPE, 4)
    shape = struct.unpack_from(f"<{dimensions}i", tensor.data, start)
    if len(shape) > 8 or min(shape, default=1) < 1 or math.prod(shape) * value_bytes != size:
        shape = ()
    return Constant(offset, size, 1 if size % value_bytes else value_bytes, shape)
