"""Writes files as `torch.save` does, without torch: numpy arrays become tensors."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {
    "f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "i4": "Int", "i2": "Short", "i1": "Char", "u1": "Byte",
    "b1": "Bool",
}  # fmt: skip


class Raw:
    """Instructions of a pickle, put in as they are."""

    def __init__(self, instructions: bytes):
        self.instructions = instructions


class Tensor:
    """A tensor with what `torch.save` says of it, for those that no array has.

    Args:
        values: its storage.
        shape, strides, offset: how it lies over it; those of the array, if not given.
        kind: the name of the storage's class.
        count: how many values the storage is said to have.
    """

    def __init__(
        self,
        values: np.ndarray,
        shape: tuple[Any, ...] | None = None,
        strides: tuple[Any, ...] | None = None,
        offset: Any = 0,
        kind: str | None = None,
        count: Any = None,
    ):
        self.values = np.ascontiguousarray(values)
        self.shape = values.shape if shape is None else shape
        default = tuple(s // values.itemsize for s in np.ascontiguousarray(values).reshape(values.shape).strides)
        self.strides = default if strides is None else strides
        self.offset = offset
        self.kind = kind or f"{STORAGES[values.dtype.str[1:]]}Storage"
        self.count = values.size if count is None else count


class Writer:
    """Writes pickles of protocol 2, with the storages of their tensors apart.

    Args:
        legacy: whether a reference to a storage has a sixth part, as in the older format.
    """

    def __init__(self, legacy: bool = False):
        self.storages: dict[str, np.ndarray] = {}
        self._keys: dict[int, str] = {}
        self._kept: list[Any] = []
        self._legacy = legacy

    def pickled(self, value: Any) -> bytes:
        return b"\x80\x02" + self._of(value) + b"."

    def _of(self, value: Any) -> bytes:
        if isinstance(value, Raw):
            return value.instructions
        if isinstance(value, np.ndarray):
            return self._tensor(Tensor(value))
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, dict):
            members = b"".join(self._of(key) + self._of(member) for key, member in value.items())
            return b"ccollections\nOrderedDict\n)R(" + members + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(self._of, value)) + b"e"
        if isinstance(value, tuple):
            return b"(" + b"".join(map(self._of, value)) + b"t"
        return pickle.dumps(value, 2)[2:-1]

    def _tensor(self, tensor: Tensor) -> bytes:
        key = self._keys.setdefault(id(tensor.values), str(len(self._keys)))
        self._kept.append(tensor)
        self.storages[key] = tensor.values
        identifier = ("storage", Raw(f"ctorch\n{tensor.kind}\n".encode()), key, "cpu", tensor.count)
        storage = Raw(self._of((*identifier, None) if self._legacy else identifier) + b"Q")
        arguments = (storage, tensor.offset, tensor.shape, tensor.strides, False, {})
        return b"ctorch._utils\n_rebuild_tensor_v2\n" + self._of(arguments) + b"R"


def write_torch_zip(path: Path, value: Any, folder: str = "archive", **members: bytes) -> Path:
    """Writes the format of today; `members` are further ones of the folder, or take the place of those."""
    writer = Writer()
    content = {"data.pkl": writer.pickled(value), "byteorder": b"little", "version": b"3\n"}
    content |= {f"data/{key}": values.tobytes() for key, values in writer.storages.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**content, **members}.items():
            archive.writestr(f"{folder}/{name}", data)
    return path


def write_torch_legacy(path: Path, value: Any, **parts: bytes) -> Path:
    """Writes the format before version 1.6; `parts` take the place of its parts, in their order."""
    writer = Writer(legacy=True)
    content = {
        "magic": pickle.dumps(0x1950A86A20F9469CFC6C, 2),
        "version": pickle.dumps(1001, 2),
        "machine": pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2),
        "pickled": writer.pickled(value),
        "keys": pickle.dumps(sorted(writer.storages), 2),
        "storages": b"".join(
            struct.pack("<q", writer.storages[key].size) + writer.storages[key].tobytes()
            for key in sorted(writer.storages)
        ),
    }
    path.write_bytes(b"".join({**content, **parts}.values()))
    return path


def write_torch_tar(path: Path, arrays: dict[str, np.ndarray], **parts: bytes) -> Path:
    """Writes the oldest format, of arrays; `parts` take the place of its members."""
    writer = Writer()
    storages, tensors, names = [pickle.dumps(len(arrays), 2)], [pickle.dumps(len(arrays), 2)], b""
    for number, (name, array) in enumerate(arrays.items()):
        kind = STORAGES[array.dtype.str[1:]]
        storages.append(writer.pickled((number, "cpu", Raw(f"ctorch\n{kind}Storage\n".encode()))))
        storages.append(struct.pack("<q", array.size) + array.tobytes())
        tensors.append(writer.pickled((100 + number, number, Raw(f"ctorch\n{kind}Tensor\n".encode()))))
        strides = tuple(step // array.itemsize for step in array.strides)
        tensors.append(struct.pack("<q", array.ndim) + struct.pack(f"<{2 * array.ndim}q", *array.shape, *strides))
        tensors.append(struct.pack("<q", 0))
        names += writer.pickled(name)[2:-1] + pickle.dumps(str(100 + number), 2)[2:-1] + b"Q"
    content = {
        "storages": b"".join(storages) + pickle.dumps([], 2),
        "tensors": b"".join(tensors),
        "pickle": b"\x80\x02}(" + names + b"u.",
    }
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in {**content, **parts}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5  # a time with a fraction has a header of its own
            archive.addfile(info, io.BytesIO(data))
    return path
