"""Backbones: convolutional networks up to the layer whose features NetVLAD aggregates.

To add one: a file here with a function `build`, which takes a symbolic image and yields feature maps in order, and a
line in `BACKBONES`. Layers are made when the next feature map is asked for, so that nobody pays for large layers behind
the cut.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

from tfplaces.models.backbones import (
    alexnet,
    efficientnet_lite,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    squeezenet,
    vgg16,
)

# Mean of ImageNet, RGB, as Caffe's networks subtract it: with and without decimals, by the release.
_CAFFE_MEAN = (123.68, 116.779, 103.939)
_SQUEEZENET_MEAN = (123.0, 117.0, 104.0)
_MINUS_ONE = (-1.0, -1.0, -1.0)
# What PyTorch's ImageNet networks take: (x / 255 - mean) / standard deviation, RGB.
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What there is to know of a backbone.

    Attributes:
        build: takes a symbolic image and yields feature maps in order; the last one is the backbone's end.
        cut: the layer whose output goes to NetVLAD unless another is asked for.
        input_size: (height, width) it was designed for.
        scale, offset: preprocessing of RGB 0 to 255 that its published weights expect, x · scale + offset; scale is one
            number, or one for each channel.
        bgr: published weights take BGR; importing reorders the first kernel, so that every model here takes RGB.
        first: name of the first convolution.
        train_from: the first layer that is trained unless another is asked for, so that about the last third of those
            up to the usual cut are. What ImageNet taught the others serves places as well.
    """

    build: Callable[[Any], Iterator[Any]]
    cut: str
    input_size: tuple[int, int]
    scale: float | tuple[float, float, float]
    offset: tuple[float, float, float]
    bgr: bool
    first: str
    train_from: str


def _minus(mean: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = mean
    return -first, -second, -third


def _divided(dividend: tuple[float, float, float], divisor: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = (a / b for a, b in zip(dividend, divisor, strict=True))
    return first, second, third


_alexnet = Backbone(alexnet.build, "conv5", (227, 227), 1.0, _minus(_CAFFE_MEAN), True, "conv1", "conv4")
_resnet = Backbone(
    resnet.resnet18, "layer3", (224, 224), _divided((1 / 255,) * 3, _TORCH_DEVIATION),
    _divided(_minus(_TORCH_MEAN), _TORCH_DEVIATION), False, "conv1", "layer3_0_conv1",
)  # fmt: skip

BACKBONES = {
    "alexnet": _alexnet,
    "caffenet": dataclasses.replace(_alexnet, build=functools.partial(alexnet.build, pool_first=True)),
    # To NetVLAD the 112 channels of block_10 are worth what the 672 of block_11_expand are, and GeM wants those.
    "efficientnet_lite0": Backbone(
        efficientnet_lite.efficientnet_lite0,
        "block_10",
        (224, 224),
        1 / 128,
        (-127 / 128,) * 3,
        False,
        "stem",
        "block_5_expand",
    ),
    "mobilenet_v1": Backbone(
        mobilenet_v1.build, "conv_pw_11", (224, 224), 1 / 127.5, (-1.0, -1.0, -1.0), False, "conv1", "conv_dw_9"
    ),
    "mobilenet_v2": Backbone(
        mobilenet_v2.build,
        "block_13_expand",
        (224, 224),
        1 / 127.5,
        (-1.0, -1.0, -1.0),
        False,
        "Conv1",
        "block_10_expand",
    ),
    "resnet18": _resnet,
    "resnet50": dataclasses.replace(_resnet, build=resnet.resnet50),
    "squeezenet": Backbone(
        squeezenet.build, "fire9", (227, 227), 1.0, _minus(_SQUEEZENET_MEAN), True, "conv1", "fire7_squeeze1x1"
    ),
    "vgg16": Backbone(vgg16.build, "conv5_3", (224, 224), 1.0, _minus(_CAFFE_MEAN), True, "conv1_1", "conv5_1"),
}
