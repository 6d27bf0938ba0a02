"""Normalisations of NetVLAD networks: L2, and AlexNet's local response normalisation.

All of them compute in float32 or finer whatever the dtype policy, as BatchNormalization and LayerNormalization of Keras
do: in float16 the square of 300 is infinite, and the square of 1e-4 is zero.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfplaces.common.errors import UserError


def at_least_float32(x: Any) -> Any:
    """A tensor as it is if it is float32 or float64, else as float32."""
    x = ops.convert_to_tensor(x)
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


# Forms of the L2 normalisation: what a published network was trained with is part of it, as the residuals of clusters
# that hardly any feature belongs to are as short as these numbers.
NORMS = ("tflite", "matconvnet", "torch")


def check_norm(norm: str) -> None:
    """Raises UserError unless there is such a form of the L2 normalisation."""
    if norm not in NORMS:
        raise UserError(f"norm={norm!r}: one of {', '.join(NORMS)}")


def l2_normalize(x: Any, axis: int = -1, norm: str = "tflite") -> Any:
    """Scales vectors to unit length, in one of three forms that differ for short vectors.

    - `tflite`: x / max(‖x‖, 1e-6), which is also what the operator L2_NORMALIZATION of TFLite computes.
    - `matconvnet`: x / sqrt(‖x‖² + 1e-12), of MatConvNet's `vl_nnnormalize` as NetVLAD's authors use it.
    - `torch`: x / max(‖x‖, 1e-12), of PyTorch's `normalize`.

    All are written as products, which the TFLite converter leaves as they are. What has `square` in it, it fuses to
    L2_NORMALIZATION, whatever small number there is, and the GPU delegates refuse that operator.

    Args:
        x: float tensor of any shape and precision.
        axis: the axis of the vectors.
        norm: the form, one of `NORMS`.

    Returns:
        a tensor of the same shape; float64 if x is, else float32, also for x of half precision.
    """
    x = at_least_float32(x)
    squares = ops.sum(x * x, axis=axis, keepdims=True)
    if norm == "matconvnet":
        return x * ops.rsqrt(squares + 1e-12)
    return x * ops.rsqrt(ops.maximum(squares, 1e-24 if norm == "torch" else 1e-12))


@keras.saving.register_keras_serializable(package="tfplaces")
class L2Normalization(keras.layers.Layer):
    """Scales vectors to unit length, see `l2_normalize`.

    Over the last axis of `[batch, clusters, channels]` it is the intra-normalisation of VLAD (Arandjelović and
    Zisserman, All about VLAD, 2013). It computes and gives float32 under every dtype policy but float64, as the end of
    a network should, which descriptors are.

    Args:
        axis: the axis of the vectors.
        norm: the form for short vectors, one of `NORMS`.

    Raises:
        UserError: there is no such form.
    """

    def __init__(self, axis: int = -1, norm: str = "tflite", **kwargs: Any):
        super().__init__(**kwargs)
        check_norm(norm)
        self.axis, self.norm = axis, norm
        self.autocast = False  # the policy's float16 would overflow before this layer is asked

    def call(self, inputs):
        return l2_normalize(ops.cast(inputs, wide_dtype(self)), self.axis, self.norm)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), wide_dtype(self))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "axis": self.axis, "norm": self.norm}


def wide_dtype(layer: keras.layers.Layer) -> str:
    """What a layer computes in that needs float32: its policy's compute dtype if that is float32 or finer."""
    return keras.backend.result_type(layer.compute_dtype, "float32")


@keras.saving.register_keras_serializable(package="tfplaces")
class LocalResponseNormalization(keras.layers.Layer):
    """Local response normalisation across channels, as Caffe defines it: x / (k + alpha/size · Σ x²)^beta.

    The sum runs over `size` neighbouring channels of `[batch, height, width, channels]`. MatConvNet and TensorFlow do
    not divide alpha by the size. It computes in float32, whatever the dtype policy, and gives what the policy says.

    Args:
        size: number of channels in the sum, odd.
        alpha: Caffe's alpha (`size` times MatConvNet's).
        beta: exponent.
        k: added before the exponent.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise UserError(f"LocalResponseNormalization: size={size}, must be odd and positive")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
        self.autocast = False

    def call(self, inputs):
        normalized = tf.nn.local_response_normalization(
            ops.cast(inputs, "float32"),  # TensorFlow has no float64 here
            depth_radius=self.size // 2,
            bias=self.k,
            alpha=self.alpha / self.size,
            beta=self.beta,
        )
        return ops.cast(normalized, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}
