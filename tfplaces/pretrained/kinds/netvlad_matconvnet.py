"""The published NetVLAD networks in MatConvNet's `.mat` files: VGG16 or Caffe's AlexNet, NetVLAD, perhaps a whitening.

Layers are found by name and order, and what they say of themselves (strides, paddings, parameters) has to be what our
layers do. Facts: the flattened vector is channel-major there (index = k + K · d), the centroids are negative, and of
the L2 normalisations those of features and clusters are x / sqrt(Σx² + 1e-12).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.pretrained.checkpoints import Checkpoint, TensorEntry
from tfplaces.pretrained.kinds.base import Kind, Plan, Size, Weight, flat, has

_VGG16 = [
    f"conv{block}_{k}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for k in range(1, count + 1)
]  # fmt: skip
_VGG16_BETWEEN = [
    ["relu"] if one[4] == other[4] else ["pool", "relu"] for one, other in itertools.pairwise(_VGG16)
]  # fmt: skip
_ALEXNET = ["conv1", "conv2", "conv3", "conv4", "conv5"]
# Stride and padding of the convolutions.
_CONVOLUTIONS = {
    **{name: (1, 1) for name in _VGG16},
    "conv1": (4, 0), "conv2": (1, 2), "conv3": (1, 1), "conv4": (1, 1), "conv5": (1, 1),
}  # fmt: skip
# Caffe's normalisation, as MatConvNet writes it: channels, κ, α / channels, β.
_LRN = (5, 1, 2e-5, 0.75)
_HEAD = ("preL2", "vlad:core", "vlad:intranorm", "postL2")
_WHITENED = (*_HEAD, "WPCA", "finalL2")


def recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.format == "MatConvNet"


def plan(checkpoint: Checkpoint, input_size: Size | None) -> Plan:
    layers: Sequence[Mapping[str, Any]] = checkpoint.facts["layers"]
    names = [layer["name"] for layer in layers]
    body, head = _split(checkpoint, names)
    backbone, cut = _backbone(checkpoint, layers[: len(body)])
    size = input_size or (480, 640)
    for layer in layers[: len(body)]:
        _check_layer(checkpoint, layer, backbone, size)
    weights: dict[str, Weight] = {}
    for name in body:
        if name.startswith("conv"):
            kernel, bias = _tensor(checkpoint, name, 0), _tensor(checkpoint, name, 1)
            weights[f"{name}/kernel"] = Weight((f"{name}/0",), kernel.read)
            weights[f"{name}/bias"] = Weight((f"{name}/1",), flat(bias))
    channels, options, vocabulary = _netvlad(checkpoint, {layer["name"]: layer for layer in layers})
    reduced, pca = _whitening(checkpoint, channels, options["clusters"]) if "WPCA" in head else ({}, {})
    average = np.asarray(checkpoint.facts["average_image"], np.float64).reshape(-1)
    if average.shape != (3,) or not np.all(np.isfinite(average)):
        raise UserError(f"{checkpoint.path}: its average image is not three numbers, for red, green and blue")
    notes = [
        "The whole vector's norms are x / (|x| + 1e-12) in the source: ours differ from that for vectors shorter than "
        "1e-6 alone, which no image gives."
    ]
    if not pca:
        notes.append("The descriptor's numbers are in our order, cluster after cluster; MatConvNet's is channel after "
                     "channel.")  # fmt: skip
    return Plan(
        {
            "backbone": backbone, "cut": cut, **options, **reduced, "scale": 1.0, "offset": tuple((-average).tolist()),
            "norm": "matconvnet", "input_size": size,
        },
        {**weights, **vocabulary, **pca},
        notes,
        resize="The source does not resize images.",
    )  # fmt: skip


def _split(checkpoint: Checkpoint, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of the backbone's layers and of those after it."""
    start = names.index(_HEAD[0]) if _HEAD[0] in names else len(names)
    body, head = list(names[:start]), list(names[start:])
    if tuple(head) not in (_HEAD, _WHITENED):
        shown = ", ".join(printable_name(str(name))[:40] for name in names[-6:])
        raise UserError(
            f"{checkpoint.path}: its last layers are {shown}; a NetVLAD network of MatConvNet ends in "
            f"{', '.join(_WHITENED)}, or without the last two"
        )
    return body, head


