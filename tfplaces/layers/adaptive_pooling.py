"""Average pooling into a fixed number of bins, whatever the size of the map, as PyTorch's AdaptiveAvgPool2d."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfplaces.common.errors import UserError


@keras.saving.register_keras_serializable(package="tfplaces")
class AdaptiveAveragePooling(keras.layers.Layer):
    """Means of grid x grid bins of a map: of n rows, bin i has those from ⌊i·n/grid⌋ to ⌈(i+1)·n/grid⌉.

    Where n is no multiple of the grid, bins overlap.

    Input: `[batch, height, width, channels]`. Output: `[batch, channels · grid²]`, channel-major (index =
    column + grid · row + grid² · channel), as PyTorch flattens it.

    Args:
        grid: bins on each side.

    Raises:
        UserError: fewer than one bin.
    """

    def __init__(self, grid: int, **kwargs: Any):
        super().__init__(**kwargs)
        if grid < 1:
            raise UserError(f"AdaptiveAveragePooling: grid={grid}, must be at least 1")
        self.grid = grid

    def call(self, inputs):
        # Static numbers where they are known: TFLite has then plain slices.
        height, width = (
            known if known is not None else ops.shape(inputs)[axis] for axis, known in enumerate(inputs.shape[1:3], 1)
        )
        rows, columns = self._bins(height), self._bins(width)
        means = [
            ops.mean(inputs[:, top:bottom, left:right, :], axis=(1, 2))
            for top, bottom in rows
            for left, right in columns
        ]
        pooled = ops.stack(means, axis=-1)  # [batch, channels, bins]
        return ops.reshape(pooled, (ops.shape(pooled)[0], inputs.shape[-1] * self.grid**2))

    def _bins(self, length):
        return [(i * length // self.grid, -(-(i + 1) * length // self.grid)) for i in range(self.grid)]

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        if any(side is not None and side < self.grid for side in input_shape[1:3]):
            raise ValueError(f"a map of {input_shape[1]}x{input_shape[2]} has no {self.grid}x{self.grid} bins")
        return (input_shape[0], input_shape[-1] * self.grid**2)

    def get_config(self):
        return {**super().get_config(), "grid": self.grid}
