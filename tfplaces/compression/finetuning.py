"""Fine-tuning a compressed network: pruned weights stay zero, shared weights stay shared. For anybody's `fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from tfplaces.coding import SharedKernel
from tfplaces.coding.channels import BLOCK, channel_view, row_blocks
from tfplaces.coding.shared_kernel import GRID_MAX
from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import flat_layers, record_loss
from tfplaces.compression.kernels import Kernel, find_kernels, value_for
from tfplaces.layers import PCAWhitening
from tfplaces.layers.whitening import KERNEL_RMS
from tfplaces.training.checkpoint import Checkpoint
from tfplaces.training.model_training import ModelTraining, check_no_moving_average, optimizers_of

# With these factors a learning rate of Adam that suits weights, 1e-4, suits levels and scales: it moves a level by
# about 1/60 of the distance to the next, however many there are, and a scale by a thousandth.
_LEVELS_FACTOR, _SCALES_FACTOR = 320, 10.0


class FineTuning(Protocol):
    """A way to fine-tune, for `compress`.

    Attributes:
        model: what `compress` is to wrap: the network, with the outputs that the loss is of.
        steps: about how many steps a fit takes.
    """

    model: keras.Model
    steps: int

    def fit(
        self,
        fitted: keras.Model,
        callbacks: Sequence[keras.callbacks.Callback],
        checkpoint: Checkpoint | None,
        keep_best: bool,
    ) -> None:
        """Fits a `PrunedTraining` or a `SharedTraining`.

        Args:
            fitted: what to compile and fit.
            callbacks: to fit with.
            checkpoint: where to keep its state after every epoch, and to go on from.
            keep_best: whether to end with the best epoch, where epochs are judged, rather than with the last.
        """


class PrunedTraining(ModelTraining):
    """Trains a model while the weights of its kernels that are zero stay zero, with an L1 penalty on all kernels.

    The objective is J(θ) = loss + Σ_l λ_l Σ |W_l| (Saha et al., ACPR 2017). Compile and fit this instead of the model;
    prune with `prune_model` before, or with the callback `Pruning` as it goes. A kernel that is all zero when this is
    made is trained freely. A PCA whitening, whose scale is free, is kept at its RMS, or the penalty would shrink it.

    Args:
        model: the network; its weights are trained in place.
        l1: λ of all kernels, at least 0.
        l1_for: λ of some, by shell globs, see `value_for`.

    Any optimizer will do but one with `use_ema`, which `compile` refuses. Pruned weights have no gradient, so that they
    count neither when gradients are clipped by their norm nor in an optimizer's averages over a kernel. Under
    `tf.distribute` each replica keeps the same zeros, and the penalty counts once.

    Raises:
        UserError: a λ is negative or no number, a glob matches nothing, or the model is not built.
    """

    def __init__(self, model: keras.Model, l1: float = 0.0, l1_for: Mapping[str, float] | None = None, **kwargs):
        super().__init__(model, **kwargs)
        check_l1(l1, l1_for or {})
        kernels = find_kernels(model)
        penalties = value_for(kernels, l1_for or {}, l1)
        self._whitenings = _whitenings(model)
        self._penalties = [(k.variable, penalties[k.name]) for k in kernels if penalties[k.name]]
        self._kernels = [k.variable for k in kernels if k.variable.trainable and np.any(k.variable.numpy())]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        check_no_moving_average(self)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        # The gradients of replicas are added up, and Keras divides the loss accordingly.
        replicas = self.distribute_strategy.num_replicas_in_sync
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
            for kernel, l1 in self._penalties:
                loss += tf.cast(l1 * tf.reduce_sum(tf.abs(kernel.value)) / replicas, loss.dtype)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.model.trainable_variables
        gradients = tape.gradient(scaled, [v.value for v in variables])
        survivors = [tf.not_equal(kernel.value, tf.zeros((), kernel.dtype)) for kernel in self._kernels]
        # Of a weight that is pruned there is no gradient: it would count in the norms that clip the others.
        alive_of = {id(kernel): alive for kernel, alive in zip(self._kernels, survivors, strict=True)}
        gradients = [
            tf.where(alive_of[id(v)], gradient, tf.zeros((), gradient.dtype))
            if id(v) in alive_of and gradient is not None
            else gradient
            for v, gradient in zip(variables, gradients, strict=True)
        ]
        # Or a kernel may have moved before it is asked for its zeros.
        with tf.control_dependencies(survivors):
            self.optimizer.apply(gradients, variables)
        for kernel, alive in zip(self._kernels, survivors, strict=True):
            kernel.assign(tf.where(alive, kernel.value, tf.zeros((), kernel.dtype)))
        for whitening in self._whitenings:
            whitening.rescale()
        record_loss(self, loss * tf.cast(replicas, loss.dtype), _images(x))
        return self.compute_metrics(x, y, y_pred, sample_weight)


class SharedTraining(ModelTraining):
    """Trains the levels, scales and biases of a model whose kernels are shared.

    The gradient of a level is the sum of the gradients of the weights that share it (trained quantization, Han et al.
    2016), each times its channel's scale; the level zero stays zero. Levels on the int8 grid stay on it: they are
    rounded on the way forward, and the gradient passes as if they were not. A PCA whitening is kept at its RMS.

    Beside the model's weights it takes memory for one gradient and a byte a weight, and with refreshing once the
    weights more; the optimizer has slots for levels, scales and biases only.

    Args:
        model: the network, whose kernels hold the shared weights; they are changed in place.
        shared: the sharing of each kernel by name; `settle` gives it after training.
        refresh: after this many steps each time, weights are assigned to levels anew: beside the levels the weights
            themselves move along their gradients (a tenth as far as `RatedAdam` moves levels), and take the level
            nearest to where they are. Pruned weights stay zero. 0: assignments stay as they are.

    `compile` refuses, in one line, what would not train the shared weights: an optimizer with `use_ema` or
    `weight_decay` (levels and scales are not weights), gradient accumulation with refreshing, and `tf.distribute` with
    more than one replica. With `jit_compile=True` Keras warns and does without XLA.

    Raises:
        UserError: refresh is below 0, the model is not built, or a kernel that is shared is not float32 or has a
            constraint.
    """

    def __init__(self, model: keras.Model, shared: Mapping[str, SharedKernel], refresh: int = 0, **kwargs):
        super().__init__(model, **kwargs)
        if refresh < 0:
            raise UserError(f"refresh={refresh}: a number of steps, 0 for never")
        self._whitenings = _whitenings(model)
        # XLA, which Keras takes where there is a GPU, knows no blocks of a size that varies.
        self.supports_jit = False
        self._shared, self._refresh = dict(shared), refresh
        kernels = [k for k in find_kernels(model) if k.name in shared and k.variable.trainable]
        for kernel in kernels:
            _check_shareable(kernel)
        self._codes = [_SharedVariable(self, kernel, shared[kernel.name], refresh > 0) for kernel in kernels]
        held = {id(code.kernel.variable) for code in self._codes}
        self._free = [v for v in model.trainable_variables if id(v) not in held]

    @property
    def trainable_variables(self):
        """Not the kernels themselves: the optimizer would make slots for them."""
        return [v for code in self._codes for v in code.trained] + self._free

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        check_no_moving_average(self)
        for optimizer in optimizers_of(self):
            if getattr(optimizer, "weight_decay", None):
                raise UserError(
                    "weight_decay would draw levels and scales to where they started, not weights to zero: compile an "
                    "optimizer without it"
                )
            if self._refresh and getattr(optimizer, "gradient_accumulation_steps", None):
                raise UserError("gradient_accumulation_steps do not go with refresh: leave out one of them")
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1:
            raise UserError(
                f"shared weights are trained by one replica, here are {replicas}: leave the strategy's scope"
            )

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
            scaled = self.optimizer.scale_loss(loss)
        kernels = [code.kernel.variable for code in self._codes]
        gradients = tape.gradient(
            scaled, [v.value for v in kernels + self._free], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        updates = []
        for code, gradient in zip(self._codes, gradients, strict=False):
            updates += code.gradients(gradient)
            if self._refresh:
                code.move(gradient, self.optimizer.learning_rate)
        # Or a level may have moved before the gradient of the scales reads it: seen in the first steps after tracing.
        with tf.control_dependencies(updates):
            self.optimizer.apply(updates + gradients[len(kernels) :], self.trainable_variables)
        if self._refresh:
            due = tf.equal(tf.cast(self.optimizer.iterations.value, tf.int64) % self._refresh, 0)
            tf.cond(due, lambda: [code.reassign() for code in self._codes], lambda: [tf.no_op() for _ in self._codes])
        for code in self._codes:
            for whitening in self._whitenings:
                if code.kernel.variable is whitening.kernel:
                    whitening.bias.assign(whitening.bias * code.rescale(KERNEL_RMS))
            code.write()
        record_loss(self, loss, _images(x))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    @property
    def rate_factors(self) -> list[float]:
        """What to multiply Adam's learning rate for weights by, for each of `trainable_variables`; see `RatedAdam`."""
        return [factor for code in self._codes for factor in code.rate_factors] + [1.0] * len(self._free)

    def levels(self) -> dict[str, np.ndarray]:
        """The levels of each kernel by name as they are now, float32 `[n]`."""
        return {code.kernel.name: code.values()[0].numpy() for code in self._codes}

    def settle(self) -> dict[str, SharedKernel]:
        """The sharing of each kernel by name, as trained: bit for bit what the model's kernels hold."""
        result = dict(self._shared)
        for code in self._codes:
            result[code.kernel.name] = code.settled()
        return result


