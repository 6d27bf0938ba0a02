"""The bounds of a `.keras` archive, checked before anything that it asks for takes memory.

A `.keras` is a zip archive of `config.json`, which says how the model is built, and the weights, an HDF5 file. A config
of some hundred bytes can ask for any amount of memory, an archive can inflate to a thousand times its size, and so can
HDF5. So the model is first built without values: all its weights together must be no more than are in the file.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zipfile
import zlib
from typing import Any

import h5py
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import variables_of_config
from tfplaces.common.zip_archive import open_zip

# Models of a thousand layers have configs of 1 MB.
_MAX_CONFIG_BYTES = 16 * 2**20
# How often the archive's size its parts may have together: weights of pruned networks, zipped again, have 20 times.
_MAX_INFLATION, _FREE_BYTES = 50, 16 * 2**20
# Models nested in models, and lists in lists, count as levels; Keras builds them by recursion.
_MAX_DEPTH = 100
_MAX_SIDE, _MAX_PIXELS = 8192, 2**24
# A backbone is built whole and then cut; the largest, VGG16, has 58.9 MB.
_LEFT_OUT_BYTES = 64 * 2**20
_WEIGHTS = "model.weights.h5"
# What damaged archives raise. RuntimeError: encrypted, JSON nested too deeply, or what HDF5 does not understand.
_DAMAGES = (
    zipfile.BadZipFile, zlib.error, struct.error, KeyError, NotImplementedError, RuntimeError, EOFError, OSError,
    ValueError,
)  # fmt: skip


def check_archive(path: str | os.PathLike) -> None:
    """Refuses a `.keras` whose size or config is out of bounds, or which asks for more weights than it holds.

    Args:
        path: the file.

    Raises:
        UserError: not a `.keras` archive, or one of such a kind.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            archive, _ = open_zip(file, name, "a readable Keras model")
            config = _checked_config(archive, name)
            held = _weights_bytes(archive, name)
    except UserError:
        raise
    except _DAMAGES as error:
        raise UserError(f"{name}: not a readable Keras model ({_line(error)})") from None
    kept, built = _asked_bytes(config, name)
    if kept > held or built > held + _LEFT_OUT_BYTES:
        asked = kept if kept > held else built
        raise UserError(f"{name}: asks for weights of {asked:,} bytes, more than the {held:,} bytes that it holds")


def _checked_config(archive: zipfile.ZipFile, name: str) -> Any:
    """The archive's config, once the sizes of all parts are known to be in bounds; both are what zipfile goes by."""
    sizes = {part.filename: part.file_size for part in archive.infolist()}
    total, limit = sum(sizes.values()), _FREE_BYTES + _MAX_INFLATION * os.path.getsize(name)
    if total > limit:
        raise UserError(f"{name}: its parts inflate to {total:,} bytes, more than the {limit:,} allowed")
    # The other methods are inflated without a bound.
    if any(part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for part in archive.infolist()):
        raise UserError(f"{name}: compressed by a method that Keras does not use; save the model again")
    if sizes.get("config.json", 0) > _MAX_CONFIG_BYTES:
        raise UserError(f"{name}: its config has more than {_MAX_CONFIG_BYTES:,} bytes")
    config = json.loads(archive.read("config.json"))
    _check(config, name)
    return config


def _weights_bytes(archive: zipfile.ZipFile, name: str) -> int:
    """What all arrays in the file of weights take, which may not be more than the file has."""
    if _WEIGHTS not in archive.namelist():
        raise UserError(f"{name}: holds no {_WEIGHTS}; save the model again, with Keras 3")
    data = archive.read(_WEIGHTS)
    arrays: list[h5py.Dataset] = []

    def collect(_: str, there: object) -> None:
        if isinstance(there, h5py.Dataset):
            arrays.append(there)

    with h5py.File(io.BytesIO(data), "r") as file:
        # What is returned ends the visit; an exception may not pass through HDF5.
        link = file.visititems_links(lambda _, link: None if isinstance(link, h5py.HardLink) else link)
        file.visititems(collect)
        if link is not None or any(array.external or array.is_virtual for array in arrays):
            raise UserError(f"{name}: its weights refer to other places, as Keras never writes them")
        total = sum(array.size * array.dtype.itemsize for array in arrays)
    if total > len(data):
        raise UserError(f"{name}: its weights inflate to {total:,} bytes, more than the {len(data):,} of their file")
    return total


def _asked_bytes(config: Any, name: str) -> tuple[int, int]:
    """The bytes of the weights of the model that a config describes, and of all that is built for it on the way."""
    try:
        kept, built = (
            sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in variables)
            for variables in variables_of_config(config)
        )
    except Exception as error:  # Keras raises many kinds for a damaged config
        raise UserError(f"{name}: not a readable Keras model ({_line(error)})") from None
    return kept, built


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check(config: Any, name: str) -> None:
    """Walks through a config, without recursion."""
    if not isinstance(config, dict):
        raise UserError(f"{name}: not a readable Keras model (its config is a {type(config).__name__})")
    config["compile_config"] = None  # not opened either, when the model is
    stack: list[tuple[Any, int]] = [(config, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise UserError(f"{name}: not a readable Keras model (its config is nested more than {_MAX_DEPTH} deep)")
        if isinstance(value, dict):
            for key, item in value.items():
                if key in ("input_size", "batch_shape", "batch_input_shape") and isinstance(item, list):
                    _check_size(item[:2] if key == "input_size" else item[1:3], name)
            stack += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            stack += [(item, depth + 1) for item in value]


def _check_size(sides: list, name: str) -> None:
    known = [side for side in sides if isinstance(side, (int, float))]
    if len(known) == 2 and (max(known) > _MAX_SIDE or known[0] * known[1] > _MAX_PIXELS):
        raise UserError(
            f"{name}: takes images of {known[0]}x{known[1]}, more than {_MAX_SIDE} on a side or {_MAX_PIXELS:,} pixels"
        )
