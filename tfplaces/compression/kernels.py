"""The kernels of a Keras model: what is pruned and shared. Biases and the like are kept as they are.

What a weight is follows from its role and its layer, never from its number of dimensions alone: MultiHeadAttention has
biases of two dimensions, LayerNormalization scales of several.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import keras
import numpy as np

from tfplaces.coding.channels import ChannelAxis
from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import own_trainable_variables, sublayers
from tfplaces.layers import NetVLAD

Value = TypeVar("Value")

# A weight of one of these names multiplies the layer's input. Keras calls such weights kernel, recurrent_kernel,
# depthwise_kernel, pointwise_kernel and embeddings; the others are what people call them in layers of their own.
_KERNEL_NAME = re.compile(r"(.*_)?(kernel|embeddings?|weights?|matrix|w)(_\w+)?", re.IGNORECASE)
# Weights that are added, or that scale single channels, however many dimensions they have.
_KEPT_NAME = re.compile(r"(.*_)?(bias|gamma|beta|alpha|scale|offset|shift|mean|variance)(es|s)?(_\w+)?", re.IGNORECASE)
# The kernels of layers that call theirs otherwise.
_KERNELS_OF: dict[type[keras.layers.Layer], frozenset[str]] = {NetVLAD: frozenset({"assignment", "centroids"})}
# Keras gives such a name to a weight that its layer has not named.
_UNNAMED = re.compile(r"variable(_\d+)?")

_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A trainable weight that multiplies the input of its layer: of a convolution, a dense layer, a recurrent cell.

    Attributes:
        name: `LAYER/VARIABLE`, with the names of the models and layers around it before, as in `encoder/conv1/kernel`.
            It is unique in its model and does not depend on what other models there are.
        variable: the weight.
        channel_axis: the axis of the output channels, or the neighbouring axes that together count them: those of a
            depthwise kernel with a depth multiplier above 1, or of an EinsumDense with several output axes. Of a
            lookup table (Embedding) it is the axis of the vectors' elements.
    """

    name: str
    variable: keras.Variable
    channel_axis: ChannelAxis

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.variable.shape))


def find_kernels(model: keras.Model) -> list[Kernel]:
    """The kernels of a model in the order of its layers, each once, whether or not they are frozen.

    A weight is a kernel if it has two or more dimensions and its layer calls it kernel (or recurrent_kernel and the
    like, embeddings, weight, matrix, w), and so are the assignment and the centroids of NetVLAD. In a layer of the
    user's own a weight of several dimensions with another name is left as it is, with a warning.

    Args:
        model: any Keras model, functional, sequential or subclassed; other models may be nested in it.

    Raises:
        UserError: the model is not built, so that its weights are not known; or a layer holds its kernel in another
            form (quantized by Keras, or with LoRA).
    """
    if not model.built:
        raise UserError(f"the model {model.name!r} is not built, so it has no weights yet: call it on data first")
    kernels, seen = [], set()
    for path, layer in _layers_by_path(model):
        if layer.variables:
            _check_plain(layer, path)
        for variable in own_trainable_variables(layer):
            if id(variable) in seen or len(variable.shape) < 2:
                continue
            seen.add(id(variable))
            name = _variable_name(layer, variable)
            if _is_kernel(layer, name, path):
                kernels.append(Kernel("/".join((*path, name)), variable, _channel_axis(layer, name, variable)))
    # One layer may give two weights one name, or names' parts join to the same.
    names = _distinct([kernel.name for kernel in kernels])
    return [dataclasses.replace(kernel, name=name) for kernel, name in zip(kernels, names, strict=True)]


