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
        UserError: the model is not built, not one from one image to one vector, or cannot take that input size.
    """

    # Enough for two cores to work on, little enough for the activations of VGG16.
    batch_size = 16
    precision = "float32"

    def __init__(self, model: keras.Model, input_size: tuple[int, int] | None = None):
        if not model.built:
            raise UserError(f"the model {model.name!r} is not built, it has no weights yet: call it on an image first")
        # A subclassed model says nothing of its inputs: it is found out by tracing it.
        inputs = getattr(model, "inputs", None) or []
        if inputs and (len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] != 3):
            raise UserError("not a model from one RGB image to one descriptor")
        size = input_size or getattr(model, "input_size", None) or (inputs[0].shape[1:3] if inputs else (None, None))
        if None in size:
            raise UserError("the model does not say its input size; give one (height, width)")
        self.model = model
        self.input_size = tuple(size)
        signature = tf.TensorSpec((None, *self.input_size, 3), tf.uint8)
        run = tf.function(lambda images: model(tf.cast(images, tf.float32), training=False))
        try:
            self._run = run.get_concrete_function(signature)
        except (ValueError, tf.errors.InvalidArgumentError):
            raise UserError("the model cannot take images of {}x{}".format(*self.input_size)) from None
        output = self._run.structured_outputs
        if not isinstance(output, tf.TensorSpec | tf.Tensor) or output.shape.rank != 2 or output.shape[1] is None:
            raise UserError("not a model from one RGB image to one descriptor")
        self.descriptor_dim = int(output.shape[1])

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Describes images, uint8 `[n, height, width, 3]`, as float32 `[n, descriptor_dim]`.

        Raises:
            UserError: the images are of another size or type, or the model needs more memory than there is.
        """
        check_images(images, self.input_size)
        out = np.empty((len(images), self.descriptor_dim), np.float32)
        for start in range(0, len(images), self.batch_size):
            stop = start + self.batch_size
            try:
                out[start:stop] = self._run(tf.constant(images[start:stop])).numpy()
            except tf.errors.ResourceExhaustedError:
                height, width = self.input_size
                raise UserError(
                    f"the model {self.model.name!r} needs more memory than there is to describe images of "
                    f"{height}x{width}; describe smaller ones"
                ) from None
        return out
