"""MATLAB files of version 7.3: HDF5, read with h5py; nothing that leads to another file is followed."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.extras import needed_by
from tfplaces.common.text import printable_name, printable_reason

_MAX_DEPTH = 8
# What an array takes at least, as it is counted: Python needs more for an empty one than the file.
_LEAST = 64


def read_version_73(data: bytes, variable: str, most: int) -> dict[str, Any]:
    """Reads a struct from the content of a file.

    Args:
        data: the content.
        variable: the name of the struct.
        most: how many bytes its fields may have in all.

    Returns:
        What `tfplaces.datasets.matlab.read_struct` does.

    Raises:
        UserError: the file is damaged or too large, or holds no such struct; the caller adds its name.
        MissingExtraError: h5py is not installed.
    """
    with needed_by("a .mat file of version 7.3"):
        import h5py
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            found = _member(h5py, file, variable)
            if not isinstance(found, h5py.Group):
                raise UserError(f"no struct {variable}, but {', '.join(map(printable_name, list(file)[:5]))}")
            datasets = _Datasets(h5py, file, most)
            return {name: datasets.value(_member(h5py, found, name), name) for name in found}
    except UserError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise UserError(f"damaged: {printable_reason(error)}") from None


def _member(h5py: Any, group: Any, name: str) -> Any:
    """A member of a group; never one of another file, to which a link could lead."""
    link = group.get(name, getlink=True)
    return group[name] if isinstance(link, h5py.HardLink) else None


class _Datasets:
    """Reads the fields of a struct in an HDF5 file.

    Args:
        h5py: the library.
        file: the open file.
        most: how many bytes they may have in all.
    """

    def __init__(self, h5py: Any, file: Any, most: int):
        self._h5py, self._file, self._most, self._left = h5py, file, most, most

    def value(self, found: Any, name: str, depth: int = 0) -> Any:
        """The numbers, the text or the list of a cell that a dataset holds."""
        shown = printable_name(name[:40])
        if not isinstance(found, self._h5py.Dataset):
            raise UserError(f"{shown} holds neither numbers nor texts")
        layout, dtype = found.id.get_create_plist(), found.dtype
        if layout.get_external_count() or layout.get_layout() == self._h5py.h5d.VIRTUAL or depth > _MAX_DEPTH:
            raise UserError(f"{shown} lies in another file, or is nested too deeply")
        size = found.size * dtype.itemsize
        self._left -= max(size, _LEAST)
        chunked = layout.get_layout() == self._h5py.h5d.CHUNKED
        if self._left < 0 or (chunked and math.prod(layout.get_chunk()) * dtype.itemsize > max(size, 2**20)):
            raise UserError(f"{shown} holds more than {self._most:,} bytes")
        kind = found.attrs.get("MATLAB_class", b"")
        kind = kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)
        # An empty array is written as its shape.
        if dtype == np.uint64 and found.attrs.get("MATLAB_empty", 0):
            return {"cell": [], "char": ""}.get(kind, np.empty((0, 0)))
        if dtype == self._h5py.ref_dtype:
            if kind != "cell":
                raise UserError(f"{shown} is a {printable_name(kind) or 'list of references'}, no cell")
            # MATLAB counts along the first dimension, which HDF5 has last.
            return [self.value(self._file[reference], name, depth + 1) for reference in found[()].ravel()]
        if dtype.kind not in "iufb":
            raise UserError(f"{shown} holds neither numbers nor texts")
        array = found[()].T
        if kind == "char":
            if array.ndim != 2 or array.shape[0] != 1 or dtype.kind != "u":
                raise UserError(f"{shown} holds a text of several lines")
            return array.astype("<u2").tobytes("F").decode("utf-16-le", "replace")
        return array
