"""PyTorch's files before version 1.6: pickles in a row, and behind them the storages."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

from tfplaces.common.errors import UserError
from tfplaces.common.pickle_machine import Malformed
from tfplaces.pretrained.checkpoints.stored_tensor import Storage, storage_parts, storage_view
from tfplaces.pretrained.checkpoints.torch_pickle import read_torch_pickle

# The pickle of the number 0x1950a86a20f9469cfc6c, in protocol 2.
_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_VERSION = 1001


def is_torch_legacy(start: bytes) -> bool:
    """Whether a file that begins so is one of these."""
    return start[2 : 2 + len(_MAGIC)] == _MAGIC


def read_torch_legacy(file: BinaryIO, source: str) -> tuple[Any, int]:
    """Reads what was saved; its storages stay in the file.

    Returns:
        What was saved, and how many bytes the file has behind it.

    Raises:
        UserError: it is damaged, or holds what is not read.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    read_torch_pickle(file, source)
    version = read_torch_pickle(file, source)
    if version != _VERSION:
        raise UserError(f"{source}: a file of torch.save of another version than {_VERSION}")
    read_torch_pickle(file, source)  # the sizes of the types of C on the machine that wrote it
    storages = _Storages(size)
    value = read_torch_pickle(file, source, storages.storage)
    keys = read_torch_pickle(file, source)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UserError(f"{source}: damaged: no list of storages")
    if set(keys) != storages.roots.keys() or len(keys) > len(storages.roots):
        raise UserError(f"{source}: damaged: {len(keys):,} storages, where {len(storages.roots):,} are used")
    for key in keys:
        place_storage(storages.roots[key], file, size, source)
    storages.place_views()
    return value, size - file.tell()


def place_storage(storage: Storage, file: BinaryIO, size: int, source: str) -> None:
    """Notes where a storage lies that begins here with its count of values; the file is then behind it.

    Raises:
        UserError: it is not the one that was announced, or the file of so many bytes ends before it does.
    """
    head = file.read(8)
    if len(head) < 8:
        raise UserError(f"{source}: damaged: it is cut off before its values")
    (count,) = struct.unpack("<q", head)
    if count != storage.count:
        raise UserError(f"{source}: damaged: a storage of {count:,} values, where {storage.count:,} are announced")
    storage.position = file.tell()
    if storage.position + storage.size > size:
        raise UserError(f"{source}: damaged: it is cut off: {storage.size:,} bytes of a storage go beyond its end")
    file.seek(storage.size, io.SEEK_CUR)


class _Storages:
    """The storages that a pickle refers to, which lie behind it."""

    def __init__(self, size: int):
        self._size = size
        self.roots: dict[str, Storage] = {}
        self._views: list[tuple[Storage, Storage, int]] = []

    def storage(self, identifier: Any) -> Storage:
        """What `('storage', type, key, location, count, view)` stands for."""
        kind, key, count, view = storage_parts(identifier)
        root = self.roots.setdefault(key, Storage(kind, count))
        if root.kind != kind or root.count != count or root.size > self._size:
            raise Malformed("damaged: a storage of two sizes or types, or one that is larger than the file")
        if view is None:
            return root
        if not isinstance(view, tuple) or len(view) != 3:
            raise Malformed("damaged: a view of a storage")
        made = storage_view(root, *view[1:])
        self._views.append((made, root, view[1]))
        return made

    def place_views(self) -> None:
        """Notes where the views lie, once it is known where their storages do."""
        for made, root, first in self._views:
            assert root.position is not None
            made.position = root.position + first * root.kind.stored.itemsize
