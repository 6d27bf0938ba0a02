"""MobileNetV1 1.0 up to conv_pw_11 (Howard et al. 2017), batch norm folded into the convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5  # channels, stride


def build(x) -> Iterator[Any]:
    """Builds MobileNetV1's stride-16 part, 512 channels; layer names are those of Keras Applications."""
    x = layers.Conv2D(32, 3, 2, padding="same", name="conv1")(x)
    x = layers.ReLU(6.0, name="conv1_relu")(x)
    for k, (channels, stride) in enumerate(BLOCKS, 1):
        x = depthwise(x, stride, f"conv_dw_{k}")
        x = layers.ReLU(6.0, name=f"conv_dw_{k}_relu")(x)
        x = layers.Conv2D(channels, 1, name=f"conv_pw_{k}")(x)
        x = layers.ReLU(6.0, name=f"conv_pw_{k}_relu")(x)
    yield x


def depthwise(x, stride: int, name: str, size: int = 3):
    """A depthwise convolution, initialised by the size x size weights that an output sees.

    Keras' initializers take those of all channels together for its fan-in: without batch norm the signal dies.
    """
    initializer = keras.initializers.VarianceScaling(2.0 * x.shape[-1])
    return layers.DepthwiseConv2D(size, stride, padding="same", depthwise_initializer=initializer, name=name)(x)
