"""What every backbone has to do; a new one is tested by being in `BACKBONES`."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.models import BACKBONES, PlaceNet
from tfplaces.models.summary import summarize
from tfplaces.opening import load_model

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 96, 80, 3)).astype(np.float32)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbone(backbone: str, tmp_path: Path) -> None:
    """The shapes that `summarize` computes are those that come out."""
    model = PlaceNet(backbone, clusters=2)
    first = model.get_layer(BACKBONES[backbone].first)
    assert first is next(layer for layer in model.layers if layer.weights)
    channels = model.feature_layer.output.shape[-1]
    rows = {row.name: row.output_shape for row in summarize(model, IMAGES.shape[1:3])}
    features = keras.Model(model.inputs[0], model.feature_layer.output)(IMAGES)
    assert rows[model.feature_layer.name] == features.shape[1:]
    assert model.input_size == BACKBONES[backbone].input_size
    assert model.descriptor_dim == 2 * channels
    output = np.asarray(model(IMAGES))
    assert output.shape == (2, 2 * channels)
    np.testing.assert_allclose(np.linalg.norm(output, axis=1), 1, atol=1e-5)
    assert np.abs(output[0] - output[1]).max() > 1e-6
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(load_model(tmp_path / "model.keras")(IMAGES), output, atol=1e-6)
