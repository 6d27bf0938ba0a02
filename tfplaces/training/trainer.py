"""Triplet training of a place-recognition network with hard negatives; the best epoch is kept."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.processors import usable_processors
from tfplaces.datasets import Images, PlaceDataset, cached
from tfplaces.describers import KerasDescriber
from tfplaces.evaluation import evaluate
from tfplaces.losses import TripletRankingLoss
from tfplaces.training.fitting import Checkpoint, RatedAdam, fit_epochs
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
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Checkpoint | None = None,
    keep_best: bool = True,
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
        callbacks: of `fit`.
        checkpoint: where the state is kept after every epoch; a call that finds it there goes on from it.
        keep_best: whether to end with the best epoch, rather than with the last.

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
    optimizer = RatedAdam(learning_rate, getattr(fitted, "rate_factors", None))
    fitted.compile(optimizer, TripletRankingLoss(margin))
    best: dict[str, np.ndarray] = {}

    def batches(epoch: int) -> _Batches:
        # Hard negatives from the start keep a network from learning: the first epoch has random ones.
        return _Batches(miner.images, describer.input_size, list(miner.epoch(describer, epoch, (epoch + 1) * pairs)))

    def judge(epoch: int, state: dict[str, Any]) -> dict[str, np.ndarray]:
        best.update({name: value for name, value in state.items() if name.startswith("best")})
        if not all(np.all(np.isfinite(weights)) for weights in fitted.get_weights()):
            if best:
                _set_best(fitted, best)
            raise UserError(f"training diverged in epoch {epoch}: lower the learning rate of {learning_rate:g}")
        history = state.setdefault("history", [])
        history.append(evaluate(describer, validation).map)
        if epoch:
            print(f"epoch {epoch}/{epochs}: validation mAP {history[-1]:.1f}", file=sys.stderr)
        if history[-1] >= max(history) or not keep_best:
            best.update({f"best{i}": weights for i, weights in enumerate(fitted.get_weights())})
        return best

    state = fit_epochs(fitted, batches, epochs, callbacks=callbacks, checkpoint=checkpoint, after_epoch=judge)
    _set_best(fitted, state)
    return state["history"]


def _set_best(fitted: keras.Model, state: Mapping[str, Any]) -> None:
    fitted.set_weights([state[f"best{i}"] for i in range(len(fitted.get_weights()))])


class TripletTuning:
    """Fine-tuning for `compress` by triplets of places, the paper's; see `train` for the arguments.

    Attributes:
        model: what `compress` is to wrap: the network itself.
        steps: of a fit, about.
    """

    def __init__(
        self, model: keras.Model, dataset: PlaceDataset, validation: PlaceDataset, *, epochs: int, pairs: int = 16,
        **options: Any,
    ):  # fmt: skip
        self.model = model
        self._sets = cached(dataset), cached(validation)
        self._options = {"epochs": epochs, "pairs": pairs, **options}
        self.steps = epochs * -(-len(PairMiner(dataset, pairs)) // pairs)

    def fit(
        self,
        fitted: keras.Model,
        callbacks: Sequence[keras.callbacks.Callback],
        checkpoint: Checkpoint | None,
        keep_best: bool = True,
    ) -> None:
        """See `FineTuning`."""
        train(
            self.model, *self._sets, fitted=fitted, callbacks=callbacks, checkpoint=checkpoint, keep_best=keep_best,
            **self._options,
        )  # fmt: skip


class _Batches(keras.utils.PyDataset):
    """Batches of pairs for `fit`: images uint8 `[2 n, height, width, 3]` and the pair that each belongs to."""

    def __init__(self, images: Images, size: tuple[int, int], batches: list[np.ndarray]):
        super().__init__(workers=usable_processors(), max_queue_size=4)
        self._images, self._size, self._indices = images, size, batches

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int):
        pairs = self._indices[index]
        images = np.stack([self._images.read(i, self._size) for i in pairs.ravel()])
        return images, np.repeat(np.arange(len(pairs)), 2)
