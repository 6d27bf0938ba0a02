"""What this library takes of Keras that Keras does not call public, all of it in this one file.

Keras 3.15 has no public name for these. When a newer Keras moves one of them, this is where to look; everything else in
the library goes through these functions. Keras itself is not imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def flat_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The model itself and all layers in it, nested models and their layers too, each once, in the model's order."""
    return model._flatten_layers()


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that a layer or a model holds itself, without those inside them, each once, in its order."""
    return layer._flatten_layers(include_self=False, recursive=False)


def own_trainable_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The variables that a layer made itself, without those of layers inside, and that it means to train.

    They are listed for a layer whose `trainable` is off as well; `variable.trainable` tells.
    """
    return list(layer._trainable_variables)


def variable_index(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """The position of a variable, as `update_step` is given it, among those that the optimizer was built for."""
    return optimizer._get_variable_index(variable)


def record_loss(model: keras.Model, loss, images) -> None:
    """Adds the loss of a step, the mean over so many images, to the mean of the epoch that `fit` shows as `loss`."""
    model._loss_tracker.update_state(loss, sample_weight=images)
