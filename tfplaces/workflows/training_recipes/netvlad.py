"""NetVLAD's own recipe: triplets that are mined with descriptors which are computed anew on a schedule."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tfplaces.common.progress import say_step
from tfplaces.datasets import PlaceDataset
from tfplaces.workflows.training_recipes.base import RecipeOfPlaces

if TYPE_CHECKING:
    import keras

    from tfplaces.models import PlaceNet
    from tfplaces.training import ImageBatches


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetVLADRecipe(RecipeOfPlaces):
    """See `recipes/netvlad.flags`.

    Attributes:
        margin: of the loss, on squared distances of unit vectors, see `tfplaces.losses.TupleTripletLoss`.
    """

    method = "netvlad"

    epochs: int = 30
    optimizer: str = "sgd"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: int | None = 0
    schedule: str = "steps?epochs=5,10,15,20,25&factor=0.5"
    margin: float = 0.1

    def check_data(self, model: PlaceNet, dataset: PlaceDataset, seed: int) -> None:
        from tfplaces.losses import TupleTripletLoss
        from tfplaces.training.netvlad_batches import TupleMiner

        TupleMiner(dataset, TupleTripletLoss(self.margin))

    def make_batches(self, model: PlaceNet, dataset: PlaceDataset, seed: int) -> tuple[ImageBatches, keras.losses.Loss]:
        from tfplaces.losses import TupleTripletLoss
        from tfplaces.training import NetVLADBatches, make_augmentation

        loss = TupleTripletLoss(self.margin)
        augmentation = make_augmentation(self.augmentation)
        batches = NetVLADBatches(model, dataset, loss=loss, augmentation=augmentation, seed=seed)
        say_step(f"{dataset.spec}: {len(batches)} batches an epoch, of up to 4 queries with 10 negatives each")
        return batches, loss
