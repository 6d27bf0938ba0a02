"""MATLAB files (`.mat`, versions 5 to 7.3) that hold structs of numbers, texts and cells of texts.

They come from strangers: every size is checked against the bytes that are there before anything is made of it, what is
compressed is inflated up to a bound, and what is no data (functions, objects) is refused.
"""

from __future__ import annotations

import os
from typing import Any

from tfplaces.common.errors import UserError
from tfplaces.common.files import read_regular
from tfplaces.common.text import printable_name
from tfplaces.datasets.matlab_5 import read_version_5
from tfplaces.datasets.matlab_73 import read_version_73

# The largest published ground truth, of Pittsburgh's 250,000 images, has 0.5 MB, or 20 MB once inflated.
MAX_BYTES = 2**28


def read_struct(path: str | os.PathLike, variable: str) -> dict[str, Any]:
    """Reads a struct from a `.mat` file.

    Args:
        path: a regular file.
        variable: the name of the struct in the file.

    Returns:
        For each field an array of numbers of at least two dimensions, a text, or, of a cell, a list of these in
        MATLAB's order (column by column).

    Raises:
        UserError: the file is none of MATLAB's, is damaged or too large, or holds no such struct.
    """
    shown = printable_name(os.fsdecode(path))
    data = read_regular(path, MAX_BYTES)
    read = read_version_73 if data[512:520] == b"\x89HDF\r\n\x1a\n" else read_version_5
    try:
        return read(data, variable, MAX_BYTES)
    except UserError as error:
        raise UserError(f"{shown}: {error}") from None
