"""Files of safetensors: a table of contents in JSON, and the tensors behind it."""

from __future__ import annotations

import io
import math
import struct
from typing import Any, BinaryIO

from tfplaces.common.errors import UserError
from tfplaces.common.pickle_machine import Malformed
from tfplaces.common.strict_json import parse_json
from tfplaces.common.text import printable_name
from tfplaces.pretrained.checkpoints.stored_tensor import ELEMENT_TYPES, Storage, StoredTensor, tensor_over

# A table of 40,000 tensors. The format allows 100 MB, of which JSON makes 2 GB.
_MAX_HEADER_BYTES = 2**22
_METADATA = "__metadata__"
_TYPES = {
    "F64": "Double", "F32": "Float", "F16": "Half", "BF16": "BFloat16", "I64": "Long", "I32": "Int", "I16": "Short",
    "I8": "Char", "U8": "Byte", "BOOL": "Bool",
}  # fmt: skip


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so is one of these."""
    return start[8:9] == b"{" and start[6:8] == b"\0\0"


def read_safetensors(file: BinaryIO, source: str) -> tuple[dict[str, StoredTensor], list[str]]:
    """Reads the table of contents; the tensors stay in the file.

    Returns:
        The tensors by name, and what else there is, in words.

    Raises:
        UserError: the file is damaged, has bytes that belong to no tensor, or holds types that are not read.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if length > size - 8:
        raise UserError(f"{source}: damaged: it is cut off in its table of contents of {length:,} bytes")
    if length > _MAX_HEADER_BYTES:
        raise UserError(f"{source}: a table of contents of {length:,} bytes; at most {_MAX_HEADER_BYTES:,} are read")
    table = parse_json(file.read(length), source)
    if not isinstance(table, dict):
        raise UserError(f"{source}: damaged: its table of contents")
    metadata = table.pop(_METADATA, None)
    start = 8 + length
    stretches: list[tuple[int, int]] = []
    tensors: dict[str, StoredTensor] = {}
    for name, described in table.items():
        shown = f"{source}: {printable_name(name[:80])}"
        try:
            begin, end = _offsets(described, size - start)
            tensors[name] = _tensor(described, start + begin, end - begin)
        except Malformed as error:
            raise UserError(f"{shown}: {error}") from None
        stretches.append((begin, end))
    reached = 0
    for begin, end in sorted(stretches):
        if begin != reached:
            raise UserError(f"{source}: damaged: its tensors overlap, or leave bytes between them (at {reached:,})")
        reached = end
    if start + reached != size:
        raise UserError(f"{source}: damaged: {size - start - reached:,} bytes behind its last tensor")
    return tensors, [] if metadata is None else [_in_words(metadata, source)]


def _offsets(described: Any, most: int) -> tuple[int, int]:
    if not isinstance(described, dict) or described.keys() != {"dtype", "shape", "data_offsets"}:
        raise Malformed("damaged: its entry in the table of contents")
    offsets = described["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(offset) is int for offset in offsets):
        raise Malformed("damaged: its place in the file")
    if not 0 <= offsets[0] <= offsets[1] <= most:
        raise Malformed("damaged: it lies outside of the file, which may be cut off")
    return offsets[0], offsets[1]


def _tensor(described: dict[str, Any], position: int, size: int) -> StoredTensor:
    kind, shape = described["dtype"], described["shape"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise Malformed(
            f"values of the type {printable_name(str(kind)[:20]) if isinstance(kind, str) else 'of none'}, which are "
            "not read; save it as F32"
        )
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 2**62 for side in shape):
        raise Malformed("damaged: its shape")
    if len(shape) > 32:
        raise Malformed(f"{len(shape)} dimensions")
    element = ELEMENT_TYPES[_TYPES[kind]]
    count = math.prod(shape)
    if count * element.stored.itemsize != size:
        raise Malformed(f"damaged: {size:,} bytes for values of type {kind} and shape {tuple(shape)}")
    strides = [math.prod(max(side, 1) for side in shape[k + 1 :]) for k in range(len(shape))]
    return tensor_over(Storage(element, count, position), 0, shape, strides)


def _in_words(metadata: Any, source: str) -> str:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UserError(f"{source}: damaged: its {_METADATA}")
    shown = ", ".join(
        f"{printable_name(key[:40])} '{printable_name(metadata[key][:40])}'" for key in list(metadata)[:3]
    )
    return f"{_METADATA} ({shown}{', ...' if len(metadata) > 3 else ''})"
