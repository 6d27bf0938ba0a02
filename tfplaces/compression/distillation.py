"""Self-distillation: the compressed network learns to give the float network's output, on any images."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfplaces.common.processors import usable_processors
from tfplaces.datasets import Images
from tfplaces.describers import KerasDescriber, describe_images
from tfplaces.layers import l2_normalize
from tfplaces.models import PlaceNet
from tfplaces.training.fitting import Checkpoint, RatedAdam, fit_epochs

BATCH_SIZE = 16


@keras.saving.register_keras_serializable(package="tfplaces")
class CosineDistance(keras.losses.Loss):
    """1 − cosine along the last axis, 0 to 2, its mean over the axes between: float `[batch, ..., dim]` both."""

    def __init__(self, name: str = "cosine_distance", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        distance = 1.0 - ops.sum(l2_normalize(y_true) * l2_normalize(y_pred), axis=-1)
        return ops.mean(ops.reshape(distance, (ops.shape(distance)[0], -1)), axis=-1)


class Distillation:
    """Fine-tuning for `compress` that pulls a network back towards what it is when this is made; no labels are needed.

    The loss is the cosine distance of the descriptors plus, for a PlaceNet, that of the local features: it says to the
    backbone directly what to mend.

    Args:
        model: the float network that will be compressed. A copy of its backbone is kept.
        images: any images.
        epochs: passes over the images, for each time it is fitted.
        learning_rate: of Adam, going down to zero by half a cosine.
        seed: of the order.

    Attributes:
        model: what `compress` is to wrap: the network with the outputs that the loss is of.
        steps: of a fit.
    """

    def __init__(self, model: keras.Model, images: Images, *, epochs: int, learning_rate: float, seed: int = 0):
        describer = KerasDescriber(model)
        descriptors = describe_images(describer, images, "float descriptors")
        features = None
        self.model = model
        if isinstance(model, PlaceNet):
            self.model = keras.Model(model.inputs, [model.outputs[0], model.feature_layer.output])
            features = _frozen_backbone(model, describer.input_size)
        self._data = images, describer.input_size, descriptors, features
        self._epochs, self._learning_rate, self._seed = epochs, learning_rate, seed
        self.steps = epochs * len(self._batches(0))

    def _batches(self, epoch: int) -> _Batches:
        return _Batches(*self._data, np.random.default_rng([self._seed, epoch]))

    def fit(
        self,
        fitted: keras.Model,
        callbacks: Sequence[keras.callbacks.Callback],
        checkpoint: Checkpoint | None,
        keep_best: bool = False,
    ) -> None:
        """See `FineTuning`; epochs are not judged, the last is kept."""
        schedule = keras.optimizers.schedules.CosineDecay(self._learning_rate, self.steps)
        optimizer = RatedAdam(schedule, getattr(fitted, "rate_factors", None))
        fitted.compile(optimizer, [CosineDistance() for _ in self.model.outputs])
        fit_epochs(fitted, self._batches, self._epochs, callbacks=callbacks, checkpoint=checkpoint)


def _frozen_backbone(model: PlaceNet, size: tuple[int, int]):
    """A function from uint8 images to local features as they are now."""
    backbone = keras.Model(model.inputs[0], model.feature_layer.output)
    frozen = keras.models.clone_model(backbone)
    frozen.set_weights(backbone.get_weights())
    signature = [tf.TensorSpec((None, *size, 3), tf.uint8)]
    return tf.function(lambda images: frozen(tf.cast(images, tf.float32), training=False), signature)


class _Batches(keras.utils.PyDataset):
    """Batches of images with the descriptors, and the local features, that the float network gives them."""

    def __init__(self, images: Images, size: tuple[int, int], descriptors: np.ndarray, features, rng):
        super().__init__(workers=usable_processors(), max_queue_size=4)
        self._images, self._size, self._descriptors, self._features = images, size, descriptors, features
        self._order = rng.permutation(len(images))

    def __len__(self) -> int:
        return -(-len(self._images) // BATCH_SIZE)

    def __getitem__(self, index: int):
        chosen = self._order[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        images = np.stack([self._images.read(i, self._size) for i in chosen])
        targets = self._descriptors[chosen]
        return images, (targets if self._features is None else (targets, self._features(images)))
