"""Fitting a model without leaving anything of the fit with it; the ground that ways to train stand on."""

from __future__ import annotations

from typing import Any

import keras

from tfplaces.common.errors import UserError


class ModelTraining(keras.Model):
    """Compile and fit this instead of a model: it calls, predicts and evaluates as the model and trains its weights.

    The model itself stays uncompiled, so that it is saved without an optimizer. `save`, and with it Keras's
    `ModelCheckpoint`, writes the model and not this wrapper. `save_weights`, and with it
    `ModelCheckpoint(save_weights_only=True)` and `BackupAndRestore`, writes the state of the training, for a wrapper of
    the same kind to go on from.

    Args:
        model: any Keras model that is built; its weights are trained in place.

    Raises:
        UserError: the model is not built.
    """

    def __init__(self, model: keras.Model, **kwargs: Any):
        if not model.built:
            raise UserError(f"{model.name} is not built, it has no weights yet: call it on a batch of images first")
        super().__init__(**kwargs)
        self.model = model
        self.built = True

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """In the order of the model: that of the optimizer's slots, which a checkpoint goes by."""
        return self.model.trainable_variables

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """The same variables in the same order, which `fit` takes for granted."""
        return self.trainable_variables

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.model(inputs, training=training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.model.compute_output_shape(input_shape)

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the model that is trained."""
        self.model.save(filepath, overwrite=overwrite, **kwargs)

    def get_config(self) -> dict[str, Any]:
        raise UserError(f"{type(self).__name__} is a way to train and is not saved itself: save its .model")


def optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """The optimizers that a compiled model trains with: what loss scaling and the like wrap, not the wrappers."""
    found, left = [], [model.optimizer]
    while left:
        optimizer = left.pop()
        inner = getattr(optimizer, "inner_optimizer", None)
        parts = list(getattr(optimizer, "optimizers", ())) if inner is None else [inner]
        if parts:
            left += parts
        elif optimizer is not None:
            found.append(optimizer)
    return found


def check_no_moving_average(model: keras.Model) -> None:
    """Refuses an optimizer that writes moving averages over the weights.

    Averages bring back what was pruned, and leave levels and kernels apart.

    Raises:
        UserError: an optimizer has `use_ema` set.
    """
    if any(getattr(optimizer, "use_ema", False) for optimizer in optimizers_of(model)):
        raise UserError(
            "an optimizer with use_ema=True replaces weights by their moving average, which undoes pruning and "
            "sharing: compile with use_ema=False"
        )
