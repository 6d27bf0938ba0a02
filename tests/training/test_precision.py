"""Mixed precision and accumulated gradients: what they leave with the network, and after an interruption."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_place_batches import SIZE, Coloured, places_of

from tfplaces.common.errors import UserError
from tfplaces.layers import L2Normalization
from tfplaces.losses import MultiSimilarityLoss
from tfplaces.models import PlaceNet
from tfplaces.training import PRECISIONS, Checkpoint, ModelTraining, PlaceBatches, RatedAdam, fit
from tfplaces.training.precision import computing_in

EPOCHS = 3


class Probe(keras.layers.Layer):
    """Passes on what it is given, and remembers its type."""

    seen = ""

    def call(self, inputs):
        self.seen = inputs.dtype.name if hasattr(inputs.dtype, "name") else inputs.dtype
        return inputs


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.layers.Rescaling(1 / 127.5, -1),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu"),
            Probe(name="probe"),
            keras.layers.Dense(4),
            L2Normalization(),
        ]
    )


class Killed(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def fitted(
    optimizer: Callable[[], keras.optimizers.Optimizer],
    precision: str | None = None,
    checkpoint: Checkpoint | None = None,
    killed: bool = False,
) -> ModelTraining:
    """Eight places, four batches of two in an epoch."""
    training = ModelTraining(network(), precision=precision)
    training.compile(optimizer(), MultiSimilarityLoss(miner=None))
    places = dataclasses.replace(places_of([4] * 8), images=Coloured(32))
    batches = PlaceBatches(places, SIZE, places_in_batch=2)
    fit(training, batches, EPOCHS, callbacks=[Killed()] if killed else [], checkpoint=checkpoint)
    return training


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_a_network_trained_in_mixed_precision_is_a_plain_one(precision: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = PlaceNet("mobilenet_v1", clusters=2, whitening=4, input_size=(32, 32), dtype="float32")
    config, before = model.get_config(), model.get_weights()
    training = ModelTraining(model, precision=precision)
    training.compile(keras.optimizers.SGD(0.01), MultiSimilarityLoss())
    assert isinstance(training.optimizer, keras.optimizers.LossScaleOptimizer) == (precision == "mixed_float16")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    during = keras.callbacks.ModelCheckpoint(tmp_path / "during.keras")
    history = training.fit(images, np.arange(4) // 2, batch_size=4, epochs=3, verbose=0, callbacks=[during]).history
    assert np.isfinite(history["loss"]).all()
    model.save(tmp_path / "after.keras")
    for path in (tmp_path / "during.keras", tmp_path / "after.keras"):
        loaded = keras.models.load_model(path)
        assert loaded.get_config() == config
        assert {layer.dtype_policy.name for layer in loaded.layers} == {"float32"}
        np.testing.assert_array_equal(loaded(images.astype(np.float32)), model(images.astype(np.float32)))
        assert {weights.dtype.name for weights in loaded.get_weights()} == {"float32"}
    assert max(np.abs(old - new).max() for old, new in zip(before, model.get_weights(), strict=True)) > 1e-4


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_computes_in_that_precision_while_it_is_trained(precision: str) -> None:
    training = fitted(lambda: keras.optimizers.SGD(0.05), precision)
    probe = training.model.get_layer("probe")
    assert probe.seen == precision.removeprefix("mixed_")
    training.model(np.zeros((1, *SIZE, 3), np.float32))
    assert probe.seen == "float32"
    exact = fitted(lambda: keras.optimizers.SGD(0.05))
    for one, other in zip(training.model.get_weights(), exact.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=0.02 if precision != "float32" else 0)


def test_the_models_precision_comes_back_when_something_fails() -> None:
    model = network()
    with pytest.raises(ZeroDivisionError), computing_in(model, "mixed_float16"):
        assert model.layers[2].compute_dtype == "float16"
        assert model.layers[0].compute_dtype == "float32"  # pixels
        raise ZeroDivisionError
    assert {layer.dtype_policy.name for layer in [model, *model.layers]} == {"float32"}


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UserError, match="precision 'float16': one of float32, mixed_float16, mixed_bfloat16"):
        ModelTraining(network(), precision="float16")
    wide = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, dtype="float64", name="wide")])
    with pytest.raises(UserError, match="layer 'wide' has weights of float64"), computing_in(wide, "mixed_float16"):
        pass


OPTIMIZERS = {
    # The scale is doubled every third step, from so much that the first steps overflow.
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(RatedAdam(0.01), 2.0**20, 3),
    "accumulation": lambda: RatedAdam(0.01, [1, 1, 10, 1], gradient_accumulation_steps=3),
    "both": lambda: keras.optimizers.LossScaleOptimizer(RatedAdam(0.01, gradient_accumulation_steps=3), 2.0**10, 3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_killed_fit_goes_on_in_the_middle_of_everything(name: str, tmp_path: Path) -> None:
    """An epoch has four steps, so it ends one step into the three that gradients are accumulated, or the scale kept."""
    precision = None if name == "accumulation" else "mixed_float16"
    whole = fitted(OPTIMIZERS[name], precision)
    checkpoint = Checkpoint(tmp_path / "state.npz")
    with pytest.raises(KeyboardInterrupt):
        fitted(OPTIMIZERS[name], precision, checkpoint, killed=True)
    resumed = fitted(OPTIMIZERS[name], precision, checkpoint)
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(whole.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    if name == "loss_scale":
        assert float(whole.optimizer.dynamic_scale) != 2.0**20
    moved = [np.abs(a - b).max() for a, b in zip(network().get_weights(), whole.model.get_weights(), strict=True)]
    assert min(moved) > 1e-3


def test_gradients_of_several_batches_make_one_step() -> None:
    """The four batches of an epoch are one step of the mean of four gradients."""
    accumulated = fitted(lambda: RatedAdam(0.01, gradient_accumulation_steps=4)).model
    model = network()
    optimizer = RatedAdam(0.01)
    places = dataclasses.replace(places_of([4] * 8), images=Coloured(32))
    batches = PlaceBatches(places, SIZE, places_in_batch=2)
    loss = MultiSimilarityLoss(miner=None)
    for epoch in range(EPOCHS):
        with tf.GradientTape() as tape:
            values = []
            for batch in next(batches.choose(epoch)):
                images = np.stack([Coloured(32).read(k, SIZE) for k in batch.ravel()]).astype(np.float32)
                values.append(loss(np.repeat(np.arange(2), 4), model(images)))
            value = sum(values) / len(values)
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
    for one, other in zip(accumulated.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
