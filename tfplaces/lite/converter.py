"""From a Keras model to a TFLite model of builtin operators, in several precisions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from tfplaces.coding import SharedKernel
from tfplaces.common.files import replacing
from tfplaces.compression import find_kernels
from tfplaces.datasets import Images
from tfplaces.layers import NetVLAD
from tfplaces.lite import STATIC
from tfplaces.lite.calibration import Batch, choose_images, read_full_batches
from tfplaces.lite.float_form import convert_saved_model, export, float32_network
from tfplaces.lite.folders import converting_folder
from tfplaces.lite.integer_operators import check_integer_operators
from tfplaces.lite.kernel_locations import kernel_errors, locate_kernels
from tfplaces.lite.kernel_writing import write_exactly, write_int4
from tfplaces.lite.quantizing import head_dense, quantize
from tfplaces.lite.ranges import activation_ranges
from tfplaces.lite.requirements import check_requirements
from tfplaces.lite.targets import check_file, check_target, float_input_of
from tfplaces.lite.tflite_model import TFLiteModel, name_output
from tfplaces.lite.truncation import truncate
from tfplaces.models import PlaceNet


def convert(
    model: PlaceNet,
    path: str | os.PathLike,
    precision: str = "mixed_int8",
    *,
    shared: Mapping[str, SharedKernel] | None = None,
    calibration: Images | Sequence[Images] = (),
    input_size: tuple[int, int] | Literal["any"] | None = None,
    batch: int = 1,
    float_input: bool | None = None,
    int8_output: bool = False,
    descriptor_dim: int | None = None,
    target: str = "litert",
    seed: int = 0,
) -> dict[str, float]:
    """Writes a PlaceNet as a `.tflite`: from RGB images `[batch, height, width, 3]` to descriptors `[batch, dim]`.

    The output is called `descriptor`, the tensor as well as in the signature. Precisions:

    - `float32`
    - `float16`: weights of 16 bits, computed in float.
    - `dynamic_int8`: weights of 8 bits, activations quantized on the fly in every layer.
    - `mixed_int8`: the backbone in 8-bit integers throughout, by calibrated ranges; what comes after it in float, but
      for its linear layers, a whitening among them, which have 8-bit weights.
    - `mixed_int4`: as `mixed_int8`, but the linear layers after the backbone, of which the network has to have one,
      with 4-bit weights in blocks of 32 inputs that share a scale; where a layer has no multiple of 32, the inputs of
      each of its outputs share one.
    - `full_int8`: 8-bit integers throughout, for accelerators that take nothing else; see `integer_head`. NetVLAD's
      centroids, which are computed with, share one scale, and the descriptor is only nearly of unit length. GeM and
      MixVPR are refused, see `integer_head`.

    Args:
        model: the network. One that computes in float16 is converted as it is in float32.
        path: the file to make or replace.
        precision: one of `PRECISIONS`.
        shared: how the kernels are shared, by name, from a `.places` file. What is on the int8 grid is in the file
            exactly as it is, wherever the precision holds it in 8 bits; but for channels whose weights are next to
            nothing beside their bias, see `write_exactly`.
        calibration: images that the activation ranges of the mixed precisions are taken from; of several sequences
            evenly. 64 are taken, more where a batch is larger.
        input_size: (height, width) in pixels; by default the model's. "any": the file's user resizes the input, and
            ranges are those at the model's size.
        batch: images at once.
        float_input: float32 instead of uint8, both 0 to 255; by default only for the target `gpu`.
        int8_output: int8 with a scale from calibration instead of float32.
        descriptor_dim: keep only so many dimensions of the descriptor, the first, where a linear layer gives them: a
            whitening, or that of the aggregation.
        target: what the file is made for, one of `TARGETS`, see `tfplaces.lite.targets`.
        seed: seed of the choice of calibration images.

    Returns:
        of each kernel, by name, ‖file − model‖ / ‖model‖; 0.0 where all weights are equal to the model's, and only
        there.

    Raises:
        UserError: an unknown precision, no calibration images where they are needed, dimensions that the network does
            not have, weights that are not finite or that integers do not hold, or a layer or a size that the
            precision cannot have, or what the target does not take.
        RuntimeError: the file does not hold the kernels exactly where it has to, or computes in float where it has to
            compute in integers, or has an operator that its target does not take.
    """
    sets = [calibration] if isinstance(calibration, Images) else list(calibration)
    check_requirements(
        model, precision, calibration=sets, input_size=input_size, int8_output=int8_output,
        descriptor_dim=descriptor_dim,
    )  # fmt: skip
    check_target(
        model, target, precision, input_size=input_size, batch=batch, float_input=float_input, int8_output=int8_output
    )
    float_input = float_input_of(target, float_input)
    shared = shared or {}
    model = float32_network(model)
    if descriptor_dim is not None:
        model, shared = truncate(model, shared, descriptor_dim)
    with converting_folder(path) as folder:
        sample: list[Batch] = []
        if precision in STATIC or int8_output:
            images = choose_images(sets, batch, seed)
            size = model.input_size if input_size is None or input_size == "any" else input_size
            sample = read_full_batches(images, size, batch)
        floats, saved = _write_floats(model, folder, precision, input_size, batch, float_input, target)
        locations = locate_kernels(model, np.memmap(floats, mode="r"))
        result, rounded = os.path.join(folder, "result.tflite"), set[str]()
        if precision == "float32" and not int8_output:
            result = floats
        else:
            if precision == "full_int8":
                images_only = [part.images for part in sample]  # the converter takes extremes: repeated images add none
                convert_saved_model(model, saved, result, float_input, images_only, int8_output)
            else:
                ranges = activation_ranges(floats, sample) if sample else {}
                quantize(floats, result, model, precision, ranges, int8_output)
            file = np.memmap(result, mode="r+")
            rounded = write_exactly(file, np.memmap(floats, mode="r"), locations, shared)
            write_int4(file, locations)
            name_output(file)
            file.flush()
            del file
        check_integer_operators(np.memmap(result, mode="r"), model, precision)
        check_file(np.memmap(result, mode="r"), target)
        errors = kernel_errors(np.memmap(result, mode="r"), locations)
        _check_exact(errors, rounded | _rounded(model, precision), precision, shared)
        with replacing(path) as temporary:
            os.replace(result, temporary)
    return errors


def _write_floats(
    model: PlaceNet,
    folder: str,
    precision: str,
    input_size: tuple[int, int] | Literal["any"] | None,
    batch: int,
    float_input: bool,
    target: str,
) -> tuple[str, str]:
    """Writes the float32 `.tflite`; gives its path and that of the SavedModel, which stays for `full_int8` only."""
    size = input_size or model.input_size
    shape = (batch, None, None, 3) if size == "any" else (batch, *size, 3)
    full = precision == "full_int8"
    saved = export(model, folder, shape, float_input, "integers" if full else "gpu" if target == "gpu" else "usual")
    floats = convert_saved_model(model, saved, os.path.join(folder, "float32.tflite"), float_input)
    if not full:
        shutil.rmtree(saved)
    if size == "any":
        TFLiteModel(np.memmap(floats, mode="r+")).set_input_shape((batch, *model.input_size, 3))
    return floats, saved


def _check_exact(
    errors: Mapping[str, float], rounded: set[str], precision: str, shared: Mapping[str, SharedKernel]
) -> None:
    """Raises RuntimeError where a kernel is not what it has to be: a promise that is checked on every file."""
    for name, error in errors.items():
        on_grid = name in shared and shared[name].on_int8_grid
        if error and (precision == "float32" or (on_grid and name not in rounded)):
            raise RuntimeError(f"{name}: the file would not hold the compressed weights exactly; please report this")


def _rounded(model: PlaceNet, precision: str) -> set[str]:
    """The names of the kernels that a precision does not hold in 8 bits by channel, nor in float32."""
    if precision == "float16":
        return {kernel.name for kernel in find_kernels(model)}
    if precision == "mixed_int4":
        return {f"{layer.name}/kernel" for layer in head_dense(model)}
    if precision == "full_int8":
        return {f"{layer.name}/centroids" for layer in model.head_layers if isinstance(layer, NetVLAD)}
    return set()
