"""The float32 `.tflite` of a network, which every other precision is made from."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import flat_layers
from tfplaces.lite.gpu_form import gpu_form
from tfplaces.lite.integer_head import integer_form
from tfplaces.lite.metadata import describe_network
from tfplaces.lite.tflite_model import OUTPUT_NAME
from tfplaces.lite.truncation import truncate
from tfplaces.models import PlaceNet


def float32_network(model: PlaceNet) -> PlaceNet:
    """The network computed in float32 and named as usual: itself, or a copy where it has another dtype or name.

    Raises:
        UserError: its weights are not those of a PlaceNet of its configuration.
    """
    layers = flat_layers(model)
    if model.name == "place_net" and all(
        (layer.compute_dtype, layer.variable_dtype) == ("float32", "float32") for layer in layers
    ):
        return model
    copy = PlaceNet(**model.config, dtype="float32")
    if [w.shape for w in copy.weights] != [w.shape for w in model.weights]:
        raise UserError(
            "the network's weights are not those of a PlaceNet of its configuration, as after Keras's own "
            "quantization; convert it as it was before"
        )
    for ours, theirs in zip(copy.weights, model.weights, strict=True):
        ours.assign(np.asarray(theirs.numpy(), np.float32))
    return copy


def float_form(
    model: PlaceNet, folder: str, precision: str, shape: tuple[int, ...], descriptor_dim: int | None = None
) -> str:
    """Writes the float32 `.tflite` whose tensors are those of a precision, to compare with; returns its path."""
    model = float32_network(model)
    if descriptor_dim is not None:
        model, _ = truncate(model, {}, descriptor_dim)
    saved = export(model, folder, shape, False, "integers" if precision == "full_int8" else "usual")
    return convert_saved_model(model, saved, os.path.join(folder, "float32.tflite"), False)


def export(
    model: PlaceNet,
    folder: str,
    shape: tuple[int | None, ...],
    float_input: bool,
    form: Literal["usual", "integers", "gpu"],
) -> str:
    """Writes the network as a SavedModel: other ways leave the variables out or copy them twice.

    Args:
        model: the network, in float32.
        folder: where to put it, under a name that TensorFlow takes.
        shape: shape of its images, `[batch, height, width, 3]`.
        float_input: whether the images are float32 instead of uint8.
        form: how the network is written: as it is, or by `integer_form` or `gpu_form`.

    Returns:
        its path.

    Raises:
        OSError: the disk is full.
    """
    # In integers throughout, the converter chooses the type of the input.
    image = tf.TensorSpec(shape, tf.float32 if float_input or form == "integers" else tf.uint8, name="image")
    describe: Callable[[tf.Tensor], tf.Tensor] = lambda image: model(image, training=False)  # noqa: E731
    if form != "usual":
        describe = (integer_form if form == "integers" else gpu_form)(model)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve", lambda image: {OUTPUT_NAME: describe(tf.cast(image, tf.float32))}, input_signature=[image]
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


def convert_saved_model(
    model: PlaceNet,
    saved: str,
    result: str,
    float_input: bool,
    calibration: Sequence[np.ndarray] = (),
    int8_output: bool = False,
) -> str:
    """Writes the TFLite model of a SavedModel: of float weights, or with calibration images of integers throughout.

    The converter runs in a process of its own, whose memory is not added to that of the model here. It ends with this
    one, even if this one is killed.

    Args:
        model: the network, for its description and licence.
        saved: path of the SavedModel.
        result: path of the file to write.
        float_input: whether images are float32 instead of uint8.
        calibration: uint8 `[batch, height, width, 3]` each.
        int8_output: whether descriptors are int8 instead of float32.

    Returns:
        `result`.

    Raises:
        UserError: the converter failed.
    """
    licence = model.config.get("source", {}).get("licence", "")
    arguments = [saved, result, describe_network(model), licence, "float32" if float_input else "uint8"]
    if len(calibration):
        images = np.stack(calibration).astype(np.float32)
        # The range of the input is that of its values, whatever these images have, or uint8 would not be as it is.
        images[0, 0, 0, 0, 0], images[0, 0, 0, 0, 1] = 0, 255
        arguments += ["int8" if int8_output else "float32", os.path.join(os.path.dirname(result), "calibration.npy")]
        np.save(arguments[-1], images)
    run_converter(arguments)
    return result


def run_converter(arguments: Sequence[str]) -> None:
    """Runs `tfplaces.lite.saved_model` in a process of its own.

    Args:
        arguments: its arguments.

    Raises:
        UserError: it failed.
    """
    # The other end of the child's standard input, which the system closes when this process ends, however it does.
    its_input, our_end = os.pipe()
    try:
        run = subprocess.run(
            [sys.executable, "-m", "tfplaces.lite.saved_model", *arguments],
            stdin=its_input,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    finally:
        os.close(its_input)
        os.close(our_end)
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}; was there memory enough?"])[-1]
        raise UserError(f"the TFLite converter failed: {reason}")
