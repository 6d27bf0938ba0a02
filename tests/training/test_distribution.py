"""Training on several replicas: two logical CPU devices end with the weights of one.

A process chooses its devices once, so what runs on two is run in one process of its own, see `on_two_devices`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_place_batches import SIZE, Coloured, places_of

from tfplaces.layers import L2Normalization
from tfplaces.losses import MultiSimilarityLoss, TripletRankingLoss, TupleTripletLoss, WeaklySupervisedTripletLoss
from tfplaces.training import Checkpoint, ModelTraining, PlaceBatches, fit, gpu_strategy

EPOCHS = 2
LOSSES: dict[str, Callable[[], keras.losses.Loss]] = {
    "multi_similarity": MultiSimilarityLoss,
    "triplets": lambda: TripletRankingLoss(0.5),
    "weak_triplets": lambda: WeaklySupervisedTripletLoss(0.5),
    "tuples": lambda: TupleTripletLoss(0.5),
    "sum": lambda: MultiSimilarityLoss(reduction="sum"),
}
FITTED = ["multi_similarity", "weak_triplets"]
# Images of each replica; places have four.
PARTS = [[5, 7], [12, 0]]


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.layers.Rescaling(1 / 127.5, -1),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(4),
            L2Normalization(),
        ]
    )


def fitted(
    strategy: tf.distribute.Strategy,
    loss: Callable[[], keras.losses.Loss],
    checkpoint: Checkpoint | None = None,
    images_of_place: int = 4,
    killed_after: int = EPOCHS,
) -> list[np.ndarray]:
    """The weights after the fit. Eight places, of which some overlap, so that batches differ in size."""
    with strategy.scope():
        model = network()
        training = ModelTraining(model)
        training.compile(keras.optimizers.Adam(0.01), loss())
    links = [(a, b) for a in range(8) for b in range(a) if a % 2 == b % 2 == 0]
    places = dataclasses.replace(places_of([4] * 8, links), images=Coloured(32))
    batches = PlaceBatches(places, SIZE, places_in_batch=5, images_of_place=images_of_place)
    assert any(len(batch) == 5 for e in range(EPOCHS) for batch in next(batches.choose(e)))
    fit(training, batches, EPOCHS, callbacks=[Killed(killed_after)], checkpoint=checkpoint)
    return model.get_weights()


class Killed(keras.callbacks.Callback):
    """Ends the process' fit in the middle of an epoch."""

    def __init__(self, epoch: int):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            raise KeyboardInterrupt


def gradients(strategy: tf.distribute.Strategy, loss: keras.losses.Loss, parts: list[int]) -> tuple[float, np.ndarray]:
    """Loss and gradient of a linear embedding, over the replicas, each of which has a part of 12 images."""
    rng = np.random.default_rng(0)
    labels, images = np.repeat(np.arange(3.0), 4).astype(np.float32), rng.normal(size=(12, 6)).astype(np.float32)
    if isinstance(loss, TupleTripletLoss):
        labels = np.stack([labels, np.tile([0, 1, 2, 2], 3)], axis=1).astype(np.float32)
    start = rng.normal(size=(6, 5)).astype(np.float32)
    ends = np.cumsum([0, *parts])
    with strategy.scope():
        kernel = tf.Variable(start)

    def split(values: np.ndarray) -> Any:
        def part(context: tf.distribute.ValueContext) -> tf.Tensor:
            number = context.replica_id_in_sync_group
            return tf.constant(values[ends[number] : ends[number + 1]])

        return strategy.experimental_distribute_values_from_function(part)

    def step(labels: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            value = loss(labels, tf.math.l2_normalize(images @ kernel, axis=-1))
        gradient = tape.gradient(value, kernel)
        return tf.distribute.get_replica_context().all_reduce("SUM", [value, gradient])

    value, gradient = tf.function(lambda *data: strategy.run(step, args=data))(split(labels), split(images))
    return float(strategy.experimental_local_results(value)[0]), strategy.experimental_local_results(gradient)[
        0
    ].numpy()


def on_two_devices(folder: Path) -> dict[str, Any]:
    """What the process of the fixture `two_devices` does."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found: dict[str, Any] = {name: to_lists(fitted(strategy, LOSSES[name])) for name in FITTED}
    checkpoint = Checkpoint(folder / "state.npz")
    try:
        fitted(strategy, MultiSimilarityLoss, checkpoint, killed_after=1)
    except KeyboardInterrupt:
        found["goes_on"] = to_lists(fitted(strategy, MultiSimilarityLoss, checkpoint))
    found["odd"] = to_lists(fitted(strategy, MultiSimilarityLoss, images_of_place=3))
    for name, loss in LOSSES.items():
        for parts in PARTS:
            value, gradient = gradients(strategy, loss(), parts)
            found[f"{name} {parts}"] = [value, gradient.tolist()]
    with strategy.scope():
        found["present"] = gpu_strategy() is strategy
    return found


def to_lists(weights: list[np.ndarray]) -> list:
    return [w.tolist() for w in weights]


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("devices")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, folder / "results.json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    assert "training on 2 devices" in result.stderr
    return json.loads((folder / "results.json").read_text())


ONE = tf.distribute.get_strategy()


@pytest.mark.slow
@pytest.mark.parametrize("name", FITTED)
def test_two_devices_train_as_one(name: str, two_devices: dict[str, Any]) -> None:
    weights, start = fitted(ONE, LOSSES[name]), network().get_weights()
    for one, two, before in zip(weights, two_devices[name], start, strict=True):
        np.testing.assert_allclose(two, one, atol=2e-6)
        assert np.abs(one - before).max() > 1e-2


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_same_weights(two_devices: dict[str, Any]) -> None:
    for whole, resumed in zip(two_devices["multi_similarity"], two_devices["goes_on"], strict=True):
        np.testing.assert_array_equal(whole, resumed)


@pytest.mark.slow
def test_batches_of_an_odd_number_of_images_are_trained_on(two_devices: dict[str, Any]) -> None:
    """Fifteen images: the last one is left out, so it is not quite what one device does."""
    for one, two in zip(fitted(ONE, MultiSimilarityLoss, images_of_place=3), two_devices["odd"], strict=True):
        np.testing.assert_allclose(two, one, atol=0.02)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_the_gradient_is_that_of_the_whole_batch_however_it_lies(
    name: str, parts: list[int], two_devices: dict[str, Any]
) -> None:
    """Places lie on both devices, whose parts are of other sizes; one may have none."""
    value, gradient = gradients(ONE, LOSSES[name](), [12])
    other_value, other = two_devices[f"{name} {parts}"]
    assert other_value == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(other, gradient, atol=1e-5)
    assert np.abs(gradient).max() > 1e-3


def test_several_gpus_are_used_without_being_asked_for(
    monkeypatch: pytest.MonkeyPatch, two_devices: dict[str, Any]
) -> None:
    made: list[str] = []
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: made.append("mirrored"))
    for count, expected in ((0, 0), (1, 0), (2, 1)):
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind, count=count: ["gpu"] * count)
        assert (gpu_strategy() is ONE) == (not expected)
        assert len(made) == expected
    assert two_devices["present"]  # within a scope nothing else is chosen


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    Path(sys.argv[1]).write_text(json.dumps(on_two_devices(Path(sys.argv[1]).parent)))
