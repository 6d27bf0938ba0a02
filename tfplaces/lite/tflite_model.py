"""A `.tflite` in memory: its constants, which can be written to in place, its operators, and its tensors' names.

A file whose buffers lie behind its flatbuffer cannot be packed anew, so whatever is changed keeps its place.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_DTYPES: dict[int, np.dtype] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
    schema.TensorType.INT32: np.dtype("<i4"),
    schema.TensorType.INT8: np.dtype("i1"),
}
_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_TYPES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
# What the output is called, the tensor and in the signature.
OUTPUT_NAME = "descriptor"
# Offset in a table's list of fields at which a tensor has its name.
_TENSOR_NAME = 10


@dataclasses.dataclass(frozen=True)
class Constant:
    """A constant tensor of a model; the arrays are views of the file's bytes.

    Attributes:
        values: the values as stored, in the tensor's shape; int4 unpacked to int8, a copy.
        scales: float32 `[channels]`, or `[1]` for all; float32 `[channels, blocks]` where the last axis is divided into
            blocks; empty where the tensor is not quantized.
        axis: that scales go along.
        zero: the integer that is zero, where one scale is for all; 0 otherwise.
    """

    values: np.ndarray
    scales: np.ndarray
    axis: int
    zero: int = 0

    def dequantized(self, rows: slice = slice(None)) -> np.ndarray:
        """Float32 values of some rows of the first axis: integer times scale."""
        values = self.values[rows].astype(np.float32)
        if not self.scales.size:
            return values
        if self.scales.ndim == 2:
            scales = self.scales[rows]
            return (values.reshape(*scales.shape, -1) * scales[:, :, None]).reshape(values.shape)
        if len(self.scales) == 1:
            return (values - self.zero) * self.scales
        if self.axis == 0:
            return values * self.scales[rows].reshape(-1, *[1] * (values.ndim - 1))
        return values * self.scales.reshape(-1, *[1] * (values.ndim - 1 - self.axis))


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of a model.

    Attributes:
        name: name of the builtin operator, as in CONV_2D.
        inputs, outputs: indices of its tensors; those that it does without are left out.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class TFLiteModel:
    """A `.tflite` of one subgraph in memory.

    Args:
        data: the file's bytes: a bytearray or a memory map, which may be written to, or bytes.

    Attributes:
        inputs, outputs: indices of the tensors that the model takes and gives.
    """

    def __init__(self, data):
        self._data = memoryview(data).cast("B")
        self._model = schema.Model.GetRootAs(self._data)
        self._graph = self._model.Subgraphs(0)
        self._index = {self.name(index): index for index in range(self._graph.TensorsLength())}
        operators = (self._graph.Operators(index) for index in range(self._graph.OperatorsLength()))
        self._inputs = [operator.InputsAsNumpy().tolist() for operator in operators]
        self.inputs = tuple(self._graph.InputsAsNumpy().tolist())
        self.outputs = tuple(self._graph.OutputsAsNumpy().tolist())

    def names(self) -> list[str]:
        """The names of all tensors, by index."""
        return [self.name(index) for index in range(self._graph.TensorsLength())]

    def find(self, name: str) -> Constant | None:
        """The constant that a tensor is, if it is one of numbers."""
        return self.constant(self._index[name])

    def users(self, name: str) -> list[list[int]]:
        """The input tensors of each operator, in order, whose weights a tensor is."""
        return [inputs for inputs in self._inputs if len(inputs) > 1 and inputs[1] == self._index[name]]

    def constant(self, index: int) -> Constant | None:
        """The constant that the tensor of an index is, if it is one of numbers."""
        tensor = self._graph.Tensors(index)
        raw = self._buffer(self._model.Buffers(tensor.Buffer()))
        shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
        if not raw.size:
            return None
        quantization = tensor.Quantization()
        scales, axis, zero = np.zeros(0, np.float32), 0, 0
        if quantization is not None and quantization.ScaleLength():
            scales, axis = quantization.ScaleAsNumpy(), quantization.QuantizedDimension()
            if len(scales) == quantization.ZeroPointLength() == 1:
                zero = int(quantization.ZeroPoint(0))
        if tensor.Type() == schema.TensorType.INT4:
            blocks = self._block_scales(quantization)
            scales = scales if blocks is None else blocks.astype(np.float32)
            return Constant(_unpack_int4(raw)[: int(np.prod(shape))].reshape(shape), scales, axis)
        dtype = _DTYPES.get(tensor.Type())
        return None if dtype is None else Constant(raw.view(dtype).reshape(shape), scales, axis, zero)

    def int4(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Bytes of two weights each and scales, as stored, of a tensor of int4; None of any other.

        Scales are float16 `[channels · blocks]`, or float32 `[channels]` where a channel has one.
        """
        tensor = self._graph.Tensors(self._index[name])
        if tensor.Type() != schema.TensorType.INT4:
            return None
        scales = self._block_scales(tensor.Quantization())
        if scales is None:
            scales = tensor.Quantization().ScaleAsNumpy()
        return self._buffer(self._model.Buffers(tensor.Buffer())), scales.reshape(-1)

    def operators(self) -> list[Operator]:
        """The operators, in the order in which they are computed."""
        found = []
        for index in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(index)
            code = self._model.OperatorCodes(operator.OpcodeIndex())
            name = _OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            ends = (operator.InputsAsNumpy().tolist(), operator.OutputsAsNumpy().tolist())
            found.append(Operator(name, *(tuple(i for i in tensors if i >= 0) for tensors in ends)))
        return found

    def name(self, index: int) -> str:
        """The name of a tensor."""
        return self._graph.Tensors(index).Name().decode()

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of a tensor, with 1 for what its user may choose."""
        tensor = self._graph.Tensors(index)
        return tuple(tensor.ShapeAsNumpy().tolist()) if tensor.ShapeLength() else ()

    def type_name(self, index: int) -> str:
        """The type of a tensor, as in FLOAT32."""
        return _TYPES[self._graph.Tensors(index).Type()]

    def is_constant(self, index: int) -> bool:
        """Whether a tensor's values are in the file."""
        return self._buffer(self._model.Buffers(self._graph.Tensors(index).Buffer())).size > 0

    def rename(self, index: int, name: str) -> None:
        """Gives a tensor another name, which may not be longer than the one it has.

        Raises:
            RuntimeError: it is longer.
        """
        table, new, old = self._graph.Tensors(index)._tab, name.encode(), self.name(index)
        if len(new) > len(old.encode()):
            raise RuntimeError(f"there is no room for the name {name!r} of the tensor {old!r}")
        start = table.Vector(table.Offset(_TENSOR_NAME))
        self._data[start - 4 : start + len(new) + 1] = struct.pack("<I", len(new)) + new + b"\0"
        del self._index[old]
        self._index[name] = index

    def set_input_shape(self, shape: Sequence[int]) -> None:
        """The shape that the input has until its user resizes it, where the converter has put 1 for the unknown."""
        self._graph.Tensors(self._graph.Inputs(0)).ShapeAsNumpy()[:] = shape

    def scale(self, index: int) -> float:
        """The scale of a quantized activation."""
        return float(self._graph.Tensors(index).Quantization().Scale(0))

    def _buffer(self, buffer) -> np.ndarray:
        if buffer.DataLength():
            return buffer.DataAsNumpy()
        if buffer.Offset() > 1:  # behind the flatbuffer; 0 and 1 mean none
            return np.frombuffer(self._data, np.uint8, buffer.Size(), buffer.Offset())
        return np.zeros(0, np.uint8)

    def _block_scales(self, quantization) -> np.ndarray | None:
        if quantization.DetailsType() != schema.QuantizationDetails.BlockwiseQuantization:
            return None
        details = schema.BlockwiseQuantization()
        details.Init(quantization.Details().Bytes, quantization.Details().Pos)
        scales = self.constant(details.Scales())
        return None if scales is None else scales.values


def _unpack_int4(raw: np.ndarray) -> np.ndarray:
    """Two a byte, the lower four bits first."""
    pairs = np.stack([raw << 4, raw], axis=-1).view(np.int8)
    return (pairs >> 4).reshape(-1)


def name_output(data) -> None:
    """Names the output's tensor `descriptor`, as its signature does, in place.

    TensorFlow calls it StatefulPartitionedCall and a number; what it, or the quantizer, has put before a conversion to
    another type has that name with an ending, and keeps the ending.

    Args:
        data: the file's bytes, which are changed.
    """
    lite = TFLiteModel(data)
    (output,) = lite.outputs
    before = lite.name(output)
    if before == OUTPUT_NAME:
        return
    names = lite.names()
    if OUTPUT_NAME in names:  # before the quantizer converts it to integers
        lite.rename(names.index(OUTPUT_NAME), "unrounded")
    for index, name in enumerate(names):
        if name.startswith(before):
            lite.rename(index, OUTPUT_NAME + name[len(before) :])
