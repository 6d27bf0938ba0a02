"""The kernels of a Keras model: what is pruned and shared; biases and the like are kept as they are."""

from __future__ import annotations

import dataclasses

import keras


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


def find_kernels(model: keras.Model) -> list[Kernel]:
    """The kernels of a model, in the order of its layers."""
    kernels = []
    for layer in model._flatten_layers():
        if layer is model or not layer._trainable_variables:
            continue
        for variable in layer._trainable_variables:
            if len(variable.shape) >= 2:
                axis = 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else len(variable.shape) - 1
                kernels.append(Kernel(variable.path, variable, axis))
    return kernels
