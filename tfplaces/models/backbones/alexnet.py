"""AlexNet up to conv5, before its ReLU (Krizhevsky et al. 2012; Caffe's two-group weights)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras import layers

from tfplaces.layers import LocalResponseNormalization


def build(x, pool_first: bool = False) -> Iterator[Any]:
    """Builds AlexNet's convolutions, 227 x 227 native, 256 channels at stride 16.

    Args:
        x: symbolic image `[batch, height, width, 3]`.
        pool_first: pooling before normalisation, as in CaffeNet; AlexNet normalises, then pools.
    """

    def norm_and_pool(x, k):
        norm, pool = LocalResponseNormalization(name=f"norm{k}"), layers.MaxPooling2D(3, 2, name=f"pool{k}")
        return norm(pool(x)) if pool_first else pool(norm(x))

    x = layers.Conv2D(96, 11, 4, name="conv1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = norm_and_pool(x, 1)
    x = layers.Conv2D(256, 5, padding="same", groups=2, name="conv2")(x)
    x = layers.ReLU(name="relu2")(x)
    x = norm_and_pool(x, 2)
    x = layers.Conv2D(384, 3, padding="same", name="conv3")(x)
    x = layers.ReLU(name="relu3")(x)
    x = layers.Conv2D(384, 3, padding="same", groups=2, name="conv4")(x)
    x = layers.ReLU(name="relu4")(x)
    x = layers.Conv2D(256, 3, padding="same", groups=2, name="conv5")(x)
    yield layers.ReLU(name="relu5")(x)
