"""A large network teaches a small one to give its descriptors, without labels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from tfplaces.common.errors import UserError
from tfplaces.common.progress import say_step
from tfplaces.datasets import PlaceDataset, concatenate
from tfplaces.workflows.training_recipes.base import TrainingRecipe

if TYPE_CHECKING:
    import keras

    from tfplaces.describers import Describer, KerasDescriber
    from tfplaces.models import PlaceNet
    from tfplaces.training import TeacherBatches, WorkDir


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherRecipe(TrainingRecipe):
    """The student starts with what can be found in closed form, then it is trained towards the teacher's descriptors.

    A teacher with NetVLAD gives it to the student with its whitening, and the student's last convolution is fitted to
    give the teacher's local features (`tfplaces.training.fit_local`). Of any other teacher the student gets a linear
    layer to the teacher's descriptors (`tfplaces.training.fit_head`). Of the sets the database images are learnt from.

    Attributes:
        teacher: the file of the teacher, any that `tfplaces.opening.load_describer` opens.
        versions: see `tfplaces.training.TeacherBatches`.
    """

    method = "teacher"

    learning_rate: float = 2e-4
    augmentation: str = "crop_jitter?crop=0.5&jitter=0.3"
    teacher: str = ""
    versions: int = 4

    @property
    def trains(self) -> bool:
        return True

    @property
    def files(self) -> list[str]:
        return [self.teacher]

    @functools.cached_property
    def _describer(self) -> Describer:
        from tfplaces.opening import load_describer

        return load_describer(self.teacher)

    def check(self, model: PlaceNet, sets: Sequence[PlaceDataset], *, random: bool, seed: int) -> None:
        from tfplaces.models import PlaceNet, outline
        from tfplaces.training import check_head, first_trained, local_form, local_teacher

        super().check(model, sets, random=random, seed=seed)
        if self.versions < 1:
            raise UserError(f"--versions={self.versions}: with --teacher at least 1, the image as it is")
        teacher = local_teacher(model, self._describer)
        if isinstance(teacher, str):
            check_head(model, self._describer.descriptor_dim)
            student = model
        else:
            student = cast(PlaceNet, outline(PlaceNet, **local_form(model, teacher)))
        first_trained(student, self.train_from, random)

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
            TeacherBatches,
            first_trained,
            make_augmentation,
            teach,
            trained_from,
        )
        from tfplaces.workflows.kept_network import kept_network

        batches = TeacherBatches(
            self._describer,
            concatenate([dataset.database for dataset in sets]),
            model.input_size,
            augmentation=make_augmentation(self.augmentation),
            versions=self.versions,
            seed=seed,
            folder=work_dir.file("teacher"),
        )
        student = kept_network(work_dir.file("start.keras"), lambda: self._start(model, batches, work_dir))
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

    def _start(self, model: PlaceNet, batches: TeacherBatches, work_dir: WorkDir) -> PlaceNet:
        """The student before it is trained."""
        from tfplaces.training import fit_head, fit_local, local_teacher

        teacher = local_teacher(model, self._describer)
        if isinstance(teacher, str):
            say_step(f"the student starts with a linear layer to the teacher's descriptors, because {teacher}")
            return fit_head(model, batches, work_dir.file("student"))
        say_step(f"the student starts with the teacher's {teacher.aggregation.title}, and local features like its own")
        return fit_local(model, cast("KerasDescriber", self._describer), batches, work_dir.file("student"))
