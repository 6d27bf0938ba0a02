"""Keeping the state of a fit on disk after every epoch, so that a killed one goes on to the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.training.batches import ImageBatches
from tfplaces.training.checkpoint import Checkpoint

# What Keras sets on every callback.
_OF_KERAS = {"params", "_model", "model", "validation_data"}
# What the names of the batches' arrays begin with; no class of a callback does.
_BATCHES = "batches."


class Backup(keras.callbacks.Callback):
    """Saves variables of model and optimizer, and the state of the batches and the other callbacks, after every epoch.

    Those of a callback's attributes are kept that have changed since it was made and are numbers, strings or lists of
    them, or lists of arrays: what `EarlyStopping` and `ReduceLROnPlateau` count, and the best weights. It has to be the
    last callback of the fit.

    Args:
        checkpoint: where the state is kept.
        callbacks: the others, whose state is kept.
        batches: what is fitted, see `ImageBatches.state`.
    """

    def __init__(self, checkpoint: Checkpoint, callbacks: Sequence[keras.callbacks.Callback], batches: ImageBatches):
        super().__init__()
        self._checkpoint, self._callbacks, self._batches = checkpoint, list(callbacks), batches
        self._made_with = {key: _values(callback) for key, callback in self._named().items()}
        self._found: dict[str, Any] | None = None
        self._done = 0

    def restore(self, fitted: keras.Model) -> dict[str, Any] | None:
        """Sets a compiled model, its optimizer, the batches and the callbacks to what was kept, if there is something.

        Returns:
            None if there is none, or `epoch`, the number of epochs that were done, `stopped`, whether a callback had
            stopped the fit after them, and `ended`, whether the fit had come to its end.

        Raises:
            UserError: the file is of another fit, or damaged.
        """
        self._found = self._checkpoint.restore(fitted)
        if self._found is not None:
            self._done = self._found["epoch"]
            self._restore_callbacks()
            self._restore_batches()
        return self._found

    def on_train_begin(self, logs=None):
        if self._found is not None:
            self._restore_callbacks()  # again, as some begin anew in their own on_train_begin

    def on_epoch_end(self, epoch, logs=None):
        self._done = epoch + 1
        self._save(ended=False)

    def on_train_end(self, logs=None):
        self._save(ended=True)

    def _named(self) -> dict[str, keras.callbacks.Callback]:
        """The callbacks by class and number: a call that goes on may have others beside them."""
        named: dict[str, keras.callbacks.Callback] = {}
        for callback in self._callbacks:
            kind = type(callback).__name__
            number = sum(name.startswith(f"{kind}#") for name in named)
            named[f"{kind}#{number}"] = callback
        return named

    def _save(self, ended: bool) -> None:
        plain: dict[str, dict[str, Any]] = {}
        arrays = {f"{_BATCHES}{name}": array for name, array in self._batches.state().items()}
        for key, callback in self._named().items():
            made_with = self._made_with[key]
            changed = {n: v for n, v in _values(callback).items() if n not in made_with or made_with[n] != v}
            plain[key] = changed
            for name, value in vars(callback).items():
                if _is_arrays(value):
                    arrays |= {f"{key}.{name}.{i}": array for i, array in enumerate(value)}
        state = {"epoch": self._done, "stopped": bool(self.model.stop_training), "ended": ended, "callbacks": plain}
        self._checkpoint.save(self.model, state, arrays)

    def _restore_batches(self) -> None:
        assert self._found is not None
        state = {name[len(_BATCHES) :]: value for name, value in self._found.items() if name.startswith(_BATCHES)}
        try:
            self._batches.set_state(state)
        except UserError as error:
            path = self._checkpoint.path
            raise UserError(f"{path}: not the state of this run ({error}); remove it to start anew") from None

    def _restore_callbacks(self) -> None:
        assert self._found is not None
        for key, callback in self._named().items():
            vars(callback).update(self._found["callbacks"].get(key, {}))
            names = [found.split(".")[1] for found in self._found if found.startswith(f"{key}.")]
            for name in dict.fromkeys(names):
                vars(callback)[name] = [self._found[f"{key}.{name}.{i}"] for i in range(names.count(name))]


def _values(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """The attributes of a callback that JSON can hold, copied."""
    values = {name: value for name, value in vars(callback).items() if name not in _OF_KERAS}
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    return {name: list(v) if isinstance(v, list) else v for name, v in values.items() if _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(not isinstance(item, list) and _is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _is_arrays(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, np.ndarray) for item in value)
