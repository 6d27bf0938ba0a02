"""`.places` files: a PlaceNet's description, its shared kernels and its other weights, in a container of `coding`.

Header:

    {"place_net": configuration of the PlaceNet, "kernels": {name: channel axis}, "provenance": {...}}

Tensors of each kernel in `kernels`: `NAME/levels`, int8 where that holds them exactly, else float32; `NAME/indices`
uint8 of the kernel's shape; `NAME/scales` float32, one a channel. Of every other weight `NAME` float32. A kernel is
levels[indices] · scales, in float32. There are no other tensors.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfplaces.coding.container import MAX_BYTES, read
from tfplaces.coding.shared_kernel import SharedKernel
from tfplaces.common.errors import UserError

# The largest network that there is: clusters or dimensions, height or width, and pixels of an image. VGG16 takes 256
# bytes a pixel for each of its first layers, so an image of the most pixels takes it 2 to 3 GB.
MAX_UNITS = 65_536
MAX_SIDE = 8192
MAX_PIXELS = 2**22
# What TensorFlow takes as a name's scope, or the network is built and does not run.
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.>-]{0,63}")


class PlacesFile:
    """An open `.places` file whose header is sound, to read weight by weight without Keras; use it in a `with`.

    Whether the weights are those of the network that the header describes is for
    `tfplaces.compression.load_compressed` to find.

    Attributes:
        path: path of the file.
        container: the file's container.
        config: arguments of the PlaceNet.
        axes: channel axis of each shared kernel by name.
        provenance: how the file came about.
        shapes: shape of each weight by name, shared or not, in the file's order.
    """

    def __init__(self, path: str | os.PathLike, max_bytes: int = MAX_BYTES):
        """Opens and checks it; `max_bytes` bounds all tensors together as decoded.

        Raises:
            ValueError: the file is damaged, too large or not a `.places` file.
        """
        self.path = os.fspath(path)
        self.container = read(path, "places", max_bytes)
        try:
            header = self.container.header
            for key in ("place_net", "kernels", "provenance"):
                if not isinstance(header.get(key), dict):
                    raise UserError(f"{self.path}: its header does not describe a PlaceNet, {key} is missing")
            self.config, self.axes, self.provenance = header["place_net"], header["kernels"], header["provenance"]
            check_config(self.path, self.config)
            self.shapes = self._weights()
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> PlacesFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def parameters(self) -> int:
        """Number of weights of the float network."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def _weights(self) -> dict[str, tuple[int, ...]]:
        """The shape of each weight by name."""
        owners = {part: name for name in self.axes for part in parts(name)}
        missing = next((part for part in owners if part not in self.container.names), None)
        if missing is not None:
            raise UserError(f"{self.path}: has no tensor {missing!r:.80}")
        weights = [name for name in self.container.names if name not in owners or name.endswith("/indices")]
        shapes = {owners.get(name, name): self.container.shape(name) for name in weights}
        if len(shapes) < len(weights):
            raise UserError(f"{self.path}: holds a kernel both shared and not shared")
        return shapes

    def stored_bytes(self, name: str) -> tuple[int, int]:
        """The bytes of a weight's payloads in the file: of all, and of the indices alone, 0 where it is not shared."""
        if name not in self.axes:
            return self.container.payload_bytes(name), 0
        levels, indices, scales = map(self.container.payload_bytes, parts(name))
        return levels + indices + scales, indices

    def floats(self, name: str) -> np.ndarray:
        """A weight that is not shared.

        Raises:
            ValueError: it is not float32, or not finite.
        """
        if self.container.dtype(name) != np.float32:
            raise UserError(f"{self.path}: {name!r:.80} is {self.container.dtype(name)}, expected float32")
        values = self.container.tensor(name)
        if not np.all(np.isfinite(values)):
            raise UserError(f"{self.path}: {name!r:.80} has values that are not finite")
        return values

    def shared_kernel(self, name: str) -> SharedKernel:
        """A shared kernel.

        Raises:
            ValueError: its parts do not fit each other.
        """
        container, shape, axis = self.container, self.shapes[name], self.axes[name]
        levels_name, indices_name, scales_name = parts(name)
        where = f"{self.path}: {name!r:.80}"
        if type(axis) is not int or not 0 <= axis < len(shape):
            raise UserError(f"{where} has a channel axis that is none of its {len(shape)}")
        count = container.shape(levels_name)
        if len(count) != 1 or not 1 <= count[0] <= 256:
            raise UserError(f"{where} has levels of shape {count}, expected 1 to 256 of them")
        if container.dtype(indices_name) != np.uint8:
            raise UserError(f"{where} has indices of {container.dtype(indices_name)}, expected uint8")
        if container.shape(scales_name) != (shape[axis],):
            raise UserError(f"{where} has scales of shape {container.shape(scales_name)}, expected {(shape[axis],)}")
        if container.dtype(levels_name) == np.int8:
            levels = container.tensor(levels_name).astype(np.float32)
        else:
            levels = self.floats(levels_name)
        if np.any(levels[1:] < levels[:-1]) or 0.0 not in levels:
            raise UserError(f"{where} has levels that are not ascending with zero among them")
        scales = self.floats(scales_name)
        with np.errstate(over="ignore"):
            largest = np.max(np.abs(levels)) * np.max(np.abs(scales), initial=np.float32(0))
        if not np.isfinite(largest):
            raise UserError(f"{where} has weights that are not finite")
        indices = container.tensor(indices_name)
        if indices.size and indices.max() >= len(levels):
            raise UserError(f"{where} uses a level that is not there")
        return SharedKernel(levels, indices, scales, axis)


