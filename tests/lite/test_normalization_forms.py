"""Each form of the L2 normalisation is in the converted file what it says, also for vectors that are nearly zero."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfplaces.describers.litert import LiteRTDescriber, operators
from tfplaces.layers import L2Normalization
from tfplaces.layers.normalization import NORMS
from tfplaces.lite import convert
from tfplaces.models import PlaceNet

SIZE = (32, 48)


def normalized(x: np.ndarray, norm: str) -> np.ndarray:
    """By the definitions, in float64: the lengths that the forms divide by."""
    squares = np.sum(np.square(x.astype(np.float64)), axis=-1, keepdims=True)
    lengths = {
        "tflite": np.maximum(np.sqrt(squares), 1e-6),
        "matconvnet": np.sqrt(squares + 1e-12),
        "torch": np.maximum(np.sqrt(squares), 1e-12),
    }
    return x / lengths[norm]


@pytest.mark.parametrize("norm", NORMS)
def test_short_vectors(norm: str, tmp_path: Path) -> None:
    """Of lengths from nothing to a million, in one file with an axis of four dimensions."""
    lengths = np.array([0, 1e-13, 1e-10, 1e-7, 1e-6, 3e-6, 1e-5, 1, 1e6], np.float64)
    x = np.random.default_rng(0).normal(size=(1, 3, 3, 16))
    x *= lengths.reshape(1, 3, 3, 1) / np.linalg.norm(x, axis=-1, keepdims=True)
    layer = L2Normalization(norm=norm)
    layer(x)
    archive = keras.export.ExportArchive()
    archive.track(layer)
    archive.add_endpoint("serve", lambda x: layer(x), input_signature=[tf.TensorSpec((1, 3, 3, 16), tf.float32)])
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    lite = Interpreter(model_content=tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    found = lite.get_signature_runner()(x=x.astype(np.float32))["output_0"]
    np.testing.assert_allclose(found, normalized(x, norm), rtol=2e-5, atol=1e-12)


def in_float64(net: PlaceNet, features: np.ndarray, norm: str) -> np.ndarray:
    """NetVLAD by equations 3 and 4 of the paper, one feature after the other, from `[height, width, channels]`."""
    layer = net.get_layer("netvlad")
    assignment, centroids = (np.asarray(w.numpy(), np.float64) for w in (layer.assignment, layer.centroids))
    residuals = np.zeros(centroids.shape)
    for x in normalized(features.reshape(-1, features.shape[-1]), norm):
        logits = x @ assignment[0, 0]
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        residuals += weights[:, None] * (x - centroids)
    return normalized(normalized(residuals, norm).reshape(-1), norm)


@pytest.mark.parametrize("norm", NORMS)
def test_empty_clusters(norm: str, tmp_path: Path) -> None:
    """Clusters with residuals of about 1, 1e-8 and 1e-15 in all: what the forms do to the last two is not the same."""
    keras.utils.set_random_seed(0)
    net = PlaceNet("squeezenet", clusters=3, input_size=SIZE, cut="fire2", norm=norm)
    layer = net.get_layer("netvlad")
    channels = layer.centroids.shape[1]
    # Local features are of unit length and not negative, so each assignment is within 5 % of −25 and −42 to the first.
    layer.assignment.assign(np.zeros((1, 1, channels, 3), np.float32))
    images = np.random.default_rng(1).integers(0, 256, (1, *SIZE, 3)).astype(np.uint8)
    features = keras.Model(net.inputs[0], net.feature_layer.output)(images.astype(np.float32), training=False).numpy()[
        0
    ]
    unit = normalized(features.reshape(-1, channels), "torch")
    direction = unit.mean(axis=0) / np.square(unit.mean(axis=0)).sum()
    layer.assignment.assign((direction[:, None] * [0, -25, -42])[None, None].astype(np.float32))
    convert(net, tmp_path / "a.tflite", "float32")
    assert "L2_NORMALIZATION" not in operators(tmp_path / "a.tflite")
    expected = in_float64(net, features, norm)
    found = LiteRTDescriber(tmp_path / "a.tflite").describe(images)[0]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    lengths = np.linalg.norm(expected.reshape(3, -1), axis=1)
    if norm == "torch":
        assert lengths[1] > 0.5 and lengths[2] < lengths[1]
    else:
        assert 0 < lengths[1] < 0.1 and lengths[2] < 1e-6
