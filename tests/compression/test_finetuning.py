"""Fine-tuning on plain Keras models: the objective, zeros that stay zero, and gradients that are those of the loss."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfplaces.coding import channels
from tfplaces.compression import PrunedTraining, SharedTraining, find_kernels, finetuning, prune_model, share
from tfplaces.compression.quantizers.kmeans import SharedKernel
from tfplaces.layers import L2Normalization, PCAWhitening


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
    layers = [keras.layers.Dense(6, activation="tanh", name="first"), keras.layers.Dense(3, name="second")]
    return keras.Sequential([keras.Input((4,)), *layers])


def whitened() -> keras.Model:
    """Ends as a PlaceNet does, with a whitening and an L2 normalisation."""
    keras.utils.set_random_seed(3)
    whitening = PCAWhitening(4, name="whitening")
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "tanh"), whitening, L2Normalization()])
    whitening.adapt(np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) + 0.3)
    return model


def data(model: keras.Model, n: int = 32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, *model.input_shape[1:])).astype(np.float32)
    return x, rng.normal(size=(n, *model.output_shape[1:])).astype(np.float32)


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    return {kernel.name: kernel.variable.numpy() for kernel in find_kernels(model)}


def share_kernels(model: keras.Model, bits: int = 3, grid: str = "int8") -> dict[str, SharedKernel]:
    shared = {k.name: share(k.variable.numpy(), k.channel_axis, bits, grid) for k in find_kernels(model)}
    for kernel in find_kernels(model):
        kernel.variable.assign(shared[kernel.name].weights())
    return shared


def fit(fitted: keras.Model, optimizer: keras.optimizers.Optimizer, *, epochs: int = 1, batch_size: int = 32, of=None):
    fitted.compile(optimizer, "mse")
    x, y = of or data(fitted.model)
    return fitted.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=0, shuffle=False).history["loss"]


def mean_loss(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    """The loss of `dense()`, in float64."""
    w1, b1, w2, b2 = (np.asarray(w, np.float64) for w in weights)
    return float(np.mean((np.tanh(x @ w1 + b1) @ w2 + b2 - y) ** 2))


# The objective.


def test_the_objective_and_one_step_of_sgd_by_hand() -> None:
    """J = loss + 0.3 Σ|W1| + 0.05 Σ|W2|; its gradient by finite differences, except at pruned weights."""
    model, rate = dense(), 0.1
    prune_model(model, sparsity=0.3)
    before, (x, y) = model.get_weights(), data(model)
    (reported,) = fit(PrunedTraining(model, 0.3, {"second": 0.05}), keras.optimizers.SGD(rate))

    def objective(weights: list[np.ndarray]) -> float:
        return mean_loss(weights, x, y) + 0.3 * np.abs(weights[0]).sum() + 0.05 * np.abs(weights[2]).sum()

    assert reported == pytest.approx(objective(before), rel=1e-5)
    for k, (start, end) in enumerate(zip(before, model.get_weights(), strict=True)):
        for at in np.ndindex(start.shape):
            if start.ndim == 2 and start[at] == 0:
                assert end[at] == 0
                continue
            values = []
            for step in (1e-5, -1e-5):
                moved = [w.astype(np.float64) for w in before]
                moved[k][at] += step
                values.append(objective(moved))
            assert (start[at] - end[at]) / rate == pytest.approx((values[0] - values[1]) / 2e-5, abs=2e-4)


def test_the_loss_is_averaged_over_batches_of_unequal_size() -> None:
    """As Keras does: 32 images in batches of 24 and 8. With a rate of zero that is the loss of all of them."""
    model = dense()
    (reported,) = fit(PrunedTraining(model), keras.optimizers.SGD(0.0), batch_size=24)
    assert reported == pytest.approx(mean_loss(model.get_weights(), *data(model)), rel=1e-5)


def test_penalties_of_no_layer() -> None:
    with pytest.raises(ValueError, match="no layer matches 'conv'"):
        PrunedTraining(dense(), 0.0, {"conv": 1.0})


# Zeros.

OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", [convolutional, dense])
def test_pruned_weights_stay_zero_and_the_rest_learns(make: Callable[[], keras.Model], optimizer: str) -> None:
    """Pruned half-way too, when the optimizer has moments for what is pruned."""
    model = make()
    prune_model(model, sparsity=0.2)
    fitted = PrunedTraining(model, 1e-4)
    losses = fit(fitted, OPTIMIZERS[optimizer](), epochs=6, batch_size=8)
    prune_model(model, sparsity=0.4)
    pruned = {name: weights == 0 for name, weights in kernels(model).items()}
    x, y = data(model)
    losses += fitted.fit(x, y, epochs=6, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < 0.95 * losses[0] and sum(p.sum() for p in pruned.values()) > 0.35 * model.count_params()
    for name, weights in kernels(model).items():
        np.testing.assert_array_equal(weights == 0, pruned[name])
    shared = share_kernels(model)
    training = SharedTraining(model, shared)
    losses = fit(training, OPTIMIZERS[optimizer](), epochs=6, batch_size=8)
    assert losses[-1] < losses[0]
    for name, weights in kernels(model).items():
        assert not weights[pruned[name]].any()
        assert np.mean(weights[~pruned[name]] != shared[name].weights()[~pruned[name]]) > 0.7


def test_a_kernel_that_starts_at_zero_is_trained() -> None:
    model = dense()
    model.get_layer("second").kernel.assign(np.zeros((6, 3)))
    fit(PrunedTraining(model, 1e-4), keras.optimizers.Adam(0.01), epochs=2)
    assert np.all(model.get_layer("second").kernel.numpy() != 0)


def test_frozen_layers_stay_as_they_are() -> None:
    for make, layer in ((convolutional, 0), (whitened, 1)):
        model = make()
        model.layers[layer].trainable = False
        prune_model(model, sparsity=0.1)
        before = model.layers[layer].get_weights()
        fit(PrunedTraining(model, 0.01), keras.optimizers.SGD(0.01))
        for ours, theirs in zip(model.layers[layer].get_weights(), before, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        shared = share_kernels(model)
        before = model.layers[layer].get_weights()
        training = SharedTraining(model, shared)
        fit(training, keras.optimizers.SGD(0.01))
        settled = training.settle()
        assert settled.keys() == shared.keys()
        for ours, theirs in zip(model.layers[layer].get_weights(), before, strict=True):
            np.testing.assert_array_equal(ours, theirs)


# The whitening, whose scale is free.


def check_whitening(model: keras.Model) -> None:
    kernel = model.get_layer("whitening").kernel.numpy()
    assert np.sqrt(np.mean(kernel.astype(np.float64) ** 2)) == pytest.approx(0.01, rel=1e-5)


def test_rescaling_a_whitening_changes_no_descriptor() -> None:
    model = whitened()
    x, _ = data(model)
    before = model.predict(x, verbose=0)
    for weight in model.get_layer("whitening").weights:
        weight.assign(weight * 37)
    model.get_layer("whitening").rescale()
    check_whitening(model)
    np.testing.assert_allclose(model.predict(x, verbose=0), before, atol=1e-5)


def test_l1_does_not_shrink_a_whitening() -> None:
    model = whitened()
    prune_model(model, sparsity=0.3)
    fit(PrunedTraining(model, 0.1), keras.optimizers.Adam(0.01), epochs=5, batch_size=8)
    check_whitening(model)


@pytest.mark.parametrize("grid", ["int8", "none"])
def test_shared_training_keeps_a_whitening_at_its_rms(grid: str) -> None:
    """And what it rescales changes no descriptor: with a rate of zero they stay as they are."""
    model = whitened()
    prune_model(model, sparsity=0.3)
    shared, (x, _) = share_kernels(model, grid=grid), data(model)
    before = model.predict(x, verbose=0)
    fit(SharedTraining(model, shared), keras.optimizers.SGD(0.0), epochs=2)
    check_whitening(model)
    np.testing.assert_allclose(model.predict(x, verbose=0), before, atol=1e-5)
    training = SharedTraining(model, shared)
    fit(training, keras.optimizers.Adam(0.02), epochs=5, batch_size=8)
    check_whitening(model)
    assert np.abs(model.predict(x, verbose=0) - before).max() > 0.01
    held = kernels(model)
    for name, sharing in training.settle().items():
        np.testing.assert_array_equal(sharing.weights(), held[name])


# Shared weights.


def test_gradients_of_levels_scales_and_biases_are_finite_differences_of_the_loss() -> None:
    """One SGD step of rate r: levels, as shares of the largest, and logarithms of the scales move by r · gradient."""
    model, rate = dense(), 1e-3
    prune_model(model, sparsity=0.2)
    shared = share_kernels(model, grid="none")
    before, (x, y) = model.get_weights(), data(model)
    training = SharedTraining(model, shared)
    fit(training, keras.optimizers.SGD(rate))
    after = training.settle()
    checked = 0
    for k, (name, ours) in zip((0, 2), shared.items(), strict=True):
        np.testing.assert_array_equal(after[name].indices, ours.indices)
        largest = np.max(np.abs(ours.levels))

        def loss(levels, log_scales, k=k, ours=ours) -> float:
            weights = [w.astype(np.float64) for w in before]
            weights[k] = (levels * np.max(np.abs(ours.levels)))[ours.indices] * ours.scales * np.exp(log_scales)
            return mean_loss(weights, x, y)

        start = [ours.levels.astype(np.float64) / largest, np.zeros(len(ours.scales))]
        taken = [(ours.levels - after[name].levels) / largest / rate, -np.log(after[name].scales / ours.scales) / rate]
        for which in range(2):
            for i in range(len(start[which])):
                if which == 0 and i == ours.zero:
                    assert after[name].levels[i] == 0
                    continue
                ends = []
                for step in (1e-5, -1e-5):
                    moved = [array.copy() for array in start]
                    moved[which][i] += step
                    ends.append(loss(*moved))
                np.testing.assert_allclose(taken[which][i], (ends[0] - ends[1]) / 2e-5, atol=5e-4)
                checked += abs(taken[which][i]) > 0.005
    assert checked > 12
    moved = [w.astype(np.float64) for w in before]
    moved[3][0] += 1e-5
    gradient = (mean_loss(moved, x, y) - mean_loss(before, x, y)) / 1e-5
    assert (before[3][0] - model.get_weights()[3][0]) / rate == pytest.approx(gradient, abs=1e-3)


def test_the_gradient_of_a_level_sums_its_weights_of_a_depthwise_kernel() -> None:
    """y = w · x of single pixels, no bias; loss mean y²: by hand, dL/dw_c = 2 w_c x_c² / channels."""
    model = keras.Sequential([keras.Input((1, 1, 4)), keras.layers.DepthwiseConv2D(1, use_bias=False)])
    model.layers[0].set_weights([np.array([2, 2, 2, 0], np.float32).reshape(1, 1, 4, 1)])
    name = find_kernels(model)[0].name
    indices, scales = np.uint8([2, 2, 1, 0]).reshape(1, 1, 4, 1), np.float32([2, 2, 4, 1])
    training = SharedTraining(model, {name: SharedKernel(np.float32([0, 0.5, 1.0]) * 1.5, indices, scales / 1.5, 2)})
    x = np.float32([1, 2, 3, 4]).reshape(1, 1, 1, 4)
    fit(training, keras.optimizers.SGD(0.01), of=(x, np.zeros_like(x)))
    # dL/dw is [1, 4, 9, 0]; that of level 1 is (1 + 4) · 2, of level 0.5 it is 9 · 4; of log s it is dL/dw · w.
    levels, scales = training.settle()[name].levels, training.settle()[name].scales
    np.testing.assert_allclose(levels / 1.5, [0, 0.5 - 0.36, 1 - 0.1], rtol=1e-5)
    np.testing.assert_allclose(scales * 1.5, np.exp([-0.02, -0.08, -0.18, 0]) * [2, 2, 4, 1], rtol=1e-5)


@pytest.mark.parametrize("block", [2**22, 20])
@pytest.mark.parametrize("grid", ["int8", "none"])
@pytest.mark.parametrize("make", [convolutional, dense])
def test_shared_weights_stay_shared(make, grid: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the grid if they were, in blocks or not; `settle` is what the model holds, bit for bit."""
    monkeypatch.setattr(channels, "BLOCK", block)
    monkeypatch.setattr(finetuning, "BLOCK", block)
    model = make()
    prune_model(model, sparsity=0.2)
    shared = share_kernels(model, grid=grid)
    training = SharedTraining(model, shared)
    losses = fit(training, keras.optimizers.Adam(0.01), epochs=8, batch_size=8)
    assert losses[-1] < 0.95 * losses[0]
    held, settled = kernels(model), training.settle()
    for name, weights in held.items():
        after = settled[name]
        assert after.weights().tobytes() == weights.tobytes()
        assert np.all(np.diff(after.levels) > 0) and 0 in after.levels and len(after.levels) <= 8
        assert after.on_int8_grid == (grid == "int8") and np.all(after.scales > 0)
        # Assignments are fixed: weights that had one level have one still.
        for level in range(len(shared[name].levels)):
            assert len(np.unique(after.indices[shared[name].indices == level])) <= 1
        assert not weights[shared[name].indices == shared[name].zero].any()
        assert not np.allclose(after.scales, shared[name].scales, rtol=1e-3)
    assert any(not np.array_equal(settled[name].levels, s.levels) for name, s in shared.items())


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for block in (2**22, 12):
        monkeypatch.setattr(finetuning, "BLOCK", block)
        model = dense()
        training = SharedTraining(model, share_kernels(model, grid="none"))
        fit(training, keras.optimizers.SGD(0.1), epochs=4, batch_size=8)
        ends.append(model.get_weights())
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("make", [lambda m: PrunedTraining(m, 0.01), lambda m: SharedTraining(m, share_kernels(m))])
def test_steps_are_the_same_each_time(make: Callable[[keras.Model], keras.Model]) -> None:
    """Nothing is updated before all that reads it has: the first steps after tracing showed it in one of five."""
    model = dense()
    prune_model(model, sparsity=0.3)
    training = make(model)
    training.compile(keras.optimizers.SGD(0.1), "mse")
    start, batch, ends = [np.array(v) for v in training.variables], [tf.constant(a) for a in data(model)], set()
    for _ in range(15):
        for variable, value in zip(training.variables, start, strict=True):
            variable.assign(value.copy())
        step = tf.function(lambda *batch: training.train_step(batch))
        for _ in range(5):
            step(*batch)
        ends.add(b"".join(np.array(v).tobytes() for v in training.variables))
    assert len(ends) == 1


