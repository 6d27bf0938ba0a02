"""Fine-tuning a compressed network: pruned weights stay zero, shared weights stay shared. For anybody's `fit`."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from tfplaces.compression.kernels import find_kernels
from tfplaces.compression.sharing import SharedKernel


@keras.saving.register_keras_serializable(package="tfplaces")
class PrunedTraining(keras.Model):
    """Trains a model while its pruned weights stay zero, with an L1 penalty on all kernels.

    The objective is J(θ) = loss + λ Σ |W| (Saha et al., ACPR 2017). Compile and fit this instead of the model.

    Args:
        model: the network; its weights are trained in place.
        masks: the survivors of each kernel by name, bool.
        l1: λ.
    """

    def __init__(self, model: keras.Model, masks: Mapping[str, np.ndarray], l1: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.model = model
        self.l1 = l1
        self._kernels = [kernel.variable for kernel in find_kernels(model)]
        self._masks = [(k.variable, tf.constant(masks[k.name])) for k in find_kernels(model) if k.name in masks]

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
            if self.l1:
                loss += self.l1 * tf.add_n([tf.reduce_sum(tf.abs(kernel.value)) for kernel in self._kernels])
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        for variable, mask in self._masks:
            variable.assign(tf.where(mask, variable.value, 0.0))
        self._loss_tracker.update_state(loss)
        return self.compute_metrics(x, y, y_pred)


@keras.saving.register_keras_serializable(package="tfplaces")
class SharedTraining(keras.Model):
    """Trains the levels, scales and biases of a model whose kernels are shared; assignments stay as they are.

    The gradient of a level is the sum of the gradients of the weights that share it (trained quantization, Han et al.
    2016), each times its channel's scale; the level zero stays zero.

    Args:
        model: the network, whose kernels hold the shared weights; they are changed in place.
        shared: the sharing of each kernel by name; `updated` gives it after training.
    """

    def __init__(self, model: keras.Model, shared: Mapping[str, SharedKernel], **kwargs):
        super().__init__(**kwargs)
        self.model = model
        self._shared = dict(shared)
        self._kernels = [
            kernel for kernel in find_kernels(model) if kernel.name in shared and kernel.variable.trainable
        ]
        self._indices, self._levels, self._scales = [], [], []
        for kernel in self._kernels:
            ours = shared[kernel.name]
            name = kernel.name.replace("/", "_")
            self._indices.append(tf.constant(ours.indices))
            self._levels.append(self._variable(f"{name}_levels", ours.levels))
            self._scales.append(self._variable(f"{name}_scales", ours.scales))
        held = {id(kernel.variable) for kernel in self._kernels}
        self._free = [v for v in model.trainable_variables if id(v) not in held]

    def _variable(self, name: str, value: np.ndarray) -> keras.Variable:
        return self.add_weight(name=name, shape=value.shape, initializer=lambda *_, **__: tf.constant(value))

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        kernels = [kernel.variable for kernel in self._kernels]
        gradients = tape.gradient(loss, [v.value for v in kernels + self._free])
        level_gradients, scale_gradients = [], []
        for k, gradient in enumerate(gradients[: len(kernels)]):
            kernel, shared = self._kernels[k], self._shared[self._kernels[k].name]
            levels, indices = self._levels[k].value, tf.cast(self._indices[k], tf.int32)
            scales = _broadcast(self._scales[k].value, kernel.channel_axis, len(gradient.shape))
            sums = tf.math.unsorted_segment_sum(gradient * scales, indices, len(shared.levels))
            level_gradients.append(sums * (1.0 - tf.one_hot(shared.zero, len(shared.levels))))
            other = [axis for axis in range(len(gradient.shape)) if axis != kernel.channel_axis]
            scale_gradients.append(tf.reduce_sum(gradient * tf.gather(levels, indices), other))
        self.optimizer.apply(
            level_gradients + scale_gradients + gradients[len(kernels) :], self._levels + self._scales + self._free
        )
        for kernel, indices, levels, scales in zip(
            self._kernels, self._indices, self._levels, self._scales, strict=True
        ):
            weights = tf.gather(levels.value, tf.cast(indices, tf.int32))
            kernel.variable.assign(weights * _broadcast(scales.value, kernel.channel_axis, len(weights.shape)))
        self._loss_tracker.update_state(loss)
        return self.compute_metrics(x, y, y_pred)

    def updated(self) -> dict[str, SharedKernel]:
        """The sharing of each kernel by name, as trained; exactly what the model's kernels hold."""
        result = dict(self._shared)
        for kernel, levels, scales in zip(self._kernels, self._levels, self._scales, strict=True):
            before = self._shared[kernel.name]
            # Levels may have passed each other: keep them ascending.
            order = np.argsort(levels.numpy(), kind="stable")
            rank = np.empty(len(order), np.uint8)
            rank[order] = np.arange(len(order))
            result[kernel.name] = SharedKernel(
                levels.numpy()[order], rank[before.indices], scales.numpy(), before.channel_axis
            )
        return result


def _broadcast(scales, channel_axis: int, ndim: int):
    return tf.reshape(scales, [-1 if axis == channel_axis else 1 for axis in range(ndim)])
