"""Weights for backbones: ImageNet's from Keras Applications, or an `.npz` file; batch norm is folded on the way in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.common.npz_file import NpzFile
from tfplaces.common.text import printable_name
from tfplaces.models.backbones import BACKBONES
from tfplaces.models.place_net import PlaceNet

_APPLICATIONS = {"mobilenet_v1": "MobileNet", "mobilenet_v2": "MobileNetV2", "vgg16": "VGG16"}


def load_backbone_weights(model: PlaceNet, source: str) -> None:
    """Sets the weights of a PlaceNet's backbone.

    Args:
        model: the network; its aggregation and whitening are left as they are.
        source: `none` (left as initialised), `imagenet` (from Keras Applications, downloaded on first use) or the path
            of an `.npz` file with the arrays `LAYER/kernel`, `LAYER/bias` and, where the kernel is int8,
            `LAYER/scale` (one per output channel). A `DataWarning` names arrays that belong to no layer, and says when
            a first kernel is taken as BGR.

    Raises:
        UserError: the weights cannot be had or do not fit; the message says which and why.
    """
    if source == "none":
        return
    if source == "imagenet":
        set_backbone_weights(model, _imagenet(model.config["backbone"]), source)
        return
    arrays, left_out = _read_npz(model, source)
    set_backbone_weights(model, arrays, source)
    for note in _notes(model.config["backbone"], list(arrays), left_out):
        warnings.warn(f"{printable_name(source)}: {note}", DataWarning, stacklevel=2)


def set_backbone_weights(model: PlaceNet, arrays: Mapping[str, np.ndarray], source: str, *, rgb: bool = False) -> None:
    """Sets the backbone's weights.

    Args:
        model: the network.
        arrays: by `LAYER/kernel` and `LAYER/bias`.
        source: what messages call them.
        rgb: the first kernel takes RGB, even where weights of this backbone are usually published for BGR.

    Raises:
        UserError: an array is missing, has another shape or values that no network has.
    """
    spec = BACKBONES[model.config["backbone"]]
    ready = []
    for layer in _backbone_layers(model):
        values = []
        for variable in (layer.kernel, layer.bias):
            key = f"{layer.name}/{variable.name}"
            if key not in arrays:
                raise UserError(f"{source}: no array {key!r}; is it for the backbone {model.config['backbone']}?")
            value = np.asarray(arrays[key])
            _check_kind(source, key, value.shape, value.dtype, tuple(variable.shape))
            if value.dtype == np.int8 and variable is layer.kernel:
                value = value * _channel_scale(layer, arrays, source)
            with np.errstate(over="ignore"):
                value = value.astype(np.float32)
            if not np.all(np.isfinite(value)):
                raise UserError(f"{source}: {key} has values that are not finite")
            if layer.name == spec.first and spec.bgr and not rgb and variable is layer.kernel:
                value = value[:, :, ::-1]
            values.append(value)
        ready.append((layer, values))
    for layer, values in ready:
        layer.set_weights(values)


def _backbone_layers(model: PlaceNet) -> list[keras.layers.Layer]:
    return [layer for layer in model.backbone_layers if layer.weights]


def _check_kind(source: str, key: str, shape: tuple[int, ...], dtype: np.dtype, expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise UserError(f"{source}: {key} has shape {shape}, expected {expected}")
    if dtype.kind not in "fiu":
        raise UserError(f"{source}: {key} holds {dtype}, not real numbers")


def _channel_scale(layer: keras.layers.Layer, arrays: Mapping[str, np.ndarray], source: str) -> np.ndarray:
    key = f"{layer.name}/scale"
    if key not in arrays:
        raise UserError(f"{source}: {layer.name}/kernel is int8 and has no {key!r} beside it")
    scale = np.asarray(arrays[key])
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    channels = layer.kernel.shape[2] if depthwise else layer.kernel.shape[3]
    if scale.shape != (channels,) or scale.dtype.kind not in "fiu":
        raise UserError(f"{source}: {key} holds {scale.dtype} {scale.shape}, expected numbers of shape ({channels},)")
    return scale[:, None] if depthwise else scale


def _read_npz(model: PlaceNet, path: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of the backbone's layers, inflated only if they have the layers' shapes, and other names."""
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file; backbone weights are none, imagenet or an .npz file")
    arrays: dict[str, np.ndarray] = {}
    with NpzFile(path) as file:
        left_out = dict.fromkeys(file.names)
        for layer in _backbone_layers(model):
            for variable in (layer.kernel, layer.bias):
                key = f"{layer.name}/{variable.name}"
                if key not in left_out:
                    continue
                _check_kind(path, key, *file.header(key), tuple(variable.shape))
                arrays[key] = file.read(key)
                del left_out[key]
            key = f"{layer.name}/scale"
            if key in left_out and arrays.get(f"{layer.name}/kernel", np.float32(0)).dtype == np.int8:
                shape, _ = file.header(key)
                if len(shape) != 1 or shape[0] > max(layer.kernel.shape):
                    raise UserError(f"{path}: {key} has shape {shape}, expected one number for each output channel")
                arrays[key] = file.read(key)
                del left_out[key]
    return arrays, list(left_out)


