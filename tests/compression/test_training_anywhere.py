"""`PrunedTraining` and `SharedTraining` in an ordinary `fit`, with all that touches variables between steps or saves.

Each setting ends with the right weights, or is refused in one line before the first step. The oracle of pruned training
is a plain Keras network whose kernels are multiplied by a mask and have Keras's own L1 regulariser: it is compiled and
fitted in the same setting, so its weights are to be the same. Two replicas need two devices, which a process chooses
once: what is fitted on them is fitted in one process of its own, see `fit_on_two_replicas`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfplaces.common.errors import UserError
from tfplaces.compression import PrunedTraining, Pruning, SharedTraining, find_kernels, prune_model, share
from tfplaces.compression.quantizers.kmeans import SharedKernel

L1 = 0.01


@dataclass
class Setting:
    """How a network is compiled; `tolerance` is that of its weights after 6 steps."""

    optimizer: Callable[[], keras.optimizers.Optimizer]
    options: dict[str, Any] = field(default_factory=dict)
    policy: str = "float32"
    tolerance: float = 1e-6


def sgd(**options: Any) -> Callable[[], keras.optimizers.Optimizer]:
    return lambda: keras.optimizers.SGD(0.1, **options)


SETTINGS = {
    "plain": Setting(sgd()),
    "momentum": Setting(sgd(momentum=0.9)),
    "adam": Setting(lambda: keras.optimizers.Adam(0.01), tolerance=1e-5),
    "adafactor": Setting(lambda: keras.optimizers.Adafactor(0.01), tolerance=1e-5),
    "weight_decay": Setting(lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1), tolerance=1e-5),
    "clipnorm": Setting(sgd(clipnorm=0.05)),
    "global_clipnorm": Setting(sgd(global_clipnorm=0.05)),
    "accumulation": Setting(sgd(gradient_accumulation_steps=2)),
    "loss_scaling": Setting(lambda: keras.optimizers.LossScaleOptimizer(sgd()())),
    "mixed_float16": Setting(sgd(), policy="mixed_float16", tolerance=1e-3),
    "steps_per_execution": Setting(sgd(), {"steps_per_execution": 3}),
    "run_eagerly": Setting(sgd(), {"run_eagerly": True}),
    "jit_off": Setting(sgd(), {"jit_compile": False}),
    "jit_on": Setting(sgd(), {"jit_compile": True}),
}
DISTRIBUTED = ["plain", "weight_decay", "global_clipnorm", "mixed_float16"]


class Masked(keras.layers.Layer):
    """A dense layer of which only some weights exist."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray, activation: str | None, dtype: Any):
        super().__init__(dtype=dtype)
        self.mask, self.activation = kernel != 0, keras.activations.get(activation)
        self.start = kernel, bias
        self.built = True
        self.kernel = self.add_weight(
            shape=kernel.shape, initializer=lambda *_, **__: kernel, regularizer=keras.regularizers.L1(L1)
        )
        self.bias = self.add_weight(shape=bias.shape, initializer=lambda *_, **__: bias)

    def call(self, x):
        kernel = keras.ops.convert_to_tensor(self.kernel) * keras.ops.cast(self.mask, self.compute_dtype)
        return self.activation(keras.ops.matmul(x, kernel) + self.bias)


def network(policy: str = "float32") -> keras.Model:
    """A third of its weights pruned."""
    keras.utils.set_random_seed(5)
    with_policy = keras.dtype_policies.get(policy)
    layers = [
        keras.layers.Dense(5, "tanh", name="first", dtype=with_policy),
        keras.layers.Dense(3, name="second", dtype=with_policy),
    ]
    model = keras.Sequential([keras.Input((6,)), *layers], name="network")
    model.dtype_policy = with_policy
    prune_model(model, sparsity=0.3)
    return model


def oracle(model: keras.Model, policy: str) -> keras.Model:
    layers = [Masked(*layer.get_weights(), layer.activation, layer.dtype_policy) for layer in model.layers]
    masked = keras.Sequential([keras.Input((6,)), *layers])
    masked.dtype_policy = keras.dtype_policies.get(policy)
    return masked


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(48, 6)).astype(np.float32), rng.normal(size=(48, 3)).astype(np.float32)


def fit(
    training: keras.Model, setting: Setting, *, epochs: int = 2, batch_size: int = 16, callbacks: list | None = None
) -> list[float]:
    """Six steps of 16 images, unless said otherwise. Returns the losses."""
    training.compile(setting.optimizer(), "mse", **setting.options)
    options = {"epochs": epochs, "batch_size": batch_size, "shuffle": False, "verbose": 0, "callbacks": callbacks}
    return training.fit(*data(), **options).history["loss"]


