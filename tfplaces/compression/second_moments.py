"""Second moments of what dense layers are given: they say which errors of a kernel move the layer's output."""

from __future__ import annotations

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import flat_layers
from tfplaces.compression.kernels import Kernel
from tfplaces.datasets import Images
from tfplaces.describers import KerasDescriber, stream_descriptors
from tfplaces.models import PlaceNet

# Inputs that have a moment together: those of one NetVLAD cluster of 512 features. All inputs of a whitening together,
# 32,768 and more, would need gigabytes, and far more images than there are to know their moments.
BLOCK = 512
# Fewer images say next to nothing about 512 inputs.
MIN_IMAGES = 100


def dense_kernels(model: PlaceNet, kernels: list[Kernel]) -> dict[str, keras.layers.Dense]:
    """Those of the kernels that are of dense layers, by name, with their layers."""
    dense = {id(layer.kernel): layer for layer in flat_layers(model) if isinstance(layer, keras.layers.Dense)}
    return {kernel.name: dense[id(kernel.variable)] for kernel in kernels if id(kernel.variable) in dense}


def second_moments(model: PlaceNet, layers: dict[str, keras.layers.Dense], images: Images) -> dict[str, np.ndarray]:
    """The mean of x xᵀ over images, for runs of neighbouring inputs x of dense layers.

    Images are streamed; what is held is the moments, 4 · inputs · n bytes for each layer.

    Args:
        model: the network, as it is when the layers' inputs are measured.
        layers: by the names that their moments are to have.
        images: at least 100. Only database images, as queries must tune nothing.

    Returns:
        float32 `[blocks, n, n]` for each layer, with blocks · n inputs; n divides the inputs and is at most 512.

    Raises:
        UserError: too few images.
    """
    check_count(images)
    return {name: _moments(model, layer, images) for name, layer in layers.items()}


def _moments(model: PlaceNet, layer: keras.layers.Dense, images: Images) -> np.ndarray:
    describer = KerasDescriber(keras.Model(model.inputs, layer.input), model.input_size)
    inputs = layer.kernel.shape[0]
    n = next(n for n in range(min(inputs, BLOCK), 0, -1) if inputs % n == 0)
    moments = np.zeros((inputs // n, n, n), np.float32)
    count = 0
    for found in stream_descriptors(describer, images, range(len(images)), f"moments of {layer.name}"):
        for moment, x in zip(moments, np.split(found.reshape(-1, inputs), inputs // n, axis=1), strict=True):
            moment += x.T @ x
        count += len(found)
    moments /= count
    return moments


def check_count(images: Images) -> None:
    """Raises UserError where images are too few for second moments."""
    if len(images) < MIN_IMAGES:
        raise UserError(
            f"second moments from {len(images)} database images: at least {MIN_IMAGES} are needed; "
            "give a data set with more, or several"
        )
