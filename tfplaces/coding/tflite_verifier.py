"""Verifies a stranger's `.tflite` before LiteRT gets it, which trusts a file and crashes where it is damaged.

What is checked: that all that LiteRT reads lies inside the file, that every index says something that is there, that
constants have the bytes of their shape, and that operators have what their kernels read, in the order in which they can
be computed. The schema is tflite/schema/schema.fbs of LiteRT. Weights are not read, so it takes milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfplaces.coding.flatbuffer import DamagedError, Table, read_number
from tfplaces.coding.tflite_constants import IDENTIFIER, extent
from tfplaces.coding.tflite_operators import OPERATORS, Operator
from tfplaces.common.errors import UserError

# Bits of a value by TensorType; texts, resources and variants have none and are not for images.
_VALUE_BITS = {
    0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 8: 64, 9: 8, 10: 64, 11: 128, 12: 64, 15: 32, 16: 16, 17: 4, 18: 16,
    19: 2, 20: 4, 21: 8, 22: 8,
}  # fmt: skip
_INTEGER_RANGES = {3: (0, 255), 7: (-(2**15), 2**15 - 1), 9: (-128, 127), 17: (-8, 7)}
# INT32 and INT64, and how many integers say where an operator is to work: two for each of eight dimensions.
_INTEGERS, _MAX_INTEGERS = (2, 4), 16
_FLOAT16 = 1
# UINT8, INT16 and INT8; the operators that sum products of them, and XNNPACK's bound on a product's share of a step of
# their output.
_QUANTIZED = (3, 7, 9)
_REQUANTIZING, _MAX_REQUANTIZATION = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"), 256
# A scale below it, which is without its full precision, overflows when something is divided by it.
_LEAST_SCALE = np.finfo(np.float32).tiny
_MAX_DIMENSIONS, _MAX_TENSOR_BYTES = 8, 2**32
# Fields of options that are vectors, by the kind of options; LiteRT copies 8 numbers at most.
_OPTION_VECTORS = {17: (0,), 30: (0,)}
_FULLY_CONNECTED_OPTIONS, _FULLY_CONNECTED_QUANTIZATION = 8, 5
_BLOCKWISE = 2


@dataclass(frozen=True)
class _Tensor:
    """What the checks of operators need of a tensor."""

    type: int
    shape: tuple[int, ...]
    constant: bool
    scale: float  # the largest, 0 where it is not quantized
    blocks: tuple[int, int] | None  # the tensor that has the scales of its blocks, and how many there are


def verify_tflite(data: Any) -> None:
    """Refuses a `.tflite` that LiteRT could not open or run safely.

    Args:
        data: the whole file: bytes, or a memory map of bytes.

    Raises:
        UserError: it is not a TFLite model, it is damaged, or it has what no network from an image to a vector has. The
            message does not name the file.
    """
    if len(data) < 8 or bytes(data[4:8]) != IDENTIFIER:
        raise UserError("not a TFLite model")
    model = Table(data, read_number(data, "<I", 0))
    if model.number(0, "<I") != 3:
        raise DamagedError(f"its schema has the version {model.number(0, '<I')}, not 3")
    buffers = [extent(buffer)[1] for buffer in model.tables(4)]
    if not buffers:
        raise DamagedError("it has no buffers")
    model.text(3)
    _check_indices(model.numbers(5, "<i4"), len(buffers), "a buffer of metadata")
    for metadata in model.tables(6):
        metadata.text(0)
        _check_indices([metadata.number(1, "<I")], len(buffers), "a buffer of metadata")
    if model.vector(8, 4)[1] or model.vector(9, 4)[1]:
        raise UserError("keeps weights in other files, which is not opened; convert the model to one file")
    operators = [_operator(code) for code in model.tables(1)]
    subgraphs = model.tables(2)
    if len(subgraphs) != 1:
        raise UserError(f"has {len(subgraphs)} subgraphs; a network from an image to a vector has one")
    tensors = _check_subgraph(subgraphs[0], buffers, operators)
    for signature in model.tables(7):
        signature.text(2)
        _check_indices([signature.number(4, "<I")], 1, "the subgraph of a signature")
        for end in (0, 1):
            for entry in signature.tables(end):
                entry.text(0)
                _check_indices([entry.number(1, "<I")], len(tensors), "a tensor of a signature")


def _operator(code: Table) -> Operator:
    # Numbers of up to 127 stand in the older field as well, which other files have alone.
    number = max(code.number(0, "<b"), code.number(3, "<i"))
    code.text(1)
    if not 1 <= code.number(2, "<i", 1) < 100:
        raise DamagedError("an operator has no version that there is")
    if number not in OPERATORS:
        raise UserError(f"has an operator, number {number}, that no network from an image to a vector has")
    return OPERATORS[number]


def _check_subgraph(graph: Table, buffers: list[int], operators: list[Operator]) -> list[_Tensor]:
    graph.text(4)
    tables = graph.tables(0)
    tensors = [_tensor(table, buffers) for table in tables]
    for index, count in (tensor.blocks for tensor in tensors if tensor.blocks):
        _check_indices([index], len(tensors), "the scales of a tensor")
        scales = tensors[index]
        if not scales.constant or scales.type != _FLOAT16 or math.prod(scales.shape) != count:
            raise DamagedError("a tensor has scales that are not one for each block")
    inputs, outputs = graph.numbers(1, "<i4"), graph.numbers(2, "<i4")
    for name, ends in (("input", inputs), ("output", outputs)):
        if not len(ends):
            raise DamagedError(f"it has no {name}")
        _check_indices(ends, len(tensors), f"an {name}")
        if len(set(ends.tolist())) != len(ends):
            raise DamagedError(f"it has one {name} twice")
    if any(tensors[i].constant for i in inputs):
        raise DamagedError("an input is a constant")
    known = {int(i) for i in inputs} | {index for index, tensor in enumerate(tensors) if tensor.constant}
    for operator in graph.tables(3):
        code = operator.number(0, "<I")
        _check_indices([code], len(operators), "the kind of an operator")
        _check_operator(operator, operators[code], tensors, known)
    if not known.issuperset(outputs.tolist()):
        raise DamagedError("an output is computed by no operator")
    return tensors


def _tensor(table: Table, buffers: list[int]) -> _Tensor:
    table.text(3)
    kind, buffer = table.number(1, "<b"), table.number(2, "<I")
    if kind not in _VALUE_BITS:
        raise UserError(f"has a tensor of type {kind}, which no network from an image to a vector has")
    if table.number(5, "<B") or table.place(6) or table.vector(9, 4)[1] or table.number(10, "<I"):
        raise UserError("has sparse or variable tensors, which are not opened; convert the model without them")
    _check_indices([buffer], len(buffers), "the buffer of a tensor")
    shape, signature = table.numbers(0, "<i4"), table.numbers(7, "<i4")
    if len(shape) > _MAX_DIMENSIONS or (len(signature) and len(signature) != len(shape)):
        raise DamagedError("a tensor has too many dimensions")
    sides = tuple(shape.tolist())
    bits = math.prod(sides) * _VALUE_BITS[kind]
    if (
        min(sides, default=0) < 0
        or bits > 8 * _MAX_TENSOR_BYTES
        or any(known not in (-1, side) for known, side in zip(signature.tolist(), sides, strict=False))
    ):
        raise DamagedError("a tensor has a shape that there cannot be")
    stored = buffers[buffer] if buffer else 0
    if stored and stored != -(-bits // 8):
        raise DamagedError(f"a constant of {stored:,} bytes has a shape of {-(-bits // 8):,}")
    quantization = table.table(4)
    scale, blocks = (0.0, None) if quantization is None else _check_quantization(quantization, kind, sides)
    return _Tensor(kind, sides, bool(stored) or 0 in sides, scale, blocks)


def _check_quantization(table: Table, kind: int, shape: tuple[int, ...]) -> tuple[float, tuple[int, int] | None]:
    """Checks how a tensor is quantized.

    Returns:
        the largest scale, 0 for none; where it is in blocks, the index of their scales and how many there must be.
    """
    for number in (0, 1):  # what the values were, which nothing reads
        table.vector(number, 4)
    scales, zeros, axis = table.numbers(2, "<f4"), table.numbers(3, "<i8"), table.number(6, "<i")
    details, found = table.number(4, "<B"), None
    if details == _BLOCKWISE:
        blocks = table.table(5)
        size = blocks.number(2, "<i") if blocks else 0
        if blocks is None or size < 1 or not shape or shape[-1] % size or blocks.number(1, "<i", -1) > 0:
            raise DamagedError("a tensor is quantized in blocks that do not fit it")
        found = blocks.number(0, "<i"), math.prod(shape) // size
    elif details:
        raise UserError("has a tensor that is quantized in an unknown way")
    if not len(scales):
        return 0.0, found
    if len(zeros) not in (0, len(scales)) or not np.all(np.isfinite(scales) & (scales >= _LEAST_SCALE)):
        raise DamagedError("a tensor's scales are not positive numbers")
    if kind in _INTEGER_RANGES and len(zeros):
        low, high = _INTEGER_RANGES[kind]
        if zeros.min() < low or zeros.max() > high:
            raise DamagedError("a tensor's zero is outside of its type")
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise DamagedError("a tensor has scales that are not one for each channel")
    return float(scales.max()), found


def _check_operator(table: Table, operator: Operator, tensors: list[_Tensor], known: set[int]) -> None:
    """Checks an operator whose inputs are known and adds its outputs to those."""
    inputs, outputs = table.numbers(1, "<i4").tolist(), table.numbers(2, "<i4").tolist()
    for name, found, (least, most) in (("inputs", inputs, operator.inputs), ("outputs", outputs, operator.outputs)):
        if not least <= len(found) <= most:
            raise DamagedError(f"{operator.name} has {len(found)} {name}")
    _check_indices(outputs, len(tensors), f"an output of {operator.name}")
    needed = [index for place, index in enumerate(inputs) if index != -1 or place not in operator.optional]
    _check_indices(needed, len(tensors), f"an input of {operator.name}")
    if not known.issuperset(needed):
        raise DamagedError(f"an input of {operator.name} is not computed before it")
    for place in operator.integers:
        tensor = tensors[inputs[place]] if place < len(inputs) else None
        if tensor is not None and (tensor.type not in _INTEGERS or math.prod(tensor.shape) > _MAX_INTEGERS):
            raise DamagedError(f"input {place} of {operator.name} is not a few integers")
    _check_scales(operator, [tensors[index] for index in inputs if index >= 0], [tensors[index] for index in outputs])
    if operator.name == "RESHAPE" and tensors[inputs[0]].type != tensors[outputs[0]].type:
        raise DamagedError("RESHAPE gives another type than it takes")
    if len(set(outputs)) != len(outputs) or not known.isdisjoint(outputs):
        raise DamagedError(f"an output of {operator.name} is computed twice")
    known.update(outputs)
    if table.vector(5, 1)[1] or table.vector(8, 4)[1] or table.number(9, "<Q") or table.number(11, "<B"):
        raise UserError(f"has {operator.name} with options that it has in no network from an image to a vector")
    table.vector(7, 1)
    _check_options(table, operator, {"inputs": len(inputs), "outputs": len(outputs)})


def _check_scales(operator: Operator, inputs: list[_Tensor], outputs: list[_Tensor]) -> None:
    """Integers of 8 or 16 bits are quantized, all but those that CAST takes as they are."""
    for tensor in (*inputs, *outputs) if operator.name != "CAST" else ():
        if tensor.type in _QUANTIZED and not tensor.scale and tensor.blocks is None:
            raise DamagedError(f"{operator.name} has integers without a scale")
    if operator.name in _REQUANTIZING:
        taken, weights, given = inputs[operator.name == "TRANSPOSE_CONV" and 2], inputs[1], outputs[0]
        if given.scale and taken.scale * weights.scale >= _MAX_REQUANTIZATION * given.scale:
            raise DamagedError(f"{operator.name} has scales that no output can have")


def _check_options(table: Table, operator: Operator, ends: dict[str, int]) -> None:
    kind, options = table.number(3, "<B"), table.table(4)
    if operator.options and kind not in (0, operator.options):
        raise DamagedError(f"{operator.name} has the options of another operator")
    if 0 in operator.positive.values() and (options is None or not kind):
        raise DamagedError(f"{operator.name} is without its options")
    if options is None:
        return
    for number in options.fields():
        options.place(number)
    for number in _OPTION_VECTORS.get(kind, ()):
        if options.vector(number, 4)[1] > _MAX_DIMENSIONS:
            raise DamagedError(f"{operator.name} is given too many dimensions")
    if kind == _FULLY_CONNECTED_OPTIONS and options.vector(_FULLY_CONNECTED_QUANTIZATION, 4)[1]:
        raise UserError(f"has {operator.name} that is quantized in an unknown way")
    for number, default in operator.positive.items():
        if not 0 < options.number(number, "<i", default) < 2**16:
            raise DamagedError(f"{operator.name} has a step, side or count that is not positive")
    if operator.counted and options.number(0, "<i") != ends[operator.counted]:
        raise DamagedError(f"{operator.name} has another number of {operator.counted} than its options say")
    for number, count in operator.choices.items():
        if not 0 <= options.number(number, "<b") < count:
            raise DamagedError(f"{operator.name} has a padding or an activation that there is not")


def _check_indices(indices: Any, count: int, what: str) -> None:
    if any(not 0 <= index < count for index in indices):
        raise DamagedError(f"{what} is not in it")