def share_kernels(model: keras.Model, bits: int = 3, grid: str = "none") -> dict[str, SharedKernel]:
    shared = {k.name: share(k.variable.numpy(), k.channel_axis, bits, grid) for k in find_kernels(model)}
    for kernel in find_kernels(model):
        kernel.variable.assign(shared[kernel.name].weights())
    return shared


def fitted(training: keras.Model, setting: Setting, **options: Any) -> list[np.ndarray]:
    """The weights of the network after a fit."""
    fit(training, setting, **options)
    return training.model.get_weights()


# Pruned training, on one replica.


def pruned_and_oracle(setting: Setting, callbacks: list | None = None):
    model = network(setting.policy)
    reference = oracle(model, setting.policy)
    training = PrunedTraining(model, L1)
    return training, fit(training, setting, callbacks=callbacks), reference, fit(reference, setting)


def check_pruned(
    name: str, losses: list[float], weights: list[np.ndarray], expected: list[float], oracle_s: list[np.ndarray]
) -> None:
    setting = SETTINGS[name]
    start = network(setting.policy).get_weights()
    np.testing.assert_allclose(losses, expected, rtol=1e-5 + setting.tolerance)
    for before, now, then in zip(start, weights, oracle_s, strict=True):
        np.testing.assert_allclose(now, then, atol=setting.tolerance)
        if before.ndim == 2:
            assert np.abs(now - before).max() > 20 * setting.tolerance
            np.testing.assert_array_equal(now == 0, before == 0)
    assert sum(np.sum(w == 0) for w in start if w.ndim == 2) == round(0.3 * sum(w.size for w in start))


@pytest.mark.parametrize("name", SETTINGS)
def test_pruned_training_is_that_of_the_masked_network(name: str) -> None:
    training, losses, reference, expected = pruned_and_oracle(SETTINGS[name])
    check_pruned(name, losses, training.model.get_weights(), expected, reference.get_weights())


def test_the_loss_is_scaled_by_the_policy_of_the_network() -> None:
    """Whatever the global policy is when it is trained: gradients of float16 would come to zero."""
    for policy, expected in (("mixed_float16", True), ("float32", False)):
        training = PrunedTraining(network(policy))
        training.compile("sgd", "mse")
        assert isinstance(training.optimizer, keras.optimizers.LossScaleOptimizer) == expected


# Shared training, on one replica.


def shared_training(policy: str = "float32", refresh: int = 0) -> SharedTraining:
    model = network(policy)
    return SharedTraining(model, share_kernels(model), refresh=refresh)


def check_shared(training: SharedTraining) -> None:
    """Kernels hold what the sharing says, which has moved, and pruned weights are zero."""
    start = network().get_weights()
    for kernel, before in zip(find_kernels(training.model), (w for w in start if w.ndim == 2), strict=True):
        weights, shared = kernel.variable.numpy(), training.settle()[kernel.name]
        np.testing.assert_array_equal(weights, shared.weights())
        assert len(shared.levels) <= 8 and np.abs(weights - before).max() > 1e-3
        np.testing.assert_array_equal(weights[before == 0], 0)


@pytest.mark.parametrize("name", ["loss_scaling", "mixed_float16", "steps_per_execution", "run_eagerly", "jit_off"])
def test_shared_training_is_the_same_in_every_setting(name: str) -> None:
    setting = SETTINGS[name]
    # Where it computes in float16, a weight half-way between two levels may go to the other.
    refresh = 0 if name == "mixed_float16" else 2
    expected = fitted(shared_training(refresh=refresh), SETTINGS["plain"])
    training = shared_training(setting.policy, refresh)
    for now, then in zip(fitted(training, setting), expected, strict=True):
        np.testing.assert_allclose(now, then, atol=2 * setting.tolerance)
    check_shared(training)


def test_shared_training_does_without_xla() -> None:
    """Which a GPU would be given by default; asked for, Keras says that it is left out."""
    training = shared_training(refresh=2)
    with pytest.warns(UserWarning, match="Proceeding with `jit_compile=False`"):
        training.compile("sgd", "mse", jit_compile=True)
    assert not training.jit_compile


def test_accumulated_gradients_of_shared_weights_are_those_of_the_larger_batch() -> None:
    training = shared_training()
    expected = fitted(shared_training(), SETTINGS["plain"])
    for now, then in zip(fitted(training, SETTINGS["accumulation"], batch_size=8), expected, strict=True):
        np.testing.assert_allclose(now, then, atol=1e-6)
    check_shared(training)


