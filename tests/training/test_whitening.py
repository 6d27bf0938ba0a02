"""The whitening of a network, fitted on images."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfplaces.datasets import Images
from tfplaces.describers.keras import KerasDescriber
from tfplaces.models import PlaceNet
from tfplaces.training import add_whitening
from tfplaces.training.whitening import replace

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


@pytest.mark.parametrize(
    "count, dimensions, message",
    [
        (5, 5, "cannot be fitted on 5 images: at most 4"),
        (5, 4096, "cannot be fitted on 5 images: at most 4"),
        (500, 385, "NetVLAD has 384"),
    ],
)
def test_too_many_dimensions_are_refused_before_any_work(
    model: PlaceNet, count: int, dimensions: int, message: str
) -> None:
    images = Noise(count, 0, 256)
    with pytest.raises(ValueError, match=message):
        add_whitening(model, dimensions, [images])
    assert images.reads == []


def test_whitened_descriptors(model: PlaceNet) -> None:
    """Vectors of the fitting images have mean zero and covariance ∝ identity before the last normalisation."""
    sets = [Noise(20, 0, 256), Noise(15, 0, 128)]
    whitened = add_whitening(model, 6, sets)
    assert whitened.descriptor_dim == 6 and whitened.config == {**model.config, "whitening": 6}
    for layer in model.layers:
        for ours, theirs in zip(whitened.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    images = np.concatenate([[s.read(i, SIZE) for i in range(len(s))] for s in sets])
    vectors = KerasDescriber(model).describe(images) @ whitened.get_layer("whitening").kernel.numpy()
    vectors += whitened.get_layer("whitening").bias.numpy()
    covariance = np.cov(vectors.T)
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-3 * np.sqrt(covariance[0, 0]))
    np.testing.assert_allclose(covariance / covariance[0, 0], np.eye(6), atol=0.02)
    again = add_whitening(whitened, 3, sets)  # in place of the one it had
    assert again.descriptor_dim == 3
    ours, theirs = (m.get_layer("whitening").kernel.numpy()[:, :3] for m in (again, whitened))
    cosines = np.sum(ours * theirs, 0) / np.linalg.norm(ours, axis=0) / np.linalg.norm(theirs, axis=0)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-3)


def test_replace_copies_what_fits(model: PlaceNet) -> None:
    other = replace(model, clusters=5)
    np.testing.assert_array_equal(other.get_layer("conv1").kernel.numpy(), model.get_layer("conv1").kernel.numpy())
    assert other.get_layer("netvlad").centroids.shape == (5, 128) and model.config["clusters"] == 3
