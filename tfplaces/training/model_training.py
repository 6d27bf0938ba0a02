"""Fitting a model without leaving anything of the fit with it; the ground that ways to train stand on."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfplaces.common.errors import UserError
from tfplaces.training.precision import check_precision, computing_in


class ModelTraining(keras.Model):
    """Compile and fit this instead of a model: it calls, predicts and evaluates as the model and trains its weights.

    The model itself stays uncompiled, so that it is saved without an optimizer. `save`, and with it Keras's
    `ModelCheckpoint`, writes the model and not this wrapper. `save_weights`, and with it
    `ModelCheckpoint(save_weights_only=True)` and `BackupAndRestore`, writes the state of the training, for a wrapper of
    the same kind to go on from.

    Args:
        model: any Keras model that is built; its weights are trained in place.
        precision: what the training computes in, one of `tfplaces.training.PRECISIONS`; by default what the model does.
            The model itself, and what is saved of it, stays as it was made. In mixed_float16 Keras scales the loss, and
            leaves out steps whose gradients overflow.

    Under `tf.distribute` the model and this are made in the scope of one strategy. `compile` refuses what Keras does
    not fit on several replicas: gradient accumulation, and several steps per execution.

    Raises:
        UserError: the model is not built, or it was made in the scope of another strategy; there is no such precision.
    """

    def __init__(self, model: keras.Model, *, precision: str | None = None, **kwargs: Any):
        if not model.built:
            raise UserError(f"{model.name} is not built, it has no weights yet: call it on a batch of images first")
        # As the model's, whatever the global policy is by now: Keras scales the loss where that is mixed_float16.
        kwargs.setdefault("dtype", precision or model.dtype_policy)
        if precision is not None:
            check_precision(precision)
        super().__init__(**kwargs)
        self.model, self.precision = model, precision
        self.autocast = False  # of pixels, which the model scales first
        self.built = True
        self._made_in = tf.distribute.get_strategy()
        if not all(self._made_in.extended.variable_created_in_scope(v.value) for v in model.variables):
            raise UserError(
                f"{model.name} was not made in the tf.distribute scope that its training is made in: make both in the "
                "same scope, or both outside"
            )

    def compile(self, *args: Any, **kwargs: Any) -> None:
        self._check_scope()
        super().compile(*args, **kwargs)
        replicas = self._made_in.num_replicas_in_sync
        if replicas == 1:
            return
        if any(getattr(optimizer, "gradient_accumulation_steps", None) for optimizer in optimizers_of(self)):
            raise UserError(
                f"Keras does not accumulate gradients on {replicas} replicas: compile an optimizer without "
                "gradient_accumulation_steps"
            )
        if self.steps_per_execution != 1:
            raise UserError(
                f"Keras does not run several steps per execution on {replicas} replicas: compile with "
                "steps_per_execution=1"
            )

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        self._check_scope()
        return super().fit(*args, **kwargs)

    def _check_scope(self) -> None:
        """Outside of all scopes what was made in one is fitted as if it were in it."""
        if tf.distribute.has_strategy() and tf.distribute.get_strategy() is not self._made_in:
            raise UserError(
                f"{self.model.name} and its training were made outside of this tf.distribute scope: make both in it"
            )

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """In the order of the model: that of the optimizer's slots, which a checkpoint goes by."""
        return self.model.trainable_variables

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """The same variables in the same order, which `fit` takes for granted."""
        return self.trainable_variables

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if self.precision is None:
            return self.model(inputs, training=training)
        with computing_in(self.model, self.precision):
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
