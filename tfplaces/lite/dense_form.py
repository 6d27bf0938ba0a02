"""Linear layers written anew as 1 x 1 convolutions, which old runtimes compute right in 8 bits.

A FULLY_CONNECTED of float inputs and int8 weights with a scale for each output is computed by tflite-runtime 2.14, and
by TensorFlow Lite of that age in apps, as though the first scale were that of all: the descriptor is another one,
without an error. CONV_2D of the same weights and scales is right there, and costs the same in newer runtimes.
docs/runtimes.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfplaces.lite.written_anew import WrittenAnew, written_anew
from tfplaces.models import PlaceNet


def dense_form(model: PlaceNet) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function of a PlaceNet from images to descriptors, with convolutions for its dense layers.

    Takes float32 `[batch, height, width, 3]` and gives float32 `[batch, descriptor_dim]`, exactly those of the model.
    """
    return written_anew(model, {keras.layers.Dense: _Convolution})


class _Convolution(WrittenAnew):
    """A dense layer, of inputs `[batch, channels]`, `[batch, n, channels]` or of a map."""

    def call(self, inputs: Any) -> Any:
        kernel = self.layer.kernel.value[None, None]
        before = [-1 if size is None else size for size in inputs.shape[:-1]]
        x = tf.reshape(inputs, [*before, *[1] * (3 - len(before)), inputs.shape[-1]]) if len(before) < 3 else inputs
        x = tf.nn.conv2d(x, kernel, 1, "VALID")
        if self.layer.use_bias:
            x += self.layer.bias.value
        x = self.layer.activation(x)
        return tf.reshape(x, [*before, kernel.shape[-1]]) if len(before) < 3 else x
