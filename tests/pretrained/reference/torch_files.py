"""Writes files as `torch.save` (its zip form) and safetensors do, from numpy arrays, without torch."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_STORAGES = {
    "float16": "Half",
    "float32": "Float",
    "float64": "Double",
    "int64": "Long",
    "int32": "Int",
    "uint8": "Byte",
}


def write_zip(path: Path, content: Any) -> Path:
    """Writes nested dicts and lists of arrays, numbers and texts as the zip form of `torch.save`."""
    pickler = _Pickler()
    pickler.value(content)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{path.stem}/data.pkl", b"\x80\x02" + b"".join(pickler.out) + b".")
        archive.writestr(f"{path.stem}/byteorder", "little")
        for key, array in enumerate(pickler.storages):
            archive.writestr(f"{path.stem}/data/{key}", np.ascontiguousarray(array).tobytes())
        archive.writestr(f"{path.stem}/version", "3\n")
    return path


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """Writes a flat dict of arrays."""
    kinds = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64"}
    header, start = {}, 0
    for name, array in tensors.items():
        end = start + array.nbytes
        header[name] = {"dtype": kinds[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())
    return path


class _Pickler:
    """The opcodes of protocol 2 that a checkpoint needs; dicts become OrderedDicts, as a state dict is."""

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.storages: list[np.ndarray] = []

    def value(self, value: Any) -> None:
        if value is None or isinstance(value, bool):
            self.out.append({None: b"N", True: b"\x88", False: b"\x89"}[value])
        elif isinstance(value, np.ndarray):
            self._tensor(value)
        elif isinstance(value, np.floating):
            self._numpy_number(value)
        elif isinstance(value, int):
            self.out.append(b"J" + struct.pack("<i", value))
        elif isinstance(value, float):
            self.out.append(b"G" + struct.pack(">d", value))
        elif isinstance(value, str):
            data = value.encode()
            self.out.append(b"X" + struct.pack("<I", len(data)) + data)
        elif isinstance(value, dict):
            self.out.append(b"ccollections\nOrderedDict\n)R(")
            for key, item in value.items():
                self.value(key)
                self.value(item)
            self.out.append(b"u")
        elif isinstance(value, (list, tuple)):
            self.out.append(b"](" if isinstance(value, list) else b"(")
            for item in value:
                self.value(item)
            self.out.append(b"e" if isinstance(value, list) else b"t")
        else:
            raise TypeError(type(value))

    def _tensor(self, array: np.ndarray) -> None:
        kind = _STORAGES[array.dtype.name]
        self.out.append(b"ctorch._utils\n_rebuild_tensor_v2\n((")
        self.value("storage")
        self.out.append(f"ctorch\n{kind}Storage\n".encode())
        for item in (str(len(self.storages)), "cpu", array.size):
            self.value(item)
        self.out.append(b"tQ")
        self.value(0)
        self.value(array.shape)
        self.value(tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides[: array.ndim]))
        self.value(False)
        self.value({})
        self.out.append(b"tR")
        self.storages.append(array)

    def _numpy_number(self, value: np.floating) -> None:
        self.out.append(b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(")
        for item in (value.dtype.str[1:], False, True):
            self.value(item)
        self.out.append(b"tR(K\x03")
        for item in ("<", None, None, None, -1, -1, 0):
            self.value(item)
        self.out.append(b"tbc_codecs\nencode\n(")
        self.value(value.tobytes().decode("latin1"))
        self.value("latin1")
        self.out.append(b"tRtR")
