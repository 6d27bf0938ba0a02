"""Self-distillation: its distance, its targets, and that a real backbone gets nearer to what it was."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from tfplaces.compression import (
    Compressed,
    Distillation,
    Recipe,
    SharedTraining,
    compress,
    find_kernels,
)
from tfplaces.compression.tfmot import import_tfmot
from tfplaces.datasets import Images, PlaceDataset, cached, load_dataset
from tfplaces.describers import describe_images
from tfplaces.describers.keras import KerasDescriber
from tfplaces.losses import CosineDistance
from tfplaces.models import PlaceNet
from tfplaces.training import add_whitening, initialize_netvlad

SIZE = (48, 64)


class Unreadable(Images):
    """Queries, which distillation must not look at."""

    def __init__(self, names):
        self.names = names

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        raise AssertionError("a query was read")


@pytest.fixture(scope="module")
def town() -> PlaceDataset:
    town = cached(load_dataset("toytown?places=6"))
    return dataclasses.replace(town, queries=Unreadable(town.queries.names))


def network(town: PlaceDataset, whitening: int = 6) -> PlaceNet:
    keras.utils.set_random_seed(0)
    model = PlaceNet("mobilenet_v1", clusters=4, input_size=SIZE, cut="conv_pw_3_relu")
    initialize_netvlad(model, [town.database], sharpness=1.0)
    return add_whitening(model, whitening, [town.database]) if whitening else model


def distance(model: keras.Model, images: Images, before: np.ndarray) -> float:
    return float(np.mean(1 - np.sum(describe_images(KerasDescriber(model), images) * before, axis=1)))


def test_a_compressed_network_comes_nearer_to_what_it_was(town: PlaceDataset) -> None:
    """Pruned by half and shared at 3 bits, on a backbone of depthwise convolutions."""
    recipe, ends = Recipe(bits=3, sparsity=0.4, sparsity_scope="layer", l1=1e-7), []
    for tuned in (False, True):
        model = network(town)
        before = describe_images(KerasDescriber(model), town.database)
        tune = Distillation(model, town.database, epochs=6, learning_rate=3e-4) if tuned else None
        compressed = compress(model, recipe, tune)
        ends.append(distance(model, town.database, before))
        check(compressed, 40, 8)
        if tuned:
            kernel = model.get_layer("whitening").kernel.numpy()
            assert np.sqrt(np.mean(kernel**2)) == pytest.approx(0.01, rel=1e-4)
        assert compressed.provenance == {"bits": 3, "sparsity": 0.4, "sparsity_scope": "layer", "l1": 1e-7}
        assert getattr(model, "optimizer", None) is None
    assert ends[1] < 0.7 * ends[0], ends


def check(compressed: Compressed, pruned: float, levels: int) -> None:
    assert compressed.pruned == pytest.approx(pruned, abs=1.5)
    for kernel in find_kernels(compressed.model):
        shared = compressed.shared[kernel.name]
        np.testing.assert_array_equal(shared.weights(), kernel.variable.numpy())
        assert len(shared.levels) <= levels and shared.on_int8_grid


@pytest.mark.slow
def test_a_ramp_by_tfmot(town: PlaceDataset) -> None:
    """Half-way less is pruned than in the end; `import_tfmot` is what gives the schedule."""
    assert import_tfmot()
    seen = []

    class Zeros(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if not isinstance(self.model, SharedTraining):
                seen.append(sum(int(np.sum(k.variable.numpy() == 0)) for k in find_kernels(self.model.model)))

    model = network(town, whitening=0)
    tune = Distillation(model, town.database, epochs=4, learning_rate=1e-3)
    assert tune.steps == 4 * 2  # 24 images in batches of 16
    compressed = compress(model, Recipe(sparsity=0.4, schedule="polynomial"), tune, callbacks=[Zeros()])
    assert 0 < seen[0] < seen[1] <= seen[-1]
    assert seen[-1] == pytest.approx(0.4 * model.count_params(), rel=0.01)
    check(compressed, 40, 255)


def test_the_loss_is_of_descriptors_and_local_features(town: PlaceDataset) -> None:
    """At the float network both are zero; a changed head is seen by the first, a changed backbone by both."""
    model = network(town, whitening=0)
    tune = Distillation(model, town.database, epochs=1, learning_rate=0.0)
    tune._batches.start_epoch(0)
    images, (descriptors, features) = tune._batches[0]
    assert images.dtype == np.uint8 and descriptors.shape == (16, model.descriptor_dim) and features.shape[-1] == 128

    def losses() -> list[float]:
        outputs = tune.model.predict(images, verbose=0)
        return [float(CosineDistance()(t, o)) for t, o in zip((descriptors, features), outputs, strict=True)]

    np.testing.assert_allclose(losses(), 0, atol=1e-5)
    centres = model.get_layer("netvlad")
    before = centres.get_weights()
    centres.set_weights([w + 0.1 for w in before])
    assert losses()[0] > 1e-4 and losses()[1] < 1e-5
    centres.set_weights(before)
    kernel = find_kernels(model)[4].variable
    kernel.assign(kernel.numpy() * np.random.default_rng(0).normal(1, 0.5, kernel.shape))
    assert min(losses()) > 1e-4


def test_any_keras_model_is_distilled_by_its_descriptors(town: PlaceDataset) -> None:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(8, 5, strides=4, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential(
        [keras.Input((*SIZE, 3)), *layers, keras.layers.Dense(6), keras.layers.UnitNormalization()]
    )
    tune = Distillation(model, town.database, epochs=3, learning_rate=1e-3)
    assert tune.model is model
    compressed = compress(model, Recipe(bits=2), tune)
    assert all(len(shared.levels) <= 4 for shared in compressed.shared.values())
