"""Judging the epochs of a fit: the best is kept, and the fit may end early."""

from __future__ import annotations

import abc
import sys
import time

import keras
import numpy as np

from tfplaces.datasets import Images, PlaceDataset
from tfplaces.describers import Describer, describe_images
from tfplaces.evaluation import score

# Descriptors of different places have collapsed when their mean cosine is above this: their mean squared distance is
# then below 0.2, where unrelated vectors have 2. GeM of ImageNet's features may begin there, so it must have risen too.
COLLAPSED = 0.9


class EpochJudge(keras.callbacks.Callback, abc.ABC):
    """Judges the model before a fit and after each epoch by one number, and keeps the weights of the best.

    After each epoch it prints what it has found and about how long the others will take. It comes before callbacks that
    look at what it adds to the logs.

    Args:
        keep_best: whether the fit ends with the weights of the best epoch, or of none if no epoch is better than what
            there was before, rather than with the last.

    Attributes:
        history: the number before the fit and after each epoch.
    """

    def __init__(self, keep_best: bool = True):
        super().__init__()
        self._keep_best = keep_best
        self.history: list[float] = []
        self._best: list[np.ndarray] = []
        self._before = ""  # the figures before training, until they are said

    @abc.abstractmethod
    def judge(self) -> float:
        """The number of the model as it is now."""

    @abc.abstractmethod
    def is_best(self) -> bool:
        """Whether the last number of the history is the best, or as good as the best."""

    @abc.abstractmethod
    def figures(self) -> str:
        """What was found the last time, in words."""

    @abc.abstractmethod
    def logged(self) -> dict[str, float]:
        """What was found the last time, for the logs."""

    def on_train_begin(self, logs=None):
        if not self.history:  # or the fit goes on
            self._note()
            self._before = f" ({self.figures()} before training)"

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self._note()
        if logs is not None:
            logs.update(self.logged())
        epochs = self.params["epochs"]
        left = (epochs - epoch - 1) * (time.monotonic() - self._started)
        estimate = f", about {_duration(left)} left" if left else ""
        print(f"epoch {epoch + 1}/{epochs}: {self.figures()}{self._before}{estimate}", file=sys.stderr)
        self._before = ""

    def on_train_end(self, logs=None):
        self.restore()

    def restore(self) -> None:
        """Sets the weights that are kept."""
        if self._best:
            self.model.set_weights(self._best)

    def _note(self) -> None:
        self.history.append(self.judge())
        if self.is_best() or not self._keep_best:
            self._best = self.model.get_weights()


class ValidationMap(EpochJudge):
    """Judges every epoch on a data set and keeps the weights of the best by mAP.

    It adds `val_map` and `val_recall_1`, mAP and recall@1 in percent, to the logs of every epoch, as
    `EarlyStopping(monitor="val_map", mode="max")` takes them. When the descriptors of different places come to be
    nearly alike, which they do at too high a learning rate, it says so once.

    Args:
        describer: the network that is trained.
        dataset: what it is judged on.
        keep_best: see `EpochJudge`.

    Attributes:
        history: mAP before the fit and after each epoch.
    """

    def __init__(self, describer: Describer, dataset: PlaceDataset, keep_best: bool = True):
        super().__init__(keep_best)
        self._describer, self._dataset = describer, dataset
        self._recall, self._cosine, self._cosine_before, self._collapsed = 0.0, 1.0, 1.0, False

    def judge(self) -> float:
        database = describe_images(self._describer, self._dataset.database, "database")
        queries = describe_images(self._describer, self._dataset.queries, "queries")
        found = score(self._dataset, queries, database)
        self._recall = found.recall[1]
        self._cosine = mean_cosine_of_places(self._dataset, queries, database)
        if not self.history:
            self._cosine_before = self._cosine
        return found.map

    def is_best(self) -> bool:
        return self.history[-1] >= max(self.history)

    def figures(self) -> str:
        return f"validation mAP {self.history[-1]:.1f}, recall@1 {self._recall:.1f}"

    def logged(self) -> dict[str, float]:
        return {"val_map": self.history[-1], "val_recall_1": self._recall}

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        cosine, before = self._cosine, self._cosine_before
        if cosine > COLLAPSED and 1 - cosine < (1 - before) / 2 and not self._collapsed:
            self._collapsed = True
            print(
                f"the descriptors collapse: those of different places have a mean cosine of {cosine:.2f}, "
                f"{before:.2f} before training; lower the learning rate, or train fewer layers",
                file=sys.stderr,
            )


class TeacherDistance(EpochJudge):
    """Judges every epoch by how far a student's descriptors are from its teacher's, and keeps the nearest.

    It adds `val_distance`, the mean cosine distance, to the logs of every epoch.

    Args:
        describer: the student.
        images: it is judged on them.
        descriptors: what the teacher gives them, float `[len(images), dim]`.

    Attributes:
        history: the distance, 0 to 2, before the fit and after each epoch.
    """

    def __init__(self, describer: Describer, images: Images, descriptors: np.ndarray):
        super().__init__()
        self._describer, self._images = describer, images
        self._wanted = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)

    def judge(self) -> float:
        found = describe_images(self._describer, self._images, "held-out images")
        cosines = np.sum(found * self._wanted, axis=1) / np.linalg.norm(found, axis=1)
        return float(np.mean(1 - cosines))

    def is_best(self) -> bool:
        return self.history[-1] <= min(self.history)

    def figures(self) -> str:
        return f"distance from the teacher {self.history[-1]:.4f}"

    def logged(self) -> dict[str, float]:
        return {"val_distance": self.history[-1]}


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
