"""From a Keras model to a TFLite model of builtin operators, in several precisions."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfplaces.datasets import Images, Subset, read_batches
from tfplaces.files import replacing
from tfplaces.lite import PRECISIONS
from tfplaces.models import PlaceNet

# Images that activation ranges are taken from.
CALIBRATION_IMAGES = 64
# The last layers, by name; what else has weights is the backbone.
_HEAD = ("image", "preprocessing", "netvlad", "whitening", "descriptor")


def convert(
    model: PlaceNet,
    path: str | os.PathLike,
    precision: str = "mixed_int8",
    *,
    calibration: Images | None = None,
    input_size: tuple[int, int] | None = None,
    seed: int = 0,
) -> None:
    """Writes a PlaceNet as a `.tflite`: input uint8 `[1, height, width, 3]`, RGB; output float32 `[1, dim]`.

    Precisions:

    - `float32`
    - `float16`: weights of 16 bits, computed in float.
    - `dynamic_int8`: weights of 8 bits, activations quantized on the fly in every layer.
    - `mixed_int8`: the backbone in 8-bit integers throughout, by calibrated ranges; NetVLAD in float; the whitening
      with 8-bit weights.

    Args:
        model: the network.
        path: the file to make or replace.
        precision: one of `PRECISIONS`.
        calibration: images that `mixed_int8` takes its activation ranges from, up to 64 of them.
        input_size: (height, width) in pixels; by default the model's.
        seed: of the choice of calibration images.

    Raises:
        ValueError: an unknown precision, or no calibration images where they are needed.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision}: one of {', '.join(PRECISIONS)}")
    if precision == "mixed_int8" and not (calibration is not None and len(calibration)):
        raise ValueError("mixed_int8 needs images to calibrate on: name some, or choose another precision")
    input_size = input_size or model.input_size
    with tempfile.TemporaryDirectory() as folder:
        data = _convert_float(model, folder, input_size, half=precision == "float16")
    if precision in ("dynamic_int8", "mixed_int8"):
        data = _quantize(data, model, precision, calibration, input_size, seed)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


def _convert_float(model: PlaceNet, folder: str, input_size: tuple[int, int], half: bool) -> bytes:
    """TFLite with float weights, by way of a SavedModel: other ways leave the variables out or copy them twice."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve",
        lambda image: {"descriptor": model(tf.cast(image, tf.float32), training=False)},
        input_signature=[tf.TensorSpec((1, *input_size, 3), tf.uint8, name="image")],
    )
    archive.write_out(folder, verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _quantize(
    data: bytes, model: PlaceNet, precision: str, calibration: Images | None, input_size: tuple[int, int], seed: int
) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer

    quantize = quantizer.Quantizer(data)
    every = qtyping.TFLOperationName.ALL_SUPPORTED
    if precision == "dynamic_int8":
        quantize.add_dynamic_config(".*", every, num_bits=8)
        return bytes(quantize.quantize(enable_progress_report=False).quantized_model)
    quantize.add_static_config(backbone_pattern(model), every, activation_num_bits=8, weight_num_bits=8)
    quantize.add_dynamic_config("/whitening", qtyping.TFLOperationName.FULLY_CONNECTED, num_bits=8)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(calibration))[:CALIBRATION_IMAGES])

    # The quantizer goes through the samples more than once.
    samples = [{"image": batch} for batch in read_batches(Subset(calibration, chosen), input_size, batch_size=1)]
    with _quiet_quantizer():
        ranges = quantize.calibrate({"serve": samples}, num_threads=os.cpu_count() or 1)
        return bytes(quantize.quantize(ranges, enable_progress_report=False).quantized_model)


@contextlib.contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """Hides the quantizer's warnings, and its progress where no person is watching."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if not sys.stderr.isatty():
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield


def backbone_pattern(model: PlaceNet) -> str:
    """A regular expression for the names that TFLite gives the outputs of the backbone's operators."""
    names = sorted({re.escape(layer.name) for layer in model.layers if layer.name not in _HEAD})
    # A grouped convolution that no activation is fused with loses the name of its layer.
    return f"/({'|'.join(names)})(_\\d+)?/|^convolution\\d*;?$"
