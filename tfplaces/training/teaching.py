"""Teaching a small network to give the descriptors of a large one, on any images, without labels.

What the large one, the teacher, has described is then found with the small one, the student: the database may be
described by the teacher, and the queries by the student on a phone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import CachedImages, Images, Subset
from tfplaces.describers import Describer, DescriptorFile, KerasDescriber, describe_images
from tfplaces.losses import CosineDistance
from tfplaces.training.augmentation import Augmentation
from tfplaces.training.checkpoint import Checkpoint
from tfplaces.training.described_batches import DescribedBatches
from tfplaces.training.fitting import fit
from tfplaces.training.judging import TeacherDistance
from tfplaces.training.model_training import ModelTraining
from tfplaces.training.rated_optimizers import RatedAdam
from tfplaces.training.schedules import WarmUp

# Fewer images cannot be parted into those that are learned and those that judge.
_MIN_IMAGES = 8
_RUNS = 4


class Versions(Images):
    """Images, and after them the same changed at random, each version in its own way that is always the same.

    An image has the number `version · len(images) + index`; version 0 is as it is.

    Args:
        images: what is changed.
        augmentation: changes them. What it draws must not depend on their size, so that networks of other input sizes
            see the same part of an image.
        count: how many versions, with the images as they are.
        seed: gives the changes, with the version and the index.
    """

    def __init__(self, images: Images, augmentation: Augmentation, count: int, seed: int):
        self._images, self._augmentation, self._seed = images, augmentation, seed
        self.names = [f"{name}, version {k}" if k else name for k in range(count) for name in images.names]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        version, own = divmod(index, len(self._images))
        image = self._images.read(own, size)
        if not version:
            return image
        return self._augmentation(image[None], np.random.default_rng([self._seed, version, own]))[0]

    def stamp(self, index: int) -> list[int | str]:
        version, own = divmod(index, len(self._images))
        return [*self._images.stamp(own), version, self._seed]


class TeacherBatches(DescribedBatches):
    """Batches of images with the descriptors that a teacher gives them.

    With an augmentation, each image is there in some versions that are made once and for all: the teacher, which is
    slow, describes each of them once, and the student sees another of them in each epoch. About a sixteenth of the
    images, in four runs of neighbours, as neighbours often show the same, is held out to judge the epochs by.

    Args:
        teacher: describes the images, at its own input size.
        images: any images; of a data set those of the database.
        size: (height, width) in pixels that the student takes.
        augmentation: changes images; None for the images as they are alone.
        versions: how many there are of each image, with the image as it is.
        batch_size: images in a batch.
        seed: gives the versions and the order.
        folder: keeps the teacher's descriptors, for a call that goes on where another was killed; None for memory.
        identity: what tells teachers apart in the folder, as the SHA-256 of its file.

    Attributes:
        descriptor_dim: length of the teacher's descriptors.
        held_out: the images that are held out, and their descriptors, float32 `[n, descriptor_dim]`.

    Raises:
        UserError: there are fewer than eight images, or no version of them; or a descriptor is not finite.
    """

    def __init__(
        self,
        teacher: Describer,
        images: Images,
        size: tuple[int, int],
        *,
        augmentation: Augmentation | None = None,
        versions: int = 4,
        batch_size: int = 16,
        seed: int = 0,
        folder: str | os.PathLike | None = None,
        identity: str = "",
    ):
        if len(images) < _MIN_IMAGES:
            raise UserError(f"{len(images)} images to teach a network on: at least {_MIN_IMAGES} are needed")
        if versions < 1:
            raise UserError(f"{versions} versions of each image: at least one, the image as it is")
        kept = images if isinstance(images, CachedImages) else CachedImages(images)
        every: Images = kept
        if augmentation is not None and versions > 1:
            every = Versions(kept, augmentation, versions, seed)
        out = None
        if folder is not None:
            described = f"{identity} {augmentation!r}"
            out = DescriptorFile(folder, described, teacher.input_size, every, teacher.descriptor_dim)
        descriptors = describe_images(teacher, every, "the teacher's descriptors", out)
        super().__init__(every, size, descriptors, batch_size=batch_size, seed=seed)
        self.descriptor_dim = teacher.descriptor_dim
        judging = _held_out(len(images))
        self._learned = np.setdiff1d(np.arange(len(images)), judging)
        self._steps = -(-len(self._learned) // batch_size)
        self.held_out = (Subset(kept, judging.tolist()), np.asarray(descriptors[judging]))

    def order(self, epoch: int) -> np.ndarray:
        order = np.random.default_rng([self._seed, epoch]).permutation(self._learned)
        # Each image starts with a version of its own and goes through all of them in turn.
        count = len(self._descriptors) // self._count
        first = np.random.default_rng(self._seed).integers(0, count, self._count)
        return (first[order] + epoch) % count * self._count + order

    @property
    def _count(self) -> int:
        return len(self._learned) + len(self.held_out[1])

    def sample(self, count: int) -> tuple[Images, np.ndarray]:
        """Versions of images that are learned, at most so many, drawn at random, and their descriptors."""
        every = np.concatenate([self._learned + k * self._count for k in range(len(self._descriptors) // self._count)])
        if len(every) > count:
            every = np.sort(np.random.default_rng(self._seed).choice(every, count, replace=False))
        return Subset(self.images, every.tolist()), np.asarray(self._descriptors[every])


def _held_out(count: int) -> np.ndarray:
    """About a sixteenth of so many images, at least four of them, in runs of neighbours."""
    length = max(1, count // (16 * _RUNS))
    starts = (np.arange(_RUNS) * count + count // 2) // _RUNS
    return np.unique(np.concatenate([np.arange(start, start + length) for start in starts]))


def teach(
    model: keras.Model,
    batches: TeacherBatches,
    *,
    epochs: int,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-4,
    optimizer: keras.optimizers.Optimizer | None = None,
    loss: keras.losses.Loss | None = None,
    fitted: keras.Model | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    """Trains a student in place to give its teacher's descriptors; ends with the weights of the best epoch.

    The best is the one with the least mean cosine distance from the teacher's descriptors on the images held out, which
    the logs have as `val_distance`.

    Args:
        model: from images `[batch, height, width, 3]`, 0 to 255, to descriptors as long as the teacher's. To begin with
            one that `fit_head` has made saves most of the training.
        batches: the images with the teacher's descriptors.
        epochs: how often to go through the images.
        learning_rate: the step size of Adam. A number is warmed up over the first twentieth of the steps and goes down
            to zero by half a cosine.
        optimizer: another optimizer of Keras, with a learning rate of its own.
        loss: takes the teacher's descriptors and the student's; by default `CosineDistance()`.
        fitted: the model to fit in place of `model`, whose weights it trains in its own way.
        callbacks: Keras callbacks to fit with.
        checkpoint: where the state is kept after every epoch; a call that finds it there goes on from it.

    Returns:
        the distance, 0 to 2, before training and after each epoch.

    Raises:
        UserError: the student's descriptors have another length than the teacher's.
        DivergedError: loss or weights are not finite any more.
    """
    check_student(model.output_shape[-1], batches.descriptor_dim)
    if optimizer is None:
        rate: Any = learning_rate
        if not callable(rate):
            steps = max(1, epochs * len(batches))
            rate = WarmUp(keras.optimizers.schedules.CosineDecay(rate, steps), steps // 20)
        optimizer = RatedAdam(rate, getattr(fitted, "rate_factors", None))
    fitted = fitted or ModelTraining(model)
    fitted.compile(optimizer, loss or CosineDistance())
    judge = TeacherDistance(KerasDescriber(model), *batches.held_out)
    fit(fitted, batches, epochs, callbacks=[judge, *callbacks], checkpoint=checkpoint)
    return judge.history


def check_student(student: int, teacher: int) -> None:
    """Raises UserError unless a student's descriptors are as long as its teacher's."""
    if student != teacher:
        raise UserError(
            f"the student's descriptors have {student} numbers and the teacher's {teacher}: one can be compared with "
            f"the other only if they have as many; give the student --whitening={teacher}"
        )
