"""Triplet losses, on squared distances of descriptors of unit length."""

from __future__ import annotations

import keras
from keras import ops


def _squared_distances(y_true, y_pred):
    """‖a − b‖² of all pairs, and which pairs are of one place (an image and itself too): both `[batch, batch]`."""
    labels = ops.reshape(y_true, (-1,))
    distances = 2.0 - 2.0 * ops.matmul(y_pred, ops.transpose(y_pred))
    return ops.relu(distances), ops.equal(labels[:, None], labels[None, :])


@keras.saving.register_keras_serializable(package="tfplaces")
class TripletRankingLoss(keras.losses.Loss):
    """1/2 · max(0, m + ‖q − p‖² − ‖q − n‖²) (Saha et al., ACPR 2017), summed over each query's triplets.

    A triplet is a query q, another image p of its place and an image n of another place. The mean is over the queries.

    Args:
        margin: m, on squared distances of unit vectors (0 to 4).
    """

    def __init__(self, margin: float = 0.1, name: str = "triplet_ranking_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def call(self, y_true, y_pred):
        distances, same = _squared_distances(y_true, y_pred)
        itself = ops.eye(ops.shape(y_pred)[0], dtype="bool")
        # [query, positive, negative]
        valid = ops.logical_and(
            ops.logical_and(same, ops.logical_not(itself))[:, :, None], ops.logical_not(same)[:, None, :]
        )
        hinge = ops.relu(self.margin + distances[:, :, None] - distances[:, None, :])
        return 0.5 * ops.sum(ops.where(valid, hinge, 0.0), axis=(1, 2))

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable(package="tfplaces")
class WeaklySupervisedTripletLoss(keras.losses.Loss):
    """Σ_n max(0, m + min_p ‖q − p‖² − ‖q − n‖²) (Arandjelović et al., CVPR 2016, equation 7), the mean over queries.

    Only the best of the potential positives p counts: images taken at one place may look different ways. Queries
    without another image of their place in the batch have no loss.

    Args:
        margin: m, on squared distances of unit vectors (0 to 4).
    """

    def __init__(self, margin: float = 0.1, name: str = "weakly_supervised_triplet_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def call(self, y_true, y_pred):
        distances, same = _squared_distances(y_true, y_pred)
        itself = ops.eye(ops.shape(y_pred)[0], dtype="bool")
        best = ops.min(ops.where(ops.logical_and(same, ops.logical_not(itself)), distances, 5.0), axis=1, keepdims=True)
        hinge = ops.relu(self.margin + best - distances)
        # 5 is farther than unit vectors can be: there was no positive.
        return ops.sum(ops.where(ops.logical_or(same, best >= 5.0), 0.0, hinge), axis=1)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}