def _notes(backbone: str, taken: list[str], left_out: list[str]) -> Iterator[str]:
    """What is to be known of a file whose arrays were taken."""
    if left_out:
        shown = ", ".join(map(printable_name, left_out[:3])) + (", ..." if len(left_out) > 3 else "")
        yield (
            f"{len(left_out)} of {len(left_out) + len(taken)} arrays are left out, as this {backbone} has no layers "
            f"for them: {shown}"
        )
    if BACKBONES[backbone].bgr:
        first = f"{BACKBONES[backbone].first}/kernel"
        yield f"{first} is taken as published, for BGR (blue first), and turned round to RGB"


def _imagenet(backbone: str) -> Mapping[str, np.ndarray]:
    if backbone not in _APPLICATIONS:
        raise UserError(
            f"Keras Applications has no {backbone}; it has {', '.join(_APPLICATIONS)}: give an .npz file instead"
        )
    try:
        application = getattr(keras.applications, _APPLICATIONS[backbone])(include_top=False, weights="imagenet")
    except Exception as error:  # keras.utils.get_file raises a bare Exception
        raise UserError(
            f"ImageNet weights of {backbone} could not be downloaded ({error}); go online once or give an .npz file"
        ) from None
    return application_arrays(application)


def application_arrays(application: keras.Model) -> dict[str, np.ndarray]:
    """The convolutions of a Keras Applications network with batch norm folded in, as `LAYER/kernel`, `LAYER/bias`.

    A batch norm after a convolution is y = γ (x − μ) / sqrt(σ² + ε) + β, so the kernel of each output channel is scaled
    by γ / sqrt(σ² + ε) and the bias becomes (b − μ) · that + β.
    """
    arrays = {}
    previous = None
    for layer in application.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            previous = _our_name(layer.name)
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            kernel = layer.kernel.numpy()
            channels = kernel.shape[2] if depthwise else kernel.shape[3]
            arrays[f"{previous}/kernel"] = kernel
            arrays[f"{previous}/bias"] = layer.bias.numpy() if layer.use_bias else np.zeros(channels, np.float32)
        elif isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            factor = gamma / np.sqrt(variance + layer.epsilon)
            kernel = arrays[f"{previous}/kernel"]
            per_channel = factor[:, None] if kernel.shape[2:] == (len(factor), 1) else factor
            arrays[f"{previous}/kernel"] = kernel * per_channel
            arrays[f"{previous}/bias"] = (arrays[f"{previous}/bias"] - mean) * factor + beta
    return arrays


def _our_name(name: str) -> str:
    """VGG16's `block1_conv2` is `conv1_2` here; the MobileNets have the same names."""
    block, _, conv = name.partition("_conv")
    return f"conv{block[5:]}_{conv}" if conv and block.startswith("block") else name
