"""Makes `.tflite` files of any constants, without operators, which packing does not look at."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {
    "float32": schema.TensorType.FLOAT32, "float16": schema.TensorType.FLOAT16, "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8, "int32": schema.TensorType.INT32, "int64": schema.TensorType.INT64,
}  # fmt: skip


def tflite(constants: dict[str, np.ndarray], outside: bool = False, int4: tuple[str, ...] = ()) -> bytes:
    """The bytes of a model.

    Args:
        constants: by tensor name.
        outside: whether the data are put behind the flatbuffer, as in large models.
        int4: names of uint8 constants that hold two values a byte.
    """
    model = schema.ModelT()
    model.version, model.description = 3, "made by a test"
    model.operatorCodes, model.buffers, graph = [], [schema.BufferT()], schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [], [], [], []
    for name, values in constants.items():
        tensor, buffer = schema.TensorT(), schema.BufferT()
        tensor.name, tensor.shape, tensor.buffer = name, list(values.shape), len(model.buffers)
        tensor.type = TYPES[values.dtype.name]
        if name in int4:
            tensor.shape[-1] *= 2
            tensor.type = schema.TensorType.INT4
        if not outside:
            buffer.data = values.reshape(-1).view(np.uint8)
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
    model.subgraphs = [graph]
    if not outside:
        return _serialize(model)
    for start in (2, len(_serialize(model, constants, 2))):
        data = _serialize(model, constants, start)
    for values in constants.values():
        data += values.tobytes() + bytes(-values.nbytes % 16)
    return data


def _serialize(model: schema.ModelT, outside: dict[str, np.ndarray] | None = None, offset: int = 0) -> bytes:
    for buffer, values in zip(model.buffers[1:], (outside or {}).values(), strict=False):
        buffer.offset, buffer.size = offset, values.nbytes
        offset += values.nbytes + -values.nbytes % 16
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    data = bytes(builder.Output())
    return data + bytes(-len(data) % 16)
