"""What this library takes of Keras that Keras does not call public, all of it in this one file.

Keras 3.15 has no public name for these. When a newer Keras moves one of them, this is where to look; everything else in
the library goes through these functions. Keras itself is imported by the function that needs it alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def variables_of_config(config: dict[str, Any]) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """The variables that a model is built with, none of which gets a value, so none takes memory.

    Args:
        config: config of the model, as in a `.keras`. What is built cannot be used: Keras forgets its
            variables, with the list by which it would give them values later.

    Returns:
        the weights of the model, and all variables that are made while it is built: those of random numbers, and of
        layers that it is without in the end, too.
    """
    import keras
    from keras.src.backend.common import global_state
    from keras.src.saving.serialization_lib import ObjectSharingScope

    name, policy = "uninitialized_variables", keras.config.dtype_policy()
    before = global_state.get_global_attribute(name, [])
    global_state.set_global_attribute(name, [])
    try:
        with keras.StatelessScope(initialize_variables=False), ObjectSharingScope():
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        return getattr(model, "weights", []), global_state.get_global_attribute(name, [])
    finally:
        global_state.set_global_attribute(name, before)
        keras.config.set_dtype_policy(policy)
