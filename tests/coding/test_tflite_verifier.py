"""Damaged and hostile `.tflite` files are refused in one line before LiteRT, which would crash on some, gets them."""

from __future__ import annotations

import mmap
import random
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_files import network, network_parts, tflite
from tfplaces.coding import verify_tflite
from tfplaces.coding.tflite_operators import OPERATORS
from tfplaces.common.errors import UserError


def test_a_sound_file(tmp_path: Path) -> None:
    verify_tflite(network())
    (tmp_path / "m.tflite").write_bytes(network())
    with open(tmp_path / "m.tflite", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        verify_tflite(data)


def test_the_operators_are_those_of_the_schema() -> None:
    options = {number: name for name, number in vars(schema.BuiltinOptions).items()}
    others = {
        "AVERAGE_POOL_2D": "pool2d", "MAX_POOL_2D": "pool2d", "L2_POOL_2D": "pool2d", "L2_NORMALIZATION": "l2norm",
        "MAXIMUM": "maximumminimum", "MINIMUM": "maximumminimum", "MEAN": "reducer", "SUM": "reducer",
        **dict.fromkeys(("REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL"), "reducer"),
    }  # fmt: skip
    for number, operator in OPERATORS.items():
        assert getattr(schema.BuiltinOperator, operator.name) == number
        if operator.options:
            name = options[operator.options].removesuffix("Options").lower()
            assert name == others.get(operator.name, operator.name.replace("_", "").lower())


def _set(path: str, value: Any) -> Callable[[schema.ModelT], None]:
    """Changes a part of a network, as in `subgraphs.0.tensors.1.shape`."""

    def change(model: schema.ModelT) -> None:
        *way, last = path.split(".")
        there: Any = model
        for step in way:
            there = there[int(step)] if step.isdigit() else getattr(there, step)
        if last.isdigit():
            there[int(last)] = value
        else:
            setattr(there, last, value)

    return change


def _quantized(**fields: Any) -> schema.QuantizationParametersT:
    found = schema.QuantizationParametersT()
    for name, value in fields.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 2, "its schema has the version 2"),
        ("subgraphs", [], "has 0 subgraphs"),
        ("subgraphs.0.inputs", [10], "an input is not in it"),
        ("subgraphs.0.inputs", [1], "an input is a constant"),
        ("subgraphs.0.inputs", [], "it has no input"),
        ("subgraphs.0.outputs", [-1], "an output is not in it"),
        ("subgraphs.0.outputs", [9, 9], "one output twice"),
        ("subgraphs.0.tensors.1.shape", [4, 3, 3, 2], "a constant of 432 bytes has a shape of 288"),
        ("subgraphs.0.tensors.1.shape", [4, 3, 3, -3], "a shape that there cannot be"),
        ("subgraphs.0.tensors.3.shape", [2**30, 2**30, 2**30], "a shape that there cannot be"),
        ("subgraphs.0.tensors.3.shape", [1] * 9, "too many dimensions"),
        ("subgraphs.0.tensors.3.shapeSignature", [1, 4, 4, 5], "a shape that there cannot be"),
        ("subgraphs.0.tensors.1.type", schema.TensorType.INT8, "a constant of 432 bytes has a shape of 108"),
        ("subgraphs.0.tensors.1.type", schema.TensorType.STRING, "a tensor of type 5"),
        ("subgraphs.0.tensors.1.buffer", 99, "the buffer of a tensor is not in it"),
        ("subgraphs.0.tensors.5.isVariable", True, "sparse or variable"),
        ("subgraphs.0.tensors.3.quantization", _quantized(scale=[0.0], zeroPoint=[0]), "not positive"),
        ("subgraphs.0.tensors.3.quantization", _quantized(scale=[float("nan")], zeroPoint=[0]), "not positive"),
        ("subgraphs.0.tensors.3.quantization", _quantized(scale=[1.0, 2.0], zeroPoint=[0, 0]), "one for each channel"),
        ("subgraphs.0.tensors.3.quantization", _quantized(scale=[1.0], zeroPoint=[0, 0]), "not positive"),
        ("subgraphs.0.operators.0.opcodeIndex", 4, "the kind of an operator is not in it"),
        ("subgraphs.0.operators.0.inputs", [0], "CONV_2D has 1 inputs"),
        ("subgraphs.0.operators.0.inputs", [0, -1, 2], "an input of CONV_2D is not in it"),
        ("subgraphs.0.operators.0.inputs", [0, 1, 9], "an input of CONV_2D is not computed before it"),
        ("subgraphs.0.operators.0.outputs", [0], "an output of CONV_2D is computed twice"),
        ("subgraphs.0.operators.1.outputs", [1], "an output of MAX_POOL_2D is computed twice"),
        ("subgraphs.0.operators.1.outputs", [], "MAX_POOL_2D has 0 outputs"),
        ("subgraphs.0.operators.0.builtinOptions.strideW", 0, "CONV_2D has a step"),
        ("subgraphs.0.operators.1.builtinOptions.filterHeight", -1, "MAX_POOL_2D has a step"),
        ("subgraphs.0.operators.1.builtinOptions.padding", 9, "MAX_POOL_2D has a padding"),
        ("subgraphs.0.operators.3.builtinOptions.fusedActivationFunction", -1, "FULLY_CONNECTED has a padding"),
        ("subgraphs.0.operators.1.builtinOptionsType", 1, "MAX_POOL_2D has the options of another operator"),
        ("subgraphs.0.operators.1.builtinOptionsType", 0, "MAX_POOL_2D is without its options"),
        ("subgraphs.0.operators.2.inputs", [4, 7], "input 1 of RESHAPE is not a few integers"),
        ("operatorCodes.0.builtinCode", schema.BuiltinOperator.WHILE, "an operator, number 119"),
        ("operatorCodes.0.builtinCode", schema.BuiltinOperator.CUSTOM, "an operator, number 32"),
        ("operatorCodes.0.version", -1, "no version that there is"),
    ],
)
def test_what_is_refused(path: str, value: Any, message: str) -> None:
    parts = network_parts()
    _set(path, value)(parts)
    with pytest.raises(UserError, match=message) as error:
        verify_tflite(network(parts))
    assert "\n" not in str(error.value)


