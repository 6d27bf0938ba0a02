"""NetVLAD's vocabulary from images."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.common.errors import DataWarning
from tfplaces.datasets import Images
from tfplaces.models import PlaceNet
from tfplaces.training import assembly, initialize_netvlad
from tfplaces.training.assembly import sample_local_features

SIZE = (48, 64)


class Noise(Images):
    """Noise of one colour range; counts what is read."""

    def __init__(self, count: int, low: int, high: int):
        self.names = [str(k) for k in range(count)]
        self.low, self.high, self.reads = low, high, []

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        self.reads.append(index)
        return np.random.default_rng(index).integers(self.low, self.high, (*size, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> PlaceNet:
    keras.utils.set_random_seed(0)
    return PlaceNet("squeezenet", clusters=3, input_size=SIZE, cut="fire2")


def test_each_set_gives_equally_many_features(model: PlaceNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images against thirty: both sets give the features of two images, 100 of each."""
    taken: list[np.ndarray] = []
    monkeypatch.setattr(model.get_layer("netvlad"), "adapt", lambda features, *_: taken.append(features))
    dark, light = Noise(30, 0, 20), Noise(2, 235, 256)
    initialize_netvlad(model, [dark, light])
    assert taken[0].shape == (400, 128)
    alone = sample_local_features(model, light, 10_000)
    assert alone.shape == (200, 128)
    # The second half are the two light images' features, in some order.
    np.testing.assert_array_equal(np.sort(taken[0][200:], 0), np.sort(alone, 0))
    monkeypatch.setattr(assembly, "LOCAL_FEATURES", 300)
    initialize_netvlad(model, [dark, light, Noise(5, 0, 256)])
    assert taken[1].shape == (300, 128)


def test_local_features_are_those_of_the_map(model: PlaceNet) -> None:
    """At most 100 of an image, each a position of the map of that image."""
    images = Noise(4, 0, 256)
    features = sample_local_features(model, images, 250)
    assert features.shape == (250, 128) and sorted(set(images.reads)) == images.reads and len(images.reads) == 3
    backbone = keras.Model(model.inputs[0], model.feature_layer.output)
    maps = backbone.predict(np.stack([images.read(i, SIZE) for i in range(4)]).astype(np.float32), verbose=0)
    positions = maps.reshape(-1, 128)
    assert all(np.min(np.abs(positions - f).max(1)) < 1e-3 for f in features[::10])


def test_initialization_is_deterministic_by_seed(model: PlaceNet) -> None:
    ends = []
    for seed in (0, 0, 1):
        initialize_netvlad(model, [Noise(8, 0, 256)], seed=seed)
        ends.append(model.get_layer("netvlad").get_weights())
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
    np.testing.assert_array_equal(ends[0][1], ends[1][1])
    assert not np.allclose(ends[0][1], ends[2][1])


def test_weights_of_pytorch_bring_their_preprocessing(tmp_path: Path) -> None:
    """The usual VGG16 is Caffe's, and PyTorch's takes other numbers."""
    rng = np.random.default_rng(0)
    tensors = {"features.0.weight": rng.normal(size=(64, 3, 3, 3)), "features.0.bias": rng.normal(size=64)}
    np.savez(tmp_path / "vgg16.npz", **tensors, **{"features.2.weight": np.zeros((64, 64, 3, 3))})
    options = {"clusters": 2, "input_size": SIZE, "cut": "conv1_1"}
    with pytest.warns(DataWarning, match=r"1 of 3 arrays are left out, .*: features\.2\.weight"):
        model = assembly.assemble("vgg16", [Noise(2, 0, 256)], weights=str(tmp_path / "vgg16.npz"), **options)
    assert model.config["scale"] == pytest.approx([1 / (255 * s) for s in (0.229, 0.224, 0.225)])
    assert model.config["offset"] == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    kernel = tensors["features.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(model.get_layer("conv1_1").kernel, kernel, rtol=1e-6)
