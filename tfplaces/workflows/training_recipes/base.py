"""What all ways to train have in common, and those that learn from places have."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset, cached

if TYPE_CHECKING:
    import keras

    from tfplaces.models import PlaceNet
    from tfplaces.training import ImageBatches, WorkDir


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecipe(abc.ABC):
    """How a network is trained, whatever it learns from. All of it enters the weights.

    Attributes:
        method: the name of the recipe.
        epochs: how often to go through the images.
        train_from: see `tfplaces.training.first_trained`.
        optimizer: see `tfplaces.training.make_optimizer`.
        learning_rate: the step size that the schedule begins with.
        weight_decay: see `make_optimizer`.
        warm_up: steps in which the learning rate grows to that; None for a twentieth of all steps.
        schedule: see `tfplaces.training.make_schedule`.
        augmentation: see `tfplaces.training.make_augmentation`.
        precision: what the training computes in, see `tfplaces.training.ModelTraining`.
        accumulate: how many batches' mean gradient a step of the optimizer goes by.
    """

    method: ClassVar[str]

    epochs: int = 10
    train_from: str | None = None
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    warm_up: int | None = None
    schedule: str = "cosine"
    augmentation: str = "none"
    precision: str = "float32"
    accumulate: int = 1

    @property
    def trains(self) -> bool:
        """Whether the network is to be trained, and not only assembled."""
        return self.epochs > 0

    @property
    def files(self) -> list[str]:
        """The files that it reads."""
        return []

    def check(self, model: PlaceNet, sets: Sequence[PlaceDataset], *, random: bool, seed: int) -> None:
        """Finds what can be known to go wrong before anything is computed.

        Args:
            model: as for `train`, but its weights need not have values.
            sets: see `train`, as `random` and `seed`.

        Raises:
            UserError: something of the recipe is not known, or does not go with the rest of it or with the data sets.
        """
        from tfplaces.training import make_augmentation

        self.make_optimizer(1)
        make_augmentation(self.augmentation)

    @abc.abstractmethod
    def train(
        self,
        model: PlaceNet,
        sets: Sequence[PlaceDataset],
        *,
        random: bool,
        seed: int,
        work_dir: WorkDir,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> PlaceNet:
        """Trains a network.

        Args:
            model: the network, which may be changed.
            sets: what is learnt from.
            random: whether the weights of its backbone are random.
            seed: gives all that is drawn.
            work_dir: keeps the state, for a call that goes on where another was killed.
            callbacks: Keras callbacks to fit with.

        Returns:
            the trained network, `model` or another.
        """

    def make_optimizer(self, steps: int) -> keras.optimizers.Optimizer:
        """The optimizer of a training whose epochs have so many steps."""
        from tfplaces.training import make_optimizer, make_schedule

        warm_up = -(-self.epochs * steps // 20) if self.warm_up is None else self.warm_up
        rate = make_schedule(self.schedule, self.learning_rate, self.epochs, steps, warm_up)
        return make_optimizer(self.optimizer, rate, self.weight_decay, self.accumulate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipeOfPlaces(TrainingRecipe):
    """A recipe that learns which images show one place, and is judged by finding them.

    Of the sets the first is learnt from, and the second judges the epochs.

    Attributes:
        patience: epochs without a better recall@1 after which the training ends; 0 for all epochs in any case.
        versions: how many there are of each image, changed once and for all, the image as it is among them. The frozen
            layers' features of them are kept on the disk, see `tfplaces.training.cache_features`. 0 for images that are
            changed anew whenever they come.
    """

    patience: int = 0
    versions: int = 0

    def check(self, model: PlaceNet, sets: Sequence[PlaceDataset], *, random: bool, seed: int) -> None:
        from tfplaces.evaluation import check_positives
        from tfplaces.training import first_trained, trained_from

        super().check(model, sets, random=random, seed=seed)
        check_positives(sets[1])
        first = first_trained(model, self.train_from, random)
        if self.versions and first is None:
            raise UserError(
                f"--versions={self.versions} keeps the features of frozen layers, but all are trained: give the first "
                "layer that is to be trained with --train_from"
            )
        with trained_from(model, first):
            self.check_data(model, sets[0], seed)

    @abc.abstractmethod
    def check_data(self, model: PlaceNet, dataset: PlaceDataset, seed: int) -> None:
        """Raises UserError where the data set cannot be learnt from so."""

    @abc.abstractmethod
    def make_batches(self, model: PlaceNet, dataset: PlaceDataset, seed: int) -> tuple[ImageBatches, keras.losses.Loss]:
        """What is learnt from, and the loss that goes with it."""

    def train(
        self,
        model: PlaceNet,
        sets: Sequence[PlaceDataset],
        *,
        random: bool,
        seed: int,
        work_dir: WorkDir,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> PlaceNet:
        from tfplaces.training import (
            ModelTraining,
            StopEarly,
            cache_features,
            first_trained,
            train,
            trained_from,
        )

        first = first_trained(model, self.train_from, random)
        with trained_from(model, first):
            batches, loss = self.make_batches(model, cached(sets[0]), seed)
            rest: keras.Model = model
            if self.versions and first is not None:
                batches, rest = cache_features(model, first, batches, work_dir.file("features"), self.versions, seed)
            train(
                model,
                batches,
                sets[1],
                epochs=self.epochs,
                loss=loss,
                optimizer=self.make_optimizer(len(batches)),
                fitted=ModelTraining(rest, precision=self.precision),
                callbacks=[*([StopEarly(self.patience)] if self.patience else []), *callbacks],
                checkpoint=work_dir.checkpoint("training"),
            )
        return model
