"""The callback in anybody's `fit`: TF-MOT's schedules and a hand-made one, on models of every kind."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from tfplaces.compression import PrunedTraining, Pruning, SharedTraining, find_kernels, import_tfmot

STEPS = 40  # 5 epochs of 8


def sequential() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(10, activation="tanh"), keras.layers.Dense(3)])


def functional() -> keras.Model:
    inputs = keras.Input((6,))
    x = keras.layers.Dense(10, activation="tanh")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()([x, inputs])))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = keras.layers.Dense(10), keras.layers.BatchNormalization(), None
        self.last = keras.layers.Dense(3)

    def call(self, inputs, training=None):
        return self.last(keras.ops.tanh(self.norm(self.first(inputs), training=training)))


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, 6), np.float32))
    return model


def halves(step: int) -> tuple[bool, float]:
    """A user's own schedule: nothing, then a quarter at step 10 and half at step 20."""
    return step in (10, 20), 0.25 if step < 20 else 0.5


def polynomial(final: float) -> Callable:
    return import_tfmot().sparsity.keras.PolynomialDecay(0.0, final, begin_step=4, end_step=24, frequency=5)


def constant(value: float) -> Callable:
    return import_tfmot().sparsity.keras.ConstantSparsity(value, begin_step=10, frequency=10)


class Record(keras.callbacks.Callback):
    """The zeros of all kernels after every step, and the kernels at the end of each."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self.watched, self.zeros = model, []

    def on_train_batch_end(self, batch, logs=None):
        self.zeros.append(sum(int(np.sum(k.variable.numpy() == 0)) for k in find_kernels(self.watched)))


def fit(model: keras.Model, pruning: Pruning, wrapped: bool, epochs: int = 5) -> list[int]:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 6)).astype(np.float32), rng.normal(size=(64, 3)).astype(np.float32)
    fitted = PrunedTraining(model) if wrapped else model
    fitted.compile(keras.optimizers.Adam(0.01), "mse")
    record = Record(model)
    losses = fitted.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[pruning, record]).history["loss"]
    assert losses[-1] < losses[0]
    return record.zeros


@pytest.fixture(params=[sequential, functional, subclassed], ids=["sequential", "functional", "subclassed"])
def model(request) -> keras.Model:
    keras.utils.set_random_seed(0)
    return request.param()


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "PrunedTraining"])
def test_shares_follow_the_schedule(model: keras.Model, wrapped: bool) -> None:
    """Zhu and Gupta's ramp 0.6 (1 − (1 − (step − 4) / 20)³) at steps 4, 9, 14, 19, 24; of all parameters."""
    parameters = model.count_params()
    zeros = fit(model, Pruning(sparsity=polynomial(0.6)), wrapped)
    expected = [0] * STEPS
    for step in range(4, STEPS):
        done = min(20, 5 * ((step - 4) // 5)) / 20
        expected[step] = round(0.6 * (1 - (1 - done) ** 3) * parameters)
    assert zeros == expected and expected[-1] > 0


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "PrunedTraining"])
def test_a_schedule_of_ones_own(model: keras.Model, wrapped: bool) -> None:
    zeros = fit(model, Pruning(sparsity=halves, scope="layer"), wrapped)
    sizes = [kernel.size for kernel in find_kernels(model)]
    quarter, half = (sum(round(share * size) for size in sizes) for share in (0.25, 0.5))
    assert zeros == [0] * 10 + [quarter] * 10 + [half] * 20


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "PrunedTraining"])
def test_thresholds_follow_the_schedule(model: keras.Model, wrapped: bool) -> None:
    """Constant: at steps 10, 20 and 30 what has come below 0.1 goes; polynomial: nothing below 0.1 is left."""
    zeros = fit(model, Pruning(threshold=constant(0.1)), wrapped)
    assert zeros[:10] == [0] * 10 and 0 < zeros[10] == zeros[19] <= zeros[20] == zeros[29] <= zeros[30] == zeros[-1]
    other = keras.models.clone_model(model) if not isinstance(model, Subclassed) else subclassed()
    zeros = fit(other, Pruning(threshold=polynomial(0.1)), wrapped, epochs=4)
    assert zeros == sorted(zeros) and zeros[4] == 0 < zeros[9] < zeros[24]


def test_layers_that_are_left_out_keep_all_their_weights() -> None:
    keras.utils.set_random_seed(0)
    model = sequential()
    name = model.layers[1].name
    fit(model, Pruning(sparsity=polynomial(0.3), layers=f"!{name}"), wrapped=False)
    first, second = (np.sum(kernel.variable.numpy() == 0) for kernel in find_kernels(model))
    assert first == round(0.3 * model.count_params()) and second == 0


def test_a_fit_taken_up_again_goes_on_along_the_schedule() -> None:
    """Steps are the optimizer's: two fits of two epochs are as one of four."""
    keras.utils.set_random_seed(0)
    model = sequential()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 6)), rng.normal(size=(64, 3))
    zeros = []
    for _ in range(2):
        record = Record(model)
        model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[Pruning(sparsity=halves), record])
        zeros += record.zeros
    parameters = model.count_params()
    assert zeros[9:11] == [0, round(0.25 * parameters)] and zeros[19:21] == [zeros[10], round(0.5 * parameters)]
    assert zeros[-1] == zeros[20]


def test_mistakes() -> None:
    for schedules in ({}, {"threshold": halves, "sparsity": halves}):
        with pytest.raises(ValueError, match="a schedule of thresholds or one of sparsities"):
            Pruning(**schedules)
    model = sequential()
    with pytest.raises(ValueError, match="no layer matches 'conv'"):
        fit(model, Pruning(sparsity=lambda step: (True, 0.5), layers="conv"), wrapped=False)
    with pytest.raises(ValueError, match="shared already: prune before sharing"):
        shared = SharedTraining(model, {})
        shared.compile("sgd", "mse")
        shared.fit(np.zeros((2, 6)), np.zeros((2, 3)), verbose=0, callbacks=[Pruning(sparsity=halves)])