class _SharedVariable:
    """The trainable form of a shared kernel: levels as shares of the largest, and logarithms of the scales' changes."""

    def __init__(self, owner: keras.Model, kernel: Kernel, shared: SharedKernel, moves: bool):
        self.kernel, self._before = kernel, shared
        self._shape = channel_view(np.empty(kernel.variable.shape, np.bool_), shared.channel_axis).shape
        self._rows = max(1, BLOCK // (self._shape[1] * self._shape[2]))
        self._grid = shared.on_int8_grid
        # Steps of an optimizer are about its learning rate whatever it moves: both are brought to the size of 1.
        self._unit = float(GRID_MAX) if self._grid else float(np.max(np.abs(shared.levels))) or 1.0
        name = kernel.name.replace("/", "_")
        self.levels = _variable(owner, f"{name}_levels", shared.levels / np.float32(self._unit), True)
        self.log_scales = _variable(owner, f"{name}_log_scales", np.zeros_like(shared.scales), True)
        self.trained = [self.levels, self.log_scales]
        self.rate_factors = [_LEVELS_FACTOR / max(len(shared.levels), 2), _SCALES_FACTOR]
        self.indices = _variable(owner, f"{name}_indices", channel_view(shared.indices, shared.channel_axis), False)
        # How many weights of a channel share a level: all that the kernel's RMS takes.
        self.counts = _variable(owner, f"{name}_counts", self._count().numpy(), False)
        self._moved: Any = None  # a variable, only where weights are assigned anew
        if moves:
            weights = tf.reshape(kernel.variable.value, self._shape) / (shared.scales[:, None] * self._unit)
            self._moved = _variable(owner, f"{name}_moved", weights, False)

    def values(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Levels and scales whose product the weights are."""
        levels = self.levels.value * self._unit
        if self._grid:
            levels = tf.clip_by_value(tf.round(levels), -GRID_MAX, GRID_MAX)
            levels = tf.where(tf.equal(levels, 0.0), 0.0, levels)  # no -0
        return levels, self._before.scales * tf.exp(self.log_scales.value)

    def _blocks(self, step, *state):
        """step(first row, next row, *state) over blocks of rows; what it returns is the next state."""
        rows, block = self._shape[0], self._rows
        if rows <= block:
            return step(0, rows, *state)
        first = tf.constant(0)
        result = tf.while_loop(
            lambda first, *_: first < rows,
            lambda first, *state: (first + block, *step(first, tf.minimum(first + block, rows), *state)),
            (first, *state),
            parallel_iterations=1,
        )
        return result[1:]

    def gradients(self, gradient: tf.Tensor) -> list[tf.Tensor]:
        """The gradients of levels and of log scales, from the gradient of the kernel."""
        gradient = tf.reshape(gradient, self._shape)
        sums = self._sums(lambda first, end: gradient[first:end])
        levels, scales = self.values()
        of_levels = tf.linalg.matvec(sums, scales, transpose_a=True) * self._unit
        of_scales = tf.linalg.matvec(sums, levels) * scales
        return [of_levels * (1.0 - tf.one_hot(self._before.zero, len(self._before.levels))), of_scales]

    def _sums(self, values) -> tf.Tensor:
        """The sums of values(first row, next row), `[rows, channels, columns]`, by channel and level."""
        count, channels = len(self._before.levels), self._shape[1]
        cells = tf.range(channels)[:, None] * count

        def add(first, end, sums):
            cell = tf.cast(self.indices.value[first:end], tf.int32) + cells
            # Not DenseBincount, which is faster: its sums depend on which thread took what.
            return (sums + tf.math.unsorted_segment_sum(values(first, end), cell, channels * count),)

        (sums,) = self._blocks(add, tf.zeros(channels * count))
        return tf.reshape(sums, (channels, count))

    def _count(self) -> tf.Tensor:
        return self._sums(lambda first, end: tf.ones((end - first, *self._shape[1:])))

    def write(self) -> None:
        """Assigns the weights to the kernel.

        As a whole: TensorFlow copies a variable that was once assigned a slice each time it is read.
        """
        levels, scales = self.values()
        # Indices of 16 bits, as the gradient of a large kernel may still be there.
        weights = tf.gather(levels, tf.cast(self.indices.value, tf.int16)) * scales[:, None]
        self.kernel.variable.assign(tf.reshape(weights, self.kernel.variable.shape))

    def move(self, gradient: tf.Tensor, learning_rate) -> None:
        """Moves the weights behind the levels."""
        _, scales = self.values()
        gradient = tf.reshape(gradient, self._shape)

        def add(first, end, power):
            return (power + 2.0 * tf.nn.l2_loss(gradient[first:end] * scales[:, None]),)

        (power,) = self._blocks(add, tf.constant(0.0))
        rate = tf.cast(learning_rate, tf.float32) * self.rate_factors[0] / _SCALES_FACTOR
        # With loss scaling a gradient may overflow; the optimizer leaves out that step, and so does this.
        finite = tf.math.is_finite(power)
        step = tf.where(finite, rate / tf.maximum(tf.sqrt(power / self.kernel.size), 1e-30), 0.0)
        self._moved.value.assign_sub(tf.where(finite, gradient * (step * scales)[:, None], 0.0))

    def reassign(self) -> tf.Tensor:
        """Assigns each weight to the level nearest to where it is; pruned ones stay."""
        levels = self.values()[0] / self._unit
        order = tf.argsort(levels, stable=True)
        ascending = tf.gather(levels, order)
        edges = (ascending[1:] + ascending[:-1]) / 2
        nearest = tf.searchsorted(edges, tf.reshape(self._moved.value, [-1]))
        nearest = tf.reshape(tf.gather(tf.cast(order, tf.uint8), nearest), self._shape)
        zero = tf.cast(self._before.zero, tf.uint8)
        self.indices.value.assign(tf.where(tf.equal(self.indices.value, zero), zero, nearest))
        self.counts.assign(self._count())
        return tf.no_op()

    def rescale(self, rms: float) -> tf.Tensor:
        """Brings the kernel, as it is written next, to a root mean square by its scales. Returns the factor."""
        levels, scales = self.values()
        power = tf.reduce_sum(self.counts.value * tf.square(levels * scales[:, None]))
        factor = rms / tf.sqrt(power / self.kernel.size)
        self.log_scales.assign_add(tf.fill(self.log_scales.shape, tf.math.log(factor)))
        return factor

    def settled(self) -> SharedKernel:
        """The sharing as it is now."""
        levels, scales = (tensor.numpy() for tensor in self.values())
        # Levels may have passed each other or met: keep them ascending, each once.
        kept, rank = np.unique(levels, return_inverse=True)
        indices = self.indices.numpy()
        for rows in row_blocks(indices):
            indices[rows] = rank.astype(np.uint8)[indices[rows]]
        return SharedKernel(kept, indices.reshape(self.kernel.variable.shape), scales, self._before.channel_axis)


def _whitenings(model: keras.Model) -> list[PCAWhitening]:
    """Those that are trained: their scale is free and has to be held."""
    return [layer for layer in flat_layers(model) if isinstance(layer, PCAWhitening) and layer.trainable]


def _images(x: Any) -> tf.Tensor:
    """How many images a batch has, whatever the structure of the inputs."""
    return tf.shape(tf.nest.flatten(x)[0])[0]


def _check_shareable(kernel: Kernel) -> None:
    """Refuses a kernel whose values or constraint a sharing cannot hold."""
    if kernel.variable.dtype != "float32":
        raise UserError(f"{kernel.name} is {kernel.variable.dtype}: only float32 kernels are trained as shared weights")
    if kernel.variable.constraint is not None:
        raise UserError(f"{kernel.name} has a constraint, which shared weights would not keep: remove it")


def check_l1(l1: float, l1_for: Mapping[str, float]) -> None:
    """Raises UserError unless all weights of the L1 penalty are finite and at least 0."""
    for name, value in {"l1": l1, **{f"l1_for[{key!r}]": value for key, value in l1_for.items()}}.items():
        if not 0 <= value < float("inf"):
            raise UserError(f"{name}={value}: the weight of a penalty is a finite number, at least 0")


def _variable(owner: keras.Model, name: str, value, trainable: bool) -> keras.Variable:
    return owner.add_weight(
        name=name, shape=value.shape, dtype=value.dtype, trainable=trainable, initializer=lambda *_, **__: value
    )
