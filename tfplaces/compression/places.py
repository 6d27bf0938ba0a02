"""`.places` files: a PlaceNet's description, its shared kernels and its other weights, in a container of `coding`.

Header:

    {"place_net": configuration of the PlaceNet, "kernels": {name: channel axis}, "provenance": {...}}

Tensors of each kernel: `NAME/levels` float32, `NAME/indices` uint8 of the kernel's shape, `NAME/scales` float32, one a
channel; of every other weight `NAME` float32. A kernel is levels[indices] · scales, in float32.
"""

from __future__ import annotations

import inspect
import math
import os

import numpy as np

from tfplaces import coding
from tfplaces.compression.compress import Compressed
from tfplaces.compression.kernels import find_kernels
from tfplaces.compression.sharing import SharedKernel
from tfplaces.models import PlaceNet
from tfplaces.version import __version__

# A descriptor or vocabulary beyond these is a damaged or hostile file.
_MAX_CLUSTERS = 65_536
_MAX_WHITENING = 65_536
_MAX_PARAMETERS = 2**31


def save_places(path: str | os.PathLike, compressed: Compressed) -> int:
    """Writes a compressed PlaceNet.

    Args:
        path: the `.places` file to make or replace.
        compressed: from `compress`; its model is a PlaceNet.

    Returns:
        bytes of the file.
    """
    model = compressed.model
    if not isinstance(model, PlaceNet):
        raise ValueError(f"a .places file holds a PlaceNet, not a {type(model).__name__}")
    tensors = {}
    for name, shared in compressed.shared.items():
        tensors[f"{name}/levels"] = shared.levels
        tensors[f"{name}/indices"] = shared.indices
        tensors[f"{name}/scales"] = shared.scales
    for variable in model.weights:
        if variable.path not in compressed.shared:
            tensors[variable.path] = variable.numpy()
    header = {
        "place_net": model.get_config(),
        "kernels": {name: shared.channel_axis for name, shared in compressed.shared.items()},
        "provenance": {"tfplaces": __version__, **compressed.provenance},
    }
    return coding.write(path, "places", header, tensors)


def load_places(path: str | os.PathLike) -> PlaceNet:
    """Opens a `.places` file as a PlaceNet with exactly the weights that were saved.

    Raises:
        ValueError: the file is damaged or not a `.places` file.
    """
    return load_compressed(path).model


def load_compressed(path: str | os.PathLike) -> Compressed:
    """Opens a `.places` file with its sharing, to go on compressing or training it.

    Raises:
        ValueError: the file is damaged or not a `.places` file.
    """
    with coding.read(path, "places") as container:
        model = _build(path, container)
        shared = {}
        kernels = {kernel.name: kernel for kernel in find_kernels(model)}
        axes = container.header["kernels"]
        for name in axes:
            if name not in kernels:
                raise ValueError(f"{path}: {name} is no kernel of a {model.config['backbone']} network")
        for variable in model.weights:
            name = variable.path
            if name in axes:
                shared[name] = _read_kernel(path, container, name, tuple(variable.shape), axes[name])
                variable.assign(shared[name].weights())
            else:
                variable.assign(_read(path, container, name, "float32", tuple(variable.shape)))
        return Compressed(model, shared, container.header.get("provenance", {}))


def _build(path, container: coding.Container) -> PlaceNet:
    """The network of the header, once its size is known to be that of the tensors."""
    header = container.header
    if not isinstance(header.get("place_net"), dict) or not isinstance(header.get("kernels"), dict):
        raise ValueError(f"{path}: its header does not describe a PlaceNet")
    config = header["place_net"]
    limits = {"clusters": _MAX_CLUSTERS, "whitening": _MAX_WHITENING}
    for key, limit in limits.items():
        if type(config.get(key)) is not int or not 0 <= config[key] <= limit:
            raise ValueError(f"{path}: {key} is not a whole number from 0 to {limit}")
    unknown = sorted(set(config) - set(inspect.signature(PlaceNet).parameters))
    if unknown:
        raise ValueError(f"{path}: {unknown[0]!r:.40} is nothing that describes a PlaceNet")
    # NetVLAD has 2 K D weights and the whitening K D d: no network larger than the tensors is ever built.
    clusters, channels = (*_shape(container, "netvlad/centroids"), 0, 0)[:2]
    whitening = _shape(container, "whitening/kernel") if config["whitening"] else (clusters * channels, 0)
    if (clusters, *whitening) != (config["clusters"], clusters * channels, config["whitening"]):
        raise ValueError(f"{path}: describes a network of another size than the weights it holds")
    if math.prod(whitening) > _MAX_PARAMETERS:
        raise ValueError(f"{path}: describes a network of more than {_MAX_PARAMETERS} weights")
    try:
        return PlaceNet.from_config(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: its header does not describe a PlaceNet ({error})") from None


def _shape(container: coding.Container, name: str) -> tuple[int, ...]:
    """Of a weight, shared or not; empty where there is none."""
    found = [n for n in (name, f"{name}/indices") if n in container.names]
    return container.shape(found[0]) if found else ()


def _read(path, container: coding.Container, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in container.names:
        raise ValueError(f"{path}: has no tensor {name}")
    if container.shape(name) != shape or container.dtype(name) != np.dtype(dtype):
        raise ValueError(f"{path}: {name} is {container.dtype(name)} {container.shape(name)}, expected {dtype} {shape}")
    values = container.tensor(name)
    if dtype == "float32" and not np.all(np.isfinite(values)):
        raise ValueError(f"{path}: {name} has values that are not finite")
    return values


def _read_kernel(path, container: coding.Container, name: str, shape: tuple[int, ...], axis: int) -> SharedKernel:
    if type(axis) is not int or not 0 <= axis < len(shape):
        raise ValueError(f"{path}: {name} has {len(shape)} axes, no axis {axis}")
    if f"{name}/levels" not in container.names:
        raise ValueError(f"{path}: has no tensor {name}/levels")
    count = container.shape(f"{name}/levels")
    if len(count) != 1 or not 1 <= count[0] <= 256:
        raise ValueError(f"{path}: {name} has levels of shape {count}, expected 1 to 256 of them")
    levels = _read(path, container, f"{name}/levels", "float32", count)
    scales = _read(path, container, f"{name}/scales", "float32", (shape[axis],))
    indices = _read(path, container, f"{name}/indices", "uint8", shape)
    if np.any(np.diff(levels) < 0) or 0.0 not in levels:
        raise ValueError(f"{path}: the levels of {name} are not ascending with zero among them")
    if indices.size and indices.max() >= len(levels):
        raise ValueError(f"{path}: {name} uses a level that is not there")
    return SharedKernel(levels, indices, scales, axis)
