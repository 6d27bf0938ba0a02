"""Every aggregation in every precision: exact kernels, descriptors near those of Keras, sizes, batches, dimensions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from _pytest.mark import ParameterSet
from ai_edge_litert import schema_py_generated as schema

from tfplaces.common.errors import UserError
from tfplaces.compression import Compressed, Recipe, compress
from tfplaces.datasets import PlaceDataset
from tfplaces.describers import LiteRTDescriber
from tfplaces.describers.keras import KerasDescriber
from tfplaces.describers.litert import operators
from tfplaces.lite import convert
from tfplaces.lite.integer_operators import check_integer_operators
from tfplaces.lite.kernel_locations import locate_kernels
from tfplaces.lite.tflite_model import TFLiteModel
from tfplaces.models import PlaceNet

SIZE = (48, 64)
# Of each aggregation its options, and the dense layers after the backbone.
NETWORKS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "gem": ({"aggregation": "gem"}, set()),
    "gem of unit features, linear": ({"aggregation": "gem", "linear": 12, "l2_first": True}, {"linear"}),
    "mixvpr": (
        {"aggregation": "mixvpr", "channels": 8, "rows": 2, "depth": 1},
        {"mixer_0_expand", "mixer_0_project", "channel_projection", "row_projection"},
    ),
    "convap": ({"aggregation": "convap", "channels": 8, "grid": 3}, {"channel_pooling"}),
    "netvlad": ({"clusters": 3}, set()),
    "convap, whitened": ({"aggregation": "convap", "channels": 8, "whitening": 6}, {"channel_pooling", "whitening"}),
}
# Where the backbone ends: a concatenation, a convolution without its ReLU, the ReLU that ends a residual block.
CUTS = {"fire2": "squeezenet", "fire2_squeeze1x1": "squeezenet", "layer1_0": "resnet18"}

# The least cosine to the descriptors of Keras; measured are 1 - 2e-7, 1 - 1e-6, .9997, .9967 and .92 at worst.
BOUNDS = {"float32": 1 - 1e-6, "float16": 1 - 1e-5, "dynamic_int8": 0.995, "mixed_int8": 0.99, "mixed_int4": 0.9}


def network(name: str, cut: str = "fire2", norm: str = "tflite") -> PlaceNet:
    """Random weights, biases and the like as well."""
    keras.utils.set_random_seed(0)
    model = PlaceNet(CUTS[cut], cut=cut, input_size=SIZE, norm=norm, **NETWORKS[name][0])
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.endswith(("bias", "beta")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
        elif variable.path.endswith(("gamma", "/p")):
            variable.assign(rng.uniform(0.7, 1.4, variable.shape) * variable.numpy())
    return model


@functools.cache
def compressed(name: str, cut: str = "fire2") -> Compressed:
    return compress(network(name, cut), Recipe(bits=5, sparsity=0.2, sparsity_scope="layer"))


@pytest.fixture(scope="module")
def images(town: PlaceDataset) -> np.ndarray:
    return np.stack([town.database.read(i, SIZE) for i in range(0, 24, 3)])


@pytest.fixture(scope="module")
def converted(town: PlaceDataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, dict]]:
    folder = tmp_path_factory.mktemp("aggregations")

    @functools.cache
    def make(name: str, precision: str, cut: str = "fire2") -> tuple[Path, dict[str, float]]:
        net, path = compressed(name, cut), folder / f"{name}_{precision}_{cut}.tflite"
        return path, convert(net.model, path, precision, shared=net.shared, calibration=town.database)

    return make


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return np.sum(ours * theirs, 1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


# Those that the fast tests convert in every way; the slow ones convert all.
FAST = {"gem of unit features, linear", "mixvpr"}


def cases_of(cases: Iterable[tuple[str, ...]], always: Container[str] = ()) -> list[ParameterSet]:
    """Cases that begin with a network, slow but for those of `FAST` and those with a value in `always`."""
    return [
        pytest.param(*case, marks=() if case[0] in FAST or case[-1] in always else pytest.mark.slow) for case in cases
    ]


# float16 has nothing of an aggregation's own.
CASES = [
    (name, precision)
    for name in NETWORKS
    for precision in BOUNDS
    if (precision != "mixed_int4" or NETWORKS[name][1]) and (precision != "float16" or name == "convap, whitened")
]


@pytest.mark.parametrize("name, precision", cases_of(CASES, ("float32", "float16", "mixed_int8", "mixed_int4")))
def test_every_precision(converted: Callable, images: np.ndarray, name: str, precision: str) -> None:
    """Kernels on the int8 grid are exactly those of the network, wherever the precision holds them in 8 bits."""
    path, errors = converted(name, precision)
    model = compressed(name).model
    assert set(errors) == set(compressed(name).shared)
    if precision == "mixed_int4":  # Four bits leave about a tenth of a weight's magnitude open.
        assert all(0.02 < errors.pop(f"{layer}/kernel") < 0.2 for layer in NETWORKS[name][1])
    assert precision == "float16" or set(errors.values()) == {0.0}
    ours, theirs = LiteRTDescriber(path).describe(images), KerasDescriber(model).describe(images)
    assert ours.shape == theirs.shape
    least = BOUNDS[precision]
    assert cosines(ours, theirs).min() > least
    # Random weights describe all images much alike: the difference from the mean image has to survive as well.
    assert cosines(*((d - d.mean(0)).reshape(1, -1) for d in (ours, theirs)))[0] > 0.95


@pytest.mark.parametrize("name, cut", cases_of(zip(NETWORKS, [*CUTS, *CUTS], strict=True), ("fire2",)))
def test_integers_in_the_backbone_and_8_bit_weights_in_linear_layers(
    converted: Callable, images: np.ndarray, name: str, cut: str
) -> None:
    path, errors = converted(name, "mixed_int8", cut)
    assert set(errors.values()) == {0.0}
    data = path.read_bytes()
    model = compressed(name, cut).model
    check_integer_operators(data, model, "mixed_int8")
    graph = schema.ModelT.InitFromPackedBuf(data)
    (subgraph,) = graph.subgraphs
    kind, code = schema.TensorType, schema.BuiltinOperator
    dense = []
    for op in subgraph.operators:
        opcode = graph.operatorCodes[op.opcodeIndex]
        builtin = max(opcode.builtinCode, opcode.deprecatedBuiltinCode)
        types = [subgraph.tensors[i].type for i in (*op.inputs[:2], *op.outputs)]
        if builtin == code.FULLY_CONNECTED:
            dense.append(types)
        elif builtin in (code.POW, code.EXP, code.LOG, code.L2_NORMALIZATION, code.RSQRT, code.MEAN):
            assert set(types) <= {kind.FLOAT32, kind.INT32}
    assert dense == [[kind.FLOAT32, kind.INT8, kind.FLOAT32]] * len(NETWORKS[name][1])
    ours, theirs = LiteRTDescriber(path).describe(images), KerasDescriber(model).describe(images)
    assert cosines(ours, theirs).min() > 0.99


@pytest.mark.parametrize("name", cases_of((name,) for name in NETWORKS))
def test_batch_any_size_int8_output_and_fewer_dimensions(town: PlaceDataset, tmp_path: Path, name: str) -> None:
    """All at once, where the aggregation has them."""
    net = compressed(name)
    options: dict[str, Any] = {"batch": 2, "int8_output": True}
    if name != "mixvpr":
        options["input_size"] = "any"
    if NETWORKS[name][1]:
        options["descriptor_dim"] = {"convap": 18, "convap, whitened": 3}.get(name, 6)
    path = tmp_path / "a.tflite"
    errors = convert(net.model, path, shared=net.shared, calibration=town.database, **options)
    assert set(errors.values()) == {0.0}
    dim = options.get("descriptor_dim", net.model.descriptor_dim)
    size = SIZE if name == "mixvpr" else (56, 48)
    resized = np.stack([town.database.read(i, size) for i in range(6)])
    ours = LiteRTDescriber(path, size).describe(resized)
    theirs = KerasDescriber(net.model, size).describe(resized)[:, :dim]
    assert ours.shape == theirs.shape and cosines(ours, theirs).min() > 0.98


def test_one_size_only(town: PlaceDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^input_size=any: MixVPR 8x2 has weights for [^\n]* images of 48x64 only$"):
        convert(network("mixvpr"), tmp_path / "a.tflite", "float32", input_size="any")
    with pytest.raises(UserError, match="takes images of 48x64 only"):
        convert(network("mixvpr"), tmp_path / "a.tflite", "float32", input_size=(64, 64))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gem", "netvlad"])
def test_no_dimensions_to_leave_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^descriptor_dim=5: \S+ has no linear layer [^\n]*whitening$"):
        convert(network(name), tmp_path / "a.tflite", "float32", descriptor_dim=5)


@pytest.mark.parametrize("name, norm", [("gem of unit features, linear", "torch"), ("netvlad", "matconvnet")])
def test_other_norms_in_integers(town: PlaceDataset, images: np.ndarray, tmp_path: Path, name: str, norm: str) -> None:
    """They have no operator of their own, so that the head begins with another one."""
    model = network(name, norm=norm)
    convert(model, tmp_path / "a.tflite", calibration=town.database)
    ours = LiteRTDescriber(tmp_path / "a.tflite").describe(images)
    assert cosines(ours, KerasDescriber(model).describe(images)).min() > 0.99


@pytest.mark.parametrize("size, positions", [((48, 64), 140), ((46, 62), 117)])
def test_int4_by_channel_where_inputs_are_no_multiple_of_32(
    town: PlaceDataset, tmp_path: Path, size: tuple[int, int], positions: int
) -> None:
    """Also of an odd number, where a byte holds weights of two channels; each weight is near the network's."""
    keras.utils.set_random_seed(0)
    options: dict[str, Any] = {"aggregation": "mixvpr", "channels": 5, "rows": 3, "depth": 1}
    model = PlaceNet("squeezenet", cut="fire2", input_size=size, **options)
    convert(model, tmp_path / "a.tflite", "float32")
    locations = locate_kernels(model, (tmp_path / "a.tflite").read_bytes())
    convert(model, tmp_path / "a.tflite", "mixed_int4", calibration=town.database)
    lite, seen = TFLiteModel((tmp_path / "a.tflite").read_bytes()), []
    for location in locations:
        layer = location.kernel.name.split("/")[0]
        if layer not in NETWORKS["mixvpr"][1]:
            continue
        constant, four_bits = lite.find(location.tensor), lite.int4(location.tensor)
        assert constant is not None and four_bits is not None
        scales, weights, stored = four_bits[1], location.kernel.variable.numpy(), constant.dequantized().T
        if weights.shape[0] % 32 == 0:
            assert (scales.dtype, scales.size) == (np.float16, weights.size // 32)
        else:
            assert (scales.dtype, scales.size) == (np.float32, weights.shape[1])
        seen.append(weights.shape[0])
        # The largest magnitude is 7 steps or, where clipping it is better for the others, a little more.
        errors = np.abs(stored - weights) / np.max(np.abs(weights), axis=0)
        assert np.mean(errors > 0.51 / 7) < 0.05 and errors.max() < 0.31
    assert sorted(seen) == sorted([positions, positions, positions, 128])
    images = np.stack([town.database.read(i, size) for i in range(4)])
    ours = LiteRTDescriber(tmp_path / "a.tflite").describe(images)
    assert cosines(ours, KerasDescriber(model).describe(images)).min() > 0.95


@pytest.mark.parametrize("name", ["gem", "netvlad"])
def test_int4_needs_a_linear_layer(town: PlaceDataset, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^mixed_int4 is [^\n]* this network has none, [^\n]*: choose mixed_int8$"):
        convert(network(name), tmp_path / "a.tflite", "mixed_int4", calibration=town.database)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gem", "mixvpr"])
def test_full_int8_refuses_what_loses_too_much(town: PlaceDataset, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^full_int8: \S[^\n]* has to stay in float, as its [^\n]*; take mixed_int8$"):
        convert(network(name), tmp_path / "a.tflite", "full_int8", calibration=town.database)
    assert not any(tmp_path.iterdir())


def test_full_int8_of_convap(town: PlaceDataset, images: np.ndarray, tmp_path: Path) -> None:
    """Every operator in integers, kernels exact, and a norm of another form computed by the operator that there is."""
    model = network("convap, whitened", norm="torch")
    shared = compress(model, Recipe(bits=5)).shared
    errors = convert(model, tmp_path / "a.tflite", "full_int8", shared=shared, calibration=town.database)
    assert set(errors) == set(shared) and set(errors.values()) == {0.0}
    assert "L2_NORMALIZATION" in operators(tmp_path / "a.tflite")
    ours = LiteRTDescriber(tmp_path / "a.tflite").describe(images)
    theirs = KerasDescriber(model).describe(images)
    assert cosines(ours, theirs).min() > 0.95
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=0.02)
