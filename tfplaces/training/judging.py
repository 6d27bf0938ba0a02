"""Judging the epochs of a fit by the accuracy on a validation set: the best is kept, and the fit may end early."""

from __future__ import annotations

import sys
import time

import keras
import numpy as np

from tfplaces.datasets import PlaceDataset
from tfplaces.describers import Describer, describe_images
from tfplaces.evaluation import score

# Descriptors of different places have collapsed when their mean cosine is above this: their mean squared distance is
# then below 0.2, where unrelated vectors have 2. GeM of ImageNet's features may begin there, so it must have risen too.
COLLAPSED = 0.9


class ValidationMap(keras.callbacks.Callback):
    """Judges every epoch on a data set and keeps the weights of the best by mAP.

    It adds `val_map` and `val_recall_1`, mAP and recall@1 in percent, to the logs of every epoch, and comes before
    callbacks that look at them, as `EarlyStopping(monitor="val_map", mode="max")` does. When the descriptors of
    different places come to be nearly alike, which they do at too high a learning rate, it says so once.

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
        self._recall, self._cosine_before, self._collapsed = 0.0, 1.0, False
        self._before = ""  # the figures before training, until they are said

    def on_train_begin(self, logs=None):
        if not self.history:  # or the fit goes on
            self._cosine_before = self._judge()
            self._before = f" ({self._figures()} before training)"

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        cosine = self._judge()
        if logs is not None:
            logs["val_map"], logs["val_recall_1"] = self.history[-1], self._recall
        epochs = self.params["epochs"]
        left = (epochs - epoch - 1) * (time.monotonic() - self._started)
        estimate = f", about {_duration(left)} left" if left else ""
        print(f"epoch {epoch + 1}/{epochs}: validation {self._figures()}{self._before}{estimate}", file=sys.stderr)
        self._before = ""
        if cosine > COLLAPSED and 1 - cosine < (1 - self._cosine_before) / 2 and not self._collapsed:
            self._collapsed = True
            print(
                f"the descriptors collapse: those of different places have a mean cosine of {cosine:.2f}, "
                f"{self._cosine_before:.2f} before training; lower the learning rate, or train fewer layers",
                file=sys.stderr,
            )

    def on_train_end(self, logs=None):
        self.restore()

    def restore(self) -> None:
        """Sets the weights that are kept."""
        if self._best:
            self.model.set_weights(self._best)

    def _judge(self) -> float:
        """Adds to the history, and gives the mean cosine of different places."""
        database = describe_images(self._describer, self._dataset.database, "database")
        queries = describe_images(self._describer, self._dataset.queries, "queries")
        found = score(self._dataset, queries, database)
        self.history.append(found.map)
        self._recall = found.recall[1]
        if self.history[-1] >= max(self.history) or not self._keep_best:
            self._best = self.model.get_weights()
        return mean_cosine_of_places(self._dataset, queries, database)

    def _figures(self) -> str:
        return f"mAP {self.history[-1]:.1f}, recall@1 {self._recall:.1f}"


class StopEarly(keras.callbacks.EarlyStopping):
    """Ends a fit when recall@1 on the validation set has not risen for some epochs; between equal ones mAP decides.

    It comes after a `ValidationMap`, whose logs it looks at.

    Args:
        patience: how many epochs without a better one end the fit, at least 1.
    """

    def __init__(self, patience: int):
        super().__init__(monitor="val_recall_1", mode="max", patience=patience)

    def get_monitor_value(self, logs):
        # Recalls of up to ten thousand queries differ by more than all of the second term.
        return logs["val_recall_1"] + logs["val_map"] / 1e4

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.model.stop_training:
            print(f"stopping: recall@1 has not risen for {self.patience} epochs", file=sys.stderr)


def mean_cosine_of_places(dataset: PlaceDataset, queries: np.ndarray, database: np.ndarray) -> float:
    """The mean cosine of queries with the database images that are not their positives, in linear time.

    Args:
        dataset: says what is positive.
        queries: descriptors of unit length, float32 `[queries, dim]`.
        database: the same, float32 `[database, dim]`.

    Returns:
        −1 to 1; 0 where all database images are positives of all queries.
    """
    total = float(queries.sum(0, dtype=np.float64) @ database.sum(0, dtype=np.float64))
    pairs = len(queries) * len(database)
    for query, positives in zip(queries, dataset.truth.positives, strict=True):
        total -= float((database[positives] @ query).sum(dtype=np.float64))
        pairs -= len(positives)
    return total / pairs if pairs else 0.0


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
