"""Self-distillation: the compressed network learns to give the float network's descriptors, on any images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from tfplaces.datasets import Images
from tfplaces.evaluation import describe_images
from tfplaces.models.describer import KerasDescriber

BATCH_SIZE = 16


@keras.saving.register_keras_serializable(package="tfplaces")
class CosineDistance(keras.losses.Loss):
    """1 − cosine of the two descriptors, of unit length: float `[batch, dim]` both."""

    def __init__(self, name: str = "cosine_distance", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        return 1.0 - ops.sum(y_true * y_pred, axis=-1)


def distillation(
    model: keras.Model, images: Images, *, epochs: int, learning_rate: float, seed: int = 0
) -> Callable[[keras.Model], None]:
    """Fine-tuning for `compress` that pulls the network back towards what it is now.

    Args:
        model: the float network; its descriptors of the images are computed here, before it is compressed.
        images: any images; no labels are needed.
        epochs: passes over the images.
        learning_rate: of Adam, going down to zero by half a cosine.
        seed: of the order.

    Returns:
        a function that fits the model that it is given.
    """
    batches = _Batches(images, model, seed)

    def tune(fitted: keras.Model) -> None:
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(batches))
        fitted.compile(keras.optimizers.Adam(schedule), CosineDistance())
        fitted.fit(batches, epochs=epochs, shuffle=False, verbose=1 if sys.stderr.isatty() else 2)

    return tune


class _Batches(keras.utils.PyDataset):
    """Batches of images with the descriptors that a network gives them when this is made."""

    def __init__(self, images: Images, teacher: keras.Model, seed: int):
        super().__init__(workers=os.cpu_count() or 1, max_queue_size=4)
        describer = KerasDescriber(teacher)
        self._images, self._size = images, describer.input_size
        self._targets = describe_images(describer, images)
        self._rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        self._order = self._rng.permutation(len(self._images))

    def __len__(self) -> int:
        return -(-len(self._images) // BATCH_SIZE)

    def __getitem__(self, index: int):
        chosen = self._order[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        return np.stack([self._images.read(i, self._size) for i in chosen]), self._targets[chosen]
