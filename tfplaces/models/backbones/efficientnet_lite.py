"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation and with ReLU6, for integer hardware).

Batch norm is folded into the convolutions; padding is TensorFlow's "same".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

from tfplaces.models.backbones.mobilenet_v1 import depthwise

# Blocks, kernel size, stride of the first block, expansion, channels of each stage.
STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112)]
STAGES += [(4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
STEM, HEAD = 32, 1280  # channels
_BLOCKS = sum(count for count, *_ in STAGES)


def efficientnet_lite0(x) -> Iterator[Any]:
    """Builds EfficientNet-Lite0 and yields its features after each block, and after the head.

    `block_10` has 112 channels and `block_11_expand` 672, both at stride 16; from `block_11_depthwise` on it is 32.
    Block k ends in the sum `block_k`, or in the convolution `block_k_project` where it has no shortcut.
    """

    def relu6(x, name):
        return layers.ReLU(6.0, name=f"{name}_relu")(x)

    x = relu6(_convolution(x, STEM, "stem", size=3, stride=2), "stem")
    k = 0
    for count, size, first_stride, expansion, channels in STAGES:
        for stride in [first_stride] + [1] * (count - 1):
            y = x
            if expansion > 1:
                y = relu6(_convolution(y, expansion * x.shape[-1], f"block_{k}_expand"), f"block_{k}_expand")
            y = relu6(depthwise(y, stride, f"block_{k}_depthwise", size), f"block_{k}_depthwise")
            if stride == 1 and channels == x.shape[-1]:
                # A sum of n shortcuts and branches must not grow with n, see ResNet.
                y = _convolution(y, channels, f"block_{k}_project", variance=1 / _BLOCKS)
                x = layers.Add(name=f"block_{k}")([x, y])
            else:
                x = _convolution(y, channels, f"block_{k}_project", variance=1.0)
            yield x
            k += 1
    yield relu6(_convolution(x, HEAD, "head"), "head")


def _convolution(x, channels: int, name: str, variance: float = 2.0, size: int = 1, stride: int = 1):
    """A convolution whose weights at random have `variance` / number of inputs: 2 keeps the scale through a ReLU."""
    initializer = keras.initializers.VarianceScaling(variance)
    return layers.Conv2D(channels, size, stride, "same", kernel_initializer=initializer, name=name)(x)
