"""A fit in epochs that can be taken up again where it was interrupted."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import replacing
from tfplaces.common.keras_private import variable_index


class Checkpoint:
    """The state of a fit in a file: variables of model and optimizer, and how far it was.

    Args:
        path: an `.npz` file, which may not be there yet.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)

    def save(
        self, fitted: keras.Model, state: Mapping[str, Any], extra: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Replaces the file. One variable at a time is copied.

        Args:
            fitted: a compiled model.
            state: what JSON can hold.
            extra: further arrays.
        """
        arrays = {f"variable{i}": v for i, v in enumerate(_variables(fitted))} | dict(extra or {})
        arrays["state"] = np.array(json.dumps(dict(state)))
        with replacing(self.path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asanyarray(getattr(array, "value", array)), allow_pickle=False)

    def restore(self, fitted: keras.Model) -> dict[str, Any] | None:
        """Sets a model's and its optimizer's variables as saved.

        Returns:
            the state, with the extra arrays beside it; None where there is no file.

        Raises:
            ValueError: the file is of another fit, or damaged.
        """
        if not os.path.exists(self.path):
            return None
        try:
            with np.load(self.path) as saved:
                state = json.loads(str(saved["state"]))
                variables = _variables(fitted)
                names = [f"variable{i}" for i in range(len(variables))]
                if any(
                    tuple(variable.shape) != saved[name].shape for name, variable in zip(names, variables, strict=True)
                ):
                    raise UserError("variables of other shapes")
                for name, variable in zip(names, variables, strict=True):
                    variable.assign(saved[name])
                extra = {name: saved[name] for name in saved.files if name != "state" and name not in names}
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.path}: not the state of this run ({error}); remove it to start anew") from None
        return {**state, **extra}


@keras.saving.register_keras_serializable(package="tfplaces")
class RatedAdam(keras.optimizers.Adam):
    """Adam with a factor on the learning rate of each variable.

    Args:
        learning_rate: a number or a schedule.
        rate_factors: in the order of the variables that are trained; by default 1 for all.
    """

    def __init__(self, learning_rate=1e-4, rate_factors: Sequence[float] | None = None, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self._rate_factors = list(rate_factors) if rate_factors is not None else None

    def update_step(self, gradient, variable, learning_rate):
        if self._rate_factors is not None:
            learning_rate = learning_rate * self._rate_factors[variable_index(self, variable)]
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "rate_factors": self._rate_factors}


def fit_epochs(
    fitted: keras.Model,
    batches: Callable[[int], keras.utils.PyDataset],
    epochs: int,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Checkpoint | None = None,
    after_epoch: Callable[[int, dict[str, Any]], Mapping[str, np.ndarray]] | None = None,
) -> dict[str, Any]:
    """Fits a compiled model; with a checkpoint it goes on where an earlier call with the same was interrupted.

    Args:
        fitted: the model.
        batches: gives the data of an epoch, 0-based; it may depend on nothing but the epoch and the model.
        epochs: how many.
        callbacks: of `fit`.
        checkpoint: where the state is kept after every epoch.
        after_epoch: called with the number of epochs done, 0 before the first, and a dictionary of JSON types to keep
            what it likes in; what it returns is kept with it.

    Returns:
        that dictionary, with the arrays that were kept last.
    """
    state = checkpoint.restore(fitted) if checkpoint else None
    if state is None:
        state = {"epoch": 0}
        state |= after_epoch(0, state) if after_epoch else {}
    else:
        print(f"going on after epoch {state['epoch']} of {epochs}", file=sys.stderr)
    for epoch in range(state["epoch"], epochs):
        fitted.fit(
            batches(epoch),
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            verbose=1 if sys.stderr.isatty() else 2,
            callbacks=list(callbacks),
        )
        state["epoch"] = epoch + 1
        state |= after_epoch(epoch + 1, state) if after_epoch else {}
        if checkpoint:
            arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
            checkpoint.save(fitted, {n: v for n, v in state.items() if n not in arrays}, arrays)
    return state


def _variables(fitted: keras.Model) -> list[keras.Variable]:
    """Of the model and of its optimizer, which Keras does not count among the model's and makes in the first step."""
    if not fitted.optimizer.built:
        fitted.optimizer.build(fitted.trainable_variables)
    return [*fitted.variables, *fitted.optimizer.variables]