def test_integers_have_scales_that_an_output_can_have() -> None:
    """All of CONV_2D's tensors of int8: 1 · 2 / 0.01 sums are a step of its output, and 1 · 3 / 0.01."""
    for weights, message in ((2.0, None), (3.0, "scales that no output can have"), (None, "integers without a scale")):
        parts = network_parts()
        graph = parts.subgraphs[0]
        graph.operators, graph.outputs = graph.operators[:1], [3]
        for index, scale in ((0, 1.0), (1, weights), (3, 0.01)):
            graph.tensors[index].type = schema.TensorType.INT8
            graph.tensors[index].quantization = scale and _quantized(scale=[scale], zeroPoint=[0])
        parts.buffers[1].data = parts.buffers[1].data[: 4 * 3 * 3 * 3]
        if message is None:
            verify_tflite(network(parts))
        else:
            with pytest.raises(UserError, match=message):
                verify_tflite(network(parts))


def test_a_number_of_outputs_is_what_the_options_say() -> None:
    parts = network_parts()
    graph = parts.subgraphs[0]
    graph.operators[2].builtinOptions, graph.operators[2].builtinOptionsType = schema.SplitOptionsT(), 35
    parts.operatorCodes[2].builtinCode = parts.operatorCodes[2].deprecatedBuiltinCode = schema.BuiltinOperator.SPLIT
    graph.operators[2].inputs = [5, 4]
    for count in (1, 2):
        graph.operators[2].builtinOptions.numSplits = count
        if count == 1:
            verify_tflite(network(parts))
        else:
            with pytest.raises(UserError, match="SPLIT has another number of outputs than its options say"):
                verify_tflite(network(parts))


def test_an_index_that_may_be_missing() -> None:
    parts = network_parts()
    parts.subgraphs[0].operators[0].inputs = [0, 1, -1]
    verify_tflite(network(parts))


def test_a_buffer_behind_the_flatbuffer_must_be_in_the_file() -> None:
    data = tflite({"a": np.arange(1000, dtype=np.float32)}, outside=True)
    with pytest.raises(UserError, match="a buffer lies outside of the file"):
        verify_tflite(data[:-2000])


def test_lists_that_share_their_bytes_are_not_walked_through_for_ever() -> None:
    """A table of 4 bytes for each of so many tensors: all have the one list of 100,000 sides as their shape."""
    parts = network_parts()
    parts.subgraphs[0].tensors[0].name = "x" * 3000
    data = bytearray(network(parts))
    graph = schema.Model.GetRootAs(data).Subgraphs(0)
    name = graph.Tensors(0)._tab
    text = name.Indirect(name.Pos + name.Offset(10))
    for index in range(1, graph.TensorsLength()):
        table = graph.Tensors(index)._tab
        place = table.Pos + table.Offset(10)
        if text > place:
            struct.pack_into("<I", data, place, text - place)
    with pytest.raises(UserError, match="its lists share their bytes"):
        verify_tflite(data)


def mutant(data: bytes, seed: int) -> bytes:
    """A file with up to three changes: bits, numbers, or its end cut off."""
    draw, out = random.Random(seed), bytearray(data)
    kind = draw.randrange(8)
    if kind == 0:
        return bytes(out[: draw.randrange(len(out))])
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        place = draw.randrange(len(out) - 4)
        if kind < 3:
            out[place] ^= 1 << draw.randrange(8)
        elif kind < 6:
            struct.pack_into("<i", out, place & ~3, draw.choice((0, 1, -1, 2, 3, 8, 64, 127, 128, 65536, 2**31 - 1)))
        else:
            before = struct.unpack_from("<i", out, place & ~3)[0]
            struct.pack_into("<i", out, place & ~3, (before + draw.randrange(-16, 17) + 2**31) % 2**32 - 2**31)
    return bytes(out)


RUN = """
import sys
from pathlib import Path
import numpy as np
from tests.coding.test_tflite_verifier import mutant, network
from tfplaces.common.errors import UserError
from tfplaces.describers.litert import LiteRTDescriber

path, data = Path(sys.argv[1]), network()
for seed in range(int(sys.argv[2])):
    path.write_bytes(mutant(data, seed))
    try:
        describer = LiteRTDescriber(path)
        describer.describe(np.zeros((1, *describer.input_size, 3), np.uint8))
        print("described")
    except UserError:
        print("refused")
"""


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutants_are_described_or_refused(count: int, tmp_path: Path) -> None:
    """In a process of their own, which a crash of LiteRT, or another error than the user's, would end."""
    command = [sys.executable, "-c", RUN, str(tmp_path / "m.tflite"), str(count)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    found = Counter(run.stdout.split())
    assert run.returncode == 0 and found.total() == count, (found, run.returncode, run.stderr[-1000:])
    assert found["refused"] > count / 10 and found["described"] > count / 10
