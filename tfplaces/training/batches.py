"""Batches of images for `fit`, chosen while the network is trained and read ahead in threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import Images, PlaceDataset, read_batch
from tfplaces.describers import KerasDescriber
from tfplaces.training.augmentation import Augmentation
from tfplaces.training.mining import PairMiner

# Keras takes so many batches before the first step, to learn of their shapes.
_LOOKED_AT = 2


class ImageBatches(keras.utils.PyDataset):
    """Images with targets for `fit`. What comes when depends on nothing but the epoch and the network at that time.

    A strategy that remembers something from epoch to epoch gives it as its `state`, which `tfplaces.training.fit` keeps
    with the checkpoint.

    A strategy overrides `choose` and `targets`. Images are read ahead in threads, but batches are chosen in the main
    thread between two steps, so that a strategy may use the network that is being trained and the same seed still gives
    the same weights. `tfplaces.training.fit` does that; a `fit` of one's own takes `callbacks=[batches.driver()]` and
    a call of `batches.start_epoch(initial_epoch)` before it.

    Args:
        images: what batches are made of.
        size: (height, width) in pixels that images are read at.
        steps: batches of an epoch, the same in each as Keras expects it.
        augmentation: changes the images of a batch, with a generator that depends on the seed, the epoch and the step.
        seed: see augmentation.
    """

    def __init__(
        self,
        images: Images,
        size: tuple[int, int],
        steps: int,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        # With two, Keras runs its generator in threads of its own, which may wait for a step to be done.
        super().__init__(workers=2, max_queue_size=4)
        self.images, self.size, self._steps = images, size, steps
        self.augmentation, self._seed = augmentation, seed
        self._replicas = 1
        self._epoch: int | None = None
        self._chosen: list[np.ndarray] = []
        self._source: Iterator[list[np.ndarray]] = iter(())
        self._changed = threading.Condition()

    def choose(self, epoch: int) -> Iterator[list[np.ndarray]]:
        """The batches of an epoch, as indices of images of any shape, int64; -1 stands for no image.

        Args:
            epoch: which one, 0-based.

        Yields:
            the next batches, as many as can be chosen now; the following are asked for when these have been trained
            on. In all at least the steps of an epoch; what is more is left out.
        """
        raise NotImplementedError

    def targets(self, batch: np.ndarray, images: np.ndarray) -> Any:
        """The targets of a batch of `choose`, whose images are uint8 `[n, height, width, 3]`."""
        raise NotImplementedError

    def augment(self, images: np.ndarray, epoch: int, step: int) -> np.ndarray:
        """The images of a batch as they are trained on, in a thread."""
        if self.augmentation is None:
            return images
        return self.augmentation(images, np.random.default_rng([self._seed, epoch, step]))

    def read(self, indices: np.ndarray, epoch: int, step: int) -> np.ndarray:
        """What is trained on of the images of a batch, in a thread: they themselves, augmented, unless overridden.

        Args:
            indices: which images, int64 `[n]`.
            epoch: 0-based.
            step: 0-based.
        """
        return self.augment(read_batch(self.images, indices, self.size), epoch, step)

    def used(self) -> np.ndarray:
        """Which images may come into a batch, int64, sorted."""
        return np.arange(len(self.images))

    def state(self) -> dict[str, np.ndarray]:
        """What is remembered of the epochs before and the following depend on; nothing unless a strategy does."""
        return {}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Remembers what another object's `state` gave.

        Raises:
            UserError: it is of other batches.
        """
        if state:
            raise UserError(f"{type(self).__name__} remember nothing, but a state has {', '.join(sorted(state))}")

    def start_epoch(self, epoch: int) -> None:
        """Chooses the first batches of an epoch with the network as it is, unless it is the present epoch."""
        if epoch != self._epoch:
            self._source, self._chosen = self.choose(epoch), []
            self._choose_more(_LOOKED_AT)
            self._epoch = epoch

    def step_done(self, step: int) -> None:
        """Chooses the next batches where those chosen have been trained on; step is 0-based."""
        if step + 1 >= len(self._chosen):
            self._choose_more(1)

    def for_replicas(self, replicas: int) -> None:
        """Makes each batch a whole multiple of the replicas that share it, as Keras fits only parts of equal size.

        The images beyond are left out of a batch; one of fewer images than replicas has some of them twice.
        """
        self._replicas = replicas

    def driver(self) -> keras.callbacks.Callback:
        """The callback that calls `start_epoch`, `step_done` and, when the fit ends, `close`."""
        return _Driver(self)

    def close(self) -> None:
        """Lets threads go that wait for batches, when a fit has ended or was broken off."""
        with self._changed:
            self._epoch, self._chosen = None, []
            self._changed.notify_all()

    def _choose_more(self, count: int) -> None:
        wanted = min(len(self._chosen) + count, self._steps)
        while len(self._chosen) < wanted:
            more = next(self._source)
            with self._changed:
                self._chosen += more[: self._steps - len(self._chosen)]
                self._changed.notify_all()

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> Any:
        if self._epoch is None:
            raise UserError(f"{type(self).__name__}: call start_epoch first, and fit with its driver() as a callback")
        with self._changed:
            self._changed.wait_for(lambda: index < len(self._chosen) or self._epoch is None)
            epoch = self._epoch
            if epoch is None:
                return None  # closed: nobody takes it
            batch = self._chosen[index]
        images = self.read(batch[batch >= 0], epoch, index)
        targets = self.targets(batch, images)
        if not len(images) % self._replicas:
            return images, targets
        kept = np.arange(max(len(images) // self._replicas, 1) * self._replicas) % len(images)
        return keras.tree.map_structure(lambda values: values[kept], (images, targets))


class _Driver(keras.callbacks.Callback):
    """See `ImageBatches.driver`."""

    def __init__(self, batches: ImageBatches):
        super().__init__()
        self._batches = batches

    def on_train_begin(self, logs=None):
        if self.model.steps_per_execution != 1:
            raise UserError("batches are chosen between steps: compile with steps_per_execution=1")

    def on_epoch_begin(self, epoch, logs=None):
        self._batches.start_epoch(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self._batches.step_done(batch)

    def on_train_end(self, logs=None):
        self._batches.close()


class MinedPairs(ImageBatches):
    """Pairs of images of one place, put together with the places that the network confuses them with.

    Targets are the number of the pair within its batch, int64 `[2 pairs]`: images of one number show one place. Hard
    negatives are looked for among ever more pairs: from the start they keep a network from learning, so the first epoch
    has random ones. An epoch has so many steps that each anchor comes about once.

    Args:
        model: the network that is trained, from `[batch, height, width, 3]` to descriptors.
        dataset: what to learn from.
        pairs: pairs in a batch, each the others' negatives, at least 2.
        seed: gives the order and the choice of positives.

    Raises:
        UserError: there is nothing to train on, or pairs are below 2.
    """

    def __init__(self, model: keras.Model, dataset: PlaceDataset, *, pairs: int = 16, seed: int = 0):
        self._miner = PairMiner(dataset, pairs, seed)
        self._describer, self._pairs, self._spec = KerasDescriber(model), pairs, dataset.spec
        super().__init__(self._miner.images, self._describer.input_size, self._miner.steps)

    def choose(self, epoch: int) -> Iterator[list[np.ndarray]]:
        for again in itertools.count():
            found = 0
            for block in self._miner.epoch(self._describer, epoch, (epoch + 1) * self._pairs, again):
                found += len(block)
                yield block
            if not found:
                raise UserError(f"{self._spec}: all its queries show one place, there is nothing to tell it from")

    def targets(self, batch: np.ndarray, images: np.ndarray) -> np.ndarray:
        return np.repeat(np.arange(len(batch)), 2)
