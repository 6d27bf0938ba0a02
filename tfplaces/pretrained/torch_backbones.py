"""Backbones' weights from PyTorch's tensors, brought into our layers' shapes.

Batch norm is folded into the convolutions, in float64: y = γ (x − μ) / sqrt(σ² + ε) + β makes of each output channel of
a kernel γ / sqrt(σ² + ε) times itself, and of its bias β − μ γ / sqrt(σ² + ε).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.models import PlaceNet, outline
from tfplaces.models.backbones import BACKBONES, efficientnet_lite, resnet, vgg16
from tfplaces.pretrained.torch_names import ALEXNET, TensorEntry, Tensors, find_backbone

_RESNET_EPSILON, _EFFICIENTNET_EPSILON = 1e-5, 1e-3


@dataclasses.dataclass(frozen=True)
class BackboneArrays:
    """Weights for our layers.

    Attributes:
        arrays: float32 arrays by `LAYER/kernel` and `LAYER/bias`, in Keras's order of axes; the first kernel takes RGB.
        made_of: the names of the tensors that each of them was made of.
        ignored: names of tensors of the same layers that have no use: `num_batches_tracked`, which counts the training
            steps of a batch norm.
    """

    arrays: dict[str, np.ndarray]
    made_of: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TorchConvolution:
    """Where the weights of one of our layers are.

    Attributes:
        layer: the name of our layer.
        name: torchvision's of the convolution.
        norm: torchvision's of the batch norm after it; None where the convolution has a bias instead.
        shape: the kernel's in PyTorch, [output, input, height, width]; of a depthwise one [channels, 1, height, width].
        epsilon: the batch norm's.
    """

    layer: str
    name: str
    norm: str | None
    shape: tuple[int, int, int, int]
    epsilon: float = 0.0


def backbone_arrays(
    tensors: Tensors,
    backbone: str,
    cut: str | None = None,
    *,
    prefix: str | None = None,
    source: str = "checkpoint",
) -> BackboneArrays:
    """Makes the weights of a backbone's layers of a PyTorch network's tensors.

    Args:
        tensors: by name; arrays, or entries of which only those that are needed are read, and only in the right shape.
        backbone: a key of `tfplaces.models.BACKBONES`.
        cut: name of the last layer that is wanted; by default the backbone's usual cut.
        prefix: what the backbone's names begin with; by default it is looked for.
        source: what messages call the file.

    Raises:
        UserError: PyTorch weights of this backbone are not known, there is no such cut, a tensor is missing or has
            another shape, or its values are none that a network can have.
    """
    if backbone not in TORCH_BACKBONES:
        raise UserError(f"{source}: {_why_not(backbone)}; there is {', '.join(TORCH_BACKBONES)}")
    try:
        found = find_backbone(tensors, prefix)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    convolutions = TORCH_BACKBONES[backbone]()
    if found is None:
        first = (prefix or "") + convolutions[0].name
        raise UserError(
            f"{source}: no tensor '{printable_name(first)}.weight', the first of {backbone}, by this or another name "
            "that is known"
        )
    if found.network != backbone:
        raise UserError(f"{source}: holds the tensors of {found.network}, and {backbone} is wanted"
                        + (f"; {_why_not('alexnet')}" if found.network == ALEXNET else ""))  # fmt: skip
    wanted = {layer.name for layer in outline(PlaceNet, backbone, cut=cut, clusters=1).backbone_layers}
    convolutions = [convolution for convolution in convolutions if convolution.layer in wanted]
    return folded_arrays(tensors, convolutions, found.name, f"{source}: ", backbone)


def folded_arrays(
    tensors: Tensors,
    convolutions: Sequence[TorchConvolution],
    name: Callable[[str], str],
    where: str = "",
    network: str = "the network",
) -> BackboneArrays:
    """Makes kernels and biases of convolutions with the batch norms after them.

    Args:
        tensors: by name.
        convolutions: the layers that are wanted.
        name: gives the name in `tensors` by torchvision's.
        where: how messages begin.
        network: what messages call the network.

    Raises:
        UserError: a tensor is missing, has another shape or values that no network has.
    """
    arrays: dict[str, np.ndarray] = {}
    made_of: dict[str, tuple[str, ...]] = {}
    ignored: list[str] = []
    for convolution in convolutions:

        def read(part: str, shape: tuple[int, ...], layer: str = convolution.layer) -> tuple[str, np.ndarray]:
            full = name(part)
            if full not in tensors:
                raise UserError(
                    f"{where}no tensor '{printable_name(full)}', which {network} needs for its layer {layer}"
                )
            return full, _checked(tensors[full], shape, f"{where}{printable_name(full)}")

        weight_name, kernel = read(f"{convolution.name}.weight", convolution.shape)
        out = convolution.shape[0]
        if convolution.norm is None:
            bias_name, bias = read(f"{convolution.name}.bias", (out,))
            kernel_names: tuple[str, ...] = (weight_name,)
            bias_names: tuple[str, ...] = (bias_name,)
        else:
            parts = ("weight", "bias", "running_mean", "running_var")
            names, values = zip(*(read(f"{convolution.norm}.{part}", (out,)) for part in parts), strict=True)
            gamma, beta, mean, variance = values
            if variance.min() < 0:
                raise UserError(f"{where}{printable_name(names[3])} has negative values, and it is a variance")
            factor = gamma / np.sqrt(variance + convolution.epsilon)
            kernel = kernel * factor[:, None, None, None]
            bias = beta - mean * factor
            kernel_names, bias_names = (weight_name, names[0], names[3]), names
            counter = name(f"{convolution.norm}.num_batches_tracked")
            ignored += [counter] if counter in tensors else []
        depthwise = convolution.shape[1] == 1
        kernel = kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        for key, value, origin in (("kernel", kernel, kernel_names), ("bias", bias, bias_names)):
            with np.errstate(over="ignore"):
                arrays[f"{convolution.layer}/{key}"] = np.ascontiguousarray(value, np.float32)
            made_of[f"{convolution.layer}/{key}"] = tuple(origin)
    return BackboneArrays(arrays, made_of, tuple(ignored))


def torch_preprocessing(backbone: str) -> dict[str, Any]:
    """`scale` and `offset` of the PlaceNet that PyTorch's ImageNet weights of this backbone are for."""
    spec = BACKBONES["resnet18" if backbone == "vgg16" else backbone]
    return {"scale": spec.scale, "offset": spec.offset}


