"""Makes `.tflite` files without TensorFlow: of any constants, without operators, and of a small network."""

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


def network_parts(batch: int = 1, height: int = 8, width: int = 8) -> schema.ModelT:
    """A network from RGB images to descriptors of 5 numbers, in parts that a test may change before `network` of it.

    Its operators are CONV_2D, MAX_POOL_2D, RESHAPE and FULLY_CONNECTED; its tensors 0 to 9 are the image, the kernel,
    the bias, the two maps, the shape, the vector, the weights, their bias, and the descriptor.
    """
    rng = np.random.default_rng(0)
    half, quarter = (height // 2, width // 2), (height // 4, width // 4)
    values = 4 * quarter[0] * quarter[1]
    tensors: list[tuple[str, tuple[int, ...], np.ndarray | None]] = [
        ("image", (batch, height, width, 3), None),
        ("kernel", (4, 3, 3, 3), rng.standard_normal((4, 3, 3, 3))),
        ("kernel_bias", (4,), rng.standard_normal(4)),
        ("map", (batch, *half, 4), None),
        ("pooled", (batch, *quarter, 4), None),
        ("shape", (2,), np.array([batch, values], np.int32)),
        ("vector", (batch, values), None),
        ("weights", (5, values), rng.standard_normal((5, values))),
        ("bias", (5,), rng.standard_normal(5)),
        ("descriptor", (batch, 5), None),
    ]
    conv, pool, full = schema.Conv2DOptionsT(), schema.Pool2DOptionsT(), schema.FullyConnectedOptionsT()
    conv.strideW = conv.strideH = pool.strideW = pool.strideH = pool.filterWidth = pool.filterHeight = 2
    operators = [
        ("CONV_2D", conv, [0, 1, 2], [3]), ("MAX_POOL_2D", pool, [3], [4]), ("RESHAPE", None, [4, 5], [6]),
        ("FULLY_CONNECTED", full, [6, 7, 8], [9]),
    ]  # fmt: skip
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description, model.subgraphs = 3, "made by a test", [graph]
    model.operatorCodes, model.buffers = [], [schema.BufferT()]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [0], [9]
    for name, shape, constant in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer, tensor.type = name, list(shape), 0, TYPES["float32"]
        if constant is not None:
            tensor.buffer, buffer = len(model.buffers), schema.BufferT()
            stored = constant if constant.dtype == np.int32 else constant.astype(np.float32)
            tensor.type, buffer.data = TYPES[stored.dtype.name], stored.reshape(-1).view(np.uint8)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    for name, options, inputs, outputs in operators:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.deprecatedBuiltinCode = code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.version, operator.opcodeIndex = 1, len(model.operatorCodes)
        operator.inputs, operator.outputs, operator.builtinOptions = inputs, outputs, options
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    return model


def network(parts: schema.ModelT | None = None) -> bytes:
    """The bytes of a network; by default that of `network_parts()`."""
    return _serialize(network_parts() if parts is None else parts)


def _serialize(model: schema.ModelT, outside: dict[str, np.ndarray] | None = None, offset: int = 0) -> bytes:
    for buffer, values in zip(model.buffers[1:], (outside or {}).values(), strict=False):
        buffer.offset, buffer.size = offset, values.nbytes
        offset += values.nbytes + -values.nbytes % 16
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    data = bytes(builder.Output())
    return data + bytes(-len(data) % 16)
