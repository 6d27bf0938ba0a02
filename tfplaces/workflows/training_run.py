"""A network from its backbone to its whitening, in stages that are kept, so that a run that was killed goes on."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfplaces.common.errors import DataWarning
from tfplaces.common.files import replacing
from tfplaces.datasets import Images, PlaceDataset, cached
from tfplaces.evaluation import check_positives
from tfplaces.layers.netvlad import DEFAULT_SHARPNESS, TRAINING_SHARPNESS
from tfplaces.models import PlaceNet, outline
from tfplaces.models.aggregations import parse_aggregation
from tfplaces.opening import load_place_net
from tfplaces.training import StopEarly, WorkDir, add_whitening, assemble, first_trained, train, trained_from
from tfplaces.training.whitening import check_whitening
from tfplaces.workflows.run_folder import names_digest, truths_digest
from tfplaces.workflows.training_recipes import TrainingRecipe


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What a network is made of, and what it is trained on.

    Attributes:
        backbone: a key of `tfplaces.models.BACKBONES`.
        backbone_weights: none, imagenet or a file, see `tfplaces.pretrained.load_backbone_weights`.
        cut: name of the backbone layer whose features are aggregated, None for the usual one.
        input_size: (height, width) in pixels, None for the backbone's own.
        aggregation: `KIND[?key=value&…]`, see `tfplaces.models.aggregations.parse_aggregation`.
        sharpness: factor on the published α of NetVLAD; None for what suits a network that is trained, or is not.
        init_images: their local features make NetVLAD's vocabulary.
        sets: the data set to train on and the one that judges the epochs; empty for a network that is only assembled.
        recipe: how it is trained; with 0 epochs it is only assembled.
        whitening: dimensions of the whitened descriptor, 0 for no whitening.
        whitening_power: see `PCAWhitening`; None for the best by mAP on the second of the sets.
        whitening_images: the whitening is fitted on them.
        seed: seed of everything that is drawn at random.
    """

    backbone: str
    backbone_weights: str
    cut: str | None
    input_size: tuple[int, int] | None
    aggregation: str
    sharpness: float | None
    init_images: Sequence[Images]
    sets: Sequence[PlaceDataset]
    recipe: TrainingRecipe
    whitening: int
    whitening_power: float | None
    whitening_images: Sequence[Images]
    seed: int

    def check(self) -> None:
        """Finds what can be known to go wrong before anything is computed.

        Raises:
            UserError: there is no such network, or the whitening or the judge does not go with the images.
        """
        planned = outline(PlaceNet, self.backbone, **self._network)
        if not self.recipe.epochs and any(isinstance(layer, keras.layers.Dense) for layer in planned.head_layers):
            warnings.warn(
                f"the linear layers of {planned.aggregation.title} are random, as --epochs=0 does not train them: what "
                "they describe is of little use",
                DataWarning,
                stacklevel=2,
            )
        if self.whitening:
            check_whitening(planned, self.whitening, self.whitening_images)
        for dataset in self.sets[1:]:
            check_positives(dataset)
        if self.recipe.epochs:
            with trained_from(planned, self._first_trained(planned)):
                self.recipe.check(planned, self.sets[0], self.seed)

    def make(self, path: str, folder: str, tensorboard: str | None = None) -> PlaceNet:
        """Makes the network and saves it.

        Args:
            path: the `.keras` file.
            folder: keeps each stage until the network is saved. A call that finds there what an interrupted one of the
                same run has left goes on from it, to the same network.
            tensorboard: the folder for what TensorBoard shows of the training; None for none.

        Raises:
            UserError: the backbone's weights or the images do not go with the network, or the folder is another run's.
        """
        files = [self.backbone_weights] if os.path.isfile(self.backbone_weights) else []
        with WorkDir.of_run(folder, self._identity(), files) as work_dir:
            model = self._trained(work_dir, tensorboard) if self.recipe.epochs else self._assembled(work_dir)
            if self.whitening:
                choice: dict[str, Any] = {"power": self.whitening_power}
                if self.whitening_power is None:
                    choice = {"validation": self.sets[1]}
                model = add_whitening(model, self.whitening, self.whitening_images, work_dir=work_dir.path, **choice)
            with replacing(path) as temporary:
                model.save(temporary)
        return model

    @property
    def _network(self) -> dict[str, Any]:
        aggregation = parse_aggregation(self.aggregation)
        return {
            "aggregation": aggregation.kind, **aggregation.options, "input_size": self.input_size, "cut": self.cut
        }  # fmt: skip

    def _first_trained(self, model: PlaceNet) -> str | None:
        return first_trained(model, self.recipe.train_from, random=self.backbone_weights == "none")

    def _identity(self) -> dict[str, Any]:
        """What a folder's state has to agree with; sets of images are told apart by the names of these."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        parts = [*values.pop("init_images"), *values.pop("whitening_images")]
        sets = values.pop("sets")
        parts += [images for dataset in sets for images in (dataset.database, dataset.queries)]
        recipe = {"method": self.recipe.method, **dataclasses.asdict(values.pop("recipe"))}
        return {**values, **recipe, "images": names_digest(parts), "ground truth": truths_digest(sets)}

    def _assembled(self, work_dir: WorkDir) -> PlaceNet:
        sharpness = self.sharpness or (TRAINING_SHARPNESS if self.recipe.epochs else DEFAULT_SHARPNESS)
        return _kept(
            work_dir.file("assembled.keras"),
            lambda: assemble(
                self.backbone,
                self.init_images,
                weights=self.backbone_weights,
                sharpness=sharpness,
                seed=self.seed,
                **self._network,
            ),
        )

    def _trained(self, work_dir: WorkDir, tensorboard: str | None) -> PlaceNet:
        def make() -> PlaceNet:
            model = self._assembled(work_dir)
            with trained_from(model, self._first_trained(model)):
                batches, loss = self.recipe.make_batches(model, cached(self.sets[0]), self.seed)
                train(
                    model,
                    batches,
                    self.sets[1],
                    epochs=self.recipe.epochs,
                    loss=loss,
                    optimizer=self.recipe.make_optimizer(len(batches)),
                    callbacks=self._callbacks(tensorboard),
                    checkpoint=work_dir.checkpoint("training"),
                )
            return model

        return _kept(work_dir.file("trained.keras"), make)

    def _callbacks(self, tensorboard: str | None) -> list[keras.callbacks.Callback]:
        callbacks: list[keras.callbacks.Callback] = []
        if self.recipe.patience:
            callbacks.append(StopEarly(self.recipe.patience))
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(tensorboard, write_graph=False))
        return callbacks


def _kept(file: str, make: Callable[[], PlaceNet]) -> PlaceNet:
    """The network of a stage: as an interrupted run has left it, or made and kept."""
    if os.path.exists(file):
        return load_place_net(file)
    made = make()
    with replacing(file) as temporary:
        made.save(temporary)
    return made
