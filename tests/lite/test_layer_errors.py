"""The errors of layers."""

from __future__ import annotations

from pathlib import Path

from tfplaces.datasets import PlaceDataset
from tfplaces.lite.layer_errors import layer_errors
from tfplaces.lite.tflite_model import TFLiteModel
from tfplaces.models import PlaceNet


def test_the_worst_layer_is_found(model: PlaceNet, town: PlaceDataset, integers: Path, tmp_path: Path) -> None:
    """A layer whose weights are halved adds more error than any other."""
    before = layer_errors(integers, model, town, "mixed_int8")
    assert {error.layer for error in before} >= {"conv1_relu", "fire2_squeeze1x1_relu", "fire3_expand3x3_relu"}
    assert all(0 <= error.added <= error.error < 0.2 for error in before)
    assert [e.added for e in before] == sorted((e.added for e in before), reverse=True)
    data = bytearray(integers.read_bytes())
    lite = TFLiteModel(data)
    (name,) = (name for name in lite.names() if name.endswith("/fire3_squeeze1x1_1/convolution") and "relu" not in name)
    values = lite.find(name).values
    values[:] = values // 2
    (tmp_path / "bad.tflite").write_bytes(data)
    after = layer_errors(tmp_path / "bad.tflite", model, town, "mixed_int8")
    assert after[0].layer == "fire3_squeeze1x1_relu" and after[0].added > 0.3