def test_the_global_norm_is_of_the_gradients_of_what_is_trained() -> None:
    """One step of SGD: levels, logarithms of scales and biases move by rate · norm, all along the plain gradient."""
    moves = []
    for name in ("plain", "global_clipnorm"):
        training = shared_training()
        before = [v.numpy() for v in training.trainable_variables]
        setting = SETTINGS[name]
        training.compile(setting.optimizer(), "mse")
        training.fit(*data(), epochs=1, batch_size=48, verbose=0)
        after = [v.numpy() for v in training.trainable_variables]
        moves.append(np.concatenate([(a - b).ravel() for a, b in zip(after, before, strict=True)]))
    plain, clipped = moves
    assert np.linalg.norm(plain) > 2 * 0.1 * 0.05
    np.testing.assert_allclose(clipped, plain * 0.1 * 0.05 / np.linalg.norm(plain), atol=1e-6)


# What is refused before the first step.


@pytest.mark.parametrize(
    ("make", "optimizer", "message"),
    [
        (PrunedTraining, sgd(use_ema=True), "use_ema=True replaces weights by their moving average"),
        (shared_training, sgd(use_ema=True), "use_ema=True replaces weights by their moving average"),
        (
            shared_training,
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(use_ema=True)),
            "use_ema=True replaces weights by their moving average",
        ),
        (shared_training, keras.optimizers.AdamW, "weight_decay would draw levels and scales"),
        (
            lambda: shared_training(refresh=2),
            sgd(gradient_accumulation_steps=2),
            "gradient_accumulation_steps do not go with refresh",
        ),
    ],
)
def test_what_would_undo_the_compression_is_refused(make, optimizer, message: str) -> None:
    training = make(network()) if make is PrunedTraining else make()
    with pytest.raises(UserError, match=message) as error:
        training.compile(optimizer(), "mse")
    assert "\n" not in str(error.value)


def test_the_callback_refuses_what_would_undo_pruning() -> None:
    pruning = Pruning(sparsity=lambda step: (step == 2, 0.5))
    for options, message in (
        ({"optimizer": keras.optimizers.SGD(use_ema=True)}, "use_ema=True"),
        ({"steps_per_execution": 2}, "steps_per_execution above 1"),
    ):
        model = network()
        before = model.get_weights()
        model.compile(loss="mse", **options)
        with pytest.raises(UserError, match=message):
            model.fit(*data(), verbose=0, callbacks=[pruning])
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


# Callbacks of Keras that save and put back.


class Kernels(keras.callbacks.Callback):
    """The kernels after every step."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append([kernel.variable.numpy() for kernel in find_kernels(self.model.model)])


@pytest.mark.parametrize("make", [lambda: PrunedTraining(network(), L1), lambda: shared_training(refresh=2)])
def test_a_checkpoint_holds_the_network_as_it_was_at_that_step(make, tmp_path: Path) -> None:
    training, kernels = make(), Kernels()
    save = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=2)
    state = keras.callbacks.ModelCheckpoint(tmp_path / "state.weights.h5", save_weights_only=True)
    fit(training, SETTINGS["adam"], callbacks=[save, kernels, state])
    files = sorted(tmp_path.glob("*.keras"))
    assert len(files) == 3
    for file, expected in zip(files, kernels.seen[1::2], strict=True):
        loaded = keras.models.load_model(file)
        assert type(loaded) is keras.Sequential and not loaded.compiled
        for kernel, value in zip(find_kernels(loaded), expected, strict=True):
            np.testing.assert_array_equal(kernel.variable.numpy(), value)
    # The state of the training goes into a new one of the same kind, which trains on from it.
    again = make()
    again.compile(SETTINGS["adam"].optimizer(), "mse")
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "state.weights.h5")
    for training_of in (training, again):
        training_of.fit(*data(), batch_size=16, shuffle=False, verbose=0)
    for old, new in zip(training.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    if isinstance(again, SharedTraining):
        check_shared(again)


def test_early_stopping_puts_kernels_and_levels_back_together() -> None:
    """With a rate that makes every later epoch worse."""
    training, kernels = shared_training(refresh=2), Kernels()
    stop = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True, start_from_epoch=0)
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 if epoch < 1 else 3.0)
    losses = fit(training, SETTINGS["plain"], epochs=6, callbacks=[stop, rate, kernels])
    assert stop.best_epoch < len(losses) - 1
    for kernel, value in zip(find_kernels(training.model), kernels.seen[3 * stop.best_epoch + 2], strict=True):
        np.testing.assert_array_equal(kernel.variable.numpy(), value)
    check_shared(training)


# Two replicas, in a process of their own.


def fit_on_two_replicas(folder: Path) -> dict[str, Any]:
    """What the process of the fixture `two_replicas` does."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    results: dict[str, Any] = {}
    with strategy.scope():
        for name in DISTRIBUTED:
            save = keras.callbacks.ModelCheckpoint(folder / f"{name}.keras")
            training, losses, reference, expected = pruned_and_oracle(SETTINGS[name], [save])
            results[name] = {
                "losses": losses,
                "expected": expected,
                "oracle": to_lists(reference.get_weights()),
                "replicas": replicas_of(training.model),
            }
        pruned = network()
        fit(pruned, SETTINGS["adam"], callbacks=[Pruning(sparsity=lambda step: (step == 3, 0.5))])
        results["callback"] = replicas_of(pruned)
        inside = network()
    outside = network()

    def fit_in_scope(training: keras.Model) -> None:
        with strategy.scope():
            training.fit(*data(), verbose=0)

    def compile_in_scope(make: Callable[[], keras.Model], name: str) -> None:
        with strategy.scope():
            make().compile(SETTINGS[name].optimizer(), "mse", **SETTINGS[name].options)

    elsewhere = PrunedTraining(outside)
    elsewhere.compile("sgd", "mse")
    for name, attempt in {
        "accumulation": lambda: compile_in_scope(lambda: PrunedTraining(inside), "accumulation"),
        "steps_per_execution": lambda: compile_in_scope(lambda: PrunedTraining(inside), "steps_per_execution"),
        "shared": lambda: compile_in_scope(lambda: SharedTraining(inside, share_kernels(inside)), "plain"),
        "network_outside": lambda: compile_in_scope(lambda: PrunedTraining(outside), "plain"),
        "training_outside": lambda: PrunedTraining(inside),
        "shared_outside": lambda: SharedTraining(inside, share_kernels(inside)),
        "compiled_inside": lambda: compile_in_scope(lambda: elsewhere, "plain"),
        "fitted_inside": lambda: fit_in_scope(elsewhere),
    }.items():
        try:
            attempt()
            results[name] = "nothing was refused"
        except UserError as error:
            results[name] = str(error)
    return results


