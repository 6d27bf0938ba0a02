"""The kernels of a Keras model: what is pruned and shared; biases and the like are kept as they are."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import TypeVar

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import flat_layers, own_trainable_variables

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A trainable weight of two or more dimensions.

    Attributes:
        name: path of the variable, `LAYER/VARIABLE`.
        variable: the weight.
        channel_axis: axis of the output channels.
    """

    name: str
    variable: keras.Variable
    channel_axis: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.variable.shape))


def find_kernels(model: keras.Model) -> list[Kernel]:
    """The kernels of a model, in the order of its layers."""
    kernels = []
    for layer in flat_layers(model):
        for variable in own_trainable_variables(layer):
            if len(variable.shape) >= 2:
                axis = 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else len(variable.shape) - 1
                kernels.append(Kernel(variable.path, variable, axis))
    return kernels


def select_kernels(kernels: Sequence[Kernel], patterns: str) -> list[Kernel]:
    """Those whose layer, by name or path, or whose own path matches a list of shell globs.

    Args:
        kernels: what to choose from.
        patterns: separated by commas, as in `*,!netvlad*`; `!` excludes; where all exclude, the rest is included.

    Raises:
        ValueError: a pattern that matches nothing, or nothing is left.
    """
    parts = [part.strip() for part in patterns.split(",") if part.strip()]
    _check_patterns([part.removeprefix("!") for part in parts], kernels)
    excluded = [part[1:] for part in parts if part.startswith("!")]
    included = [part for part in parts if not part.startswith("!")] or ["*"]
    chosen = [k for k in kernels if _matches(k, included) and not _matches(k, excluded)]
    if not chosen:
        raise UserError(f"the layers {patterns!r} leave nothing to compress")
    return chosen


def value_for(kernels: Sequence[Kernel], values: Mapping[str, Value], default: Value) -> dict[str, Value]:
    """The value of each kernel by name: that of the last shell glob that matches it as above, or the default.

    Raises:
        ValueError: a pattern that matches nothing.
    """
    _check_patterns(values, kernels)
    result = dict.fromkeys((kernel.name for kernel in kernels), default)
    for pattern, value in values.items():
        result.update({kernel.name: value for kernel in kernels if _matches(kernel, [pattern])})
    return result


def _matches(kernel: Kernel, patterns: Sequence[str]) -> bool:
    path = kernel.name.rpartition("/")[0]
    # In a Sequential or a nested model, a layer's path is more than its name.
    names = kernel.name, path, path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _check_patterns(patterns, kernels: Sequence[Kernel]) -> None:
    for pattern in patterns:
        if not any(_matches(kernel, [pattern]) for kernel in kernels):
            layers = dict.fromkeys(kernel.name.rpartition("/")[0] for kernel in kernels)
            raise UserError(f"no layer matches {pattern!r}; there are {', '.join(layers)}")
