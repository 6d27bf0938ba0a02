"""Networks with some of their layers replaced by others that compute the same in other operators of TFLite."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from tfplaces.models import PlaceNet


class WrittenAnew(keras.layers.Layer):
    """A layer that computes what another one does, with the other's weights and under its name."""

    def __init__(self, layer: keras.layers.Layer):
        super().__init__(name=layer.name, dtype="float32")
        self.layer = layer

    def compute_output_shape(self, input_shape):
        """The shape of the other layer's output."""
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs):
        """Shape and type of the output, without computing it."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), "float32")


def written_anew(
    model: PlaceNet, kinds: Mapping[type[keras.layers.Layer], type[WrittenAnew]]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function of a network from images to descriptors, with layers of some kinds written anew."""

    def replaced(layer: keras.layers.Layer) -> keras.layers.Layer:
        return next((anew(layer) for kind, anew in kinds.items() if isinstance(layer, kind)), layer)

    changed = keras.models.clone_model(model, clone_function=replaced)
    return lambda image: changed(image, training=False)