def resnet_convolutions(
    blocks: Sequence[int], bottleneck: bool, widths: Sequence[int] = resnet.WIDTHS
) -> list[TorchConvolution]:
    """The convolutions of the ResNet that `resnet.build` builds with the same arguments, in its order."""

    def add(layer: str, name: str, norm: str, *shape: int) -> None:
        out, into, size = shape
        convolutions.append(TorchConvolution(layer, name, norm, (out, into, size, size), _RESNET_EPSILON))

    convolutions: list[TorchConvolution] = []
    add("conv1", "conv1", "bn1", widths[0], 3, 7)
    channels = widths[0]
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
        out = 4 * width if bottleneck else width
        for k in range(count):
            ours, theirs = f"layer{stage}_{k}", f"layer{stage}.{k}"
            if bottleneck:
                shapes = [(width, channels, 1), (width, width, 3), (out, width, 1)]
            else:
                shapes = [(width, channels, 3), (width, width, 3)]
            for i, shape in enumerate(shapes, 1):
                add(f"{ours}_conv{i}", f"{theirs}.conv{i}", f"{theirs}.bn{i}", *shape)
            if k == 0 and (channels != out or stage > 1):
                add(f"{ours}_downsample", f"{theirs}.downsample.0", f"{theirs}.downsample.1", out, channels, 1)
            channels = out
    return convolutions


def _resnet(name: str) -> list[TorchConvolution]:
    return resnet_convolutions(resnet.BLOCKS[name], resnet.BOTTLENECKS[name])


def _vgg16() -> list[TorchConvolution]:
    """Named by their places in torchvision's `features`, where ReLUs and poolings have places as well."""
    convolutions, place, channels = [], 0, 3
    for block, (count, width) in enumerate(vgg16.BLOCKS, 1):
        for k in range(1, count + 1):
            convolutions.append(TorchConvolution(f"conv{block}_{k}", str(place), None, (width, channels, 3, 3)))
            place, channels = place + 2, width
        place += 1
    return convolutions


def _efficientnet_lite0() -> list[TorchConvolution]:
    def add(layer: str, name: str, norm: str, *shape: int) -> None:
        out, into, size = shape
        convolutions.append(TorchConvolution(layer, name, norm, (out, into, size, size), _EFFICIENTNET_EPSILON))

    convolutions: list[TorchConvolution] = []
    channels = efficientnet_lite.STEM
    add("stem", "_conv_stem", "_bn0", channels, 3, 3)
    k = 0
    for count, size, _, expansion, out in efficientnet_lite.STAGES:
        for _ in range(count):
            ours, theirs, wide = f"block_{k}", f"_blocks.{k}", expansion * channels
            if expansion > 1:
                add(f"{ours}_expand", f"{theirs}._expand_conv", f"{theirs}._bn0", wide, channels, 1)
            add(f"{ours}_depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1", wide, 1, size)
            add(f"{ours}_project", f"{theirs}._project_conv", f"{theirs}._bn2", out, wide, 1)
            k, channels = k + 1, out
    add("head", "_conv_head", "_bn1", efficientnet_lite.HEAD, channels, 1)
    return convolutions


#: The convolutions of each backbone that PyTorch files are read for.
TORCH_BACKBONES: dict[str, Callable[[], list[TorchConvolution]]] = {
    "efficientnet_lite0": _efficientnet_lite0,
    "resnet18": lambda: _resnet("resnet18"),
    "resnet50": lambda: _resnet("resnet50"),
    "vgg16": _vgg16,
}


def _why_not(backbone: str) -> str:
    if backbone in ("alexnet", "caffenet"):
        return (
            "torchvision's AlexNet (64, 192, 384, 256 and 256 channels, no groups, no response normalisation) is "
            "another network than Caffe's, which alexnet and caffenet are here"
        )
    return f"no PyTorch weights of {backbone} are known"


def _checked(entry: np.ndarray | TensorEntry, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The values in float64; they are not read in another shape."""
    if tuple(entry.shape) != shape:
        raise UserError(f"{what} has shape {tuple(entry.shape)}, expected {shape}")
    array = np.asarray(entry) if isinstance(entry, np.ndarray) else entry.read()
    if array.dtype.kind != "f":
        raise UserError(f"{what} holds {array.dtype}, not real numbers")
    if not np.all(np.isfinite(array)):
        raise UserError(f"{what} has values that are not finite")
    return array.astype(np.float64)
