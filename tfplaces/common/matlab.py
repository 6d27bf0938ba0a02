"""MATLAB files (`.mat`, versions 5 to 7.3) that hold numbers, texts, cells and structs.

They come from strangers: every size is checked against the bytes that are there before anything is made of it, what is
compressed is inflated up to a bound, and what is no data (functions, objects) is refused where it is asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from tfplaces.common.errors import UserError
from tfplaces.common.files import open_regular
from tfplaces.common.matlab_5 import Matlab5Value, variables_of_version_5
from tfplaces.common.matlab_73 import Matlab73Value, variables_of_version_73
from tfplaces.common.matlab_value import Budget, plain
from tfplaces.common.text import printable_name

# The largest published ground truth, of Pittsburgh's 250,000 images, has 0.5 MB, or 20 MB once inflated.
MAX_BYTES = 2**28
_MAX_VARIABLES = 100


def is_mat(start: bytes) -> bool:
    """Whether a file with such first 520 bytes is one of MATLAB's, of version 5 or later."""
    return _is_version_73(start) or (start[126:128] in (b"IM", b"MI") and start[124:126] in (b"\0\1", b"\1\0"))


def _is_version_73(start: bytes) -> bool:
    return start[512:520] == b"\x89HDF\r\n\x1a\n"


@contextlib.contextmanager
def open_variables(file: BinaryIO, most: int) -> Iterator[dict[str, Matlab5Value | Matlab73Value]]:
    """The variables of an open file by name, which are read inside the `with`, when they are asked for.

    Args:
        file: the open file.
        most: how many bytes an array, or what a compressed variable inflates to, may have.

    Raises:
        UserError: it is no such file, is damaged or has two variables of one name; the caller adds the file's name.
        MissingExtraError: it is of version 7.3, and h5py is not installed.
    """
    file.seek(0)
    if _is_version_73(file.read(520)):
        with variables_of_version_73(file, Budget(most)) as found:
            yield dict(found)
        return
    variables: dict[str, Matlab5Value | Matlab73Value] = {}
    for name, value in variables_of_version_5(file, Budget(most)):
        if name in variables or len(variables) >= _MAX_VARIABLES:
            raise UserError(f"damaged: two variables called {printable_name(name[:40])}, or more than {_MAX_VARIABLES}")
        variables[name] = value
    yield variables


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
    with open_regular(path, MAX_BYTES) as file:
        try:
            with open_variables(file, MAX_BYTES) as variables:
                if variable not in variables:
                    found = ", ".join(printable_name(name[:40]) for name in list(variables)[:5])
                    raise UserError(f"no variable {variable}, but {found or 'nothing'}")
                value = variables[variable]
                if value.class_name != "struct":
                    raise UserError(f"{variable} is no struct")
                content = plain(value, MAX_BYTES)
                value.check_end()
                return content
        except UserError as error:
            raise UserError(f"{shown}: {error}") from None
