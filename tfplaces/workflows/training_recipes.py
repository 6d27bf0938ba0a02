"""The ways to train a network: what each can be told, what it does when it is told nothing, and what it learns from.

A flag of `tfplaces-train` has the name of a field here. The files in `recipes/` write down these defaults, with their
sources. TensorFlow is imported only when batches are made.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tfplaces.common.errors import UserError
from tfplaces.common.progress import say_step
from tfplaces.datasets import PlaceDataset, make_places

if TYPE_CHECKING:
    import keras

    from tfplaces.models import PlaceNet
    from tfplaces.training import ImageBatches, PlaceBatches


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecipe(abc.ABC):
    """How a network is trained, whatever it learns from. All of it enters the weights.

    Attributes:
        method: the name of the recipe.
        epochs: how often to go through the data set; 0 for a network that is not trained.
        train_from: see `tfplaces.training.first_trained`.
        optimizer: see `tfplaces.training.make_optimizer`.
        learning_rate: the step size that the schedule begins with.
        weight_decay: see `make_optimizer`.
        warm_up: steps in which the learning rate grows to that; None for a twentieth of all steps.
        schedule: see `tfplaces.training.make_schedule`.
        augmentation: see `tfplaces.training.make_augmentation`.
        accumulate: how many batches' mean gradient a step of the optimizer goes by.
        patience: epochs without a better recall@1 after which the training ends; 0 for all epochs in any case.
    """

    method: ClassVar[str]

    epochs: int = 10
    train_from: str | None = None
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    warm_up: int | None = None
    schedule: str = "constant"
    augmentation: str = "none"
    accumulate: int = 1
    patience: int = 0

    def check(self, model: PlaceNet, dataset: PlaceDataset, seed: int) -> None:
        """Finds what can be known to go wrong before anything is computed, with a model whose weights have no values.

        Raises:
            UserError: something of the recipe is not known or goes with nothing else in it, or not with the data set.
        """
        from tfplaces.training import make_augmentation, make_schedule

        make_schedule(self.schedule, self.learning_rate, 1, 1)
        self.make_optimizer(1)
        make_augmentation(self.augmentation)
        self.check_data(model, dataset, seed)

    def make_optimizer(self, steps: int) -> keras.optimizers.Optimizer:
        """The optimizer of a training whose epochs have so many steps."""
        from tfplaces.training import make_optimizer, make_schedule

        warm_up = -(-self.epochs * steps // 20) if self.warm_up is None else self.warm_up
        rate = make_schedule(self.schedule, self.learning_rate, self.epochs, steps, warm_up)
        return make_optimizer(self.optimizer, rate, self.weight_decay, self.accumulate)

    @abc.abstractmethod
    def check_data(self, model: PlaceNet, dataset: PlaceDataset, seed: int) -> None:
        """Raises UserError where the data set cannot be learnt from so."""

    @abc.abstractmethod
    def make_batches(self, model: PlaceNet, dataset: PlaceDataset, seed: int) -> tuple[ImageBatches, keras.losses.Loss]:
        """What is learnt from, and the loss that goes with it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaceBatchesRecipe(TrainingRecipe):
    """Batches of places with several images each, and the multi-similarity loss with its miner.

    Attributes:
        places: how places are made, see `tfplaces.datasets.make_places`; None for what the data set allows.
        places_in_batch: see `tfplaces.training.PlaceBatches`.
        images_of_place: see there. Places of fewer images are drawn from with repetition.
        beside: see there.
    """

    method = "place_batches"

    learning_rate: float = 2e-4
    schedule: str = "cosine"
    augmentation: str = "crop_jitter?crop=0.5&jitter=0.3"
    places: str | None = None
    places_in_batch: int = 30
    images_of_place: int = 4
    beside: bool = False

    def check_data(self, model: PlaceNet, dataset: PlaceDataset, seed: int) -> None:
        self._batches(model, dataset, seed)

    def make_batches(self, model: PlaceNet, dataset: PlaceDataset, seed: int) -> tuple[ImageBatches, keras.losses.Loss]:
        from tfplaces.losses import MultiSimilarityLoss

        batches = self._batches(model, dataset, seed)
        most = max(len(batch) for batch in next(batches.choose(0)))
        fewer = "" if most == self.places_in_batch else f", not {self.places_in_batch}: no more may come together"
        say_step(
            f"{dataset.spec}: {batches.usable:,} places; {len(batches)} batches an epoch, of up to {most} places{fewer}"
        )
        return batches, MultiSimilarityLoss()

    def _batches(self, model: PlaceNet, dataset: PlaceDataset, seed: int) -> PlaceBatches:
        from tfplaces.training import PlaceBatches, make_augmentation

        return PlaceBatches(
            make_places(dataset, self.places),
            model.input_size,
            places_in_batch=self.places_in_batch,
            images_of_place=self.images_of_place,
            min_images=2,
            beside=self.beside,
            augmentation=make_augmentation(self.augmentation),
            seed=seed,
        )


RECIPES: dict[str, type[TrainingRecipe]] = {recipe.method: recipe for recipe in (PlaceBatchesRecipe,)}


def options() -> list[str]:
    """The names of all that recipes can be told."""
    return list(dict.fromkeys(field.name for recipe in RECIPES.values() for field in dataclasses.fields(recipe)))


def defaults(option: str) -> str:
    """What an option is when it is not given, as a sentence with a space before it; empty where that has no value."""
    methods: dict[Any, list[str]] = {}
    for method, recipe in RECIPES.items():
        for field in dataclasses.fields(recipe):
            if field.name == option:
                methods.setdefault(field.default, []).append(method)
    if methods.keys() == {None}:
        return ""
    if list(methods.values()) == [list(RECIPES)]:
        return f" By default {next(iter(methods))}."
    return " By default " + ", ".join(f"{value} with {' and '.join(of)}" for value, of in methods.items()) + "."


def make_recipe(method: str, given: Mapping[str, Any]) -> TrainingRecipe:
    """A recipe by its name.

    Args:
        method: a key of `RECIPES`.
        given: what it is told, by the names of its fields.

    Raises:
        UserError: the recipe has no use for something of it.
    """
    known = {name: {field.name for field in dataclasses.fields(recipe)} for name, recipe in RECIPES.items()}
    for name in given:
        if name not in known[method]:
            those = " or ".join(f"--method={other}" for other in RECIPES if name in known[other])
            raise UserError(f"--{name} goes with {those}, not with --method={method}")
    return RECIPES[method](**given)
