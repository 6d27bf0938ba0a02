"""The check beside Keras, the errors of layers, and the ranges of activations."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tfplaces.datasets import PlaceDataset, load_dataset
from tfplaces.describers import LiteRTDescriber
from tfplaces.describers.keras import KerasDescriber
from tfplaces.lite import convert
from tfplaces.lite.check import check, file_report, layer_errors
from tfplaces.lite.ranges import _narrowed, activation_ranges
from tfplaces.lite.weights import Model
from tfplaces.models import PlaceNet
from tfplaces.training import add_whitening, initialize_netvlad

SIZE = (48, 64)


@pytest.fixture(scope="module")
def town() -> PlaceDataset:
    return load_dataset("toytown?places=6")


@pytest.fixture(scope="module")
def model(town: PlaceDataset) -> PlaceNet:
    keras.utils.set_random_seed(0)
    net = PlaceNet("squeezenet", clusters=4, input_size=SIZE, cut="fire3")
    initialize_netvlad(net, [town.database], sharpness=1.0)
    return add_whitening(net, 12, [town.database])


@pytest.fixture(scope="module")
def floats(model: PlaceNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "float32.tflite"
    convert(model, path, "float32")
    return path


@pytest.fixture(scope="module")
def integers(model: PlaceNet, town: PlaceDataset, floats: Path) -> Path:
    """Also of another kind in every other way: two images at once, resizable, half the dimensions, int8 out."""
    path = floats.with_name("mixed_int8.tflite")
    convert(
        model, path, calibration=town.database, input_size="any", batch=2, int8_output=True, descriptor_dim=6
    )  # fmt: skip
    return path


def test_the_check(model: PlaceNet, town: PlaceDataset, integers: Path) -> None:
    """Against the descriptors themselves: of 12 dimensions the first 6, then L2."""
    found = check(integers, model, town)
    images = np.stack([part.read(i, SIZE) for part in (town.queries, town.database) for i in range(len(part))])
    theirs = KerasDescriber(model).describe(images)[:, :6]
    ours = LiteRTDescriber(integers).describe(images)
    normalized = [d / np.linalg.norm(d, axis=1, keepdims=True) for d in (ours, theirs)]
    cosines = np.sum(normalized[0] * normalized[1], axis=1)
    assert found.cosine_mean == pytest.approx(cosines.mean(), abs=1e-5) and found.cosine_mean > 0.99
    assert found.cosine_min == pytest.approx(cosines.min(), abs=1e-5)
    assert found.drop == found.keras.map - found.tflite.map and abs(found.drop) < 15
    assert found.keras.queries == found.tflite.queries == 18
    report = file_report(integers, "mixed_int8", {"conv1/kernel": 0.0}, [found])
    assert report["input"] == {"type": "uint8", "shape": [2, "any", "any", 3]}
    assert report["output"] == {"type": "int8", "shape": [2, 6]}
    assert report["checks"] == [found.to_json()] and report["drop"] == found.drop
    assert set(report["latency_ms"]) == {"1", "2"} and 0 < report["memory_bytes"] < 10**8
    assert report["operators"]["FULLY_CONNECTED"] == 1 and len(report["sha256"]) == 64


def test_any_size_any_number(model: PlaceNet, town: PlaceDataset, integers: Path) -> None:
    """An odd number of images two at once, at the model's size and at another."""
    for size in (None, (64, 80)):
        describer = LiteRTDescriber(integers, size)
        assert describer.input_size == (size or SIZE) and describer.descriptor_dim == 6
        images = np.stack([town.database.read(i, describer.input_size) for i in range(5)])
        ours, theirs = describer.describe(images), KerasDescriber(model, size).describe(images)[:, :6]
        theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
        assert np.sum(ours * theirs, axis=1).min() > 0.98
        np.testing.assert_array_equal(describer.describe(images[3:4])[0], ours[3])


def test_float_input(model: PlaceNet, town: PlaceDataset, floats: Path, tmp_path: Path) -> None:
    convert(model, tmp_path / "a.tflite", "float32", float_input=True)
    graph = schema.ModelT.InitFromPackedBuf((tmp_path / "a.tflite").read_bytes()).subgraphs[0]
    assert graph.tensors[graph.inputs[0]].type == schema.TensorType.FLOAT32
    images = np.stack([town.database.read(i, SIZE) for i in range(3)])
    np.testing.assert_array_equal(
        LiteRTDescriber(tmp_path / "a.tflite").describe(images), LiteRTDescriber(floats).describe(images)
    )


@pytest.mark.parametrize("dim", [0, 13])
def test_dimensions_that_the_whitening_does_not_have(model: PlaceNet, tmp_path: Path, dim: int) -> None:
    with pytest.raises(ValueError, match=f"descriptor_dim={dim}: the network has a whitening to 12 dimensions"):
        convert(model, tmp_path / "a.tflite", "float32", descriptor_dim=dim)
    assert not any(tmp_path.iterdir())


def test_the_worst_layer_is_found(model: PlaceNet, town: PlaceDataset, integers: Path, tmp_path: Path) -> None:
    """A layer whose weights are halved adds more error than any other."""
    before = layer_errors(integers, model, town, "mixed_int8")
    assert {error.layer for error in before} >= {"conv1_relu", "fire2_squeeze1x1_relu", "fire3_expand3x3_relu"}
    assert all(0 <= error.added <= error.error < 0.2 for error in before)
    assert [e.added for e in before] == sorted((e.added for e in before), reverse=True)
    data = bytearray(integers.read_bytes())
    lite = Model(data)
    (name,) = (name for name in lite.names() if name.endswith("/fire3_squeeze1x1_1/convolution") and "relu" not in name)
    values = lite.find(name).values
    values[:] = values // 2
    (tmp_path / "bad.tflite").write_bytes(data)
    after = layer_errors(tmp_path / "bad.tflite", model, town, "mixed_int8")
    assert after[0].layer == "fire3_squeeze1x1_relu" and after[0].added > 0.3


def test_ranges_of_least_error() -> None:
    """Uniform values need all of their range; of a long tail 8 bits had better leave the end out."""
    rng = np.random.default_rng(0)

    def error(values, low, high):
        step = (high - low) / 255
        return np.mean(np.square(np.clip(np.round((values - low) / step), 0, 255) * step + low - values))

    for values, cut in (
        (rng.uniform(0, 3, 10**6), 0.99),
        (rng.exponential(1, 10**6), 0.9),
        (rng.laplace(0, 1, 10**6), 0.9),
    ):
        low, high = min(values.min(), 0.0), values.max()
        counts, _ = np.histogram(values, 2048, (low, high))
        ours = _narrowed(counts, low, high)
        assert low <= ours[0] <= 0 < ours[1] <= high
        assert (ours[1] < cut * high) == (cut < 0.95)
        assert (
            error(values, *ours) <= min(error(values, share * low, share * high) for share in (1, 0.8, 0.6, 0.4)) * 1.01
        )


def test_ranges_of_a_file(floats: Path, town: PlaceDataset) -> None:
    """Within what occurs, zero among it; of what ReLU gives from zero on."""
    images = [town.database.read(i, SIZE)[None] for i in range(4)]
    found = activation_ranges(floats, images)
    assert all(low <= 0 <= high and high > low for low, high in found.values())
    relu = {name: found[name] for name in found if "relu" in name}
    assert len(relu) == 7 and all(low == 0 for low, _ in relu.values())
    assert found["Cast"][1] > 200 and found["Cast"][0] == 0
