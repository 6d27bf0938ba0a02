"""The cosine distance to given vectors, with which a network learns to give another's output."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfplaces.layers import l2_normalize


@keras.saving.register_keras_serializable(package="tfplaces")
class CosineDistance(keras.losses.Loss):
    """1 − cosine along the last axis, 0 to 2, its mean over the axes between: float `[batch, ..., dim]` both."""

    def __init__(self, name: str = "cosine_distance", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        distance = 1.0 - ops.sum(l2_normalize(y_true) * l2_normalize(y_pred), axis=-1)
        return ops.mean(ops.reshape(distance, (ops.shape(distance)[0], -1)), axis=-1)
