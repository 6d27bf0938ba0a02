"""Backbones: convolutional networks up to the layer whose features NetVLAD aggregates.

To add one: a file here with a function `build`, which takes a symbolic image and returns the last feature map, and a
line in `BACKBONES`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from tfplaces.models.backbones import alexnet, mobilenet_v1, mobilenet_v2, squeezenet, vgg16

# Mean of ImageNet, RGB, as Caffe's networks subtract it: with and without decimals, by the release.
_CAFFE_MEAN = (123.68, 116.779, 103.939)
_SQUEEZENET_MEAN = (123.0, 117.0, 104.0)
_MINUS_ONE = (-1.0, -1.0, -1.0)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What there is to know of a backbone.

    Attributes:
        build: takes a symbolic image and returns the last feature map.
        cut: the layer whose output goes to NetVLAD unless another is asked for.
        input_size: (height, width) it was designed for.
        scale, offset: preprocessing of RGB 0 to 255 that its published weights expect, x · scale + offset.
        bgr: published weights take BGR; importing reorders the first kernel, so that every model here takes RGB.
        first: name of the first convolution.
    """

    build: Callable[[Any], Any]
    cut: str
    input_size: tuple[int, int]
    scale: float
    offset: tuple[float, float, float]
    bgr: bool
    first: str


def _minus(mean: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = mean
    return -first, -second, -third


_alexnet = Backbone(alexnet.build, "conv5", (227, 227), 1.0, _minus(_CAFFE_MEAN), True, "conv1")

BACKBONES = {
    "alexnet": _alexnet,
    "caffenet": dataclasses.replace(_alexnet, build=functools.partial(alexnet.build, pool_first=True)),
    "mobilenet_v1": Backbone(
        mobilenet_v1.build, "conv_pw_11", (224, 224), 1 / 127.5, (-1.0, -1.0, -1.0), False, "conv1"
    ),
    "mobilenet_v2": Backbone(
        mobilenet_v2.build, "block_13_expand", (224, 224), 1 / 127.5, (-1.0, -1.0, -1.0), False, "Conv1"
    ),
    "squeezenet": Backbone(squeezenet.build, "fire9", (227, 227), 1.0, _minus(_SQUEEZENET_MEAN), True, "conv1"),
    "vgg16": Backbone(vgg16.build, "conv5_3", (224, 224), 1.0, _minus(_CAFFE_MEAN), True, "conv1_1"),
}
