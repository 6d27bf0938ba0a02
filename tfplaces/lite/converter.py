"""From a Keras model to a TFLite model of builtin operators, in several precisions."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from tfplaces.coding import SharedKernel
from tfplaces.common.errors import UserError
from tfplaces.common.files import replacing
from tfplaces.datasets import Images, Subset, read_batches
from tfplaces.lite import PRECISIONS, STATIC
from tfplaces.lite.integer_head import integer_form
from tfplaces.lite.ranges import activation_ranges
from tfplaces.lite.weights import KernelTensor, Model, kernel_errors, locate_kernels, write_exactly, write_int4
from tfplaces.models import PlaceNet
from tfplaces.models.summary import summarize

# Images that activation ranges are taken from.
CALIBRATION_IMAGES = 64
# The last layers, by name; what else has weights is the backbone.
_HEAD = ("image", "preprocessing", "netvlad", "whitening", "descriptor")
# Kernels that a precision does not hold in 8 bits by channel.
_ROUNDED = {("mixed_int4", "whitening/kernel"), ("full_int8", "netvlad/centroids")}


def convert(
    model: PlaceNet,
    path: str | os.PathLike,
    precision: str = "mixed_int8",
    *,
    shared: Mapping[str, SharedKernel] | None = None,
    calibration: Images | None = None,
    input_size: tuple[int, int] | Literal["any"] | None = None,
    batch: int = 1,
    float_input: bool = False,
    int8_output: bool = False,
    descriptor_dim: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Writes a PlaceNet as a `.tflite`: from RGB images `[batch, height, width, 3]` to descriptors `[batch, dim]`.

    Precisions:

    - `float32`
    - `float16`: weights of 16 bits, computed in float.
    - `dynamic_int8`: weights of 8 bits, activations quantized on the fly in every layer.
    - `mixed_int8`: the backbone in 8-bit integers throughout, by calibrated ranges; NetVLAD in float; the whitening
      with 8-bit weights.
    - `mixed_int4`: as `mixed_int8`, but the whitening with 4-bit weights in blocks of 32 inputs that share a scale.
    - `full_int8`: 8-bit integers throughout, for accelerators that take nothing else; see `integer_head`. NetVLAD's
      centroids, which are computed with, share one scale, and the descriptor is only nearly of unit length.

    Args:
        model: the network.
        path: the file to make or replace.
        precision: one of `PRECISIONS`.
        shared: how the kernels are shared, by name, from a `.places` file. What is on the int8 grid is in the file
            exactly as it is, wherever the precision holds it in 8 bits.
        calibration: images that the activation ranges of the mixed precisions are taken from, up to 64 of them.
        input_size: (height, width) in pixels; by default the model's. "any": the file's user resizes the input, and
            ranges are those at the model's size.
        batch: images at once.
        float_input: float32 instead of uint8, both 0 to 255.
        int8_output: int8 with a scale from calibration instead of float32.
        descriptor_dim: keep only so many dimensions of the whitening, the first.
        seed: of the choice of calibration images.

    Returns:
        of each kernel, by name, ‖file − model‖ / ‖model‖; 0.0 where all weights are the model's, bit for bit.

    Raises:
        ValueError: an unknown precision, no calibration images where they are needed, more dimensions than the
            whitening has, weights that integers do not hold, or a layer or a size that `full_int8` cannot have.
        RuntimeError: the file does not hold the kernels exactly where it has to.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision={precision}: one of {', '.join(PRECISIONS)}")
    if (precision in STATIC or int8_output) and not (calibration is not None and len(calibration)):
        what = precision if precision in STATIC else "an int8 output"
        raise UserError(f"{what} needs images to calibrate on: name some, or choose another precision")
    if precision == "full_int8" and input_size == "any":
        raise UserError("full_int8 is of one input size: its scales are those of so many local features")
    shared = shared or {}
    if descriptor_dim is not None:
        model, shared = _truncate(model, shared, descriptor_dim)
    size = input_size or model.input_size
    summarize(model, model.input_size if size == "any" else size)  # refuses one that is too small
    shape = (batch, None, None, 3) if size == "any" else (batch, *size, 3)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(path)), prefix=".converting-") as folder:
        sample = []
        if precision in STATIC or int8_output:
            chosen = np.sort(np.random.default_rng(seed).permutation(len(calibration))[:CALIBRATION_IMAGES])
            reading = model.input_size if size == "any" else size
            sample = list(_full_batches(Subset(calibration, chosen), reading, batch))
        full = precision == "full_int8"
        saved = _save(model, folder, shape, float_input, full)
        floats = _convert_saved(model, saved, os.path.join(folder, "float32.tflite"), float_input)
        if not full:
            shutil.rmtree(saved)
        if size == "any":
            size = model.input_size
            Model(np.memmap(floats, mode="r+")).set_input_shape((batch, *size, 3))
        places = locate_kernels(model, np.memmap(floats, mode="r"))
        result = os.path.join(folder, "result.tflite")
        if precision == "float32" and not int8_output:
            result = floats
        else:
            if full:
                _convert_saved(model, saved, result, float_input, sample, int8_output)
            else:
                ranges = activation_ranges(floats, sample) if sample else {}
                _quantize(floats, result, model, precision, ranges, int8_output)
            file = np.memmap(result, mode="r+")
            write_exactly(file, np.memmap(floats, mode="r"), places, shared)
            write_int4(file, places)
            file.flush()
            del file
        errors = kernel_errors(np.memmap(result, mode="r"), places)
        _check_exact(errors, places, precision, shared)
        with replacing(path) as temporary:
            os.replace(result, temporary)
    return errors


def _truncate(
    model: PlaceNet, shared: Mapping[str, SharedKernel], dim: int
) -> tuple[PlaceNet, dict[str, SharedKernel]]:
    """The network with the first dimensions of its whitening (Jégou and Chum, 2012), and its sharing."""
    whitening = model.config["whitening"]
    if not 1 <= dim <= whitening:
        has = f"a whitening to {whitening} dimensions" if whitening else "no whitening"
        raise UserError(f"descriptor_dim={dim}: the network has {has}, of which the first can be kept")
    shorter = PlaceNet(**{**model.config, "whitening": dim}, dtype="float32")
    for ours, theirs in zip(shorter.weights, model.weights, strict=True):
        ours.assign(theirs.numpy()[..., :dim] if "whitening" in ours.path else theirs)
    shared = dict(shared)
    if kernel := shared.get("whitening/kernel"):
        shared["whitening/kernel"] = dataclasses.replace(
            kernel, indices=np.ascontiguousarray(kernel.indices[:, :dim]), scales=kernel.scales[:dim]
        )
    return shorter, shared


def _full_batches(images: Images, size: tuple[int, int], batch: int) -> Iterator[np.ndarray]:
    """The images in batches of one size; the last is filled up with the first of it."""
    for part in read_batches(images, size, batch_size=batch):
        yield np.concatenate([part, part[np.zeros(batch - len(part), int)]])


def _check_exact(
    errors: Mapping[str, float], places: list[KernelTensor], precision: str, shared: Mapping[str, SharedKernel]
) -> None:
    """Raises RuntimeError where a kernel is not what it has to be: a promise that is checked on every file."""
    for place in places:
        name = place.kernel.name
        on_grid = name in shared and shared[name].on_int8_grid
        rounded = precision == "float16" or (precision, name) in _ROUNDED
        if errors[name] and (precision == "float32" or (on_grid and not rounded)):
            raise RuntimeError(f"{name}: the file would not hold the compressed weights exactly; please report this")


def float_form(
    model: PlaceNet, folder: str, precision: str, shape: tuple[int, ...], descriptor_dim: int | None = None
) -> str:
    """Writes the float32 `.tflite` whose tensors are those of a precision, to compare with; returns its path."""
    if descriptor_dim is not None:
        model, _ = _truncate(model, {}, descriptor_dim)
    saved = _save(model, folder, shape, False, precision == "full_int8")
    return _convert_saved(model, saved, os.path.join(folder, "float32.tflite"), False)


def _save(model: PlaceNet, folder: str, shape: tuple[int | None, ...], float_input: bool, full: bool) -> str:
    """The network as a SavedModel: other ways leave the variables out or copy them twice."""
    # In integers throughout, the converter chooses the type of the input.
    image = tf.TensorSpec(shape, tf.float32 if float_input or full else tf.uint8, name="image")
    describe = integer_form(model) if full else lambda image: model(image, training=False)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve", lambda image: {"descriptor": describe(tf.cast(image, tf.float32))}, input_signature=[image]
    )
    saved = os.path.join(folder, "saved_model")
    try:
        archive.write_out(saved, verbose=False)
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" not in error.message:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder) from None
    del archive
    gc.collect()
    return saved


def _convert_saved(
    model: PlaceNet,
    saved: str,
    result: str,
    float_input: bool,
    calibration: Sequence[np.ndarray] = (),
    int8_output: bool = False,
) -> str:
    """TFLite of a SavedModel: of float weights, or with calibration images of integers throughout.

    The converter runs in a process of its own, whose memory is not added to that of the model here.
    """
    description = f"{model.config['backbone']}, NetVLAD{model.config['clusters']}, {model.descriptor_dim}-D descriptor"
    arguments = [saved, result, description, "float32" if float_input else "uint8"]
    if len(calibration):
        images = np.stack(calibration).astype(np.float32)
        # The range of the input is that of its values, whatever these images have, or uint8 would not be as it is.
        images[0, 0, 0, 0, 0], images[0, 0, 0, 0, 1] = 0, 255
        arguments += ["int8" if int8_output else "float32", os.path.join(os.path.dirname(result), "calibration.npy")]
        np.save(arguments[-1], images)
    run = subprocess.run(
        [sys.executable, "-m", "tfplaces.lite.saved_model", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}; was there memory enough?"])[-1]
        raise UserError(f"the TFLite converter failed: {reason}")
    return result


def _quantize(
    floats: str,
    result: str,
    model: PlaceNet,
    precision: str,
    ranges: Mapping[str, tuple[float, float]],
    int8_output: bool,
) -> None:
    """Writes the quantized form of a float32 `.tflite`."""
    from ai_edge_quantizer import qtyping, quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    every, dense = qtyping.TFLOperationName.ALL_SUPPORTED, qtyping.TFLOperationName.FULLY_CONNECTED
    with _quiet_quantizer():
        quantize = quantizer.Quantizer(floats)
        if precision == "float16":
            quantize.add_weight_only_config(".*", every, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
        elif precision == "dynamic_int8":
            quantize.add_dynamic_config(".*", every, num_bits=8)
        elif precision in STATIC:
            quantize.add_static_config(backbone_pattern(model), every, activation_num_bits=8, weight_num_bits=8)
            bits, blocks = 8, qtyping.QuantGranularity.CHANNELWISE
            if precision == "mixed_int4":
                bits, blocks = 4, qtyping.QuantGranularity.BLOCKWISE_32
            quantize.add_dynamic_config("/whitening", dense, num_bits=bits, granularity=blocks)
        if int8_output:
            output = qtyping.TFLOperationName.OUTPUT
            quantize.add_static_config(".*", output, activation_num_bits=8, weight_num_bits=8)
        found = {
            name: {"min": np.full((1, 1), low, np.float32), "max": np.full((1, 1), high, np.float32)}
            for name, (low, high) in ranges.items()
        }
        data = quantize.quantize(found, enable_progress_report=False).quantized_model
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


def backbone_pattern(model: PlaceNet) -> str:
    """A regular expression for the names that TFLite gives the outputs of the backbone's operators."""
    names = sorted({re.escape(layer.name) for layer in model.layers if layer.name not in _HEAD})
    # A grouped convolution that no activation is fused with loses the name of its layer.
    return f"/({'|'.join(names)})(_\\d+)?/|^convolution\\d*;?$"
