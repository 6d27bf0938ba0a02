"""Arrays from an `.npy` file that someone brings, those of lists among them, which numpy keeps as a pickle."""

from __future__ import annotations

import io
import math
import os

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import read_regular
from tfplaces.common.npz_file import read_npy_header
from tfplaces.common.plain_pickle import read_pickle
from tfplaces.common.text import printable_name, printable_reason

# The lists of 100,000 queries with 1,000 positives each, or as many names of 80 letters, have most of it.
MAX_BYTES = 2**30


def read_npy(path: str | os.PathLike) -> np.ndarray:
    """Reads an array of numbers, texts or lists.

    Args:
        path: a regular file.

    Returns:
        The array; of dtype object only where its members are plain data, as `read_pickle` gives them.

    Raises:
        UserError: the file is no `.npy` file, is damaged or too large, or holds more than plain data.
    """
    shown = printable_name(os.fsdecode(path))
    data = read_regular(path, MAX_BYTES)
    file = io.BytesIO(data)
    try:
        shape, fortran, dtype = read_npy_header(file)
    except ValueError as error:
        raise UserError(f"{shown}: not an .npy file ({printable_reason(error)})") from None
    content = memoryview(data)[file.tell() :]
    if dtype.hasobject:
        array = read_pickle(bytes(content), shown)
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise UserError(f"{shown}: damaged: its pickle holds no array of shape {shape}")
        return array
    if dtype.kind not in "biufSU" or not dtype.itemsize or any(side < 0 for side in shape):
        raise UserError(f"{shown}: an array of type {printable_name(str(dtype))[:80]} and shape {shape} is not read")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise UserError(f"{shown}: damaged: {len(content):,} bytes for an array of type {dtype} and shape {shape}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
