"""MATLAB files of version 7.3: HDF5, read with h5py; nothing that leads to another file is followed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.extras import needed_by
from tfplaces.common.matlab_value import NUMERIC, Budget, in_words
from tfplaces.common.text import printable_reason

_HIDDEN = ("#refs#", "#subsystem#")
_MAX_NAMES = 100_000
_Method = TypeVar("_Method", bound=Callable[..., Any])


@contextlib.contextmanager
def variables_of_version_73(file: BinaryIO, budget: Budget) -> Iterator[dict[str, Matlab73Value]]:
    """The variables of an open file by name, which can be read inside the `with`.

    Args:
        file: the open file.
        budget: bounds what they hold.

    Raises:
        UserError: the file is damaged; the caller adds its name.
        MissingExtraError: h5py is not installed.
    """
    with needed_by("a .mat file of version 7.3"):
        import h5py
    with contextlib.ExitStack() as held:
        with _damage():
            opened = held.enter_context(h5py.File(file, "r"))
            found = {
                name: Matlab73Value(h5py, opened, _member(h5py, opened, name), budget)
                for name in _names(opened)
                if name not in _HIDDEN
            }
        yield found


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Says in one line what h5py raises for damage."""
    try:
        yield
    except UserError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError, MemoryError) as error:
        raise UserError(f"damaged: {printable_reason(error)}") from None


def _names(group: Any) -> list[str]:
    if len(group) > _MAX_NAMES:
        raise UserError(f"{len(group):,} names; at most {_MAX_NAMES:,} are read")
    return list(group)


def _member(h5py: Any, group: Any, name: str) -> Any:
    """A member of a group; never one of another file, to which a link could lead."""
    link = group.get(name, getlink=True)
    return group[name] if isinstance(link, h5py.HardLink) else None


class Matlab73Value:
    """A `MatlabValue` of these files."""

    def __init__(self, h5py: Any, file: Any, found: Any, budget: Budget, depth: int = 0):
        budget.take(depth)
        self._h5py, self._file, self._found, self._budget, self._depth = h5py, file, found, budget, depth
        self.shape: tuple[int, ...] = (1, 1)
        self.class_name, self._empty = "something else", False
        if isinstance(found, h5py.Group):
            kind = self._attribute("MATLAB_class") or "struct"
            self.class_name = kind if kind not in ("cell", "char", *NUMERIC) else "something else"
        elif isinstance(found, h5py.Dataset):
            self.class_name = self._attribute("MATLAB_class")
            self._empty = bool(found.dtype == np.uint64 and found.size <= 32 and found.attrs.get("MATLAB_empty", 0))
            # An empty array is written as its shape. HDF5 has MATLAB's first dimension last.
            sides = self._values().ravel() if self._empty else found.shape[::-1]
            self.shape = tuple(int(side) for side in sides)
            if self._empty and math.prod(self.shape) > 0:
                raise UserError(f"damaged: an empty array of shape {self.shape}")

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers of a numeric array."""
        if not isinstance(self._found, self._h5py.Dataset) or self.class_name not in ("", *NUMERIC):
            raise UserError(f"{in_words(self)}, of which none is read: no numbers, text or cell")
        if self._empty:
            return np.dtype(np.float64)
        if self._found.dtype.kind not in "iufb":
            raise UserError(f"{in_words(self)} that holds no numbers")
        return self._found.dtype.newbyteorder("=")

    def fields(self) -> dict[str, Matlab73Value]:
        """The members of a single struct by name."""
        if not isinstance(self._found, self._h5py.Group) or self.class_name != "struct":
            raise UserError(f"{in_words(self)} where a single struct should be")
        with _damage():
            return {name: self._value(_member(self._h5py, self._found, name)) for name in _names(self._found)}

    def members(self) -> Iterator[Matlab73Value]:
        """The members of a cell, column by column."""
        if self.class_name != "cell":
            raise UserError(f"{in_words(self)} where a cell should be")
        if self._empty:
            return
        if self._found.dtype != self._h5py.ref_dtype:
            raise UserError("damaged: a cell")
        with _damage():
            references = self._values().ravel()
        for reference in references:
            with _damage():
                member = self._value(self._file[reference])
            yield member

    def text(self) -> str:
        """The characters of a single line."""
        if self.class_name != "char":
            raise UserError(f"{in_words(self)} where a text should be")
        if self._empty:
            return ""
        if len(self.shape) != 2 or self.shape[0] != 1 or self._found.dtype.kind != "u":
            raise UserError("a text of several lines")
        with _damage():
            return self._values().astype("<u2").tobytes().decode("utf-16-le", "replace")

    def numbers(self) -> np.ndarray:
        """The numbers of a numeric array, in MATLAB's order (of Fortran)."""
        dtype = self.dtype
        if self._empty:
            return np.empty(self.shape)
        with _damage():
            return self._values().astype(dtype, copy=False).T

    def check_end(self) -> None:
        """HDF5 checks what it reads, where the file has checksums at all."""

    def _value(self, found: Any) -> Matlab73Value:
        return Matlab73Value(self._h5py, self._file, found, self._budget, self._depth + 1)

    def _attribute(self, name: str) -> str:
        value = self._found.attrs.get(name, b"")
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)

    def _values(self) -> np.ndarray:
        """The content, once it is known to lie in this file and to be no larger than it may be."""
        found, most = self._found, self._budget.most
        layout = found.id.get_create_plist()
        if layout.get_external_count() or layout.get_layout() == self._h5py.h5d.VIRTUAL:
            raise UserError("it lies in another file")
        size = found.size * found.dtype.itemsize
        chunked = layout.get_layout() == self._h5py.h5d.CHUNKED
        chunk = math.prod(layout.get_chunk()) * found.dtype.itemsize if chunked else 0
        if size > most or chunk > max(size, 2**20):
            raise UserError(f"it has more than {most:,} bytes")
        return np.asarray(found[()])
