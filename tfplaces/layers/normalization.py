"""Normalisations of NetVLAD networks: L2, and AlexNet's local response normalisation."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops


def l2_normalize(x, axis: int = -1, epsilon: float = 1e-12):
    """x / sqrt(sum(x²) + epsilon), in the form that the TFLite converter fuses to L2_NORMALIZATION."""
    return x / ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=True) + epsilon)


@keras.saving.register_keras_serializable(package="tfplaces")
class L2Normalization(keras.layers.Layer):
    """Scales vectors to unit length: x / sqrt(sum(x²) + epsilon).

    Over the last axis of `[batch, clusters, channels]` it is the intra-normalisation of VLAD (Arandjelović and
    Zisserman, All about VLAD, 2013).

    Args:
        axis: the axis of the vectors.
        epsilon: keeps the zero vector zero.
    """

    def __init__(self, axis: int = -1, epsilon: float = 1e-12, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis
        self.epsilon = epsilon

    def call(self, inputs):
        return l2_normalize(inputs, self.axis, self.epsilon)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "axis": self.axis, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="tfplaces")
class LocalResponseNormalization(keras.layers.Layer):
    """Local response normalisation across channels, as Caffe defines it: x / (k + alpha/size · Σ x²)^beta.

    The sum runs over `size` neighbouring channels. MatConvNet and TensorFlow do not divide alpha by the size.

    Args:
        size: number of channels in the sum, odd.
        alpha: Caffe's alpha (`size` times MatConvNet's).
        beta: exponent.
        k: added before the exponent.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"LocalResponseNormalization: size={size}, must be odd and positive")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def call(self, inputs):
        return tf.nn.local_response_normalization(
            inputs, depth_radius=self.size // 2, bias=self.k, alpha=self.alpha / self.size, beta=self.beta
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}
