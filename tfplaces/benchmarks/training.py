"""Measures the training loop, which reads images from the disk, beside a plain Keras `fit` of batches in memory."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import load_dataset, make_places
from tfplaces.evaluation.memory import peak, reset_peak
from tfplaces.losses import MultiSimilarityLoss
from tfplaces.opening import load_place_net
from tfplaces.training import ModelTraining, PlaceBatches, RatedAdam, StopIfDiverged, first_trained, trained_from
from tfplaces.training.augmentation import make_augmentation

AUGMENTATIONS = ("none", "crop_jitter")
SIDES = ("keras", "tfplaces")


def measure_training(path: str, dataset: str, steps: int = 8, rounds: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    """Trains a network by place batches both ways, an epoch of each in turn, from its backbone's usual layer on.

    Both ways have the same batches, loss, optimizer and weights to begin with. Plain Keras fits arrays that are in
    memory; the library reads, decodes and augments images while it trains. The first epoch of each, in which Keras
    traces the step, does not count.

    Args:
        path: a `.keras` or `.places` file of a PlaceNet.
        dataset: a data set of which places can be made.
        steps: batches of an epoch, of 30 places with 4 images each or as many as there are.
        rounds: how many epochs of each count.
        seed: gives the batches.

    Returns:
        a row for each of `AUGMENTATIONS`. It holds `augmentation`; `images` of an epoch; `images_per_second` and
        `peak`, the most bytes of memory of a process that trains so, each by `keras` and `tfplaces`; and `ratio`, the
        median over the rounds of Keras's time over the library's, above 1 where the library is faster.
    """
    rows = []
    for augmentation in AUGMENTATIONS:
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        sides = {side: _Side(side, path, dataset, augmentation, steps, seed) for side in SIDES}
        for number in range(rounds + 1):
            for name, side in sides.items():
                found = side.epoch()
                if number:
                    seconds[name].append(found)
        images = sides["keras"].images
        ratios = [plain / ours for plain, ours in zip(seconds["keras"], seconds["tfplaces"], strict=True)]
        rows.append(
            {
                "augmentation": augmentation,
                "images": images,
                "images_per_second": {side: images / statistics.median(seconds[side]) for side in SIDES},
                "peak": {side: _peak(side, path, dataset, augmentation, steps, seed) for side in SIDES},
                "ratio": statistics.median(ratios),
            }
        )
    return rows


class _FewBatches(PlaceBatches):
    """Place batches of which an epoch has so many at most."""

    def __init__(self, *args: Any, steps: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._steps = min(self._steps, steps)


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

    def __init__(self, side: str, path: str, dataset: str, augmentation: str, steps: int, seed: int):
        model = load_place_net(path)
        self._batches = _FewBatches(
            make_places(load_dataset(dataset)), model.input_size, min_images=2, steps=steps,
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
    """The most bytes of memory of a process of its own that trains two epochs."""
    command = [sys.executable, "-m", "tfplaces.benchmarks.training", json.dumps(arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise UserError(
            f"training with {arguments[0]} failed: {(result.stderr.strip().splitlines() or ['killed'])[-1]}"
        )
    return int(result.stdout.splitlines()[-1])


def _measure_peak(*arguments: Any) -> int:
    side = _Side(*arguments)
    reset_peak()
    for _ in range(2):
        side.epoch()
    return peak()


if __name__ == "__main__":
    print(_measure_peak(*json.loads(sys.argv[1])))
