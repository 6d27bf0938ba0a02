"""PyTorch's oldest files: a tar archive with the members `storages`, `tensors` and `pickle`."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

from tfplaces.common.errors import UserError
from tfplaces.common.pickle_machine import Malformed
from tfplaces.common.text import printable_reason
from tfplaces.pretrained.checkpoints.stored_tensor import ElementType, Storage, StoredTensor, storage_view, tensor_over
from tfplaces.pretrained.checkpoints.torch_legacy import place_storage
from tfplaces.pretrained.checkpoints.torch_pickle import read_torch_pickle

_MEMBERS = ("storages", "tensors", "pickle")
_MAX_MEMBERS = 100
_BLOCK = 512
_MAX_DIMENSIONS = 32


def is_tar(start: bytes) -> bool:
    """Whether a file that begins so is a tar archive."""
    return start[257:262] == b"ustar"


def read_torch_tar(file: BinaryIO, source: str) -> Any:
    """Reads what was saved; its storages stay in the file.

    Raises:
        UserError: it is no such archive, or damaged, or holds what is not read.
    """
    places = _members(file, source)
    storages = _read_storages(file, *places["storages"], source)
    tensors = _read_tensors(file, *places["tensors"], storages, source)

    def persistent(identifier: Any) -> Any:
        if isinstance(identifier, tuple):  # a class, with its program
            raise Malformed("it holds a whole network as a program; in torch, save its state_dict() alone")
        key = _key(identifier, source)
        if key not in objects:
            raise Malformed("damaged: a reference to a tensor that there is not")
        return objects[key]

    objects: dict[str, Any] = {**storages, **tensors}
    file.seek(places["pickle"][0])
    return read_torch_pickle(file, source, persistent)


def _members(file: BinaryIO, source: str) -> dict[str, tuple[int, int]]:
    """Where the bytes of each member begin and end."""
    size = file.seek(0, io.SEEK_END)
    found: dict[str, tuple[int, int]] = {}
    position = 0
    for _ in range(_MAX_MEMBERS):
        file.seek(position)
        header = file.read(_BLOCK)
        if len(header) < _BLOCK or not header.strip(b"\0"):  # the end
            break
        name = header[:100].rstrip(b"\0").removeprefix(b"./").decode("latin-1")
        length = header[124:136].strip(b"\0 ")
        if not length.isdigit() or len(length) > 12 or b"8" in length or b"9" in length:
            raise UserError(f"{source}: damaged: a tar archive")
        begin, end = position + _BLOCK, position + _BLOCK + int(length, 8)
        if name in _MEMBERS and header[156:157] in (b"0", b"\0"):  # a regular file
            if name in found:
                raise UserError(f"{source}: the archive has two members called {name}")
            found[name] = begin, end
        position = begin + -(-int(length, 8) // _BLOCK) * _BLOCK
    for name in _MEMBERS:
        if name not in found or found[name][1] > size:
            raise UserError(
                f"{source}: a tar archive without the member {name}, or one that is cut off; torch.save writes "
                f"{', '.join(_MEMBERS)}: unpack another archive first"
            )
    return found


def _read_storages(file: BinaryIO, begin: int, end: int, source: str) -> dict[str, Storage]:
    file.seek(begin)
    storages: dict[str, Storage] = {}
    for _ in range(_count(file, source, end)):
        described = read_torch_pickle(file, source)
        if not isinstance(described, tuple) or len(described) != 3 or not isinstance(described[2], ElementType):
            raise UserError(f"{source}: damaged: a storage")
        head = file.read(8)
        if len(head) < 8:
            raise UserError(f"{source}: damaged: it is cut off before its values")
        (count,) = struct.unpack("<q", head)
        if count < 0:
            raise UserError(f"{source}: damaged: a storage of {count:,} values")
        storage = Storage(described[2], count)
        file.seek(-8, io.SEEK_CUR)
        place_storage(storage, file, end, source)
        storages[_key(described[0], source)] = storage
    views = read_torch_pickle(file, source)
    if not isinstance(views, list):
        raise UserError(f"{source}: damaged: the views of storages")
    for view in views:
        if not isinstance(view, tuple) or len(view) != 4 or _key(view[1], source) not in storages:
            raise UserError(f"{source}: damaged: a view of a storage")
        try:
            storages[_key(view[0], source)] = storage_view(storages[_key(view[1], source)], *view[2:])
        except Malformed as error:
            raise UserError(f"{source}: {error}") from None
    return storages


def _read_tensors(
    file: BinaryIO, begin: int, end: int, storages: dict[str, Storage], source: str
) -> dict[str, StoredTensor]:
    file.seek(begin)
    tensors: dict[str, StoredTensor] = {}
    for _ in range(_count(file, source, end)):
        described = read_torch_pickle(file, source)
        if not isinstance(described, tuple) or len(described) != 3 or _key(described[1], source) not in storages:
            raise UserError(f"{source}: damaged: a tensor")
        try:
            # Of the eight bytes of the number of dimensions the upper four were never filled.
            (dimensions,) = struct.unpack("<i4x", file.read(8))
            if not 0 <= dimensions <= _MAX_DIMENSIONS:
                raise Malformed(f"damaged: a tensor of {dimensions} dimensions")
            numbers = struct.unpack(f"<{2 * dimensions + 1}q", file.read(16 * dimensions + 8))
            shape, strides, offset = numbers[:dimensions], numbers[dimensions:-1], numbers[-1]
            tensor = tensor_over(storages[_key(described[1], source)], offset, shape, strides)
        except (Malformed, struct.error) as error:
            raise UserError(f"{source}: {printable_reason(error)}") from None
        tensors[_key(described[0], source)] = tensor
    return tensors


def _count(file: BinaryIO, source: str, end: int) -> int:
    count = read_torch_pickle(file, source)
    if type(count) is not int or not 0 <= count <= end:
        raise UserError(f"{source}: damaged: a number of tensors")
    return count


def _key(value: Any, source: str) -> str:
    if not isinstance(value, (int, str)) or (isinstance(value, int) and abs(value) >= 2**64):
        raise UserError(f"{source}: damaged: the key of a tensor")
    return str(value)
