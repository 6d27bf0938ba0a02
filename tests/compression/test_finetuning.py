"""Fine-tuning on plain Keras models: zeros stay zero, weights stay shared, and gradients are those of the loss."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from tfplaces.compression import PrunedTraining, SharedTraining, compress, find_kernels, prune_model, share_model
from tfplaces.compression.distillation import distillation
from tfplaces.compression.sharing import SharedKernel
from tfplaces.datasets import load_dataset
from tfplaces.models import PlaceNet


def convolutional() -> keras.Model:
    """A user's model: convolution, depthwise convolution, batch norm, dense."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(5, 3, activation="tanh"),
            keras.layers.DepthwiseConv2D(2, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )


def dense() -> keras.Model:
    keras.utils.set_random_seed(2)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(3)])


def data(model: keras.Model, n: int = 32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, *model.input_shape[1:])).astype(np.float32)
    return x, rng.normal(size=(n, *model.output_shape[1:])).astype(np.float32)


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    return {kernel.name: kernel.variable.numpy() for kernel in find_kernels(model)}


@pytest.mark.parametrize("make", [convolutional, dense])
def test_pruned_weights_stay_zero_and_the_rest_learns(make: Callable[[], keras.Model]) -> None:
    model = make()
    masks = prune_model(model, sparsity=0.4)
    before = kernels(model)
    fitted = PrunedTraining(model, masks)
    fitted.compile(keras.optimizers.Adam(0.01), "mse")
    x, y = data(model)
    history = fitted.fit(x, y, epochs=8, batch_size=8, verbose=0).history["loss"]
    assert history[-1] < 0.95 * history[0]
    if make is dense:  # the reported loss is that of the batches, before their steps
        assert history[-1] == pytest.approx(np.mean((model.predict(x, verbose=0) - y) ** 2), rel=0.3)
    for name, weights in kernels(model).items():
        assert not weights[~masks[name]].any()
        assert np.mean(weights[masks[name]] != before[name][masks[name]]) > 0.7


def test_one_step_of_l1_is_the_loss_gradient_plus_lambda_times_the_sign() -> None:
    """SGD, one batch: with the penalty a kernel ends λ · rate · sign(w) from where it ends without; biases do not."""
    ends = []
    for l1 in (0.0, 0.3):
        model = dense()
        before = kernels(model)
        fitted = PrunedTraining(model, {}, l1)
        fitted.compile(keras.optimizers.SGD(0.1), "mse")
        fitted.fit(*data(model), batch_size=32, verbose=0)
        ends.append(model.get_weights())
    for k, weights in enumerate(before.values()):
        np.testing.assert_allclose(ends[0][2 * k] - ends[1][2 * k], 0.03 * np.sign(weights), atol=1e-6)
        np.testing.assert_array_equal(ends[0][2 * k + 1], ends[1][2 * k + 1])


def test_l1_shrinks_weights() -> None:
    sizes = []
    for l1 in (0.0, 0.1):
        model = convolutional()
        fitted = PrunedTraining(model, prune_model(model, sparsity=0.2), l1)
        fitted.compile(keras.optimizers.Adam(0.01), "mse")
        fitted.fit(*data(model), epochs=5, batch_size=8, verbose=0)
        sizes.append(sum(np.abs(w).sum() for w in kernels(model).values()))
    assert sizes[1] < 0.9 * sizes[0]


def fit_shared(model: keras.Model, optimizer: keras.optimizers.Optimizer, epochs: int = 1, batch_size: int = 32):
    """Shares a model at 3 bits, a fifth of it pruned, and trains it: the sharing before, and the training."""
    prune_model(model, sparsity=0.2)
    shared = share_model(model, 3)
    training = SharedTraining(model, shared)
    training.compile(optimizer, "mse")
    training.fit(*data(model), epochs=epochs, batch_size=batch_size, verbose=0, shuffle=False)
    return shared, training


def test_gradients_of_levels_and_scales_are_finite_differences_of_the_loss() -> None:
    """One SGD step of rate 1e-3: (before − after) / 1e-3 is the gradient; the loss itself is computed in numpy."""
    model, rate = dense(), 1e-3
    shared, training = fit_shared(model, keras.optimizers.SGD(rate))
    after = training.updated()
    x, y = (a.astype(np.float64) for a in data(model))

    def loss(sharing: dict[str, SharedKernel]) -> float:
        h = x
        for k, s in enumerate(sharing.values()):
            h = h @ (s.levels[s.indices] * s.scales)  # the biases were zero
            h = np.tanh(h) if k == 0 else h
        return float(np.mean((h - y) ** 2))

    checked = 0
    for name, ours in shared.items():
        np.testing.assert_array_equal(after[name].indices, ours.indices)
        for field in ("levels", "scales"):
            taken = (getattr(ours, field) - getattr(after[name], field)) / rate
            for i in range(len(taken)):
                if field == "levels" and i == ours.zero:
                    assert getattr(after[name], field)[i] == 0
                    continue
                ends = []
                for step in (1e-5, -1e-5):
                    moved = getattr(ours, field).astype(np.float64)
                    moved[i] += step
                    fields = {"levels": ours.levels, "scales": ours.scales, field: moved}
                    ends.append(loss({**shared, name: SharedKernel(indices=ours.indices, channel_axis=1, **fields)}))
                np.testing.assert_allclose(taken[i], (ends[0] - ends[1]) / 2e-5, atol=3e-4)
                checked += abs(taken[i]) > 0.01
    assert checked > 10


