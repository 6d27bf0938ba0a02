"""MobileNetV2 1.0 up to block_13_expand (Sandler et al. 2018), batch norm folded into the convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras import layers

from tfplaces.models.backbones.mobilenet_v1 import depthwise

# expansion, channels, stride of each inverted residual block
BLOCKS = [(1, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 2), (6, 32, 1), (6, 32, 1), (6, 64, 2)]
BLOCKS += [(6, 64, 1)] * 3 + [(6, 96, 1)] * 3


def build(x) -> Iterator[Any]:
    """Builds MobileNetV2's stride-16 part, 576 channels; layer names are those of Keras Applications."""

    def relu6(x, name):
        return layers.ReLU(6.0, name=f"{name}_relu")(x)

    x = relu6(layers.Conv2D(32, 3, 2, padding="same", name="Conv1")(x), "Conv1")
    for k, (expansion, channels, stride) in enumerate(BLOCKS):
        name = f"block_{k}" if k else "expanded_conv"
        y = x
        if expansion > 1:
            y = layers.Conv2D(expansion * x.shape[-1], 1, name=f"{name}_expand")(y)
            y = relu6(y, f"{name}_expand")
        y = relu6(depthwise(y, stride, f"{name}_depthwise"), f"{name}_depthwise")
        y = layers.Conv2D(channels, 1, name=f"{name}_project")(y)
        x = layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and channels == x.shape[-1] else y
    x = layers.Conv2D(6 * x.shape[-1], 1, name="block_13_expand")(x)
    yield relu6(x, "block_13_expand")