def _layers_by_path(model: keras.Model) -> Iterator[tuple[tuple[str, ...], keras.layers.Layer]]:
    """Every layer once, with the names that lead to it; where a container has two of one name they are numbered."""
    seen = set()

    def visit(path, layer):
        if id(layer) in seen:
            return
        seen.add(id(layer))
        yield path, layer
        children = list(sublayers(layer))
        for name, child in zip(_distinct([child.name for child in children]), children, strict=True):
            yield from visit((*path, name), child)

    yield from visit((), model)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names in their order; those that were there before get the first number that makes them new."""
    taken, used, result = set(names), set(), []
    for name in names:
        distinct, number = name, 2
        if name in used:
            while f"{name}_{number}" in taken:
                number += 1
            distinct = f"{name}_{number}"
            taken.add(distinct)
        used.add(distinct)
        result.append(distinct)
    return result


def _variable_name(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    """What the layer calls a weight; where it gave no name, the attribute that holds it."""
    if not _UNNAMED.fullmatch(variable.name):
        return variable.name
    return next((key for key, value in vars(layer).items() if value is variable), variable.name)


def _is_kernel(layer: keras.layers.Layer, name: str, path: Sequence[str]) -> bool:
    for kind, names in _KERNELS_OF.items():
        if isinstance(layer, kind) and name in names:
            return True
    if _KEPT_NAME.fullmatch(name):
        return False
    if _KERNEL_NAME.fullmatch(name):
        return True
    if type(layer).__module__.partition(".")[0] not in ("keras", "tfplaces"):
        warnings.warn(
            f"the weight {'/'.join((*path, name))} of the layer {type(layer).__name__} is not taken for a kernel and "
            "stays as it is; name it kernel if it is to be compressed",
            stacklevel=3,
        )
    return False


def _check_plain(layer: keras.layers.Layer, path: Sequence[str]) -> None:
    if getattr(layer, "quantization_mode", None) is not None:
        raise UserError(f"the layer {'/'.join(path)} is quantized by Keras: compress the network before that")
    if getattr(layer, "lora_enabled", False):
        raise UserError(f"the layer {'/'.join(path)} has LoRA enabled: merge it into the kernel first")


def _channel_axis(layer: keras.layers.Layer, name: str, variable: keras.Variable) -> ChannelAxis:
    dimensions = len(variable.shape)
    if isinstance(layer, _TRANSPOSED):  # [..., channels out, channels in]
        return dimensions - 2
    if isinstance(layer, _DEPTHWISE) or (isinstance(layer, _SEPARABLE) and name == "depthwise_kernel"):
        # [..., channels in, depth multiplier]
        return dimensions - 2 if variable.shape[-1] == 1 else (dimensions - 2, dimensions - 1)
    if isinstance(layer, keras.layers.EinsumDense):
        return _einsum_axes(layer.equation, dimensions)
    return dimensions - 1


def _einsum_axes(equation: str, dimensions: int) -> ChannelAxis:
    """The axes of an EinsumDense kernel that are in the output and not in the input, as far as they are neighbours."""
    inputs, kernel, output = re.split(r",|->", equation.replace(" ", ""))
    axes = [axis for axis, letter in enumerate(kernel) if letter in output and letter not in inputs]
    axes = [axis for axis in axes if axis - axes[-1] == axes.index(axis) - len(axes) + 1]  # the last run of neighbours
    if not axes:
        return dimensions - 1
    return axes[0] if len(axes) == 1 else tuple(axes)


def select_kernels(kernels: Sequence[Kernel], patterns: str) -> list[Kernel]:
    """Those kernels whose layer, by name or path, or whose own path matches a list of shell globs.

    Args:
        kernels: what to choose from.
        patterns: separated by commas, as in `*,!netvlad*`; `!` excludes; where all exclude, the rest is included.

    Raises:
        UserError: a pattern that matches nothing, or nothing is left, or a kernel is not stored in float32.
    """
    parts = [part.strip() for part in patterns.split(",") if part.strip()]
    _check_patterns([part.removeprefix("!") for part in parts], kernels)
    excluded = [part[1:] for part in parts if part.startswith("!")]
    included = [part for part in parts if not part.startswith("!")] or ["*"]
    chosen = [k for k in kernels if _matches(k, included) and not _matches(k, excluded)]
    if not chosen:
        raise UserError(f"the layers {patterns!r} leave nothing to compress")
    for kernel in chosen:
        dtype = keras.backend.standardize_dtype(kernel.variable.dtype)
        if dtype != "float32":
            raise UserError(
                f"the kernel {kernel.name} is {dtype}: pruning and sharing need float32 weights, which the policies "
                "float32, mixed_float16 and mixed_bfloat16 keep"
            )
    return chosen


def value_for(kernels: Sequence[Kernel], values: Mapping[str, Value], default: Value) -> dict[str, Value]:
    """The value of each kernel by name: that of the last shell glob that matches it as above, or the default.

    Raises:
        UserError: a pattern that matches nothing.
    """
    _check_patterns(values, kernels)
    result = dict.fromkeys((kernel.name for kernel in kernels), default)
    for pattern, value in values.items():
        result.update({kernel.name: value for kernel in kernels if _matches(kernel, [pattern])})
    return result


def _matches(kernel: Kernel, patterns: Sequence[str]) -> bool:
    path = kernel.name.rpartition("/")[0]
    # In a nested model a layer's path is more than its name.
    names = kernel.name, path, path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _check_patterns(patterns: Iterable[str], kernels: Sequence[Kernel]) -> None:
    for pattern in patterns:
        if not any(_matches(kernel, [pattern]) for kernel in kernels):
            layers = dict.fromkeys(kernel.name.rpartition("/")[0] for kernel in kernels)
            raise UserError(f"no layer matches {pattern!r}; there are {', '.join(layers)}")
