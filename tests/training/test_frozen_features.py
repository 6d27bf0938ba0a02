"""Training from the features of frozen layers: the same weights as from images, and the same layers."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from test_place_batches import places_of

from tfplaces.common.errors import UserError
from tfplaces.datasets import Images
from tfplaces.describers import KerasDescriber
from tfplaces.losses import MultiSimilarityLoss
from tfplaces.models import PlaceNet
from tfplaces.training import (
    CropAndJitter,
    ModelTraining,
    PlaceBatches,
    cache_features,
    fit,
    trained_from,
)

SIZE, FIRST = (24, 32), "conv_dw_3"


class Noise(Images):
    """Image k is noise of its own."""

    def __init__(self, count: int):
        self.names = [str(k) for k in range(count)]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)


def network() -> PlaceNet:
    keras.utils.set_random_seed(0)
    return PlaceNet("mobilenet_v1", cut="conv_pw_3_relu", clusters=2, input_size=SIZE)


def batches(**options) -> PlaceBatches:
    """Eight places of four images; the first image of each is in none."""
    places = places_of([5] * 8)
    members = [place[1:].tolist() for place in places.members]
    kept = dataclasses.replace(places, images=Noise(40), members=type(places.members).of(members))
    return PlaceBatches(kept, SIZE, places_in_batch=4, **options)


def fitted(model: keras.Model, data) -> None:
    training = ModelTraining(model)
    training.compile(keras.optimizers.SGD(1.0, momentum=0.9), MultiSimilarityLoss(miner=None))
    fit(training, data, 3)


def test_the_weights_are_those_of_training_from_images(tmp_path: Path) -> None:
    """To the rounding of features to 11 bits, which moves weights by a hundredth of what training moves them."""
    plain, cached, before = network(), network(), network().get_weights()
    with trained_from(plain, FIRST):
        fitted(plain, batches())
    with trained_from(cached, FIRST):
        features, rest = cache_features(cached, FIRST, batches(), tmp_path)
        assert all(a is b for a, b in zip(rest.trainable_variables, cached.trainable_variables, strict=True))
        fitted(rest, features)
    moved = 0
    for one, other, start in zip(plain.get_weights(), cached.get_weights(), before, strict=True):
        assert np.abs(other - one).max() <= 0.02 * np.abs(one - start).max() + 1e-5
        moved += np.abs(one - start).max() > 5e-3
    assert moved == 5
    # The file has two bytes of each number of the 32 images that come, and no others.
    assert os.path.getsize(tmp_path / "vectors") == 32 * 2 * 6 * 8 * 128


@pytest.mark.parametrize(
    ("backbone", "layer", "last"),
    [
        ("mobilenet_v1", "conv_dw_3", "conv_pw_2_relu"),
        ("mobilenet_v1", "netvlad", "conv_pw_11"),
        # In a block with a short cut: the features before the block.
        ("mobilenet_v2", "block_5_depthwise", "block_4_add"),
    ],
)
def test_the_rest_goes_on_from_the_features(backbone: str, layer: str, last: str, tmp_path: Path, capfd) -> None:
    model = PlaceNet(backbone, clusters=2, input_size=(32, 48))
    data = PlaceBatches(dataclasses.replace(places_of([2] * 2), images=Noise(4)), (32, 48), images_of_place=2)
    features, rest = cache_features(model, layer, data, tmp_path)
    assert f"up to {last}: 4 times" in capfd.readouterr().err
    expected = KerasDescriber(model).describe(np.stack([Noise(4).read(k, (32, 48)) for k in range(4)]))
    np.testing.assert_allclose(rest(features.read(np.arange(4), 0, 0)), expected, atol=2e-3)
    assert {id(v) for v in rest.weights} < {id(v) for v in model.weights}


def test_versions_are_made_once_and_drawn_by_seed_epoch_and_step(tmp_path: Path, monkeypatch) -> None:
    model, augmentation = network(), CropAndJitter()
    features, rest = cache_features(model, FIRST, batches(augmentation=augmentation), tmp_path, versions=3)
    images = np.array([1, 6, 39])
    drawn = [features.read(images, epoch, step) for epoch in range(4) for step in range(4)]
    np.testing.assert_array_equal(drawn[5], features.read(images, 1, 1))
    for k in range(3):
        assert len(np.unique([d[k].ravel() for d in drawn], axis=0)) == 3
    plain = KerasDescriber(model).describe(np.stack([Noise(40).read(k, SIZE) for k in images]))
    described = np.stack([rest(d) for d in drawn])
    assert np.abs(described - plain).max(axis=(0, 2)).min() > 0.02
    np.testing.assert_allclose(np.abs(described - plain).max(axis=2).min(axis=0), 0, atol=2e-3)  # one is as it is

    def fail(*_: object) -> None:
        raise AssertionError("described again")

    monkeypatch.setattr(KerasDescriber, "describe", fail)
    again, _ = cache_features(network(), FIRST, batches(augmentation=augmentation), tmp_path, versions=3)
    np.testing.assert_array_equal(again.read(images, 1, 1), drawn[5])
    for changed in ({"versions": 2}, {"seed": 1, "versions": 3}):
        with pytest.raises(AssertionError, match="described again"):
            cache_features(network(), FIRST, batches(augmentation=augmentation), tmp_path, **changed)


def test_other_frozen_weights_are_other_features(tmp_path: Path) -> None:
    cache_features(network(), FIRST, batches(), tmp_path)
    model = network()
    model.get_layer("conv1").bias.assign_add(np.ones(32))
    features, _ = cache_features(model, FIRST, batches(), tmp_path)
    expected = keras.Model(model.inputs[0], model.get_layer("conv_pw_2_relu").output)(
        Noise(40).read(7, SIZE)[None].astype(np.float32)
    )
    np.testing.assert_allclose(features.read(np.array([7]), 0, 0), expected, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_kept_is_said(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UserError, match="'conv1' to train from: no layers before it"):
        cache_features(network(), "conv1", batches(), tmp_path)
    with pytest.raises(UserError, match="'nothing' to train from: mobilenet_v1 has none"):
        cache_features(network(), "nothing", batches(), tmp_path)
    model = network()
    for layer in model.layers:
        if isinstance(layer, keras.layers.ReLU):
            layer.max_value = None
    model.get_layer("conv1").kernel.assign(model.get_layer("conv1").kernel * 1e6)
    with pytest.raises(UserError, match="is beyond float16"):
        cache_features(model, FIRST, batches(), tmp_path / "large")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"no room for the 0\.4 MB"):
        cache_features(network(), FIRST, batches(), tmp_path / "full")
    assert not os.path.exists(tmp_path / "full" / "vectors")
