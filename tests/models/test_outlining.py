"""Models without values, and that nothing of them is left for the next model."""

import resource

import keras
import numpy as np

from tfplaces.models import PlaceNet, outline


def test_nothing_is_allocated_then_or_later() -> None:
    """A kernel of 2 GB; Keras makes what weights have no values when it next builds a model by calling it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = outline(PlaceNet, "mobilenet_v1", whitening=16384)
    assert model.count_params() > 500e6

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm, self.last = keras.layers.BatchNormalization(), keras.layers.Dense(3)

        def call(self, inputs, training=None):
            return self.last(self.norm(inputs, training=training))

    built = Subclassed()
    built(np.zeros((1, 6), np.float32))
    assert all(np.isfinite(weight.numpy()).all() for weight in built.weights)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