def test_a_level_that_comes_to_zero_is_plainly_zero() -> None:
    """No -0, which a file would have to keep as float32."""
    model = dense()
    shared = share_kernels(model)
    training = SharedTraining(model, shared)
    for code in training._codes:
        below = code.levels.numpy()
        below[max(0, shared[code.kernel.name].zero - 1)] = -1e-4
        code.levels.assign(below)
    for sharing in training.settle().values():
        assert np.all(np.diff(sharing.levels) > 0) and not np.any(np.signbit(sharing.levels[sharing.levels == 0]))


def test_the_optimizer_has_no_slots_for_kernels() -> None:
    model = dense()
    training = SharedTraining(model, share_kernels(model), refresh=2)
    fit(training, keras.optimizers.Adam(0.01))
    sizes = sum(int(np.prod(v.shape)) for v in training.optimizer.variables)
    trained = sum(int(np.prod(v.shape)) for v in training.trainable_variables)
    assert sizes == 2 * trained + 2  # two moments, the count and the rate
    paths = {kernel.variable.path for kernel in find_kernels(model)}
    assert not paths & {v.path for v in training.trainable_variables}


def test_refreshing_assigns_anew_and_gets_lower() -> None:
    """From 0.0123 to 0.0034 when this was written. Pruned weights stay zero; before a refresh assignments are fixed."""

    def wide() -> keras.Model:
        keras.utils.set_random_seed(2)
        return keras.Sequential([keras.Input((16,)), keras.layers.Dense(48, "tanh"), keras.layers.Dense(8)])

    ends, changed = {}, {}
    x, _ = data(wide(), 512)
    y = wide().predict(x, verbose=0)
    for refresh in (0, 10, 1000):
        model = wide()
        prune_model(model, sparsity=0.2)
        pruned = {name: weights == 0 for name, weights in kernels(model).items()}
        shared = share_kernels(model)
        training = SharedTraining(model, shared, refresh)
        rate = keras.optimizers.schedules.CosineDecay(0.001, 15 * 16)
        ends[refresh] = fit(training, keras.optimizers.Adam(rate), epochs=15, of=(x, y))[-1]
        held = kernels(model)
        changed[refresh] = sum(
            np.count_nonzero(code.indices.numpy() != shared[code.kernel.name].indices.reshape(code.indices.shape))
            for code in training._codes
        )
        for name, sharing in training.settle().items():
            np.testing.assert_array_equal(sharing.weights(), held[name])
            assert len(sharing.levels) <= 8 and sharing.on_int8_grid
            assert not held[name][pruned[name]].any()
    assert changed[0] == changed[1000] == 0 < changed[10]
    assert ends[1000] == ends[0] and ends[10] < 0.5 * ends[0]


