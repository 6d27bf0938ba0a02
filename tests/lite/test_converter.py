"""Conversion to TFLite: builtin operators, four dimensions, descriptors near those of Keras; damaged files."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tfplaces
from tfplaces.compression import Recipe, compress, save_places
from tfplaces.datasets import Images, load_dataset
from tfplaces.describers.keras import KerasDescriber
from tfplaces.describers.litert import LiteRTDescriber, operators
from tfplaces.lite import PRECISIONS, convert
from tfplaces.lite import converter as converter_module
from tfplaces.models import PlaceNet
from tfplaces.training import add_whitening, initialize_netvlad

SIZE = (64, 96)
# Least and mean cosine to the float descriptors, over 12 images; measured .9999998, .99998, .985 and .97 at worst.
BOUNDS = {
    "float32": (0.9999, 0.9999),
    "float16": (0.999, 0.9995),
    "dynamic_int8": (0.93, 0.97),
    "mixed_int8": (0.93, 0.97),
    "mixed_int4": (0.93, 0.97),
    "full_int8": (0.9, 0.95),
}
Convert = Callable[[str, int, str], Path]


@pytest.fixture(scope="module")
def town() -> Images:
    return load_dataset("toytown?places=6").database


@pytest.fixture(scope="module")
def images(town: Images) -> np.ndarray:
    return np.stack([town.read(i, SIZE) for i in range(0, 24, 2)])


@pytest.fixture(scope="module")
def model(town: Images) -> Callable[[str, int], PlaceNet]:
    @functools.cache
    def make(backbone: str, whitening: int) -> PlaceNet:
        keras.utils.set_random_seed(0)
        if whitening:
            return add_whitening(make(backbone, 0), whitening, [town])
        net = PlaceNet(backbone, clusters=8, input_size=SIZE)
        initialize_netvlad(net, [town], sharpness=1.0)
        return net

    return make


@pytest.fixture(scope="module")
def converted(model: Callable, town: Images, tmp_path_factory: pytest.TempPathFactory) -> Convert:
    folder = tmp_path_factory.mktemp("lite")

    @functools.cache
    def make(backbone: str, whitening: int, precision: str) -> Path:
        path = folder / f"{backbone}_{whitening}_{precision}.tflite"
        convert(model(backbone, whitening), path, precision, calibration=town)
        return path

    return make


CASES = [
    *(("squeezenet", 0, precision) for precision in PRECISIONS if precision != "mixed_int4"),
    ("mobilenet_v1", 16, "mixed_int4"),
    ("mobilenet_v1", 16, "full_int8"),
    *(
        pytest.param("mobilenet_v1", 16, precision, marks=pytest.mark.slow)
        for precision in PRECISIONS
        if precision not in ("mixed_int4", "full_int8")
    ),
    ("alexnet", 16, "mixed_int8"),
]


@pytest.mark.parametrize("backbone, whitening, precision", CASES)
def test_conversion(
    model, converted: Convert, images: np.ndarray, backbone: str, whitening: int, precision: str
) -> None:
    path, net = converted(backbone, whitening, precision), model(backbone, whitening)
    describer = tfplaces.load_describer(path)
    assert isinstance(describer, LiteRTDescriber)
    assert describer.input_size == SIZE and describer.descriptor_dim == net.descriptor_dim
    ours, theirs = describer.describe(images), KerasDescriber(net).describe(images)
    assert ours.dtype == np.float32 and ours.shape == theirs.shape == (12, whitening or net.descriptor_dim)
    tolerance = 0.02 if precision == "full_int8" else 1e-3
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=tolerance)
    cosines = np.sum(ours * theirs, 1)
    least, mean = BOUNDS[precision]
    assert cosines.min() >= least and cosines.mean() >= mean, cosines
    # Random weights describe all images much alike: the difference from the mean image has to survive as well.
    centred = [d - d.mean(0) for d in (ours, theirs)]
    assert np.sum(centred[0] * centred[1]) / np.prod([np.linalg.norm(c) for c in centred]) > 0.8


def test_full_int8_refuses_what_has_no_integer_form(model, town: Images, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of alexnet, a local response normalisation, has no integer form in TFLite"):
        convert(model("alexnet", 0), tmp_path / "a.tflite", "full_int8", calibration=town)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("backbone, whitening, precision", CASES)
def test_builtin_operators_of_at_most_four_dimensions(
    converted: Convert, backbone: str, whitening: int, precision: str
):
    data = converted(backbone, whitening, precision).read_bytes()
    graph = schema.ModelT.InitFromPackedBuf(data)
    assert len(graph.subgraphs) == 1
    builtin = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [builtin[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in graph.operatorCodes]
    used = {codes[op.opcodeIndex] for op in graph.subgraphs[0].operators}
    assert (
        "CUSTOM" not in used and "DELEGATE" not in used and all(code.customCode is None for code in graph.operatorCodes)
    )
    assert used == set(operators(converted(backbone, whitening, precision)))
    tensors = graph.subgraphs[0].tensors
    assert max(len(t.shape) for t in tensors if t.shape is not None) <= 4
    assert all(t.shapeSignature is None or min(t.shapeSignature) > 0 for t in tensors)  # static
    (image,), (descriptor,) = (
        [tensors[i] for i in ends] for ends in (graph.subgraphs[0].inputs, graph.subgraphs[0].outputs)
    )
    assert (image.type, image.shape.tolist()) == (schema.TensorType.UINT8, [1, *SIZE, 3])
    assert (descriptor.type, len(descriptor.shape)) == (schema.TensorType.FLOAT32, 2)


@pytest.mark.parametrize("backbone, whitening", [("squeezenet", 0), ("mobilenet_v1", 16), ("alexnet", 16)])
def test_mixed_int8_has_an_integer_backbone_and_a_float_head(converted: Convert, backbone: str, whitening: int) -> None:
    graph = schema.ModelT.InitFromPackedBuf(converted(backbone, whitening, "mixed_int8").read_bytes())
    (subgraph,) = graph.subgraphs
    kind, code = schema.TensorType, schema.BuiltinOperator
    by_code: dict[int, list[list[int]]] = {}
    for op in subgraph.operators:
        types = [subgraph.tensors[i].type for i in (*op.inputs[:2], *op.outputs) if i >= 0]
        opcode = graph.operatorCodes[op.opcodeIndex]
        by_code.setdefault(max(opcode.builtinCode, opcode.deprecatedBuiltinCode), []).append(types)
    convolutions = by_code[code.CONV_2D] + by_code.get(code.DEPTHWISE_CONV_2D, [])
    # All of the backbone's, and NetVLAD's assignment in float.
    assert sum(set(types) == {kind.INT8} for types in convolutions) == len(convolutions) - 1
    assert sum(set(types) == {kind.FLOAT32} for types in convolutions) == 1
    for head in (code.BATCH_MATMUL, code.SOFTMAX, code.L2_NORMALIZATION, code.SUM, code.LOCAL_RESPONSE_NORMALIZATION):
        assert all(set(types) <= {kind.FLOAT32, kind.INT32} for types in by_code.get(head, []))
    for types in by_code.get(code.FULLY_CONNECTED, []):
        assert types == [kind.FLOAT32, kind.INT8, kind.FLOAT32]
    assert len(by_code.get(code.FULLY_CONNECTED, [])) == (whitening > 0)
    # Into integers once, out of them once; around each of the two LRN of AlexNet once more.
    assert len(by_code[code.QUANTIZE]) == len(by_code[code.DEQUANTIZE]) == (3 if backbone == "alexnet" else 1)


def test_sizes_go_with_precisions(converted: Convert, model) -> None:
    parameters = model("mobilenet_v1", 16).count_params()
    sizes = {precision: converted("mobilenet_v1", 16, precision).stat().st_size for precision in PRECISIONS}
    assert 3.99 * parameters < sizes["float32"]  # kernels and biases; equal ones, as zeros, are kept once
    assert sizes["float32"] < 4.2 * parameters
    assert 1.99 * parameters < sizes["float16"] < 2.2 * parameters
    for precision in ("dynamic_int8", "mixed_int8"):
        assert parameters < sizes[precision] < 1.4 * parameters


def test_another_input_size(model, images: np.ndarray, tmp_path: Path) -> None:
    convert(model("squeezenet", 0), tmp_path / "a.tflite", "float32", input_size=(48, 64))
    describer = LiteRTDescriber(tmp_path / "a.tflite", (48, 64))
    assert describer.input_size == (48, 64)
    small = np.ascontiguousarray(images[:2, :48, :64])
    theirs = KerasDescriber(model("squeezenet", 0), (48, 64)).describe(small)
    np.testing.assert_allclose(describer.describe(small), theirs, atol=1e-4)


def test_a_compressed_model_of_int8_is_the_compressed_model(images: np.ndarray, tmp_path: Path) -> None:
    """What the phone runs in float32 are exactly the shared weights."""
    keras.utils.set_random_seed(0)
    net = PlaceNet("squeezenet", clusters=4, input_size=SIZE, cut="fire2")
    compress(net, Recipe(bits=4, sparsity=0.5))
    convert(net, tmp_path / "a.tflite", "float32")
    np.testing.assert_allclose(
        LiteRTDescriber(tmp_path / "a.tflite").describe(images), KerasDescriber(net).describe(images), atol=1e-4
    )


def test_pruned_weights_are_zero_on_the_phone(tmp_path: Path) -> None:
    """The constants of the file, sorted, are those of the network, with their zeros; from .places and .keras too."""
    keras.utils.set_random_seed(0)
    net = PlaceNet("squeezenet", clusters=4, whitening=5, input_size=SIZE, cut="fire2")
    compressed = compress(net, Recipe(bits=5, sparsity=0.5, sparsity_scope="layer"))
    save_places(tmp_path / "a.places", compressed)
    net.save(tmp_path / "a.keras")
    for source in ("a.places", "a.keras"):
        loaded = tfplaces.load_model(tmp_path / source)
        convert(loaded, tmp_path / "a.tflite", "float32")
        graph = schema.ModelT.InitFromPackedBuf((tmp_path / "a.tflite").read_bytes())
        buffers = [buffer.data for buffer in graph.buffers if buffer.data is not None and len(buffer.data) % 4 == 0]
        constants = {np.sort(np.asarray(data, np.uint8).view(np.float32)).tobytes() for data in buffers}
        for name in compressed.shared:
            ours = next(v.numpy() for v in loaded.weights if v.path == name)
            assert np.mean(ours == 0) >= 0.49
            if "netvlad" not in name:  # its centroids go negated
                assert np.sort(ours.ravel()).tobytes() in constants, name


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((1, 64, 97, 3), np.uint8),
        np.zeros((1, 96, 64, 3), np.uint8),
        np.zeros((64, 96, 3), np.uint8),
        np.zeros((1, 64, 96, 1), np.uint8),
        np.zeros((1, 64, 96, 3), np.float32),
    ],
)
def test_images_of_another_shape_or_type(converted: Convert, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[n, 64, 96, 3\]"):
        LiteRTDescriber(converted("squeezenet", 0, "float32")).describe(bad)


def test_no_images_give_no_descriptors(converted: Convert) -> None:
    describer = LiteRTDescriber(converted("squeezenet", 0, "float32"))
    assert describer.describe(np.zeros((0, *SIZE, 3), np.uint8)).shape == (0, describer.descriptor_dim)


def test_a_fixed_size_takes_no_other(converted: Convert) -> None:
    with pytest.raises(ValueError, match="takes images of 64x96 only, not 32x32"):
        tfplaces.load_describer(converted("squeezenet", 0, "float32"), (32, 32))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"precision": "int4"}, "precision=int4: one of float32, float16, dynamic_int8, mixed_int8"),
        ({}, "mixed_int8 needs images to calibrate on"),
        ({"calibration": "empty"}, "mixed_int8 needs images to calibrate on"),
    ],
)
def test_what_cannot_be_converted(model, town: Images, tmp_path: Path, options: dict, message: str) -> None:
    if "calibration" in options:
        options = {"calibration": tfplaces.datasets.Subset(town, [])}
    with pytest.raises(ValueError, match=message):
        convert(model("squeezenet", 0), tmp_path / "a.tflite", **options)
    assert not any(tmp_path.iterdir())


def test_an_input_too_small_for_the_network(model, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        convert(model("squeezenet", 0), tmp_path / "a.tflite", "float32", input_size=(8, 8))
    assert not any(tmp_path.iterdir())


def test_a_failure_leaves_the_old_file_and_nothing_else(model, town: Images, tmp_path: Path, monkeypatch) -> None:
    class Unreadable(Images):
        names = ("one", "two")

        def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
            raise ValueError("two.jpg: cannot be read as an image")

    path = tmp_path / "a.tflite"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=r"two\.jpg"):
        convert(model("squeezenet", 0), path, calibration=Unreadable())
    monkeypatch.setattr(converter_module, "quantize", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        convert(model("squeezenet", 0), path, calibration=town)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["a.tflite"]


OPEN = """
import sys
import numpy as np
from tfplaces.opening import load_describer
for path in sys.argv[1:]:
    try:
        describer = load_describer(path)
        describer.describe(np.zeros((1, *describer.input_size, 3), np.uint8))
        print("opened")
    except ValueError as error:
        print("ValueError", str(error).splitlines()[0])
