"""Batches of places with several images each, and the multi-similarity loss with its miner: the default."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tfplaces.common.progress import say_step
from tfplaces.datasets import PlaceDataset, make_places
from tfplaces.workflows.training_recipes.base import RecipeOfPlaces

if TYPE_CHECKING:
    import keras

    from tfplaces.models import PlaceNet
    from tfplaces.training import ImageBatches, PlaceBatches


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaceBatchesRecipe(RecipeOfPlaces):
    """See `recipes/place_batches.flags`.

    Attributes:
        places: how places are made, see `tfplaces.datasets.make_places`; None for what the data set allows.
        places_in_batch: see `tfplaces.training.PlaceBatches`.
        images_of_place: see there. Places of fewer images are drawn from with repetition.
        beside: see there.
    """

    method = "place_batches"

    learning_rate: float = 2e-4
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