def test_refresh_below_zero() -> None:
    with pytest.raises(ValueError, match="refresh=-1: a number of steps, 0 for never"):
        SharedTraining(dense(), {}, -1)


def test_a_kernel_that_the_loss_does_not_reach_stays() -> None:
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="used")(inputs)
    model = keras.Model(inputs, [x, keras.layers.Dense(2, name="unused")(inputs)])
    shared = share_kernels(model)
    before = model.get_layer("unused").kernel.numpy()
    training = SharedTraining(model, shared)
    training.compile("adam", ["mse", None])
    training.fit(np.ones((8, 4)), [np.zeros((8, 3)), np.zeros((8, 2))], verbose=0)
    np.testing.assert_array_equal(model.get_layer("unused").kernel.numpy(), before)
    assert np.any(model.get_layer("used").kernel.numpy() != shared["used/kernel"].weights())


def test_a_model_is_saved_without_its_training(tmp_path) -> None:
    model = dense()
    prune_model(model, sparsity=0.3)
    training = SharedTraining(model, share_kernels(model))
    fit(training, keras.optimizers.Adam(0.01))
    assert training.evaluate(*data(model), verbose=0) == pytest.approx(mean_loss(model.get_weights(), *data(model)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert getattr(model, "optimizer", None) is getattr(loaded, "optimizer", None) is None and len(loaded.weights) == 4
