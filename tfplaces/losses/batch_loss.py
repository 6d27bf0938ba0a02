"""What losses that compare the images of a batch with one another have in common: on several replicas, too."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class BatchLoss(keras.losses.Loss):
    """A loss in which every image of the batch is compared with all others; subclasses override `of_batch`.

    Under `tf.distribute`, where Keras gives each replica a part of the batch, every replica gathers labels and
    descriptors of all: the loss is that of the whole batch, and so is the gradient, as descriptors are gathered with
    it. Replicas whose parts are not equally large, and places or tuples whose images lie on several of them, make no
    difference; labels are therefore those of the whole batch. Keras then refuses sample weights, as there is one loss
    for each image of the whole batch.
    """

    def of_batch(self, labels: Any, descriptors: Any) -> Any:
        """The loss of each image of a batch, `[batch]`.

        Args:
            labels: what the loss takes as targets, `[batch, ...]`, of the whole batch.
            descriptors: float `[batch, dim]`.
        """
        raise NotImplementedError

    def call(self, y_true: Any, y_pred: Any) -> Any:
        replica = tf.distribute.get_replica_context()  # None in between, where Keras looks at shapes
        if replica is None or replica.num_replicas_in_sync == 1:
            return self.of_batch(y_true, y_pred)
        losses = self.of_batch(replica.all_gather(y_true, axis=0), replica.all_gather(y_pred, axis=0))
        # All replicas have the same losses, and their gradients are summed up: Keras divides means by their number.
        return losses if self.reduction in _MEANS else losses / replica.num_replicas_in_sync


_MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")
