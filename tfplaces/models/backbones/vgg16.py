"""VGG16 up to conv5_3 (Simonyan and Zisserman 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras import layers

BLOCKS = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]


def build(x) -> Iterator[Any]:
    """Builds VGG16's convolutions, 512 channels at stride 16 (there is no pooling after conv5_3)."""
    for block, (convolutions, channels) in enumerate(BLOCKS, 1):
        for k in range(1, convolutions + 1):
            x = layers.Conv2D(channels, 3, padding="same", name=f"conv{block}_{k}")(x)
            x = layers.ReLU(name=f"relu{block}_{k}")(x)
        if block < len(BLOCKS):
            x = layers.MaxPooling2D(2, 2, name=f"pool{block}")(x)
    yield x
