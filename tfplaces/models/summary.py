"""What a network is made of: output shapes, parameters and multiply-adds by layer."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import keras

from tfplaces.common.errors import UserError
from tfplaces.layers import NetVLAD

if TYPE_CHECKING:
    from tfplaces.models.place_net import PlaceNet


# At each position of the output every weight is multiplied once, in groups and by depth as well.
_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
)


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """One layer at one input size.

    Attributes:
        name, kind: the layer's name and class.
        output_shape: without the batch dimension.
        parameters: number of weights.
        multiply_adds: multiplications of a weight or a feature by another, for one image.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


Shape = tuple[int, ...]


def layer_shapes(model: keras.Model, size: tuple[int, int], name: str) -> list[tuple[keras.layers.Layer, Shape, Shape]]:
    """Each layer with the shapes of its first input and its output, batch included, for one image, in order.

    Args:
        model: a functional model that takes an image.
        size: (height, width) in pixels.
        name: what the network is called in the message.

    Raises:
        UserError: the image is too small for the network.
    """
    shapes: dict[keras.KerasTensor, Shape] = {}
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            shapes[layer.output] = (1, *size, 3)
            continue
        inputs = [shapes[t] for t in _as_list(layer.input)]
        try:
            shape = layer.compute_output_shape(inputs if len(inputs) > 1 else inputs[0])
        except ValueError:
            shape = (0,)
        if min(shape) < 1:
            raise UserError(f"an image of {size[0]}x{size[1]} is too small for {name}: {layer.name} has nothing left "
                            "to work on")  # fmt: skip
        shapes[layer.output] = tuple(shape)
        found.append((layer, inputs[0], tuple(shape)))
    return found


def summarize(model: PlaceNet, input_size: tuple[int, int] | None = None) -> list[LayerSummary]:
    """Lists the layers of a network in order.

    Args:
        model: the network.
        input_size: (height, width) in pixels; by default the model's.

    Raises:
        UserError: the input is too small for the network, or its weights are made for another size.
    """
    size = input_size or model.input_size
    check_size(model, size)
    return [
        LayerSummary(
            layer.name, type(layer).__name__, shape[1:], layer.count_params(), _multiply_adds(layer, inputs, shape)
        )
        for layer, inputs, shape in layer_shapes(model, size, model.config["backbone"])
    ]


def check_size(model: PlaceNet, size: tuple[int, int]) -> None:
    """Raises UserError where a network is asked to take another size than the one that its weights are made for."""
    if model.aggregation.fixed_size and tuple(size) != model.input_size:
        height, width = model.input_size
        raise UserError(
            f"input_size={size[0]}x{size[1]}: {model.aggregation.title} has weights for the places of its map, so this "
            f"network takes images of {height}x{width} only"
        )


def _as_list(tensors) -> list:
    return tensors if isinstance(tensors, list) else [tensors]


def _multiply_adds(layer: keras.layers.Layer, inputs: tuple[int, ...], output: tuple[int, ...]) -> int:
    """Multiplications of a weight or a feature by another for one image.

    Raises:
        TypeError: a layer that has kernels and is not known here.
    """
    if isinstance(layer, NetVLAD):
        # Assignment and aggregation: each position by each channel by each cluster.
        return 2 * math.prod(inputs[1:]) * layer.clusters
    if isinstance(layer, _CONVOLUTIONS):
        return math.prod(layer.kernel.shape) * math.prod(output[1:-1])
    if isinstance(layer, keras.layers.Dense):
        return math.prod(layer.kernel.shape) * math.prod(output[1:-1])
    if any(len(weight.shape) > 1 for weight in layer.weights):
        raise TypeError(f"summarize has no rule for the multiplications of {type(layer).__name__}")
    return 0
