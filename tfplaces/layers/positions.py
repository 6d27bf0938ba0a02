"""The places of a map in a row, for layers that have a weight for each of them."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="tfplaces")
class Positions(keras.layers.Layer):
    """Lays the places of a map out in a row, row by row, and takes maps of one size only.

    A plain reshape would take a map of 10 x 40 for one of 20 x 20, as both have 400 places.

    Input: `[batch, height, width, channels]`. Output: `[batch, height · width, channels]`.

    Args:
        height, width: the size of the map.
    """

    def __init__(self, height: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.height, self.width = height, width

    def call(self, inputs):
        shape = self.compute_output_shape(inputs.shape)
        if None in inputs.shape[1:3]:
            inputs = tf.ensure_shape(inputs, (None, self.height, self.width, None))
        return ops.reshape(inputs, (ops.shape(inputs)[0], *shape[1:]))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), inputs.dtype)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        if height not in (None, self.height) or width not in (None, self.width):
            raise ValueError(f"a map of {height}x{width}, this layer takes {self.height}x{self.width} only")
        return (batch, self.height * self.width, channels)

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}
