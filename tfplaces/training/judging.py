"""Judging the epochs of a fit by the accuracy on a validation set, and keeping the best."""

from __future__ import annotations

import sys
import time

import keras
import numpy as np

from tfplaces.datasets import PlaceDataset
from tfplaces.describers import Describer
from tfplaces.evaluation import evaluate


class ValidationMap(keras.callbacks.Callback):
    """Adds `val_map`, the mAP on a data set in percent, to the logs of every epoch; keeps the best weights.

    It comes before callbacks that look at `val_map`, as `EarlyStopping(monitor="val_map", mode="max")` does.

    Args:
        describer: the network that is trained.
        dataset: what it is judged on.
        keep_best: whether the fit ends with the weights of the best epoch, or of none if no epoch is better than what
            there was before, rather than with the last.

    Attributes:
        history: mAP before the fit and after each epoch.
    """

    def __init__(self, describer: Describer, dataset: PlaceDataset, keep_best: bool = True):
        super().__init__()
        self._describer, self._dataset, self._keep_best = describer, dataset, keep_best
        self.history: list[float] = []
        self._best: list[np.ndarray] = []

    def on_train_begin(self, logs=None):
        if not self.history:  # or the fit goes on
            self._judge()

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self._judge()
        if logs is not None:
            logs["val_map"] = self.history[-1]
        epochs = self.params["epochs"]
        left = (epochs - epoch - 1) * (time.monotonic() - self._started)
        estimate = f", about {_duration(left)} left" if left else ""
        print(f"epoch {epoch + 1}/{epochs}: validation mAP {self.history[-1]:.1f}{estimate}", file=sys.stderr)

    def on_train_end(self, logs=None):
        self.restore()

    def restore(self) -> None:
        """Sets the weights that are kept."""
        if self._best:
            self.model.set_weights(self._best)

    def _judge(self) -> None:
        self.history.append(evaluate(self._describer, self._dataset).map)
        if self.history[-1] >= max(self.history) or not self._keep_best:
            self._best = self.model.get_weights()


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
