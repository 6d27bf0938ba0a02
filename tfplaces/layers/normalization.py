"""Normalisations of NetVLAD networks: L2, and AlexNet's local response normalisation."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops

from tfplaces.common.errors import UserError


def l2_normalize(x, axis: int = -1):
    """x / max(‖x‖, 1e-6): what L2_NORMALIZATION of TFLite computes, to which the converter fuses it.

    The published networks have x / sqrt(‖x‖² + 1e-12), which is the same but for vectors as short as 1e-6. NetVLAD has
    such residuals, of clusters that hardly any feature belongs to, so both sides must agree about them.
    """
    return x / ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), 1e-12))


@keras.saving.register_keras_serializable(package="tfplaces")
class L2Normalization(keras.layers.Layer):
    """Scales vectors to unit length: x / max(‖x‖, 1e-6).

    Over the last axis of `[batch, clusters, channels]` it is the intra-normalisation of VLAD (Arandjelović and
    Zisserman, All about VLAD, 2013).

    Args:
        axis: the axis of the vectors.
    """

    def __init__(self, axis: int = -1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs):
        return l2_normalize(inputs, self.axis)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "axis": self.axis}


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
            raise UserError(f"LocalResponseNormalization: size={size}, must be odd and positive")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def call(self, inputs):
        return tf.nn.local_response_normalization(
            inputs, depth_radius=self.size // 2, bias=self.k, alpha=self.alpha / self.size, beta=self.beta
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}
