"""What comes after the backbone in PyTorch's checkpoints: options of our aggregations, and weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds.base import Size, Weight, has, require

Head = tuple[dict[str, Any], dict[str, Weight]]
# Published ones have 4 blocks; tensors of a file may share their numbers, so that a small file could have many.
_MAX_DEPTH = 32


def netvlad(checkpoint: Checkpoint, prefix: str, channels: int) -> Head:
    """NetVLAD from `conv.weight` [K, D, 1, 1], `centroids` [K, D] and perhaps `conv.bias` [K], below a prefix."""
    conv, centroids, bias = f"{prefix}conv.weight", f"{prefix}centroids", f"{prefix}conv.bias"
    entry = require(checkpoint, centroids, None, channels)
    clusters = entry.shape[0]
    assignment = require(checkpoint, conv, clusters, channels, 1, 1)
    weights = {
        "netvlad/assignment": Weight((conv,), lambda: assignment.read().transpose(2, 3, 1, 0)),
        "netvlad/centroids": Weight((centroids,), entry.read),
    }
    if has(checkpoint, bias):
        weights["netvlad/bias"] = Weight((bias,), require(checkpoint, bias, clusters).read)
    options = {"aggregation": "netvlad", "clusters": clusters, "assignment_bias": "netvlad/bias" in weights}
    return options, weights


def whitening(checkpoint: Checkpoint, name: str, inputs: int) -> Head:
    """A whitening from a linear layer or a 1 x 1 convolution that an L2 normalisation follows."""
    entry = checkpoint.tensors.get(f"{name}.weight")
    sides = (1, 1) if entry is not None and len(entry.shape) == 4 else ()
    units = require(checkpoint, f"{name}.weight", None, inputs, *sides).shape[0]
    return {"whitening": units, "whitening_power": 0.5}, _dense(checkpoint, name, "whitening", units, inputs, *sides)


def gem(checkpoint: Checkpoint, p: str, channels: int, linear: str = "", l2_first: bool = False) -> Head:
    """Generalised mean pooling with its power, and perhaps a linear layer.

    Args:
        p: name of the power.
        linear: name of the linear layer without `.weight`.
        l2_first: whether local features are normalised first.
    """
    entry = require(checkpoint, p, 1)

    def power() -> np.ndarray:
        value = entry.read()
        if not value[0] > 0:
            raise UserError(f"{checkpoint.path}: {p} is {value[0]}, and GeM has a power above 0")
        return value

    weights = {"gem/p": Weight((p,), power)}
    units = 0
    if linear:
        units = require(checkpoint, f"{linear}.weight", None, channels).shape[0]
        weights |= _dense(checkpoint, linear, "linear", units, channels)
    return {"aggregation": "gem", "linear": units, "l2_first": l2_first}, weights


def convap(checkpoint: Checkpoint, prefix: str, channels: int) -> Head:
    """ConvAP: `channel_pool` below a prefix; the file does not say how many bins, which are 2 x 2 in all that are
    published."""
    name = f"{prefix}channel_pool"
    units = require(checkpoint, f"{name}.weight", None, channels, 1, 1).shape[0]
    options = {"aggregation": "convap", "channels": units, "grid": 2}
    return options, _dense(checkpoint, name, "channel_pooling", units, channels, 1, 1)


def mixvpr(
    checkpoint: Checkpoint, prefix: str, channels: int, stride: int, input_size: Size | None
) -> tuple[Head, Size]:
    """MixVPR, and the size of images that it belongs to: `mix.{k}.mix.{0,1,3}`, `channel_proj` and `row_proj`."""
    positions = require(checkpoint, f"{prefix}mix.0.mix.0.weight", None).shape[0]
    size = _mixed_size(checkpoint, positions, stride, input_size)
    weights: dict[str, Weight] = {}
    depth = 0
    while has(checkpoint, f"{prefix}mix.{depth}.mix.0.weight"):
        source, ours = f"{prefix}mix.{depth}.mix", f"mixer_{depth}"
        gamma, beta = f"{source}.0.weight", f"{source}.0.bias"
        weights |= {
            f"{ours}_norm/gamma": Weight((gamma,), require(checkpoint, gamma, positions).read),
            f"{ours}_norm/beta": Weight((beta,), require(checkpoint, beta, positions).read),
            **_dense(checkpoint, f"{source}.1", f"{ours}_expand", positions, positions),
            **_dense(checkpoint, f"{source}.3", f"{ours}_project", positions, positions),
        }
        depth += 1
        if depth > _MAX_DEPTH:
            raise UserError(f"{checkpoint.path}: a MixVPR of more than {_MAX_DEPTH} blocks")
    projection, row = f"{prefix}channel_proj", f"{prefix}row_proj"
    out = require(checkpoint, f"{projection}.weight", None, channels).shape[0]
    rows = require(checkpoint, f"{row}.weight", None, positions).shape[0]
    weights |= _dense(checkpoint, projection, "channel_projection", out, channels)
    weights |= _dense(checkpoint, row, "row_projection", rows, positions)
    return ({"aggregation": "mixvpr", "channels": out, "rows": rows, "depth": depth}, weights), size


def _mixed_size(checkpoint: Checkpoint, positions: int, stride: int, asked: Size | None) -> Size:
    """The size of images whose map has so many positions: the one that is asked for, else a square."""
    if asked is not None:
        height, width = (-(-side // stride) for side in asked)
        if height * width != positions:
            raise UserError(
                f"{checkpoint.path}: its MixVPR has weights for {positions} positions, and images of "
                f"{asked[0]}x{asked[1]} have {height}x{width} = {height * width}"
            )
        return asked
    side = round(positions**0.5)
    if side * side != positions:
        raise UserError(
            f"{checkpoint.path}: its MixVPR has weights for {positions} positions, which are no square; say with "
            "--input_size=HEIGHTxWIDTH which images it was trained on"
        )
    return side * stride, side * stride


def _dense(checkpoint: Checkpoint, source: str, layer: str, units: int, inputs: int, *sides: int) -> dict[str, Weight]:
    """Kernel and bias of a linear layer `[units, inputs]`, or of a 1 x 1 convolution `[units, inputs, 1, 1]`."""
    kernel, bias = f"{source}.weight", f"{source}.bias"
    matrix = require(checkpoint, kernel, units, inputs, *sides)

    def transposed() -> np.ndarray:
        return matrix.read().reshape(units, inputs).T

    return {
        f"{layer}/kernel": Weight((kernel,), transposed),
        f"{layer}/bias": Weight((bias,), require(checkpoint, bias, units).read),
    }
