"""Self-distillation: the compressed network learns to give the float network's output, on any images."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfplaces.datasets import Images
from tfplaces.describers import KerasDescriber, describe_images
from tfplaces.losses import CosineDistance
from tfplaces.models import PlaceNet
from tfplaces.training import Checkpoint, DescribedBatches, RatedAdam, fit


class Distillation:
    """Fine-tuning for `compress` that pulls a network back towards what it is when this is made; no labels are needed.

    The loss is the cosine distance of the descriptors plus, for a PlaceNet, that of the local features: it says to the
    backbone directly what to mend.

    Args:
        model: the float network that will be compressed. A copy of its backbone is kept.
        images: any images.
        epochs: passes over the images, for each time it is fitted.
        learning_rate: the step size of Adam at the start; it goes down to zero by half a cosine.
        seed: gives the order of the images.

    Attributes:
        model: what `compress` is to wrap: the network with the outputs that the loss is of.
        steps: how many steps a fit takes.
    """

    def __init__(self, model: keras.Model, images: Images, *, epochs: int, learning_rate: float, seed: int = 0):
        describer = KerasDescriber(model)
        descriptors = describe_images(describer, images, "float descriptors")
        features = None
        self.model, self._outputs = model, 1
        if isinstance(model, PlaceNet):
            self.model = keras.Model(model.inputs, [model.outputs[0], model.feature_layer.output])
            self._outputs = 2
            features = _frozen_backbone(model, describer.input_size)
        self._batches = _Batches(images, describer.input_size, descriptors, features, seed)
        self._epochs, self._learning_rate = epochs, learning_rate
        self.steps = epochs * len(self._batches)

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
        fitted.compile(optimizer, [CosineDistance() for _ in range(self._outputs)])
        fit(fitted, self._batches, self._epochs, callbacks=callbacks, checkpoint=checkpoint)


def _frozen_backbone(model: PlaceNet, size: tuple[int, int]):
    """A function from uint8 images to local features as they are now."""
    backbone = keras.Model(model.inputs[0], model.feature_layer.output)
    frozen = keras.models.clone_model(backbone)
    frozen.set_weights(backbone.get_weights())
    signature = [tf.TensorSpec((None, *size, 3), tf.uint8)]
    return tf.function(lambda images: frozen(tf.cast(images, tf.float32), training=False), signature)


class _Batches(DescribedBatches):
    """Batches of images with the descriptors, and the local features, that the float network gives them."""

    def __init__(self, images: Images, size: tuple[int, int], descriptors: np.ndarray, features, seed: int):
        super().__init__(images, size, descriptors, seed=seed)
        self._features = features

    def targets(self, batch: np.ndarray, images: np.ndarray):
        descriptors = super().targets(batch, images)
        return descriptors if self._features is None else (descriptors, self._features(images))
