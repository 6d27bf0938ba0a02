"""Where a `.tflite` has the kernels of a Keras model: found by content, so that what it holds can be proved."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from tfplaces.coding.channels import BLOCK, channel_axes
from tfplaces.compression import Kernel, find_kernels
from tfplaces.lite.tflite_model import Constant, TFLiteModel


@dataclasses.dataclass(frozen=True)
class KernelLocation:
    """Where a `.tflite` keeps a kernel of a Keras model.

    Attributes:
        kernel: kernel of the Keras model.
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

    def constant(self, lite: TFLiteModel) -> Constant:
        """The constant without axes before the kernel's, which NetVLAD's centroids have for GPUs or, an image each, in
        full_int8."""
        found = lite.find(self.tensor)
        if found is None:
            raise RuntimeError(f"{self.tensor} is no constant any more")
        while found.values.ndim > len(self.axes):
            found = dataclasses.replace(found, values=found.values[0])
        return found

    def arranged(self, kernel: np.ndarray) -> np.ndarray:
        """A kernel, or its indices, as the tensor has it; the sign aside."""
        return kernel.transpose(self.axes)


def locate_kernels(model: keras.Model, data) -> list[KernelLocation]:
    """Finds every kernel of a Keras model among the constants of its float32 `.tflite`, by content.

    So it also proves that a float32 file has exactly the model's kernels.

    Args:
        model: the Keras model.
        data: the file's bytes.

    Raises:
        RuntimeError: a kernel that is not there: the converter has changed it.
    """
    lite = TFLiteModel(data)
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
                found.append(KernelLocation(kernel, name, axes, sign))
                break
        else:
            raise RuntimeError(f"the TFLite converter has changed {kernel.name}: it is not among the file's constants")
    return found


def _is_kernel(values: np.ndarray, kernel: np.ndarray, sign: int) -> bool:
    """Whether a constant is a kernel times a sign, or that once or several times along axes before the kernel's."""
    return kernel.shape == values.shape[max(0, values.ndim - kernel.ndim) :] and bool(
        np.all((values if sign > 0 else -values) == kernel)
    )


def kernel_errors(data, locations: Sequence[KernelLocation]) -> dict[str, float]:
    """How far the kernels in a file, dequantized, are from the Keras model's: ‖difference‖ / ‖kernel‖, in float64.

    It is 0.0 where every weight is equal to the model's, and nowhere else, however small weights and differences are.
    Where the kernel is all zeros and the file's is not, it is 1.0.

    Args:
        data: the file's bytes, of any precision.
        locations: where the kernels are, from `locate_kernels`.
    """
    lite, errors = TFLiteModel(data), {}
    for location in locations:
        ours, constant = location.arranged(location.kernel.variable.numpy()), location.constant(lite)
        difference, power = 0.0, 0.0
        rows = max(1, BLOCK // (ours.size // len(ours)))
        for start in range(0, len(ours), rows):
            part = ours[start : start + rows]
            theirs = location.sign * constant.dequantized(slice(start, start + rows))
            if not np.array_equal(theirs, part):
                difference += float(np.sum(np.square(theirs.astype(np.float64) - part)))
            power += float(np.sum(np.square(part, dtype=np.float64)))
        error = float(np.sqrt(difference / power)) if power else 1.0
        errors[location.kernel.name] = error if difference else 0.0
    return errors
