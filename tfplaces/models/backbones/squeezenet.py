"""SqueezeNet 1.0 up to fire9 (Iandola et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras import layers

FIRES = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]  # squeeze, expand


def build(x) -> Iterator[Any]:
    """Builds SqueezeNet's fire modules, 512 channels at stride 16."""

    def conv(x, channels, size, name):
        x = layers.Conv2D(channels, size, padding="same", name=name)(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    x = layers.Conv2D(96, 7, 2, name="conv1")(x)
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    for k, (squeeze, expand) in enumerate(FIRES, 2):
        s = conv(x, squeeze, 1, f"fire{k}_squeeze1x1")
        x = layers.Concatenate(name=f"fire{k}")(
            [conv(s, expand, 1, f"fire{k}_expand1x1"), conv(s, expand, 3, f"fire{k}_expand3x3")]
        )
        if k in (4, 8):
            x = layers.MaxPooling2D(3, 2, name=f"pool{k}")(x)
    yield x
