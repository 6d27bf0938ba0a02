"""Measures the training loop, which reads images from the disk, beside a plain Keras `fit` of batches in memory."""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tqdm

from tfplaces.benchmarks.fresh_process import in_fresh_process
from tfplaces.common.progress import progress
from tfplaces.datasets import cached, load_dataset, make_places
from tfplaces.evaluation.memory import peak, reset_peak
from tfplaces.losses import MultiSimilarityLoss
from tfplaces.opening import load_place_net
from tfplaces.training import ModelTraining, PlaceBatches, RatedAdam, StopIfDiverged, first_trained, trained_from
from tfplaces.training.augmentation import make_augmentation

AUGMENTATIONS = ("none", "crop_jitter")
# Where the library has an image from whenever it comes: its file, or the memory in which its first epoch kept it.
SOURCES = ("files", "kept")
SIDES = ("keras", "tfplaces")


def measure_training(path: str, dataset: str, steps: int = 8, rounds: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Trains a network by place batches both ways, an epoch of each in turn, from its backbone's usual layer on.

    Both ways have the same batches, loss, optimizer and weights to begin with. Plain Keras fits arrays that are in
    memory. The library makes the batches while it trains: it reads and decodes the files, or takes the images that
    `tfplaces.datasets.cached` has kept, and augments them. The first epoch of each, in which Keras traces the step and
    images come to be kept, does not count.

    Args:
        path: a `.keras` or `.places` file of a PlaceNet.
        dataset: a data set of which places can be made.
        steps: batches of an epoch, of 30 places with 4 images each or as many as there are.
        rounds: how many epochs of each count; which way goes first changes from one to the next.
        seed: gives the batches.

    Returns:
        a row for each of `AUGMENTATIONS` and of `SOURCES`. It holds `augmentation` and `source`; `images` of an epoch;
        `images_per_second` and `peak`, the most bytes of memory of a process that trains so, each by `keras` and
        `tfplaces`; `ratios`, Keras's time over the library's in each round, above 1 where the library is faster; and
        `ratio`, their median.
    """
    kinds = list(itertools.product(AUGMENTATIONS, SOURCES))
    # Of each side the epochs that are timed, the one before them, and the two of the process that shows its memory.
    with progress(len(kinds) * len(SIDES) * (rounds + 3), "training", "epoch") as bar:
        return [_compared((path, dataset, *kind, steps, seed), rounds, bar) for kind in kinds]


def _compared(options: tuple[Any, ...], rounds: int, bar: tqdm.tqdm) -> dict[str, Any]:
    """The row of one way to change images and one source of them; see `_Side` for the options."""
    sides = {name: _Side(name, *options) for name in SIDES}
    for side in sides.values():
        side.epoch()
        bar.update()
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    for number in range(rounds):
        for name in SIDES if number % 2 else reversed(SIDES):
            seconds[name].append(sides[name].epoch())
            bar.update()
    peaks = {}
    for name in SIDES:
        peaks[name] = in_fresh_process("tfplaces.benchmarks.training", [name, *options], f"training with {options[0]}")
        bar.update(2)
    images = sides["keras"].images
    ratios = [plain / ours for plain, ours in zip(*(seconds[name] for name in SIDES), strict=True)]
    return {
        "augmentation": options[2],
        "source": options[3],
        "images": images,
        "images_per_second": {name: images / statistics.median(seconds[name]) for name in SIDES},
        "peak": peaks,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
    }


class _SameBatches(PlaceBatches):
    """Place batches of which every epoch has the same, so many at most."""

    def __init__(self, *args: Any, steps: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._steps = min(self._steps, steps)

    def choose(self, epoch: int) -> Iterator[list[np.ndarray]]:
        return super().choose(0)


class _InMemory(keras.utils.PyDataset):
    def __init__(self, batches: list[Any]):
        super().__init__()
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        return self._batches[index]


class _Timer(keras.callbacks.Callback):
    seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self._started


class _Side:
    """A training of one of `SIDES`, an epoch at a time.

    Attributes:
        images: of an epoch.
    """

    def __init__(self, side: str, path: str, dataset: str, augmentation: str, source: str, steps: int, seed: int):
        model, images = load_place_net(path), load_dataset(dataset)
        self._batches = _SameBatches(
            make_places(cached(images) if source == "kept" else images), model.input_size, min_images=2, steps=steps,
            augmentation=make_augmentation(augmentation), seed=seed,
        )  # fmt: skip
        self.images = sum(batch.size for batch in next(self._batches.choose(0))[: len(self._batches)])
        self._in_memory = _InMemory(self._read()) if side == "keras" else None
        self._training = keras.Model(model.inputs, model.outputs) if self._in_memory else ModelTraining(model)
        self._frozen = contextlib.ExitStack()  # as long as this object lives
        self._frozen.enter_context(trained_from(model, first_trained(model)))
        self._training.compile(RatedAdam(1e-5), MultiSimilarityLoss())
        self._done = 0

    def _read(self) -> list[Any]:
        chosen = next(self._batches.choose(0))[: len(self._batches)]
        return [
            (self._batches.read(batch.ravel(), 0, k), self._batches.targets(batch, np.empty(0)))
            for k, batch in enumerate(chosen)
        ]

    def epoch(self) -> float:
        """The seconds of one more epoch."""
        timer = _Timer()
        options: dict[str, Any] = {"shuffle": False, "verbose": 0, "callbacks": [timer]}
        if self._in_memory is not None:
            self._training.fit(self._in_memory, **options)
        else:  # as `tfplaces.training.fit` does
            self._batches.start_epoch(self._done)
            callbacks = [self._batches.driver(), StopIfDiverged(), timer]
            options |= {"initial_epoch": self._done, "epochs": self._done + 1, "callbacks": callbacks}
            self._training.fit(self._batches, **options)
            self._batches.close()
        self._done += 1
        return timer.seconds


def _peak(*arguments: Any) -> int:
    """The most bytes of memory of two epochs; to be called in a process of its own."""
    side = _Side(*arguments)
    reset_peak()
    for _ in range(2):
        side.epoch()
    return peak()


if __name__ == "__main__":
    print(_peak(*json.loads(sys.argv[1])))
