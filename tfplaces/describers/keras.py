"""A Keras model as a describer."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfplaces.common.errors import UserError
from tfplaces.describers.base import check_images


class KerasDescriber:
    """Runs a Keras model that turns RGB images, 0 to 255, into descriptors.

    Args:
        model: a PlaceNet, or any model from `[batch, height, width, 3]` to `[batch, dim]`.
        input_size: (height, width) in pixels; by default the model's own.

    Raises:
        ValueError: not a model from one image to one vector, or one that cannot take that input size.
    """

    # Enough for two cores to work on, little enough for the activations of VGG16.
    batch_size = 16

    def __init__(self, model: keras.Model, input_size: tuple[int, int] | None = None):
        shapes = [tensor.shape for tensor in (*model.inputs, *model.outputs)]
        if [len(shape) for shape in shapes] != [4, 2] or shapes[0][-1] != 3:
            raise UserError("not a model from one RGB image to one descriptor")
        size = input_size or getattr(model, "input_size", None) or model.input_shape[1:3]
        if None in size:
            raise UserError("the model does not say its input size; give one (height, width)")
        self.model = model
        self.input_size = tuple(size)
        self.descriptor_dim = model.output_shape[-1]
        signature = tf.TensorSpec((None, *self.input_size, 3), tf.uint8)
        run = tf.function(lambda images: model(tf.cast(images, tf.float32), training=False))
        try:
            self._run = run.get_concrete_function(signature)
        except (ValueError, tf.errors.InvalidArgumentError):
            raise UserError("the model cannot take images of {}x{}".format(*self.input_size)) from None

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Describes images, uint8 `[n, height, width, 3]`, as float32 `[n, descriptor_dim]`."""
        check_images(images, self.input_size)
        out = np.empty((len(images), self.descriptor_dim), np.float32)
        for start in range(0, len(images), self.batch_size):
            stop = start + self.batch_size
            out[start:stop] = self._run(tf.constant(images[start:stop])).numpy()
        return out
