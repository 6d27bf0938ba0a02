"""Training on all the GPUs of a machine."""

from __future__ import annotations

import tensorflow as tf


def gpu_strategy() -> tf.distribute.Strategy:
    """What a network is made and trained under to use all GPUs that TensorFlow sees.

    with gpu_strategy().scope():
        model = load_place_net("model.keras")
        train(model, batches, validation, epochs=10)

    Every GPU computes a part of each batch, and all of them hold the same weights, which are those that one device
    would have, to rounding: losses of `tfplaces.losses` compare all images of the batch, wherever they lie. The network
    that was trained so is bound to the strategy: save it and load the file for what comes after the training.

    Returns:
        `tf.distribute.MirroredStrategy` where there are several GPUs, and the present strategy, which is that of one
        device if no other was chosen, where there are not.
    """
    if tf.distribute.has_strategy() or len(tf.config.list_logical_devices("GPU")) < 2:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy()
