"""What judges the epochs of a fit: its figures, when it speaks of a collapse, and when the fit ends early."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import ImageFiles, PlaceDataset
from tfplaces.training import StopEarly, ValidationMap, judging
from tfplaces.training.judging import mean_cosine_of_places


def dataset(positives: list[list[int]], database: int) -> PlaceDataset:
    files = (
        ImageFiles("/none", [f"{kind}{k}.png" for k in range(n)])
        for kind, n in (("d", database), ("q", len(positives)))
    )
    return PlaceDataset("x", *files, positives)


def unit(rng: np.random.Generator, count: int, dim: int = 6) -> np.ndarray:
    vectors = rng.normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_mean_cosine_of_places_against_all_pairs() -> None:
    rng = np.random.default_rng(0)
    queries, database = unit(rng, 5), unit(rng, 7)
    positives = [[0, 3], [], [6], [1, 2, 3, 4], [5]]
    expected = [queries[q] @ database[d] for q in range(5) for d in range(7) if d not in positives[q]]
    assert mean_cosine_of_places(dataset(positives, 7), queries, database) == pytest.approx(np.mean(expected))
    assert mean_cosine_of_places(dataset([[0, 1]], 2), queries[:1], database[:2]) == 0


class Scripted(keras.callbacks.Callback):
    """Puts made-up figures into the logs, as `ValidationMap` does."""

    def __init__(self, recalls: list[float], maps: list[float]):
        super().__init__()
        self._figures = list(zip(recalls, maps, strict=True))

    def on_epoch_end(self, epoch, logs=None):
        logs["val_recall_1"], logs["val_map"] = self._figures[epoch]


@pytest.mark.parametrize(
    ("recalls", "maps", "epochs"),
    [
        ([50, 60, 55, 59, 70], [9, 8, 7, 6, 5], 4),  # two epochs after the second, which was the best
        ([50, 50, 50, 50, 50], [1, 2, 3, 4, 5], 5),  # mAP rises where recall does not
        ([50, 50, 50, 50, 50], [9, 8, 9, 8, 9], 3),
        ([50, 49, 51, 50, 52], [9, 9, 1, 9, 1], 5),  # recall comes first
    ],
)
def test_stops_when_recall_does_not_rise(
    recalls: list[float], maps: list[float], epochs: int, capsys: pytest.CaptureFixture
) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callbacks = [Scripted(recalls, maps), StopEarly(2)]
    history = model.fit(np.ones((1, 1)), np.ones((1, 1)), epochs=5, verbose=0, callbacks=callbacks)
    assert len(history.epoch) == epochs
    assert ("recall@1 has not risen for 2 epochs" in capsys.readouterr().err) == (epochs < 5)


class Spread:
    """Describes by unit vectors of a given mean cosine: a common part and one of its own."""

    input_size, descriptor_dim = (1, 1), 9

    def __init__(self, cosines: list[float]):
        self._cosines = iter(cosines)
        self._left = 0

    def describe(self, images: np.ndarray) -> np.ndarray:
        if self._left == 0:
            self._cosine, self._left = next(self._cosines), 2  # of the database, then of the queries
        self._left -= 1
        own = (
            np.eye(8, dtype=np.float32)[: len(images)]
            if self._left
            else np.eye(8, dtype=np.float32)[::-1][: len(images)]
        )
        common = np.full((len(images), 1), self._cosine**0.5)
        return np.concatenate([common, own * (1 - self._cosine) ** 0.5], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("cosines", "lines"),
    [
        ([0.2, 0.5, 0.85, 0.95, 0.97], 1),  # once
        ([0.93, 0.95, 0.96], 0),  # as it was, more or less
        ([0.93, 0.99], 1),
        ([0.2, 0.89], 0),
    ],
)
def test_a_collapse_is_said_once(
    cosines: list[float], lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    class Blank(ImageFiles):
        def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
            return np.zeros((*size, 3), np.uint8)

    judged = PlaceDataset("x", Blank("/none", ["a", "b", "c"]), Blank("/none", ["d", "e", "f"]), [[0], [1], [2]])
    judge = ValidationMap(Spread(cosines), judged)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    fitted = model.fit(np.ones((1, 1)), np.ones((1, 1)), epochs=len(cosines) - 1, verbose=0, callbacks=[judge])
    err = capsys.readouterr().err
    assert err.count("the descriptors collapse: ") == lines
    assert {"val_map", "val_recall_1"} <= fitted.history.keys() and "recall@1" in err


def test_a_whole_collapse_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `score` finds it: nothing can be told apart."""
    with pytest.raises(UserError, match="collapsed"):
        judging.score(dataset([[0]], 2), np.ones((1, 3)), np.ones((2, 3)))
