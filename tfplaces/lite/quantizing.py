"""From the float32 `.tflite` to one of integers, or of float16, by ai-edge-quantizer."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from tfplaces.lite import STATIC
from tfplaces.lite.layer_names import layers_pattern
from tfplaces.models import PlaceNet

# Inputs of a linear layer that share a scale in mixed_int4; where it has no multiple of so many, all of them do.
INT4_BLOCK = 32


def quantize(
    floats: str,
    result: str,
    model: PlaceNet,
    precision: str,
    ranges: Mapping[str, tuple[float, float]],
    int8_output: bool,
) -> None:
    """Writes the quantized form of a float32 `.tflite`.

    Args:
        floats: path of the float32 file.
        result: path of the file to write.
        model: the network that it was made from, which says what the backbone is.
        precision: any but `full_int8`, see `convert`.
        ranges: least and largest value of each activation, by the name of its tensor; for calibrated precisions.
        int8_output: whether the descriptor is int8 instead of float32.
    """
    from ai_edge_quantizer import qtyping, quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    every, dense = qtyping.TFLOperationName.ALL_SUPPORTED, qtyping.TFLOperationName.FULLY_CONNECTED
    with _quiet_quantizer():
        recipe = quantizer.Quantizer(floats)
        if precision == "float16":
            recipe.add_weight_only_config(".*", every, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
        elif precision == "dynamic_int8":
            recipe.add_dynamic_config(".*", every, num_bits=8)
        elif precision in STATIC:
            recipe.add_static_config(backbone_pattern(model), every, activation_num_bits=8, weight_num_bits=8)
            for layer in head_dense(model):
                bits, granularity = 8, qtyping.QuantGranularity.CHANNELWISE
                if precision == "mixed_int4":
                    bits = 4
                    if layer.kernel.shape[0] % INT4_BLOCK == 0:
                        granularity = qtyping.QuantGranularity.BLOCKWISE_32
                recipe.add_dynamic_config(layers_pattern([layer]), dense, num_bits=bits, granularity=granularity)
        if int8_output:
            output = qtyping.TFLOperationName.OUTPUT
            recipe.add_static_config(".*", output, activation_num_bits=8, weight_num_bits=8)
        found = {
            name: {"min": np.full((1, 1), low, np.float32), "max": np.full((1, 1), high, np.float32)}
            for name, (low, high) in ranges.items()
        }
        data = recipe.quantize(found, enable_progress_report=False).quantized_model
    with open(result, "wb") as file:
        file.write(data)


@contextlib.contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """Hides the quantizer's warnings, and its progress where no person is watching."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if not sys.stderr.isatty():
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield


def head_dense(model: PlaceNet) -> list[keras.layers.Dense]:
    """The dense layers after the backbone, whose weights have few bits in the mixed precisions; a whitening is one."""
    return [layer for layer in model.head_layers if isinstance(layer, keras.layers.Dense)]


def backbone_pattern(model: PlaceNet) -> str:
    """A regular expression for the names that TFLite gives the outputs of the backbone's operators."""
    # A grouped convolution that no activation is fused with loses the name of its layer.
    return rf"{layers_pattern(model.backbone_layers)}|^convolution\d*;?$"