def test_the_gradient_of_a_level_sums_its_weights_of_a_depthwise_kernel() -> None:
    """y = w · x of single pixels, no bias; loss mean y²: by hand, dL/dw_c = 2 w_c mean(x_c²) / channels."""
    model = keras.Sequential([keras.Input((1, 1, 4)), keras.layers.DepthwiseConv2D(1, use_bias=False)])
    model.layers[0].set_weights([np.array([2, 2, 2, 0], np.float32).reshape(1, 1, 4, 1)])
    name = find_kernels(model)[0].name
    shared = {
        name: SharedKernel(
            np.float32([0, 0.5, 1]), np.uint8([2, 2, 1, 0]).reshape(1, 1, 4, 1), np.float32([2, 2, 4, 1]), 2
        )
    }
    training = SharedTraining(model, shared)
    training.compile(keras.optimizers.SGD(1.0), "mse")
    x = np.float32([1, 2, 3, 4]).reshape(1, 1, 1, 4)
    training.fit(x, np.zeros_like(x), verbose=0)
    gradient = 2 * np.array([2, 2, 2, 0]) * np.array([1, 4, 9, 16]) / 4  # [1, 4, 9, 0]
    after = training.updated()[name]
    np.testing.assert_allclose(after.scales, [2 - 1, 2 - 4, 4 - 9 * 0.5, 1])
    # Levels 0.5 and 1 become 0.5 − 9 · 4 = −35.5 and 1 − (1 + 4) · 2 = −9: they pass zero, and are sorted again.
    np.testing.assert_allclose(after.levels, [-35.5, -9, 0])
    np.testing.assert_array_equal(after.indices.ravel(), [1, 1, 0, 2])
    np.testing.assert_array_equal(after.weights(), model.layers[0].kernel.numpy())
    assert gradient[:2].sum() * 2 == 10


@pytest.mark.parametrize("make", [convolutional, dense])
def test_shared_weights_stay_shared_and_updated_is_what_the_model_holds(make: Callable[[], keras.Model]) -> None:
    model = make()
    shared, training = fit_shared(model, keras.optimizers.Adam(0.01), epochs=8, batch_size=8)
    losses = training.history.history["loss"]
    assert losses[-1] < 0.95 * losses[0]
    for name, weights in kernels(model).items():
        after = training.updated()[name]
        np.testing.assert_array_equal(after.weights(), weights)
        assert np.all(np.diff(after.levels) >= 0) and 0 in after.levels and len(after.levels) <= 8
        zeros = shared[name].indices == shared[name].zero
        assert zeros.any() and not weights[zeros].any()
        assert not np.array_equal(after.levels, shared[name].levels)


def test_a_frozen_layer_stays_as_it_is() -> None:
    model = convolutional()
    model.layers[0].trainable = False
    frozen = find_kernels(model)[0]
    masks = prune_model(model, sparsity=0.1)
    before = frozen.variable.numpy()
    fitted = PrunedTraining(model, masks, 0.01)
    fitted.compile(keras.optimizers.SGD(0.01), "mse")
    fitted.fit(*data(model), verbose=0)
    np.testing.assert_array_equal(frozen.variable.numpy(), before)
    shared = share_model(model, 3)
    before = frozen.variable.numpy()
    training = SharedTraining(model, shared)
    training.compile(keras.optimizers.SGD(0.01), "mse")
    training.fit(*data(model), verbose=0)
    np.testing.assert_array_equal(frozen.variable.numpy(), before)
    np.testing.assert_array_equal(training.updated()[frozen.name].weights(), before)


def test_a_model_is_saved_without_its_training(tmp_path) -> None:
    model = dense()
    fit_shared(model, keras.optimizers.Adam(0.01))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert getattr(model, "optimizer", None) is getattr(loaded, "optimizer", None) is None and len(loaded.weights) == 4


def test_compress_with_distillation_holds_its_promises() -> None:
    """Towards the float network's own descriptors: the second tuning ends nearer to them than it begins."""
    keras.utils.set_random_seed(0)
    model = PlaceNet("squeezenet", clusters=4, input_size=(48, 64), cut="fire2")
    images = load_dataset("toytown?places=4").database
    teach = distillation(model, images, epochs=4, learning_rate=1e-3)
    fitted: list[keras.Model] = []

    def tune(training: keras.Model) -> None:
        teach(training)
        fitted.append(training)

    compressed = compress(model, bits=3, threshold=0.02, l1=1e-6, tune=tune)
    assert [type(training) for training in fitted] == [PrunedTraining, SharedTraining]
    losses = fitted[1].history.history["loss"]
    assert 0 < losses[-1] < 0.95 * losses[0]
    weights = kernels(model)
    assert set(weights) == set(compressed.shared)
    for name, shared in compressed.shared.items():
        np.testing.assert_array_equal(shared.weights(), weights[name])
        assert len(shared.levels) <= 8
    zeros = sum(np.count_nonzero(w == 0) for w in weights.values())
    assert compressed.pruned == pytest.approx(100 * zeros / model.count_params()) and zeros > 1000
    assert getattr(model, "optimizer", None) is None
    assert {"bits": 3, "threshold": 0.02, "sparsity": None}.items() <= compressed.provenance.items()
