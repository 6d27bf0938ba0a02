"""The kernels in a `.tflite`: found by content, written exactly as they were compressed, and proved.

The converter and the quantizer choose their own scales, and so their own integers; those of a network that is
compressed on the int8 grid are known. They are written over the quantizer's in place: a file whose buffers lie behind
its flatbuffer cannot be packed anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfplaces.coding import SharedKernel
from tfplaces.coding.channels import BLOCK, channel_axes
from tfplaces.common.errors import UserError
from tfplaces.compression import Kernel, find_kernels

_DTYPES = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
    schema.TensorType.INT32: np.dtype("<i4"),
    schema.TensorType.INT8: np.dtype("i1"),
}
# Largest magnitude that a bias of 32 bits may have: half of what they hold, for what is added to it.
_BIAS_MAX = 2**30
# Shares of a block's largest magnitude that int4 weights reach to, to choose from; the least scale that float16 holds.
_INT4_SHARES, _INT4_LEAST = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7), 2.0**-14


@dataclasses.dataclass(frozen=True)
class Constant:
    """A constant tensor of a model; the arrays are views of the file's bytes.

    Attributes:
        values: as stored, of the tensor's shape; int4 unpacked to int8, a copy.
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


class Model:
    """A `.tflite` of one subgraph in memory that can be written to, for its constants.

    Args:
        data: the file's bytes: a bytearray, or a memory map.
    """

    def __init__(self, data):
        self._data = memoryview(data).cast("B")
        self._model = schema.Model.GetRootAs(self._data)
        self._graph = self._model.Subgraphs(0)
        tensors = (self._graph.Tensors(index) for index in range(self._graph.TensorsLength()))
        self._index = {tensor.Name().decode(): index for index, tensor in enumerate(tensors)}
        operators = (self._graph.Operators(index) for index in range(self._graph.OperatorsLength()))
        self._inputs = [operator.InputsAsNumpy().tolist() for operator in operators]

    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._index)

    def find(self, name: str) -> Constant | None:
        """The constant that a tensor is, if it is one of numbers."""
        return self.constant(self._index[name])

    def users(self, name: str) -> list[list[int]]:
        """The input tensors of each operator, in order, whose weights a tensor is."""
        return [inputs for inputs in self._inputs if len(inputs) > 1 and inputs[1] == self._index[name]]

    def constant(self, index: int) -> Constant | None:
        """That of a tensor by its index."""
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
            return Constant(_unpack_int4(raw).reshape(shape), scales, axis)
        dtype = _DTYPES.get(tensor.Type())
        return None if dtype is None else Constant(raw.view(dtype).reshape(shape), scales, axis, zero)

    def int4_blocks(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Bytes of two weights each and scales float16 `[channels · blocks]`, as stored; of int4 in blocks only."""
        tensor = self._graph.Tensors(self._index[name])
        if tensor.Type() != schema.TensorType.INT4 or (scales := self._block_scales(tensor.Quantization())) is None:
            return None
        return self._buffer(self._model.Buffers(tensor.Buffer())), scales.reshape(-1)

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
        return self.constant(details.Scales()).values


def _unpack_int4(raw: np.ndarray) -> np.ndarray:
    """Two a byte, the lower four bits first."""
    pairs = np.stack([raw << 4, raw], axis=-1).view(np.int8)
    return (pairs >> 4).reshape(-1)


@dataclasses.dataclass(frozen=True)
class KernelTensor:
    """Where a `.tflite` keeps a kernel of a Keras model.

    Attributes:
        kernel: of the Keras model.
        tensor: name of the constant.
        axes: the kernel's axes in the order of the tensor's.
        sign: −1 where the constant is the kernel negated.
    """

    kernel: Kernel
    tensor: str
    axes: tuple[int, ...]
    sign: int

    @property
    def axis(self) -> int:
        """Axis of the tensor that is the kernel's output channels."""
        (axis,) = channel_axes(self.kernel.channel_axis)  # several only where a depth multiplier is above 1
        return self.axes.index(axis)

    def constant(self, lite: Model) -> Constant:
        """The constant; where it stands once for each image of a batch, as full_int8's centroids do, the first."""
        found = lite.find(self.tensor)
        return dataclasses.replace(found, values=found.values[0]) if found.values.ndim > len(self.axes) else found

    def arranged(self, kernel: np.ndarray) -> np.ndarray:
        """A kernel, or its indices, as the tensor has it; the sign aside."""
        return kernel.transpose(self.axes)


def locate_kernels(model: keras.Model, data) -> list[KernelTensor]:
    """Finds every kernel of a Keras model among the constants of its float32 `.tflite`, by content.

    So it also proves that a float32 file has exactly the model's kernels.

    Args:
        model: the Keras model.
        data: the file's bytes.

    Raises:
        RuntimeError: a kernel that is not there: the converter has changed it.
    """
    lite = Model(data)
    constants = {name: lite.find(name) for name in lite.names()}
    floats = [(n, c.values) for n, c in constants.items() if c is not None and c.values.dtype == np.float32]
    found = []
    for kernel in find_kernels(model):
        weights = kernel.variable.numpy()
        # Convolutions, depthwise ones as well; Dense; NetVLAD's centroids, which are added negated.
        for axes, sign in (((3, 0, 1, 2) if weights.ndim == 4 else (1, 0), 1), (tuple(range(weights.ndim)), -1)):
            ours = weights.transpose(axes)
            same = (n for n, v in floats if _is_kernel(v, ours, sign))
            if name := next(same, None):
                found.append(KernelTensor(kernel, name, axes, sign))
                break
        else:
            raise RuntimeError(f"the TFLite converter has changed {kernel.name}: it is not among the file's constants")
    return found


def _is_kernel(values: np.ndarray, kernel: np.ndarray, sign: int) -> bool:
    """Whether a constant is a kernel times a sign, or that for each image of a batch."""
    return kernel.shape in (values.shape, values.shape[1:]) and bool(
        np.all((values if sign > 0 else -values) == kernel)
    )


def write_exactly(data, floats, places: Sequence[KernelTensor], shared: Mapping[str, SharedKernel]) -> None:
    """Writes integers and scales of shared kernels over those of the quantizer, and biases that go with them.

    What the file holds in another form than int8 by channel stays as it is.

    Args:
        data: the quantized file's bytes, which are changed.
        floats: those of the float32 file that it was made from, for its biases.
        places: where the kernels are, from `locate_kernels`.
        shared: kernels by name; those that are not on the int8 grid are left out.

    Raises:
        ValueError: a bias that 32 bits do not hold.
    """
    lite, original = Model(data), Model(floats)
    for place in places:
        ours, constant = shared.get(place.kernel.name), place.constant(lite)
        if ours is None or not ours.on_int8_grid or constant.values.dtype != np.int8:
            continue
        if constant.axis != place.axis or constant.scales.shape != ours.scales.shape:
            continue
        integers = place.sign * ours.levels.astype(np.int8)
        constant.values[:] = integers[place.arranged(ours.indices)]
        scales = _usable_scales(ours.scales, constant)
        constant.scales[:] = scales
        users = zip(lite.users(place.tensor), original.users(place.tensor), strict=True)
        for inputs, before in users:
            bias = lite.constant(inputs[2]) if len(inputs) > 2 and inputs[2] >= 0 else None
            if bias is None or bias.values.dtype != np.int32:
                continue
            steps = lite.scale(inputs[0]) * scales.astype(np.float64)
            counts = np.rint(original.constant(before[2]).values / steps)
            if np.max(np.abs(counts)) > _BIAS_MAX:
                channel = int(np.argmax(np.abs(counts)))
                raise UserError(
                    f"{place.kernel.name}: the weights of channel {channel} are too small beside its bias for "
                    "integers; prune them"
                )
            bias.values[:] = counts
            bias.scales[:] = steps


def write_int4(data, places: Sequence[KernelTensor]) -> None:
    """Rounds the kernels that a file holds as int4 in blocks anew: each block with the scale of least squared error.

    The quantizer's scale is the largest magnitude over 7, and zero for a block that was pruned, which no runtime takes.

    Args:
        data: the quantized file's bytes, which are changed.
        places: where the kernels are, from `locate_kernels`.
    """
    lite = Model(data)
    for place in places:
        if (stored := lite.int4_blocks(place.tensor)) is None:
            continue
        pairs, scales = stored
        weights = place.arranged(place.kernel.variable.numpy())
        size = weights.size // len(scales)
        rows = max(1, BLOCK // weights[0].size)
        for first in range(0, len(weights), rows):
            blocks = np.ascontiguousarray(weights[first : first + rows]).reshape(-1, size)
            integers, best = _round_int4(blocks)
            start = first * weights[0].size // size
            scales[start : start + len(best)] = best
            integers = integers.reshape(-1, 2)
            pairs[start * size // 2 : (start + len(best)) * size // 2] = (integers[:, 0] & 15) | (integers[:, 1] << 4)


def _round_int4(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers −7 to 7 of float32 `[n, size]`, and the scales float16 `[n]` that go with them."""
    largest = np.max(np.abs(blocks), axis=1)
    result, scales = np.zeros(blocks.shape, np.int8), np.ones(len(blocks), np.float16)
    least = np.full(len(blocks), np.inf, np.float32)
    for share in _INT4_SHARES:
        scale = np.maximum(share * largest / 7, _INT4_LEAST).astype(np.float16)
        steps = scale.astype(np.float32)[:, None]
        integers = np.clip(np.rint(blocks / steps), -7, 7)
        errors = np.sum(np.square(integers * steps - blocks), axis=1)
        better = errors < least
        result[better], scales[better], least[better] = integers[better], scale[better], errors[better]
    return result, scales


def _usable_scales(scales: np.ndarray, constant: Constant) -> np.ndarray:
    """The scales, but for channels of zeros, where any will do: theirs is that of a usual channel."""
    rest = tuple(axis for axis in range(constant.values.ndim) if axis != constant.axis)
    used = np.any(constant.values, axis=rest)
    return np.where(used, scales, np.median(scales[used]) if np.any(used) else np.float32(1)).astype(np.float32)


def kernel_errors(data, places: Sequence[KernelTensor]) -> dict[str, float]:
    """How far the kernels in a file, dequantized, are from the Keras model's: ‖difference‖ / ‖kernel‖; 0 is exact.

    Args:
        data: the file's bytes, of any precision.
        places: where the kernels are, from `locate_kernels`.
    """
    lite, errors = Model(data), {}
    for place in places:
        ours, constant = place.arranged(place.kernel.variable.numpy()), place.constant(lite)
        difference, power = 0.0, 0.0
        rows = max(1, BLOCK // (ours.size // len(ours)))
        for start in range(0, len(ours), rows):
            part = ours[start : start + rows]
            error = place.sign * constant.dequantized(slice(start, start + rows)) - part
            difference += np.vdot(error, error)
            power += np.vdot(part, part)
        errors[place.kernel.name] = float(np.sqrt(difference / power)) if difference else 0.0
    return errors
