"""TFLite Model Metadata: what a `.tflite` tells MediaPipe, and people, about its input and its output.

The schema is metadata_schema.fbs of TFLite Support, the encoding https://flatbuffers.dev/internals.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfplaces.common.errors import UserError
from tfplaces.models import PlaceNet
from tfplaces.version import __version__

# Name of the model's entry, and identifier of the flatbuffer that it leads to.
ENTRY, IDENTIFIER = b"TFLITE_METADATA", b"M001"
# The first version of the schema; it has all that is used here.
_PARSER_VERSION = "1.0.0"
# A buffer of more bytes is put behind the flatbuffer by the quantizer; there MediaPipe does not look, but crashes.
_MOST_BYTES = 1023

# Numbers of the fields in their tables; a union takes two, its type and its value.
_MODEL_NAME, _MODEL_DESCRIPTION, _MODEL_VERSION, _MODEL_SUBGRAPHS, _MODEL_LICENSE, _MODEL_PARSER_VERSION = (
    0,
    1,
    2,
    3,
    5,
    7,
)
_SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS = 2, 3
_TENSOR_NAME, _TENSOR_DESCRIPTION, _TENSOR_CONTENT, _TENSOR_PROCESS_UNITS, _TENSOR_STATS = 0, 1, 3, 4, 5
_CONTENT_TYPE, _CONTENT = 0, 1
_IMAGE_COLOR_SPACE = 0
_PROCESS_TYPE, _PROCESS = 0, 1
_NORMALIZATION_MEAN, _NORMALIZATION_STD = 0, 1
_STATS_MAX, _STATS_MIN = 0, 1

# Of where weights come from, in the order of a description; the file comes before them, the licence has its own field.
_SOURCE_KEYS = ("kind", "sha256", "note")

# Values of enumerations and of the types of unions.
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS, _RGB = 1, 2, 1, 1


def describe_network(model: PlaceNet) -> str:
    """What a network is and where its weights come from, in one line: the most important first."""
    source = model.config.get("source", {})
    parts = [f"{model.config['backbone']}, {model.aggregation.title}, {model.descriptor_dim}-D descriptor"]
    if "file" in source:
        parts.append(f"weights of {source['file']}")
    parts += [f"SHA-256 {source[key]}" if key == "sha256" else source[key] for key in _SOURCE_KEYS if key in source]
    return "; ".join(parts)


def with_metadata(data: bytes, *, description: str, float_input: bool, licence: str = "") -> bytes:
    """A `.tflite` from one RGB image to one descriptor, with metadata, which replace those it had.

    The file stays as it is, byte for byte, behind a new root with the metadata: what it points to keeps its distance.
    Takes the memory of the result and no more.

    Args:
        data: the model.
        description: what the network is, for people; its end is cut off where all would be too long for MediaPipe.
        float_input: whether the image is float32, which MediaPipe takes only if told how to normalise it: not at all.
        licence: that of the weights, never cut; empty where nobody has told it.

    Raises:
        UserError: a licence too long, or a model whose constants lie behind the flatbuffer, as after quantization:
            they may not move.
    """
    metadata = _describe(description, float_input, licence)
    while (excess := len(metadata) - _MOST_BYTES) > 0:
        if not description:
            raise UserError(f"a licence {excess} bytes too long for a .tflite that MediaPipe takes: {licence[:40]}…")
        # A character has up to four bytes; the ellipsis that stands for what is cut has three.
        description = description.removesuffix("…")[: -max(1, excess // 4)].rstrip()
        description += "…" if description else ""
        metadata = _describe(description, float_input, licence)
    model = schema.Model.GetRootAs(data)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    if any(buffer.Offset() > 1 for buffer in buffers):  # 0 and 1 say that there is no offset
        raise UserError("metadata go into a TFLite model before it is quantized: constants behind it may not move")
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    builder = flatbuffers.Builder()

    # What is in the file lies behind the end of all that the builder writes: at a negative distance from the end.
    positions = [-buffer._tab.Pos for buffer in buffers]
    index = next((entry.Buffer() for entry in entries if entry.Name() == ENTRY), len(buffers))
    positions[index : index + 1] = [_buffer(builder, metadata)]
    kept = [-entry._tab.Pos for entry in entries if entry.Name() != ENTRY]
    buffers_vector = _vector(builder, positions)
    entries_vector = _vector(builder, [*kept, _entry(builder, index)])

    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, model.Version())
    schema.ModelAddBuffers(builder, buffers_vector)
    schema.ModelAddMetadata(builder, entries_vector)
    for number, add in enumerate(_KEPT_FIELDS):
        if add and (offset := model._tab.Offset(4 + 2 * number)):
            add(builder, -model._tab.Indirect(model._tab.Pos + offset))
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return b"".join((builder.Output(), data))


# By number; None for those that are written anew.
_KEPT_FIELDS = (
    None,
    schema.ModelAddOperatorCodes,
    schema.ModelAddSubgraphs,
    schema.ModelAddDescription,
    None,
    schema.ModelAddMetadataBuffer,
    None,
    schema.ModelAddSignatureDefs,
    schema.ModelAddExternalBufferGroups,
    schema.ModelAddExternalBuffers,
)


def _describe(description: str, float_input: bool, licence: str) -> bytes:
    """The metadata, a flatbuffer of their own."""
    image: dict[int, Any] = {
        _TENSOR_NAME: "image",
        _TENSOR_DESCRIPTION: "A photo, RGB, 0 to 255; preprocessing is inside the model.",
        _TENSOR_CONTENT: {_CONTENT_TYPE: _IMAGE_PROPERTIES, _CONTENT: {_IMAGE_COLOR_SPACE: _RGB}},
        _TENSOR_STATS: {_STATS_MAX: np.array([255], np.float32), _STATS_MIN: np.array([0], np.float32)},
    }
    if float_input:
        unchanged = {_NORMALIZATION_MEAN: np.array([0], np.float32), _NORMALIZATION_STD: np.array([1], np.float32)}
        image[_TENSOR_PROCESS_UNITS] = [{_PROCESS_TYPE: _NORMALIZATION_OPTIONS, _PROCESS: unchanged}]
    descriptor = {
        _TENSOR_NAME: "descriptor",
        _TENSOR_DESCRIPTION: "Of unit length; photos of the same place have a large dot product.",
        _TENSOR_CONTENT: {_CONTENT_TYPE: _FEATURE_PROPERTIES, _CONTENT: {}},
    }
    model: dict[int, Any] = {
        _MODEL_NAME: "tfplaces",
        _MODEL_DESCRIPTION: description,
        _MODEL_VERSION: __version__,
        _MODEL_SUBGRAPHS: [{_SUBGRAPH_INPUTS: [image], _SUBGRAPH_OUTPUTS: [descriptor]}],
        _MODEL_PARSER_VERSION: _PARSER_VERSION,
    }
    if licence:
        model[_MODEL_LICENSE] = licence
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, model), IDENTIFIER)
    return bytes(builder.Output())


def _write(builder: flatbuffers.Builder, value: str | np.ndarray | list | dict) -> int:
    """Writes a string, a vector of numbers, a vector of tables, or a table: its fields by number, bytes inside."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        return _vector(builder, [_write(builder, item) for item in value])
    positions = {number: _write(builder, item) for number, item in value.items() if not isinstance(item, int)}
    builder.StartObject(max(value, default=-1) + 1)
    for number, item in value.items():
        if isinstance(item, int):
            builder.PrependUint8Slot(number, item, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, positions[number], 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, positions: list[int]) -> int:
    builder.StartVector(4, len(positions), 4)
    for position in reversed(positions):
        builder.PrependUOffsetTRelative(position)
    return builder.EndVector()


def _buffer(builder: flatbuffers.Builder, data: bytes) -> int:
    builder.StartVector(1, len(data), 16)  # so all that is written has whole 16 bytes: constants stay aligned
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    vector = builder.EndVector()
    schema.BufferStart(builder)
    schema.BufferAddData(builder, vector)
    return schema.BufferEnd(builder)


def _entry(builder: flatbuffers.Builder, buffer: int) -> int:
    name = builder.CreateString(ENTRY)
    schema.MetadataStart(builder)
    schema.MetadataAddName(builder, name)
    schema.MetadataAddBuffer(builder, buffer)
    return schema.MetadataEnd(builder)
