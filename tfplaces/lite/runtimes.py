"""Which releases of the TFLite runtime compute a file right, as docs/runtimes.md has them measured.

An old release may compute another descriptor without an error. What is known of it goes into the file, as the
`min_runtime_version` of its metadata, and into the report beside it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfplaces.lite.tflite_model import TFLiteModel

# The entry of a file's metadata, and how many bytes it has.
_ENTRY, _ENTRY_BYTES = b"min_runtime_version", 16


@dataclasses.dataclass(frozen=True)
class Limit:
    """What some releases do to a file.

    Attributes:
        cause: what of the file.
        litert: the first release of LiteRT from which on all are right.
        tensorflow: the release of TensorFlow of that time, whose numbers `min_runtime_version` has.
        effect: which releases are not right, and what they do.
    """

    cause: str
    litert: str
    tensorflow: str
    effect: str


_INT4_BLOCKS = Limit(
    "4-bit weights in blocks",
    "2.1.0",
    "2.21.0",
    "LiteRT 1.2, 1.4 and 2.0, and TensorFlow Lite 2.14, give another descriptor without an error; LiteRT 1.0 and 1.1 "
    "crash",
)
_INT8_PRODUCT = Limit(
    "a BATCH_MATMUL of integers",
    "2.1.3",
    "2.14.0",
    "LiteRT 2.0.2 to 2.1.2 give another descriptor without an error; older and newer ones are right",
)
# No older one was tried with what the quantizer writes, as constants behind the flatbuffer.
_OLDEST_TRIED = "2.14.0"


def limits(data) -> list[Limit]:
    """What keeps some releases of LiteRT from computing a file right, that is known.

    Args:
        data: the file's bytes.
    """
    lite, found = TFLiteModel(data), []
    if lite.has_blocks():
        found.append(_INT4_BLOCKS)
    if any(op.name == "BATCH_MATMUL" and lite.type_name(op.outputs[0]) == "INT8" for op in lite.operators()):
        found.append(_INT8_PRODUCT)
    return found


def runtimes_report(data) -> dict[str, Any]:
    """The known limits of a file, as plain JSON types: the oldest runtime that is right, and what others do.

    Args:
        data: the file's bytes.
    """
    known = limits(data)
    return {
        "min_runtime_version": min_runtime_version(data),
        "litert": max((limit.litert for limit in known), key=_numbers, default="1.0.0"),
        "wrong": [f"{limit.cause}: {limit.effect}" for limit in known],
    }


def min_runtime_version(data) -> str:
    """The oldest TensorFlow Lite that a file says it needs; empty where it says nothing."""
    buffer = _version_buffer(data)
    return "" if buffer is None else bytes(buffer).rstrip(b"\0").decode("ascii", "replace")


def write_min_runtime_version(data) -> None:
    """Writes the oldest TensorFlow Lite that computes a quantized file right over what its converter says, in place.

    The converter looks at the versions of the operators of the float32 file alone.

    Args:
        data: the file's bytes, which are changed.
    """
    buffer = _version_buffer(data)
    if buffer is None or len(buffer) != _ENTRY_BYTES:
        raise RuntimeError("a TFLite model without room for its min_runtime_version; please report this")
    versions = [min_runtime_version(data), _OLDEST_TRIED, *(limit.tensorflow for limit in limits(data))]
    buffer[:] = max(versions, key=_numbers).encode().ljust(_ENTRY_BYTES, b"\0")


def _version_buffer(data) -> memoryview | None:
    """The bytes of the entry, a view into the file's; None where there is no such entry."""
    view = memoryview(data).cast("B")
    model = schema.Model.GetRootAs(view)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        buffer = model.Buffers(entry.Buffer())
        if entry.Name() == _ENTRY and buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            return view[start : start + buffer.DataLength()]
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
