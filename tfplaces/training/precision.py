"""Training in mixed precision, of which nothing stays with the network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import flat_layers

# What a network can be trained in, dtype policies of Keras.
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def check_precision(precision: str) -> None:
    """Raises UserError unless a network can be trained in a precision of this name."""
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r}: one of {', '.join(PRECISIONS)}")


@contextlib.contextmanager
def computing_in(model: keras.Model, precision: str) -> Iterator[None]:
    """Within it a model computes in a precision; before and afterwards in that which it was made with.

    Weights are float32 all along. What would lose too much in 16 bits stays in float32 whatever the precision: scaling
    the pixels, and L2 normalisations, NetVLAD, GeM and local response normalisation, see `tfplaces.layers`.

    Args:
        model: its layers are made to compute in another precision. A function that was traced before keeps its own.
        precision: one of `PRECISIONS`.

    Raises:
        UserError: there is no such precision, or a layer has weights in another than float32.
    """
    check_precision(precision)
    layers = [layer for layer in flat_layers(model) if not isinstance(layer, keras.layers.Rescaling)]
    for layer in layers:
        if layer.variable_dtype != "float32":
            raise UserError(f"layer {layer.name!r} has weights of {layer.variable_dtype}: it is trained in that alone")
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = precision
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy
