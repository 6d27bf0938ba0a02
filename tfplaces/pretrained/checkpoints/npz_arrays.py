"""The arrays of `.npz` files as tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfplaces.common.npz_file import NpzFile
from tfplaces.common.text import printable_name
from tfplaces.pretrained.checkpoints.checkpoint import TensorEntry


def npz_entries(file: NpzFile) -> tuple[dict[str, TensorEntry], list[str]]:
    """The arrays of numbers in a file, to be read one by one, and the others, in words.

    Raises:
        UserError: the head of an array is damaged.
    """

    def reader(name: str) -> Callable[[], np.ndarray]:
        return lambda: file.read(name).astype(file.header(name)[1].newbyteorder("="), copy=False)

    found: dict[str, TensorEntry] = {}
    left_out = []
    for name in file.names:
        shape, dtype = file.header(name)
        if dtype.kind in "biuf":
            found[name] = TensorEntry(shape, dtype.newbyteorder("="), reader(name))
        else:
            left_out.append(f"{printable_name(name[:80])} (array of type {printable_name(str(dtype))[:40]})")
    return found, left_out
