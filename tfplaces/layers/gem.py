"""Generalised mean pooling (Radenović, Tolias and Chum, Fine-tuning CNN image retrieval, TPAMI 2019)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfplaces.common.errors import UserError
from tfplaces.layers.normalization import wide_dtype


@keras.saving.register_keras_serializable(package="tfplaces")
class GeM(keras.layers.Layer):
    """Generalised mean of each channel: (mean over the map of max(x, ε)^p)^(1/p), with a trainable p.

    p = 1 is average pooling, and maximum pooling is what it tends to for large p.

    Input: `[batch, height, width, channels]`. Output: `[batch, channels]`, float32 under every dtype policy but
    float64: half precision does not hold the powers.

    Args:
        p: the power to start with, above 0.
        epsilon: the least value that a feature is taken for, above 0; negative numbers have no such powers.

    Raises:
        UserError: a power or an epsilon that is not above 0.
    """

    def __init__(self, p: float = 3.0, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        if not (p > 0 and epsilon > 0):
            raise UserError(f"GeM: p={p}, epsilon={epsilon}; both must be above 0")
        self.initial_p, self.epsilon = float(p), float(epsilon)
        self.autocast = False

    def build(self, input_shape):
        self.p = self.add_weight(
            name="p", shape=(1,), initializer=keras.initializers.Constant(self.initial_p), autocast=False
        )

    def call(self, inputs):
        dtype = wide_dtype(self)
        p = ops.cast(self.p, dtype)
        x = ops.maximum(ops.cast(inputs, dtype), self.epsilon)
        # Powers as exp(p · ln x): equal to 3e-7, and several times as fast in LiteRT, which computes POW one by one.
        mean = ops.mean(ops.exp(p * ops.log(x)), axis=(1, 2))
        return ops.exp(ops.log(mean) / p)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), wide_dtype(self))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "p": self.initial_p, "epsilon": self.epsilon}
