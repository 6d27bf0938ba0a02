"""Triplet training of a place-recognition network with hard negatives; the best epoch is kept."""

from __future__ import annotations

import os
import sys

import keras
import numpy as np

from tfplaces.datasets import Images, PlaceDataset, cached
from tfplaces.evaluation import evaluate
from tfplaces.losses import TripletRankingLoss
from tfplaces.models.describer import KerasDescriber
from tfplaces.training.mining import PairMiner


def train(
    model: keras.Model,
    dataset: PlaceDataset,
    validation: PlaceDataset,
    *,
    epochs: int,
    fitted: keras.Model | None = None,
    learning_rate: float = 1e-4,
    margin: float = 0.1,
    pairs: int = 16,
    seed: int = 0,
) -> list[float]:
    """Trains a model in place; ends with the weights of the epoch that had the best mAP on the validation set.

    Args:
        model: from images `[batch, height, width, 3]`, 0 to 255, to descriptors of unit length, with an `input_size`.
        dataset: queries, positives and database to learn from.
        validation: judges the epochs.
        epochs: passes over the anchors of the data set.
        fitted: the model to fit in place of `model`, whose weights it trains in its own way; by default `model`.
        learning_rate: of Adam.
        margin: of the triplet loss, on squared distances.
        pairs: query and positive pairs in a batch, each the others' negatives.
        seed: of the order and of the sampling.

    Returns:
        mAP on the validation set before training and after each epoch, `[epochs + 1]`.

    Raises:
        ValueError: nothing to train on, or weights that are not finite any more; the model then has its best ones.
    """
    dataset, validation = cached(dataset), cached(validation)
    miner = PairMiner(dataset, pairs, seed)
    describer = KerasDescriber(model)
    # Not the model itself: it would be saved with its optimizer.
    fitted = fitted or keras.Model(model.inputs, model.outputs)
    fitted.compile(keras.optimizers.Adam(learning_rate), TripletRankingLoss(margin))
    history = [evaluate(describer, validation).map]
    best = fitted.get_weights()
    for epoch in range(1, epochs + 1):
        # Hard negatives from the start keep a network from learning: the first epoch has random ones.
        batches = list(miner.epoch(describer, pool=epoch * pairs))
        fitted.fit(
            _Batches(miner.images, describer.input_size, batches),
            initial_epoch=epoch - 1,
            epochs=epoch,
            shuffle=False,
            verbose=1 if sys.stderr.isatty() else 2,
        )
        if not all(np.all(np.isfinite(weights)) for weights in fitted.get_weights()):
            fitted.set_weights(best)
            raise ValueError(f"training diverged in epoch {epoch}: lower the learning rate of {learning_rate:g}")
        history.append(evaluate(describer, validation).map)
        print(f"epoch {epoch}/{epochs}: validation mAP {history[-1]:.1f}", file=sys.stderr)
        if history[-1] >= max(history):
            best = fitted.get_weights()
    fitted.set_weights(best)
    return history


class _Batches(keras.utils.PyDataset):
    """Batches of pairs for `fit`: images uint8 `[2 n, height, width, 3]` and the pair that each belongs to."""

    def __init__(self, images: Images, size: tuple[int, int], batches: list[np.ndarray]):
        super().__init__(workers=os.cpu_count() or 1, max_queue_size=4)
        self._images, self._size, self._indices = images, size, batches

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int):
        pairs = self._indices[index]
        images = np.stack([self._images.read(i, self._size) for i in pairs.ravel()])
        return images, np.repeat(np.arange(len(pairs)), 2)
