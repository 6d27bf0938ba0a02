"""Triplet losses of descriptors of unit length."""

from __future__ import annotations

from typing import Literal

import keras
from keras import ops

from tfplaces.common.errors import UserError
from tfplaces.losses.batch_loss import BatchLoss


def _squared_distances(labels, descriptors):
    """‖a − b‖² of all pairs, and which pairs are of one place (an image and itself too): both `[batch, batch]`."""
    labels = ops.reshape(labels, (-1,))
    distances = 2.0 - 2.0 * ops.matmul(descriptors, ops.transpose(descriptors))
    return ops.relu(distances), ops.equal(labels[:, None], labels[None, :])


@keras.saving.register_keras_serializable(package="tfplaces")
class TripletRankingLoss(BatchLoss):
    """1/2 · max(0, m + ‖q − p‖² − ‖q − n‖²) (Saha et al., ACPR 2017), summed over each query's triplets.

    A triplet is a query q, another image p of its place and an image n of another place. The mean is over the queries.

    Args:
        margin: m, on squared distances of unit vectors (0 to 4).
    """

    def __init__(self, margin: float = 0.1, name: str = "triplet_ranking_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def of_batch(self, labels, descriptors):
        distances, same = _squared_distances(labels, descriptors)
        itself = ops.eye(ops.shape(labels)[0], dtype="bool")
        # [query, positive, negative]
        valid = ops.logical_and(
            ops.logical_and(same, ops.logical_not(itself))[:, :, None], ops.logical_not(same)[:, None, :]
        )
        hinge = ops.relu(self.margin + distances[:, :, None] - distances[:, None, :])
        return 0.5 * ops.sum(ops.where(valid, hinge, 0.0), axis=(1, 2))

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable(package="tfplaces")
class WeaklySupervisedTripletLoss(BatchLoss):
    """Σ_n max(0, m + min_p ‖q − p‖² − ‖q − n‖²) (Arandjelović et al., CVPR 2016, equation 7), the mean over queries.

    Only the best of the potential positives p counts: images taken at one place may look different ways. Queries
    without another image of their place in the batch have no loss.

    Args:
        margin: m, on squared distances of unit vectors (0 to 4).
    """

    def __init__(self, margin: float = 0.1, name: str = "weakly_supervised_triplet_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def of_batch(self, labels, descriptors):
        distances, same = _squared_distances(labels, descriptors)
        itself = ops.eye(ops.shape(labels)[0], dtype="bool")
        best = ops.min(ops.where(ops.logical_and(same, ops.logical_not(itself)), distances, 5.0), axis=1, keepdims=True)
        hinge = ops.relu(self.margin + best - distances)
        # 5 is farther than unit vectors can be: there was no positive.
        return ops.sum(ops.where(ops.logical_or(same, best >= 5.0), 0.0, hinge), axis=1)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}


# What an image is in its training tuple.
QUERY, POSITIVE, NEGATIVE = 0, 1, 2


@keras.saving.register_keras_serializable(package="tfplaces")
class TupleTripletLoss(BatchLoss):
    """max(0, m + min_p d(q, p) − d(q, n)) of training tuples (Arandjelović et al., CVPR 2016, equation 7).

    A training tuple is a query q, potential positives p and the negatives n that were mined for it. Only the query is
    compared with the others, and only with those of its own tuple: a place of another tuple might be its own. The
    defaults are those of the authors' code. Later code (Nanne's port, Patch-NetVLAD, OpenIBL) takes distances that are
    not squared, `margin=0.1**0.5` and the mean over all negatives.

    Targets are the number of the tuple within the batch and what the image is in it, 0 a query, 1 a positive and 2 a
    negative: whole numbers `[batch, 2]`. Queries without a positive have no loss.

    Args:
        margin: m, on the distances that are taken: of unit vectors these are 0 to 4 if squared, 0 to 2 if not.
        squared: whether distances are squared, as in the paper.
        mean_over: the sum is divided by the number of triplets of the batch that violate the margin ("violating", as
            the authors' code does), or by that of all triplets ("negatives").
    """

    def __init__(
        self,
        margin: float = 0.1,
        squared: bool = True,
        mean_over: Literal["violating", "negatives"] = "violating",
        name: str = "tuple_triplet_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if mean_over not in ("violating", "negatives"):
            raise UserError(f"mean_over={mean_over!r}: violating or negatives")
        self.margin, self.squared, self.mean_over = margin, squared, mean_over

    def of_batch(self, labels, descriptors):
        role = labels[:, 1]
        distances, same = _squared_distances(labels[:, 0], descriptors)
        if not self.squared:
            # The square root has no gradient at 0, where a positive shows the very image.
            distances = ops.sqrt(ops.maximum(distances, 1e-12))
        own = ops.logical_and(same, ops.equal(role, QUERY)[:, None])
        positive = ops.logical_and(own, ops.equal(role, POSITIVE)[None, :])
        best = ops.min(ops.where(positive, distances, 5.0), axis=1, keepdims=True)
        # 5 is farther than unit vectors can be: there was no positive.
        triplet = ops.logical_and(ops.logical_and(own, ops.equal(role, NEGATIVE)[None, :]), best < 5.0)
        hinge = ops.where(triplet, ops.relu(self.margin + best - distances), 0.0)
        counted = triplet if self.mean_over == "negatives" else hinge > 0.0
        count = ops.maximum(ops.sum(ops.cast(counted, hinge.dtype)), 1.0)
        # Keras takes the mean over the images.
        return ops.sum(hinge, axis=1) * (ops.cast(ops.shape(hinge)[0], hinge.dtype) / count)

    def get_config(self):
        return {
            **super().get_config(),
            "margin": self.margin,
            "squared": self.squared,
            "mean_over": self.mean_over,
        }
