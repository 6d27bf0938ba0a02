"""A network written anew for GPUs, out of operators that the delegates of phones and browsers take and compute right.

What was seen of them is in docs/delegates.md. A delegate that refuses one operator leaves the rest of the network to
the CPU, or refuses all of it, so everything is written out here:

- L2 normalisation: y = x / max(max|x|, 1e-6), then y / sqrt(max(Σy², 1)), which is x / max(‖x‖, 1e-6) exactly. GPUs
  compute in half precision, whose least number is about 6e-8 and whose largest is 65,504: squares of features are
  neither, but those of y lie between 1 and the number of channels, or are as good as nothing. For the same reason this
  is the form of every network here, whatever `norm` it has.
- NetVLAD's aᵀx, a product of two tensors that both depend on the image, as Σ x · a_k for one cluster after the other.
- Local response normalisation: the sum over neighbouring channels is a 1 x 1 convolution with a band of ones.
- GeM: of x / max x, so that powers stay in half precision's range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfplaces.layers import GeM, L2Normalization, LocalResponseNormalization, NetVLAD
from tfplaces.models import PlaceNet

# The length that shorter vectors are divided by; half precision holds it.
_LEAST_LENGTH = 1e-6
# Tensors that one operator joins; of 64 MediaPipe joins some wrongly, without a word.
_MOST_JOINED = 8


def gpu_form(model: PlaceNet) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function of a PlaceNet from images to descriptors, in the form that GPU delegates take whole.

    Takes float32 `[1, height, width, 3]` of a known size and gives float32 `[1, descriptor_dim]`, of unit length: the
    model's, but for vectors in it that are shorter than 1e-6, where the model's `norm` is another than `tflite`.
    """
    changed = keras.models.clone_model(model, clone_function=_for_gpus)
    return lambda image: changed(image, training=False)


def _for_gpus(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer of a network for GPUs that stands for a layer: another one of its name, or the same."""
    for kind, written_anew in _WRITTEN_ANEW.items():
        if isinstance(layer, kind):
            return written_anew(layer)
    return layer


class _WrittenAnew(keras.layers.Layer):
    """A layer that computes what another one does, with the other's weights."""

    def __init__(self, layer: keras.layers.Layer):
        super().__init__(name=layer.name, dtype="float32")
        self.layer = layer

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), "float32")


def _l2_normalize(x: Any, axis: int = -1) -> Any:
    y = x / tf.maximum(tf.reduce_max(tf.abs(x), axis, keepdims=True), _LEAST_LENGTH)
    return y * tf.math.rsqrt(tf.maximum(tf.reduce_sum(y * y, axis, keepdims=True), 1.0))


def _concatenate(rows: list[Any]) -> Any:
    """Joins `[1, 1, 1, channels]` along the second last axis, a few at a time; see `_MOST_JOINED`."""
    while len(rows) > 1:
        rows = [tf.concat(rows[i : i + _MOST_JOINED], axis=2) for i in range(0, len(rows), _MOST_JOINED)]
    return rows[0]


class _L2Normalization(_WrittenAnew):
    def call(self, inputs):
        return _l2_normalize(inputs, self.layer.axis)


class _NetVLAD(_WrittenAnew):
    def call(self, inputs):
        clusters, channels = self.layer.centroids.shape
        x = _l2_normalize(inputs)
        logits = tf.nn.conv2d(x, self.layer.assignment.value, 1, "VALID")
        if self.layer.use_bias:
            logits += self.layer.bias.value
        a = tf.nn.softmax(logits)
        # MediaPipe's delegate in browsers computes products wrongly, without a word, where the first factor has one
        # channel and the second several, so x is the first, and the masses are repeated by a convolution.
        sums = [tf.reduce_sum(x * a[..., k : k + 1], (1, 2), keepdims=True) for k in range(clusters)]
        masses = tf.reshape(tf.reduce_sum(a, (1, 2), keepdims=True), (1, 1, clusters, 1))
        masses = tf.nn.conv2d(masses, np.ones((1, 1, 1, channels), np.float32), 1, "VALID")
        v = _l2_normalize(_concatenate(sums) + masses * (-self.layer.centroids.value[None, None]))
        return _l2_normalize(tf.reshape(v, (1, clusters * channels)))


class _LocalResponseNormalization(_WrittenAnew):
    def call(self, inputs):
        layer, channels = self.layer, inputs.shape[-1]
        distance = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
        band = (distance <= layer.size // 2).astype(np.float32)[None, None]
        # Of a hundredth of the features, whose squares half precision holds.
        small = inputs * 0.01
        sums = tf.nn.conv2d(small * small, band * (1e4 * layer.alpha / layer.size), 1, "VALID")
        return inputs * tf.pow(sums + layer.k, -layer.beta)


class _GeM(_WrittenAnew):
    def call(self, inputs):
        p = self.layer.p.value
        x = tf.maximum(inputs, self.layer.epsilon)
        largest = tf.reduce_max(x, (1, 2), keepdims=True)
        mean = tf.reduce_mean(tf.pow(x / largest, p), (1, 2), keepdims=True)
        return tf.reshape(tf.pow(mean, 1.0 / p) * largest, (1, inputs.shape[-1]))


_WRITTEN_ANEW = {
    NetVLAD: _NetVLAD,
    L2Normalization: _L2Normalization,
    LocalResponseNormalization: _LocalResponseNormalization,
    GeM: _GeM,
}
