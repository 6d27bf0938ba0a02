"""A network from its backbone to its whitening, in stages that are kept, so that a run that was killed goes on."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from tfplaces.common.errors import DataWarning
from tfplaces.common.files import replacing
from tfplaces.datasets import Images, PlaceDataset
from tfplaces.evaluation import check_positives
from tfplaces.layers.netvlad import DEFAULT_SHARPNESS, TRAINING_SHARPNESS
from tfplaces.models import PlaceNet, outline
from tfplaces.models.aggregations import parse_aggregation
from tfplaces.training import WorkDir, add_whitening, assemble, gpu_strategy
from tfplaces.training.whitening import check_whitening
from tfplaces.workflows.kept_network import kept_network
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
        sets: what the recipe learns from, and the second of two judges a whitening; empty where neither is done.
        recipe: how it is trained, if it is.
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
        if not self.recipe.trains and any(isinstance(layer, keras.layers.Dense) for layer in planned.head_layers):
            warnings.warn(
                f"the linear layers of {planned.aggregation.title} are random, as --epochs=0 does not train them: what "
                "they describe is of little use",
                DataWarning,
                stacklevel=2,
            )
        if self.whitening:
            check_whitening(planned, self.whitening, self.whitening_images)
        if self.whitening and self.whitening_power is None:
            check_positives(self.sets[1])
        if self.recipe.trains:
            self.recipe.check(planned, self.sets, random=self._random, seed=self.seed)

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
        files += self.recipe.files if self.recipe.trains else []
        with WorkDir.of_run(folder, self._identity(), files) as work_dir:
            model = self._trained(work_dir, tensorboard) if self.recipe.trains else self._assembled(work_dir)
            if self.whitening:
                choice: dict[str, Any] = {"power": self.whitening_power}
                if self.whitening_power is None:
                    choice = {"validation": self.sets[1]}
                model = add_whitening(model, self.whitening, self.whitening_images, work_dir=work_dir.path, **choice)
            with replacing(path) as temporary:
                model.save(temporary)
        return model

    @property
    def _random(self) -> bool:
        return self.backbone_weights == "none"

    @property
    def _network(self) -> dict[str, Any]:
        aggregation = parse_aggregation(self.aggregation)
        return {
            "aggregation": aggregation.kind, **aggregation.options, "input_size": self.input_size, "cut": self.cut
        }  # fmt: skip

    def _identity(self) -> dict[str, Any]:
        """What a folder's state has to agree with; sets of images are told apart by the names of these."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        parts = [*values.pop("init_images"), *values.pop("whitening_images")]
        sets = values.pop("sets")
        parts += [images for dataset in sets for images in (dataset.database, dataset.queries)]
        recipe = {"method": self.recipe.method, **dataclasses.asdict(values.pop("recipe"))}
        return {**values, **recipe, "images": names_digest(parts), "ground truth": truths_digest(sets)}

    def _assembled(self, work_dir: WorkDir) -> PlaceNet:
        sharpness = self.sharpness or (TRAINING_SHARPNESS if self.recipe.trains else DEFAULT_SHARPNESS)
        return kept_network(
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
            self._assembled(work_dir)  # on one device, which is what the weights are the same on
            with gpu_strategy().scope():
                return self.recipe.train(
                    self._assembled(work_dir),
                    self.sets,
                    random=self._random,
                    seed=self.seed,
                    work_dir=work_dir,
                    callbacks=[keras.callbacks.TensorBoard(tensorboard, write_graph=False)] if tensorboard else [],
                )

        return kept_network(work_dir.file("trained.keras"), make)