def _backbone(checkpoint: Checkpoint, body: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Our backbone and its cut, from the order of the layers."""
    after: dict[str, list[str]] = {}  # the kinds of layers between a convolution and the next
    for layer in body:
        if layer["type"] == "conv":
            after[layer["name"]] = []
        elif after:
            after[next(reversed(after))].append({"lrn": "normalize"}.get(layer["type"], layer["type"]))
    names = list(after)
    *between, end = after.values() if after else [[]]
    if end in ([], ["relu"]) and names and body[0]["name"] == names[0]:
        cut = f"{'relu' if end else 'conv'}{names[-1].removeprefix('conv')}"
        # A pooling and a ReLU commute, and come in both orders.
        if names == _VGG16 and [sorted(kinds) for kinds in between] == _VGG16_BETWEEN:
            return "vgg16", cut
        if names == _ALEXNET and between[2:] == [["relu"]] * 2 and between[0] == between[1]:
            order = {"caffenet": ["relu", "pool", "normalize"], "alexnet": ["relu", "normalize", "pool"]}
            for backbone, kinds in order.items():
                if between[0] == kinds:
                    return backbone, cut
    shown = ", ".join(printable_name(f"{layer['name']} ({layer['type']})")[:60] for layer in body)
    raise UserError(
        f"{checkpoint.path}: a backbone of the layers {shown[:300]}; VGG16 up to conv5_3 and Caffe's AlexNet up to "
        "conv5, before or after the last ReLU, can be imported"
    )


def _check_layer(checkpoint: Checkpoint, layer: Mapping[str, Any], backbone: str, size: Size) -> None:
    """Raises UserError unless a layer of the backbone does what ours does."""
    name, kind = layer["name"], layer["type"]
    stride, pad = _numbers(layer, "stride") or (1,), _numbers(layer, "pad") or (0,)
    if kind == "conv" and name in _CONVOLUTIONS:
        right = {*stride} == {_CONVOLUTIONS[name][0]} and {*pad} == {_CONVOLUTIONS[name][1]}
    elif kind == "pool":
        window = 2 if backbone == "vgg16" else 3
        right = str(layer["method"]) == "max" and {*_numbers(layer, "pool")} == {window} and {*stride} == {2}
        # Padding behind alone changes nothing where the maps' sides are even.
        even = backbone == "vgg16" and size[0] % 16 == size[1] % 16 == 0 and len(pad) == 4 and pad[0] == pad[2] == 0
        right = right and ({*pad} == {0} or (even and max(pad) == 1))
    elif kind in ("normalize", "lrn"):
        param = _numbers(layer, "param")
        right = backbone != "vgg16" and len(param) == 4 and np.allclose(param, _LRN, rtol=1e-4, atol=0)
    else:
        right = kind == "relu" and not any(layer.get("leak") or ())
    if not right:
        told = {key: layer[key] for key in ("stride", "pad", "pool", "method", "param") if layer.get(key) is not None}
        shown = ", ".join(f"{key} {printable_name(str(value))[:60]}" for key, value in told.items())
        raise UserError(
            f"{checkpoint.path}: its layer {printable_name(name)[:40]} is of type {printable_name(str(kind))[:20]}"
            f"{' with ' + shown if shown else ''}, which our {backbone} does not have"
        )


def _netvlad(
    checkpoint: Checkpoint, layers: Mapping[str, Mapping[str, Any]]
) -> tuple[int, dict[str, Any], dict[str, Weight]]:
    """NetVLAD with two weights (`layerVLAD`), or three (`layerVLADv2`: the second is the assignment's bias).

    Returns:
        The channels that it takes, its options and its weights.
    """
    with_bias = has(checkpoint, "vlad:core/2")
    first, (channels, clusters) = _matrix(checkpoint, "vlad:core", 0)
    last, sides = _matrix(checkpoint, "vlad:core", 2 if with_bias else 1)
    if sides != (channels, clusters):
        raise UserError(f"{checkpoint.path}: vlad:core has weights of shapes {first.shape} and {last.shape}")
    for name in ("preL2", "vlad:intranorm"):
        param = _numbers(layers[name], "param")
        if param and not (len(param) == 4 and param[0] >= channels and np.allclose(param[1:], (1e-12, 1, 0.5))):
            raise UserError(
                f"{checkpoint.path}: {name} has parameters {list(param)}, and only [{2 * channels}, 1e-12, 1, 0.5] is "
                "an L2 normalisation as NetVLAD has it"
            )
    weights = {
        "netvlad/assignment": Weight(
            ("vlad:core/0",), lambda: first.read().reshape(1, 1, channels, clusters)
        ),
        "netvlad/centroids": Weight(
            (f"vlad:core/{2 if with_bias else 1}",), lambda: -last.read().reshape(channels, clusters).T
        ),
    }  # fmt: skip
    if with_bias:
        bias = _tensor(checkpoint, "vlad:core", 1)
        weights["netvlad/bias"] = Weight(("vlad:core/1",), flat(bias))
    options = {"aggregation": "netvlad", "clusters": clusters, "assignment_bias": with_bias}
    return channels, options, weights


def _whitening(checkpoint: Checkpoint, channels: int, clusters: int) -> tuple[dict[str, Any], dict[str, Weight]]:
    """The whitening, whose rows are brought from channel-major to cluster-major order."""
    (kernel, (inputs, units)), bias = _matrix(checkpoint, "WPCA", 0), _tensor(checkpoint, "WPCA", 1)
    if inputs != channels * clusters:
        raise UserError(f"{checkpoint.path}: WPCA takes {inputs} dimensions, and NetVLAD gives {channels} x {clusters}")

    def rows() -> np.ndarray:
        return kernel.read().reshape(channels, clusters, units).transpose(1, 0, 2).reshape(inputs, units)

    weights = {
        "whitening/kernel": Weight(("WPCA/0",), rows),
        "whitening/bias": Weight(("WPCA/1",), flat(bias)),
    }
    return {"whitening": units, "whitening_power": 0.5}, weights


def _tensor(checkpoint: Checkpoint, layer: str, index: int) -> TensorEntry:
    name = f"{layer}/{index}"
    if name not in checkpoint.tensors:
        raise UserError(f"{checkpoint.path}: its layer {layer} has no weights number {index}, which it needs")
    entry = checkpoint.tensors[name]
    if np.dtype(entry.dtype).kind != "f":
        raise UserError(f"{checkpoint.path}: {name} holds {entry.dtype}, not floating-point numbers")
    return entry


def _matrix(checkpoint: Checkpoint, layer: str, index: int) -> tuple[TensorEntry, tuple[int, int]]:
    """A weight `[1, 1, rows, columns]`, with rows and columns.

    Raises:
        UserError: it has another shape.
    """
    entry = _tensor(checkpoint, layer, index)
    shape = tuple(entry.shape)
    if len(shape) < 2 or any(side != 1 for side in shape[:-2]):
        raise UserError(f"{checkpoint.path}: {layer}/{index} has shape {list(shape)}, expected [1, 1, any, any]")
    return entry, (shape[-2], shape[-1])


def _numbers(layer: Mapping[str, Any], key: str) -> tuple[float, ...]:
    """An attribute of a layer as numbers; none where it is missing."""
    value = layer.get(key)
    return () if value is None else tuple(np.asarray(value, np.float64).reshape(-1).tolist())


KIND = Kind("NetVLAD of MatConvNet (Relja Arandjelović)", recognises, plan)
