"""Weights for backbones: ImageNet's from Keras Applications, or an `.npz` file; batch norm is folded on the way in."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.models.backbones import BACKBONES
from tfplaces.models.place_net import PlaceNet

_APPLICATIONS = {"mobilenet_v1": "MobileNet", "mobilenet_v2": "MobileNetV2", "vgg16": "VGG16"}


def load_backbone_weights(model: PlaceNet, source: str) -> None:
    """Sets the weights of a PlaceNet's backbone.

    Args:
        model: the network; its NetVLAD and whitening are left as they are.
        source: `none` (left as initialised), `imagenet` (from Keras Applications, downloaded on first use) or the path
            of an `.npz` file with the arrays `LAYER/kernel`, `LAYER/bias` and, where the kernel is int8,
            `LAYER/scale` (one per output channel).

    Raises:
        ValueError: the weights cannot be had or do not fit; the message says which and why.
    """
    if source == "none":
        return
    arrays = _imagenet(model.config["backbone"]) if source == "imagenet" else _read_npz(source)
    set_backbone_weights(model, arrays, source)


def set_backbone_weights(model: PlaceNet, arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Sets the backbone's weights from arrays named `LAYER/kernel`, `LAYER/bias`; `source` is for messages."""
    spec = BACKBONES[model.config["backbone"]]
    ready = []
    for layer in model.layers:
        if not layer.weights or layer.name in ("netvlad", "whitening"):
            continue
        values = []
        for variable in (layer.kernel, layer.bias):
            key = f"{layer.name}/{variable.name}"
            if key not in arrays:
                raise UserError(f"{source}: no array {key!r}; is it for the backbone {model.config['backbone']}?")
            value = np.asarray(arrays[key])
            if value.shape != tuple(variable.shape):
                raise UserError(f"{source}: {key} has shape {value.shape}, expected {tuple(variable.shape)}")
            if value.dtype.kind not in "fiu":
                raise UserError(f"{source}: {key} holds {value.dtype}, not real numbers")
            if value.dtype == np.int8 and variable is layer.kernel:
                value = value * _channel_scale(layer, arrays, source)
            with np.errstate(over="ignore"):
                value = value.astype(np.float32)
            if not np.all(np.isfinite(value)):
                raise UserError(f"{source}: {key} has values that are not finite")
            if layer.name == spec.first and spec.bgr and variable is layer.kernel:
                value = value[:, :, ::-1]
            values.append(value)
        ready.append((layer, values))
    for layer, values in ready:
        layer.set_weights(values)


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


def _read_npz(path: str) -> Mapping[str, np.ndarray]:
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file; backbone weights are none, imagenet or an .npz file")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not an .npz file of backbone weights")
    arrays, name = {}, "its list of arrays"
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                arrays[name] = file[name]
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        raise UserError(f"{path}: {name} cannot be read ({error})") from None
    return arrays


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