def to_lists(weights: list[np.ndarray]) -> list:
    return [w.tolist() for w in weights]


def replicas_of(model: keras.Model) -> list[list]:
    return [to_lists([variable.value.values[k].numpy() for variable in model.weights]) for k in (0, 1)]


@pytest.fixture(scope="module")
def two_replicas(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What `fit_on_two_replicas` found, and its folder."""
    folder = tmp_path_factory.mktemp("replicas")
    result = subprocess.run([sys.executable, __file__, folder / "results.json"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads((folder / "results.json").read_text()), folder


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTRIBUTED)
def test_pruned_training_on_two_replicas(name: str, two_replicas: tuple[dict[str, Any], Path]) -> None:
    """As the masked network there, whose L1 Keras counts once; alike on both; and so it was saved."""
    results, folder = two_replicas
    first, second = ([np.array(w, np.float32) for w in replica] for replica in results[name]["replicas"])
    reference = [np.array(w, np.float32) for w in results[name]["oracle"]]
    check_pruned(name, results[name]["losses"], first, results[name]["expected"], reference)
    saved = keras.models.load_model(folder / f"{name}.keras").get_weights()
    for one, two, kept in zip(first, second, saved, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, kept)


def test_two_replicas_train_as_one(two_replicas: tuple[dict[str, Any], Path]) -> None:
    """The mean of the squared error over the batch, and the penalty once: one replica of twice the size."""
    results = two_replicas[0]["plain"]
    for one, two in zip(fitted(PrunedTraining(network(), L1), SETTINGS["plain"]), results["replicas"][0], strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)


def test_the_callback_keeps_zeros_on_two_replicas(two_replicas: tuple[dict[str, Any], Path]) -> None:
    first, second = two_replicas[0]["callback"]
    assert first == second
    zeros = sum(np.sum(np.array(w) == 0) for w in first if np.ndim(w) == 2)
    assert zeros == round(0.5 * network().count_params())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("accumulation", "Keras does not accumulate gradients on 2 replicas"),
        ("steps_per_execution", "Keras does not run several steps per execution on 2 replicas"),
        ("shared", "shared weights are trained by one replica, here are 2"),
        ("network_outside", "network was not made in the tf.distribute scope that its training is made in"),
        ("training_outside", "network was not made in the tf.distribute scope that its training is made in"),
        ("shared_outside", "network was not made in the tf.distribute scope that its training is made in"),
        ("compiled_inside", "network and its training were made outside of this tf.distribute scope"),
        ("fitted_inside", "network and its training were made outside of this tf.distribute scope"),
    ],
)
def test_what_two_replicas_cannot_train_is_refused(
    name: str, message: str, two_replicas: tuple[dict[str, Any], Path]
) -> None:
    assert two_replicas[0][name].startswith(message)
    assert "\n" not in two_replicas[0][name]


if __name__ == "__main__":
    output = Path(sys.argv[1])
    output.write_text(json.dumps(fit_on_two_replicas(output.parent)))
