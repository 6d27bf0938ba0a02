"""Weights for backbones: ImageNet's from Keras Applications, or a file's; batch norm is folded on the way in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.common.npz_file import NpzFile
from tfplaces.common.text import printable_name
from tfplaces.models.backbones import BACKBONES
from tfplaces.models.place_net import PlaceNet
from tfplaces.pretrained.checkpoints import Checkpoint, open_checkpoint
from tfplaces.pretrained.torch_backbones import TORCH_BACKBONES, backbone_arrays, torch_preprocessing

# Where Keras Applications has the same network, and where it has one that is only called alike.
_APPLICATIONS = {"mobilenet_v1": "MobileNet", "mobilenet_v2": "MobileNetV2", "vgg16": "VGG16"}
_ONLY_CALLED_ALIKE = {
    "resnet50": "its ResNet50 is version 1, with strides in the first 1x1 convolution of a block, and resnet50 here is "
    "torchvision's version 1.5, with strides in the 3x3 convolution",
    "efficientnet_lite0": "its EfficientNetB0 has squeeze-and-excitation and swish, which EfficientNet-Lite leaves out",
}


def load_backbone_weights(model: PlaceNet, source: str) -> None:
    """Sets the weights of a PlaceNet's backbone.

    Args:
        model: the network; its aggregation and whitening are left as they are.
        source: `none` (left as initialised), `imagenet` (from Keras Applications, downloaded on first use) or the path
            of a file. In an `.npz` file the arrays are `LAYER/kernel`, `LAYER/bias` and, where the kernel is int8,
            `LAYER/scale` (one per output channel). PyTorch's and safetensors files, and `.npz` files with PyTorch's
            names, are of a network with this backbone, see `tfplaces.pretrained.torch_names`. A `DataWarning` names
            what belongs to no layer, and says when a first kernel is taken as BGR.

    Raises:
        UserError: the weights cannot be had or do not fit, or are of PyTorch and the network's preprocessing is not,
            see `published_preprocessing`; the message says which and why.
    """
    if source == "none":
        return
    if source == "imagenet":
        set_backbone_weights(model, _imagenet(model.config["backbone"]), source)
        return
    with _opened(source) as checkpoint:
        if _is_of_pytorch(checkpoint):
            notes = _set_from_pytorch(model, checkpoint)
        else:
            arrays, left_out = _read_npz(model, source)
            set_backbone_weights(model, arrays, source)
            notes = list(_notes(model.config["backbone"], list(arrays), left_out))
    for note in notes:
        warnings.warn(f"{printable_name(source)}: {note}", DataWarning, stacklevel=2)


def published_preprocessing(backbone: str, source: str) -> dict[str, Any]:
    """What the preprocessing of a PlaceNet has to be for weights that want another one than the backbone's usual.

    Args:
        backbone: a key of `tfplaces.models.BACKBONES`.
        source: see `load_backbone_weights`.

    Returns:
        `scale` and `offset` for `PlaceNet`; none where the usual ones are right. Only VGG16 is published for two:
        Caffe's, which is the usual one, and PyTorch's.

    Raises:
        UserError: the file cannot be read.
    """
    if backbone not in TORCH_BACKBONES or source in ("none", "imagenet"):
        return {}
    wanted, spec = torch_preprocessing(backbone), BACKBONES[backbone]
    if wanted == {"scale": spec.scale, "offset": spec.offset}:
        return {}
    with _opened(source) as checkpoint:
        return wanted if _is_of_pytorch(checkpoint) else {}


def _opened(source: str) -> Checkpoint:
    if not os.path.exists(source):
        raise UserError(
            f"{printable_name(source)}: no such file; backbone weights are none, imagenet, an .npz file or a file of "
            "PyTorch"
        )
    return open_checkpoint(source)


def _is_of_pytorch(checkpoint: Checkpoint) -> bool:
    """Whether the names are PyTorch's; `.npz` files may have ours."""
    names = checkpoint.tensors
    return checkpoint.format != "npz" or (
        any(name.endswith(".weight") for name in names) and not any(name.endswith("/kernel") for name in names)
    )


def _set_from_pytorch(model: PlaceNet, checkpoint: Checkpoint) -> list[str]:
    """Sets the weights, and says what is to be known of the file."""
    backbone, cut = model.config["backbone"], model.config["cut"]
    if checkpoint.format == "MatConvNet":
        raise UserError(f"{checkpoint.path}: a network of MatConvNet, which is imported as a whole: tfplaces-import")
    made = backbone_arrays(checkpoint.tensors, backbone, cut, source=checkpoint.path)
    wanted, spec = torch_preprocessing(backbone), BACKBONES[backbone]
    if wanted != {"scale": spec.scale, "offset": spec.offset}:
        has = {key: model.config[key] for key in wanted}
        if has != wanted:
            raise UserError(
                f"{checkpoint.path}: PyTorch's {backbone} takes other preprocessing than this network has; make it "
                "with the scale and offset that tfplaces.pretrained.published_preprocessing gives"
            )
    set_backbone_weights(model, made.arrays, checkpoint.path, rgb=True)
    used = {name for names in made.made_of.values() for name in names}.union(made.ignored)
    left_out = [name for name in checkpoint.tensors if name not in used]
    return [_left_out(backbone, len(checkpoint.tensors), left_out)] if left_out else []


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
    """The layers that published weights are for, which a projection is not."""
    return [layer for layer in model.backbone_layers if layer.weights and layer.name != "projection"]


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
        yield _left_out(backbone, len(left_out) + len(taken), left_out)
    if BACKBONES[backbone].bgr:
        first = f"{BACKBONES[backbone].first}/kernel"
        yield f"{first} is taken as published, for BGR (blue first), and turned round to RGB"


def _left_out(backbone: str, count: int, names: list[str]) -> str:
    shown = ", ".join(map(printable_name, names[:3])) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} of {count} arrays are left out, as this {backbone} has no layers for them: {shown}"


def _imagenet(backbone: str) -> Mapping[str, np.ndarray]:
    if backbone not in _APPLICATIONS:
        alike = f" ({_ONLY_CALLED_ALIKE[backbone]})" if backbone in _ONLY_CALLED_ALIKE else ""
        raise UserError(
            f"Keras Applications has no {backbone}{alike}; it has {', '.join(_APPLICATIONS)}: give a file instead"
        )
    try:
        application = getattr(keras.applications, _APPLICATIONS[backbone])(include_top=False, weights="imagenet")
    except Exception as error:  # keras.utils.get_file raises a bare Exception
        raise UserError(
            f"ImageNet weights of {backbone} could not be downloaded ({error}); go online once or give a file"
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