def parts(kernel: str) -> tuple[str, str, str]:
    """The names of the tensors of a shared kernel: levels, indices, scales."""
    return f"{kernel}/levels", f"{kernel}/indices", f"{kernel}/scales"


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= float(np.finfo(np.float32).max)


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_scale(value: Any) -> bool:
    return _is_number(value) or (_is_list(value, 3) and all(map(_is_number, value)))


def is_source(value: Any) -> bool:
    """Whether a value tells where a network's weights come from: short texts by the keys that there are."""
    return isinstance(value, Mapping) and all(
        key in SOURCE_LENGTHS and isinstance(text, str) and 0 < len(text) <= SOURCE_LENGTHS[key] and text.isprintable()
        for key, text in value.items()
    )


# Keys of a source, and the characters that each may have: they have to fit into the metadata of a `.tflite`.
SOURCE_LENGTHS = {"file": 120, "sha256": 64, "kind": 40, "licence": 160, "note": 240}

_COUNT = (f"a whole number from 1 to {MAX_UNITS}", lambda v: _is_whole(v, 1, MAX_UNITS))
_COUNT_OR_NONE = (f"a whole number from 0 to {MAX_UNITS}", lambda v: _is_whole(v, 0, MAX_UNITS))
_FLAG = ("true or false", lambda v: isinstance(v, bool))

# What `PlaceNet.description` gives: for each argument what it has to be, and the test.
_CONFIG = {
    "backbone": ("the name of a backbone", _is_name),
    "whitening": _COUNT_OR_NONE,
    "whitening_power": ("a number from 0 to 0.5", lambda v: _is_number(v) and 0 <= v <= 0.5),
    "input_size": (
        f"height and width from 1 to {MAX_SIDE}, of {MAX_PIXELS:,} pixels at most",
        lambda v: _is_list(v, 2) and all(_is_whole(size, 1, MAX_SIDE) for size in v) and v[0] * v[1] <= MAX_PIXELS,
    ),
    "cut": ("the name of a layer", _is_name),
    "projection": _COUNT_OR_NONE,
    "scale": ("a number, or a list of three", _is_scale),
    "offset": ("a list of three numbers", lambda v: _is_list(v, 3) and all(map(_is_number, v))),
    "norm": ("the name of a form of normalisation", _is_name),
    "source": ("short texts by file, sha256, kind, licence or note", is_source),
    "name": ("a name of 1 to 64 letters, digits and _.>-", _is_name),
}

# The options of each aggregation, which are in the description beside the others.
_OPTIONS = {
    "convap": {"channels": _COUNT, "grid": _COUNT},
    "gem": {"linear": _COUNT_OR_NONE, "l2_first": _FLAG},
    "mixvpr": {"channels": _COUNT, "rows": _COUNT, "depth": _COUNT},
    "netvlad": {"clusters": _COUNT, "assignment_bias": _FLAG},
}


def aggregation_title(config: Mapping[str, Any]) -> str:
    """What people call the aggregation of a PlaceNet that a description describes, for example `NetVLAD64`."""
    kind = config.get("aggregation", "netvlad")
    if kind == "netvlad":
        return f"NetVLAD{config['clusters']}"
    if kind == "gem":
        return f"GeM + linear {config['linear']}" if config["linear"] else "GeM"
    if kind == "mixvpr":
        return f"MixVPR {config['channels']}x{config['rows']}"
    return f"ConvAP {config['channels']}x{config['grid']}x{config['grid']}"


# Files made before there was a choice do not have them. A projection and a source are there where the network has them.
_OPTIONAL = {"whitening_power", "norm", "projection", "source"}


def check_config(path: str, config: dict[str, Any]) -> None:
    """Refuses what cannot be the arguments of a PlaceNet; whether there is such a backbone is for `models` to know.

    Raises:
        ValueError: an argument is missing, unknown or out of range; the message begins with the path.
    """
    aggregation = config.get("aggregation", "netvlad")
    if not isinstance(aggregation, str) or aggregation not in _OPTIONS:
        raise UserError(f"{path}: aggregation of its PlaceNet is not one of {', '.join(_OPTIONS)}")
    expectations = {**_CONFIG, **_OPTIONS[aggregation]}
    unknown = sorted(set(config) - set(expectations) - {"aggregation"})
    if unknown:
        raise UserError(f"{path}: {unknown[0]!r:.40} is nothing that describes a PlaceNet")
    for key, (expected, holds) in expectations.items():
        if key not in config and key in _OPTIONAL:
            continue
        if key not in config or not holds(config[key]):
            raise UserError(f"{path}: {key} of its PlaceNet is not {expected}")
