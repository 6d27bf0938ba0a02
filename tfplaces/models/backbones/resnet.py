"""ResNet18 and ResNet50 (He et al. 2016) as torchvision has them, batch norm folded into the convolutions.

Torchvision's are "version 1.5": a bottleneck that halves the resolution does so in its 3 x 3 convolution. Padding is
PyTorch's, alike on all sides, which is not TensorFlow's "same" where the stride is 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import layers

WIDTHS = (64, 128, 256, 512)  # of each stage; a bottleneck gives four times as many channels
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}  # of each stage
BOTTLENECKS = {"resnet18": False, "resnet50": True}


def resnet18(x) -> Iterator[Any]:
    """Builds ResNet18: `layer3` has 256 channels at stride 16, `layer4` 512 at stride 32."""
    return build(x, BLOCKS["resnet18"], BOTTLENECKS["resnet18"])


def resnet50(x) -> Iterator[Any]:
    """Builds ResNet50: `layer3` has 1024 channels at stride 16, `layer4` 2048 at stride 32."""
    return build(x, BLOCKS["resnet50"], BOTTLENECKS["resnet50"])


def build(x, blocks: Sequence[int], bottleneck: bool, widths: Sequence[int] = WIDTHS) -> Iterator[Any]:
    """Builds a ResNet and yields its features after each stage.

    The ReLU that ends stage k is the layer `layerk`, and the one that ends block b of it before, `layerk_b`.

    Args:
        x: symbolic image `[batch, height, width, 3]`.
        blocks: number of residual blocks in each stage.
        bottleneck: blocks of 1 x 1, 3 x 3 and 1 x 1 convolutions instead of two of 3 x 3.
        widths: channels of the 3 x 3 convolutions of each stage; the first is that of the stem as well.
    """
    x = _convolution(x, widths[0], 7, 2, "conv1")
    x = layers.ReLU(name="relu")(x)
    # Zeros instead of PyTorch's minus infinity are the same after a ReLU.
    x = layers.ZeroPadding2D(1, name="maxpool_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
        for k in range(count):
            name = f"layer{stage}_{k}"
            stride = 2 if stage > 1 and k == 0 else 1
            y = _branch(x, width, stride, name, bottleneck, 1 / sum(blocks))
            if x.shape[-1] != y.shape[-1] or stride > 1:
                x = _convolution(x, y.shape[-1], 1, stride, f"{name}_downsample")
            x = layers.Add(name=f"{name}_add")([x, y])
            x = layers.ReLU(name=f"layer{stage}" if k == count - 1 else name)(x)
        yield x


def _branch(x, width: int, stride: int, name: str, bottleneck: bool, variance: float):
    """What a block adds to its input; `variance` is that of the sum's new part, in units of the input's."""
    sizes: Sequence[tuple[int, int, int]]  # kernel, stride and channels of each convolution
    if bottleneck:
        sizes = ((1, 1, width), (3, stride, width), (1, 1, 4 * width))
    else:
        sizes = ((3, stride, width), (3, 1, width))
    for k, (size, step, channels) in enumerate(sizes, 1):
        if k == len(sizes):
            return _convolution(x, channels, size, step, f"{name}_conv{k}", variance)
        x = _convolution(x, channels, size, step, f"{name}_conv{k}")
        x = layers.ReLU(name=f"{name}_relu{k}")(x)


def _convolution(x, channels: int, size: int, stride: int, name: str, variance: float = 2.0):
    """A convolution padded as in PyTorch, whose weights at random have `variance` / number of inputs.

    There is no batch norm to mend the scale of the signal, so the weights keep it from the start: 2 (He et al. 2015) is
    what a ReLU needs that halves the mean square. The convolution that ends a residual branch has 1 / number of blocks
    instead, so that all n of them together make the mean square at most (1 + 1/n)^n < e times larger, where with 2 it
    would double or triple in each.
    """
    # In Keras, "same" is PyTorch's padding where the stride is 1, and needs no layer of its own.
    if stride > 1 and size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    padding = "same" if stride == 1 else "valid"
    initializer = keras.initializers.VarianceScaling(variance)
    return layers.Conv2D(channels, size, stride, padding, kernel_initializer=initializer, name=name)(x)