print("tensorflow" in sys.modules)
"""


def test_damaged_files_are_value_errors_not_crashes_and_no_tensorflow_is_needed(
    converted: Convert, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    files = [tmp_path / "missing.tflite", tmp_path / "folder.tflite"]
    files[1].mkdir()
    for precision in ("float32", "mixed_int8"):
        data = converted("squeezenet", 0, precision).read_bytes()
        damaged = [
            data[: int(size)] for size in (0, 4, 7, 8, 20, 100, 5000, *(len(data) * rng.random(8)), len(data) - 999)
        ]
        damaged += [
            data[:8] + bytes(1000),
            data[:8] + rng.bytes(10_000),
            b"PK\3\4" + data,
            data[:4] + b"TFL9" + data[8:],
        ]
        for k, content in enumerate(damaged):
            files.append(tmp_path / f"{precision}_{k}.tflite")
            files[-1].write_bytes(content)
    files.append(converted("squeezenet", 0, "float32"))
    run = subprocess.run([sys.executable, "-c", OPEN, *files], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    *lines, opened, tensorflow = run.stdout.splitlines()
    assert (opened, tensorflow) == ("opened", "False")
    for file, line in zip(files, lines, strict=False):
        assert line.startswith("ValueError") and str(file) in line, (file.name, line)


def test_a_model_that_does_not_describe_images(tmp_path: Path) -> None:
    import tensorflow as tf

    def save(name: str, model: keras.Model) -> Path:
        model.export(tmp_path / name, verbose=False)
        (tmp_path / f"{name}.tflite").write_bytes(
            tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / name)).convert()
        )
        return tmp_path / f"{name}.tflite"

    vector = save("vector", keras.Sequential([keras.Input(batch_shape=(1, 4)), keras.layers.Dense(3)]))
    with pytest.raises(ValueError, match="not a model from one RGB image to one descriptor"):
        LiteRTDescriber(vector)
