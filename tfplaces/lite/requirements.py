"""What a network, and the wishes of who converts it, have to fulfil: checked before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import flat_layers
from tfplaces.datasets import Images
from tfplaces.layers import LocalResponseNormalization
from tfplaces.lite import PRECISIONS, STATIC
from tfplaces.lite.integer_head import FLOAT_AGGREGATIONS
from tfplaces.lite.quantizing import head_dense
from tfplaces.lite.truncation import truncated_config
from tfplaces.models import PlaceNet
from tfplaces.models.summary import summarize

# The largest number that float16 holds.
_FLOAT16_MAX = 65504.0


def check_requirements(
    model: PlaceNet,
    precision: str,
    *,
    calibration: Sequence[Images] = (),
    input_size: tuple[int, int] | Literal["any"] | None = None,
    int8_output: bool = False,
    descriptor_dim: int | None = None,
) -> None:
    """Refuses what cannot be converted; the arguments are those of `convert`.

    Raises:
        UserError: the message says what cannot be had, and what can instead.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision={precision}: one of {', '.join(PRECISIONS)}")
    if (precision in STATIC or int8_output) and not sum(map(len, calibration)):
        what = precision if precision in STATIC else "an int8 output"
        raise UserError(f"{what} needs images to calibrate on: name some, or choose another precision")
    if precision == "full_int8" and input_size == "any":
        raise UserError("full_int8 is of one input size: its scales are those of so many local features")
    if input_size == "any" and model.aggregation.fixed_size:
        height, width = model.input_size
        raise UserError(
            f"input_size=any: {model.aggregation.title} has weights for the places of its map, so this network takes "
            f"images of {height}x{width} only"
        )
    if descriptor_dim is not None:
        truncated_config(model, descriptor_dim)
    if precision == "mixed_int4" and not head_dense(model):
        raise UserError(
            "mixed_int4 is mixed_int8 with 4-bit weights in the linear layers after the backbone, and this network has "
            "none, as a whitening would be: choose mixed_int8"
        )
    if precision == "full_int8":
        _check_integer_form(model)
    # Refuses a size that is too small.
    summarize(model, model.input_size if input_size is None or input_size == "any" else input_size)
    check_weights(model, _FLOAT16_MAX if precision == "float16" else float(np.finfo(np.float32).max))


def check_weights(model: keras.Model, largest: float = float(np.finfo(np.float32).max)) -> None:
    """Refuses a network with weights that are not finite, or larger in magnitude than a precision holds.

    Raises:
        UserError: the message names the first such weight.
    """
    for variable in model.weights:
        values = np.asarray(variable.numpy(), np.float32)
        if not np.isfinite(values).all():
            raise UserError(f"{variable.path}: weights that are not finite; the network is broken: train it again")
        if values.size and np.max(np.abs(values)) > largest:
            raise UserError(
                f"{variable.path}: a weight of {np.max(np.abs(values)):.3g}, more than the {largest:g} that float16 "
                "holds; choose another precision"
            )


def _check_integer_form(model: PlaceNet) -> None:
    if (why := FLOAT_AGGREGATIONS.get(model.aggregation.kind)) is not None:
        raise UserError(f"full_int8: {model.aggregation.title} has to stay in float, as {why}; take mixed_int8")
    for layer in flat_layers(model):
        if isinstance(layer, LocalResponseNormalization):
            raise UserError(
                f"full_int8: {layer.name} of {model.config['backbone']}, a local response normalisation, has no "
                "integer form in TFLite; take mixed_int8, where it is computed in float"
            )
