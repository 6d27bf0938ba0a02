"""Training a place-recognition network in one fit; the best epoch is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfplaces.datasets import PlaceDataset, cached
from tfplaces.describers import KerasDescriber
from tfplaces.losses import TripletRankingLoss
from tfplaces.training.batches import ImageBatches, MinedPairs
from tfplaces.training.checkpoint import Checkpoint
from tfplaces.training.fitting import DivergedError, fit
from tfplaces.training.judging import ValidationMap
from tfplaces.training.model_training import ModelTraining
from tfplaces.training.rated_optimizers import RatedAdam


def train(
    model: keras.Model,
    batches: ImageBatches,
    validation: PlaceDataset,
    *,
    epochs: int,
    loss: keras.losses.Loss | None = None,
    fitted: keras.Model | None = None,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-4,
    optimizer: keras.optimizers.Optimizer | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Checkpoint | None = None,
    keep_best: bool = True,
) -> list[float]:
    """Trains a model in place; ends with the weights of the epoch that had the best mAP on the validation set.

    It is one Keras `fit`, with Adam by default. After every epoch the logs have `val_map`, for `EarlyStopping`,
    `ReduceLROnPlateau` and `ModelCheckpoint` to monitor with `mode="max"`.

    Args:
        model: from images `[batch, height, width, 3]`, 0 to 255, to descriptors of unit length, with an `input_size`.
        batches: what to learn from, for example `MinedPairs(model, dataset)`.
        validation: judges the epochs.
        epochs: how often to go through the batches.
        loss: takes the targets of the batches and descriptors; by default `TripletRankingLoss()`.
        fitted: the model to fit in place of `model`, whose weights it trains in its own way.
        learning_rate: the step size of Adam.
        optimizer: another optimizer of Keras than Adam, with a learning rate of its own.
        callbacks: Keras callbacks to fit with.
        checkpoint: where the state is kept after every epoch; a call that finds it there goes on from it.
        keep_best: whether to end with the best epoch, rather than with the last.

    Returns:
        mAP on the validation set before training and after each epoch, `[epochs + 1]`, or up to where a callback
        stopped the training.

    Raises:
        DivergedError: loss or weights are not finite any more; the model then has its best weights so far.
    """
    judge = ValidationMap(KerasDescriber(model), cached(validation), keep_best)
    fitted = fitted or ModelTraining(model)
    fitted.compile(
        optimizer or RatedAdam(learning_rate, getattr(fitted, "rate_factors", None)), loss or TripletRankingLoss()
    )
    try:
        fit(fitted, batches, epochs, callbacks=[judge, *callbacks], checkpoint=checkpoint)
    except DivergedError:
        judge.restore()
        raise
    return judge.history


class TripletTuning:
    """Fine-tuning for `compress` by triplets of places, the paper's.

    Args:
        model: the network that will be compressed.
        dataset: what to learn from.
        validation: judges the epochs.
        epochs: passes over the data set, for each time it is fitted.
        pairs: see `MinedPairs`.
        margin: see `TripletRankingLoss`.
        learning_rate: the step size of Adam.
        seed: gives the order and the choice of positives.

    Attributes:
        model: what `compress` is to wrap: the network itself.
        steps: how many steps a fit takes.
    """

    def __init__(
        self,
        model: keras.Model,
        dataset: PlaceDataset,
        validation: PlaceDataset,
        *,
        epochs: int,
        pairs: int = 16,
        margin: float = 0.1,
        learning_rate: float = 1e-4,
        seed: int = 0,
    ):
        self.model = model
        self._batches = MinedPairs(model, cached(dataset), pairs=pairs, seed=seed)
        self._options: dict[str, Any] = {
            "validation": cached(validation),
            "epochs": epochs,
            "loss": TripletRankingLoss(margin),
            "learning_rate": learning_rate,
        }
        self.steps = epochs * len(self._batches)

    def fit(
        self,
        fitted: keras.Model,
        callbacks: Sequence[keras.callbacks.Callback],
        checkpoint: Checkpoint | None,
        keep_best: bool = True,
    ) -> None:
        """See `FineTuning`."""
        train(
            self.model,
            self._batches,
            fitted=fitted,
            callbacks=callbacks,
            checkpoint=checkpoint,
            keep_best=keep_best,
            **self._options,
        )
