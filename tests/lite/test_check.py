"""The check of a `.tflite` beside Keras, and what the file takes and gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tfplaces.datasets import PlaceDataset
from tfplaces.describers import LiteRTDescriber
from tfplaces.describers.keras import KerasDescriber
from tfplaces.lite import convert
from tfplaces.lite.check import check, file_report
from tfplaces.models import PlaceNet

SIZE = (48, 64)


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
    # The file takes two images in a call.
    assert report["batch"] == 2
    assert report["ms_per_call"] == {threads: 2 * ms for threads, ms in report["latency_ms"].items()}
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
