"""A large network teaches a small one to give its descriptors, without labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfplaces.common.errors import UserError
from tfplaces.common.files import sha256
from tfplaces.datasets import PlaceDataset, concatenate
from tfplaces.workflows.training_recipes.base import TrainingRecipe

if TYPE_CHECKING:
    import keras

    from tfplaces.models import PlaceNet
    from tfplaces.training import WorkDir


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherRecipe(TrainingRecipe):
    """The linear layer of the student is found in closed form, then the student is trained towards the teacher.

    Of the sets the database images are learnt from. The student ends with a whitening of the teacher's dimensions.

    Attributes:
        teacher: the file of the teacher, any that `tfplaces.opening.load_describer` opens.
        versions: see `tfplaces.training.TeacherBatches`.
    """

    method = "teacher"

    augmentation: str = "crop_jitter?crop=0.5&jitter=0.3"
    teacher: str = ""
    versions: int = 4

    @property
    def trains(self) -> bool:
        return True

    @property
    def files(self) -> list[str]:
        return [self.teacher]

    def check(self, model: PlaceNet, sets: Sequence[PlaceDataset], *, random: bool, seed: int) -> None:
        from tfplaces.opening import load_describer
        from tfplaces.training import check_head, first_trained

        super().check(model, sets, random=random, seed=seed)
        first_trained(model, self.train_from, random)
        if self.versions < 1:
            raise UserError(f"--versions={self.versions}: with --teacher at least 1, the image as it is")
        check_head(model, load_describer(self.teacher).descriptor_dim)

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
        from tfplaces.opening import load_describer
        from tfplaces.training import (
            ModelTraining,
            TeacherBatches,
            first_trained,
            fit_head,
            make_augmentation,
            teach,
            trained_from,
        )
        from tfplaces.workflows.kept_network import kept_network

        batches = TeacherBatches(
            load_describer(self.teacher),
            concatenate([dataset.database for dataset in sets]),
            model.input_size,
            augmentation=make_augmentation(self.augmentation),
            versions=self.versions,
            seed=seed,
            folder=work_dir.file("teacher"),
            identity=sha256(self.teacher),
        )
        student = kept_network(work_dir.file("head.keras"), lambda: fit_head(model, batches, work_dir.file("student")))
        if not self.epochs:
            return student
        with trained_from(student, first_trained(student, self.train_from, random)):
            teach(
                student,
                batches,
                epochs=self.epochs,
                optimizer=self.make_optimizer(len(batches)),
                fitted=ModelTraining(student, precision=self.precision),
                callbacks=callbacks,
                checkpoint=work_dir.checkpoint("training"),
            )
        return student
