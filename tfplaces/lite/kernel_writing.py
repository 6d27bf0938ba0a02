"""Writes kernels into a quantized `.tflite` exactly as they were compressed.

The converter and the quantizer choose their own scales, and so their own integers; those of a network that is
compressed on the int8 grid are known. They are written over the quantizer's in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfplaces.coding import SharedKernel
from tfplaces.coding.channels import BLOCK
from tfplaces.lite.kernel_locations import KernelLocation
from tfplaces.lite.tflite_model import Constant, TFLiteModel

# Largest magnitude that a bias of 32 bits may have: half of what they hold, for what is added to it.
_BIAS_MAX = 2**30
# Shares of a block's largest magnitude that int4 weights reach to, to choose from; the least scale that float16 holds.
_INT4_SHARES, _INT4_LEAST = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7), 2.0**-14


def write_exactly(data, floats, locations: Sequence[KernelLocation], shared: Mapping[str, SharedKernel]) -> set[str]:
    """Writes integers and scales of shared kernels over those of the quantizer, and biases that go with them.

    What the file holds in another form than int8 by channel stays as it is.

    A bias is counted in steps of its channel's scale, and 32 bits do not hold it where the weights are next to nothing
    beside it. ImageNet networks have such channels once batch norm is folded: their features never vary. There the
    scale is raised until the bias fits, and the weights are rounded anew, mostly to zero. Of n inputs, each at most 255
    steps, that changes what is added to the bias by at most n · 255 / 2 / 2^30 of it.

    Args:
        data: the quantized file's bytes, which are changed.
        floats: those of the float32 file that it was made from, for its biases.
        locations: where the kernels are, from `locate_kernels`.
        shared: kernels by name; those that are not on the int8 grid are left out.

    Returns:
        The names of kernels with such channels: they are not held exactly.
    """
    lite, original = TFLiteModel(data), TFLiteModel(floats)
    rounded = set()
    for location in locations:
        ours, constant = shared.get(location.kernel.name), location.constant(lite)
        if ours is None or not ours.on_int8_grid or constant.values.dtype != np.int8:
            continue
        if constant.axis != location.axis or constant.scales.shape != ours.scales.shape:
            continue
        integers = location.sign * ours.levels.astype(np.int8)
        constant.values[:] = integers[location.arranged(ours.indices)]
        scales = _usable_scales(ours.scales, constant)
        biases = []
        for inputs, before in zip(lite.users(location.tensor), original.users(location.tensor), strict=True):
            bias = lite.constant(inputs[2]) if len(inputs) > 2 and inputs[2] >= 0 else None
            old = None if bias is None else original.constant(before[2])
            if bias is not None and old is not None and bias.values.dtype == np.int32:
                biases.append((bias, old.values.astype(np.float64), lite.scale(inputs[0])))
        # Beyond the half of an ulp by which float32 rounds the scale.
        least = [np.abs(values) / (step * _BIAS_MAX * (1 - 2.0**-20)) for _, values, step in biases]
        raised = np.max([scales, *least], axis=0).astype(np.float32)
        if np.any(raised != scales):
            rounded.add(location.kernel.name)
            shape = [1] * constant.values.ndim
            shape[constant.axis] = -1
            constant.values[:] = np.rint(constant.values * (scales.astype(np.float64) / raised).reshape(shape))
        constant.scales[:] = raised
        for bias, values, step in biases:
            steps = step * raised.astype(np.float64)
            bias.values[:] = np.rint(values / steps)
            bias.scales[:] = steps
    return rounded


def write_int4(data, locations: Sequence[KernelLocation]) -> None:
    """Rounds the kernels that a file holds as int4 anew: each block or channel with the scale of least squared error.

    The quantizer's scale is the largest magnitude over 7, and zero for a block that was pruned, which no runtime takes.

    Args:
        data: the quantized file's bytes, which are changed.
        locations: where the kernels are, from `locate_kernels`.
    """
    lite = TFLiteModel(data)
    for location in locations:
        if (stored := lite.int4(location.tensor)) is None:
            continue
        pairs, scales = stored
        weights = location.arranged(location.kernel.variable.numpy())
        size = weights.size // len(scales)
        rows = max(2, BLOCK // weights[0].size // 2 * 2)  # an even number, or a byte would be of two parts
        for first in range(0, len(weights), rows):
            blocks = np.ascontiguousarray(weights[first : first + rows]).reshape(-1, size)
            integers, best = _round_int4(blocks, scales.dtype)
            start = first * weights[0].size // size
            scales[start : start + len(best)] = best
            integers = integers.reshape(-1)
            integers = np.append(integers, np.zeros(len(integers) % 2, np.int8)).reshape(-1, 2)
            packed = (integers[:, 0] & 15) | (integers[:, 1] << 4)
            pairs[start * size // 2 : start * size // 2 + len(packed)] = packed


def _round_int4(blocks: np.ndarray, scale_type: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Integers −7 to 7 of float32 `[n, size]`, and the scales `[n]`, float16 or float32, that go with them."""
    largest = np.max(np.abs(blocks), axis=1)
    result, scales = np.zeros(blocks.shape, np.int8), np.ones(len(blocks), scale_type)
    least = np.full(len(blocks), np.inf, np.float32)
    for share in _INT4_SHARES:
        scale = np.maximum(share * largest / 7, _INT4_LEAST).astype(scale_type)
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
