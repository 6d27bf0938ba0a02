"""Writes compressed PlaceNets as `.places` files and builds them again; `tfplaces.coding.places` has the format."""

from __future__ import annotations

import os

import keras
import numpy as np

from tfplaces import coding
from tfplaces.coding.places import PlacesFile, check_config, parts
from tfplaces.common.errors import UserError
from tfplaces.compression.kernels import find_kernels
from tfplaces.compression.recipe import Compressed
from tfplaces.models import PlaceNet, outline
from tfplaces.version import __version__


def save_places(path: str | os.PathLike, compressed: Compressed) -> int:
    """Writes a compressed PlaceNet.

    Args:
        path: the `.places` file to make or replace.
        compressed: from `compress`; its model is a PlaceNet. The file holds what describes images: weights in float32,
            of half precision without loss. Which layers are frozen and the dtype policy are not in it.

    Returns:
        bytes of the file.

    Raises:
        UserError: the model is no PlaceNet, or has weights that are not finite or that float32 does not hold; nothing
            is then written.
    """
    model = compressed.model
    if not isinstance(model, PlaceNet):
        raise UserError(f"a .places file holds a PlaceNet, not a {type(model).__name__}")
    name = os.fspath(path)
    check_config(name, model.description)
    tensors = {}
    for weight, variable in _weights(model).items():
        shared = compressed.shared.get(weight)
        if shared is None:
            tensors[weight] = _as_float32(variable, f"{name}: not written: {weight}")
            continue
        if not (np.all(np.isfinite(shared.levels)) and np.all(np.isfinite(shared.scales))):
            raise UserError(f"{name}: not written: {weight} is not finite, the network has diverged")
        tensors |= zip(parts(weight), (_narrowed(shared.levels), shared.indices, shared.scales), strict=True)
    header = {
        "place_net": model.description,
        "kernels": {name: shared.channel_axis for name, shared in compressed.shared.items()},
        "provenance": {"tfplaces": __version__, **compressed.provenance},
    }
    return coding.write(path, "places", header, tensors)


def load_places(path: str | os.PathLike, max_bytes: int = coding.MAX_BYTES) -> PlaceNet:
    """Opens a `.places` file as a PlaceNet with exactly the weights that were saved.

    Args:
        path: the file.
        max_bytes: as in `load_compressed`.

    Raises:
        UserError: the file is damaged, too large or not a `.places` file.
    """
    return load_compressed(path, max_bytes).model


def load_compressed(path: str | os.PathLike, max_bytes: int = coding.MAX_BYTES) -> Compressed:
    """Opens a `.places` file with its sharing, to go on compressing or training it.

    Args:
        path: the file.
        max_bytes: what the network as float32 and the file's tensors as decoded may take together; a file that says it
            needs more is refused before they are allocated. TensorFlow's temporaries come on top: a few times the
            largest kernel as float32 (VGG16 + NetVLAD64 + 4096: 0.75 GB counted, 3.5 GB at the peak).

    Raises:
        UserError: the file is damaged, too large or not a `.places` file.
    """
    with PlacesFile(path, max_bytes) as file:
        _check_weights(file, outline(_build, file))
        needed = 4 * file.parameters + file.container.decoded_bytes
        if needed > max_bytes:
            raise UserError(
                f"{file.path}: the network takes {needed} bytes with its indices, more than max_bytes, {max_bytes}; "
                "raise it if you trust the file"
            )
        model = _build(file)
        shared = {}
        for name, variable in _weights(model).items():
            if name in file.axes:
                shared[name] = file.shared_kernel(name)
                variable.assign(shared[name].weights())
            else:
                variable.assign(file.floats(name))
        return Compressed(model, shared, file.provenance)


def _weights(model: PlaceNet) -> dict[str, keras.Variable]:
    """The weights of a PlaceNet by their names in the file, `LAYER/VARIABLE`, which are the kernels' as well."""
    return {f"{layer.name}/{variable.name}": variable for layer in model.layers for variable in layer.weights}


def _as_float32(variable: keras.Variable, what: str) -> np.ndarray:
    if keras.backend.standardize_dtype(variable.dtype) == "float64":
        raise UserError(f"{what} is float64, and a .places file holds float32")
    values = np.asarray(variable.numpy()).astype(np.float32)
    if not np.all(np.isfinite(values)):
        raise UserError(f"{what} is not finite, the network has diverged")
    return values


def _narrowed(levels: np.ndarray) -> np.ndarray:
    """As int8 where every bit survives that (-0.0 does not), else as they are."""
    integers = np.clip(np.rint(levels), -127, 127).astype(np.int8)
    return integers if integers.astype(np.float32).tobytes() == levels.tobytes() else levels


def _build(file: PlacesFile) -> PlaceNet:
    try:
        return PlaceNet.from_config(file.config)
    except ValueError as error:
        raise UserError(f"{file.path}: its header does not describe a PlaceNet ({error})") from None


def _check_weights(file: PlacesFile, outline: PlaceNet) -> None:
    """Refuses a file whose weights are not those of the network that its header describes."""
    expected = {name: tuple(variable.shape) for name, variable in _weights(outline).items()}
    kernels = {kernel.name: kernel for kernel in find_kernels(outline)}
    for name, axis in file.axes.items():
        if name not in kernels:
            raise UserError(f"{file.path}: {name!r:.80} is no kernel of the network that its header describes")
        if type(axis) is not int or axis != kernels[name].channel_axis:
            raise UserError(f"{file.path}: the channel axis of {name} is not {kernels[name].channel_axis}")
    for name, shape in expected.items():
        if name not in file.shapes:
            raise UserError(f"{file.path}: has no tensor {name}")
        if file.shapes[name] != shape:
            raise UserError(f"{file.path}: {name} is of shape {file.shapes[name]}, expected {shape}")
    for name in file.shapes:
        if name not in expected:
            raise UserError(f"{file.path}: {name!r:.80} is no weight of the network that its header describes")
