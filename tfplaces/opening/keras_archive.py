"""The bounds of a `.keras` archive, checked before Keras builds anything that it asks for.

A `.keras` is a zip archive of `config.json`, which says how the model is built, and the weights. A config of some
hundred bytes can ask for any amount of memory, and an archive can inflate to a thousand times its size.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from typing import Any

from tfplaces.common.errors import UserError

# Models of a thousand layers have configs of 1 MB.
_MAX_CONFIG_BYTES = 16 * 2**20
# How often the archive's size its parts may have together: weights of pruned networks, zipped again, have 20 times.
_MAX_INFLATION, _FREE_BYTES = 50, 16 * 2**20
# Models nested in models, and lists in lists, count as levels; Keras builds them by recursion.
_MAX_DEPTH = 100
_MAX_SIDE, _MAX_PIXELS = 8192, 2**24
# Fields of layers' configs by which their number of weights grows.
_COUNTS = ("units", "filters", "clusters", "whitening", "output_dim", "input_dim", "depth_multiplier")


def check_archive(path: str | os.PathLike) -> None:
    """Refuses a `.keras` whose size or config is out of bounds, or which holds something else than a model.

    Args:
        path: the file.

    Raises:
        UserError: not a `.keras` archive, or one of such a kind.
    """
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(name) as archive:
            sizes = {part.filename: part.file_size for part in archive.infolist()}
            total, limit = sum(sizes.values()), _FREE_BYTES + _MAX_INFLATION * os.path.getsize(name)
            if total > limit:
                raise UserError(f"{name}: its parts inflate to {total:,} bytes, more than the {limit:,} allowed")
            if sizes.get("config.json", 0) > _MAX_CONFIG_BYTES:
                raise UserError(f"{name}: its config has more than {_MAX_CONFIG_BYTES:,} bytes")
            with archive.open("config.json") as file:
                config = json.loads(file.read(_MAX_CONFIG_BYTES + 1))
    except UserError:
        raise
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        # RuntimeError: encrypted, or JSON nested too deeply.
        raise UserError(f"{name}: not a readable Keras model ({error or type(error).__name__})") from None
    weights = max((size for part, size in sizes.items() if part.endswith((".h5", ".npz"))), default=0)
    _check(config, name, weights)


def _check(config: Any, name: str, weights_bytes: int) -> None:
    """Walks through a config, without recursion."""
    stack = [(config, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise UserError(f"{name}: not a readable Keras model (its config is nested more than {_MAX_DEPTH} deep)")
        if isinstance(value, dict):
            for key, item in value.items():
                # Each unit has a weight of a byte at least, so the file holds as many bytes.
                if key in _COUNTS and isinstance(item, (int, float)) and item > max(weights_bytes, 1):
                    raise UserError(
                        f"{name}: asks for {key}={item:,}, more than its weights of {weights_bytes:,} bytes"
                    )
                if key in ("input_size", "batch_shape", "batch_input_shape") and isinstance(item, list):
                    _check_size(item[:2] if key == "input_size" else item[1:3], name)
            if _product(value, "clusters", "whitening") > max(weights_bytes, 1):
                raise UserError(f"{name}: asks for a whitening that its weights of {weights_bytes:,} bytes cannot hold")
            stack += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            stack += [(item, depth + 1) for item in value]


def _check_size(sides: list, name: str) -> None:
    known = [side for side in sides if isinstance(side, (int, float))]
    if len(known) == 2 and (max(known) > _MAX_SIDE or known[0] * known[1] > _MAX_PIXELS):
        raise UserError(
            f"{name}: takes images of {known[0]}x{known[1]}, more than {_MAX_SIDE} on a side or {_MAX_PIXELS:,} pixels"
        )


def _product(config: dict, *keys: str) -> float:
    found = [number for key in keys if isinstance(number := config.get(key), (int, float))]
    return math.prod(found) if len(found) == len(keys) else 0
