"""The images that ranges are taken from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.datasets import Images, PlaceDataset
from tfplaces.lite import convert
from tfplaces.lite.calibration import Batch, choose_images, read_full_batches
from tfplaces.lite.ranges import activation_ranges
from tfplaces.models import PlaceNet

SIZE = (48, 64)


class Numbered(Images):
    """Images of one value each: a hundred times the set's number, and their own."""

    def __init__(self, number: int, count: int):
        self.names = tuple(f"{number}_{k}.png" for k in range(count))
        self._number = number

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return np.full((*size, 3), 100 * self._number + index, np.uint8)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=3).filter(any), st.integers(1, 128), st.integers(0, 9))
def test_images_are_chosen_evenly_and_once(sizes: list[int], batch: int, seed: int) -> None:
    """64 or all, and as many as fill the batch; no set has more than another that has images left, but for one."""
    sets = [Numbered(k, size) for k, size in enumerate(sizes)]
    names = choose_images(sets, batch, seed).names
    assert len(set(names)) == len(names) >= min(64, sum(sizes))
    assert len(names) == sum(sizes) or len(names) % batch == 0
    shares = [sum(name.startswith(f"{k}_") for name in names) for k in range(len(sizes))]
    left = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    assert not left or max(shares) <= min(left) + 1


def test_a_batch_of_a_hundred_on_sixteen_images_counts_sixteen() -> None:
    """And what fills it up are all of them in turn, not 85 of one."""
    chosen = choose_images([Numbered(0, 16)], 100, 0)
    (batch,) = read_full_batches(chosen, (2, 2), 100)
    assert batch.images.shape == (100, 2, 2, 3) and batch.count == 16
    values, counts = np.unique(batch.images[:, 0, 0, 0], return_counts=True)
    assert values.tolist() == list(range(16)) and set(counts) == {6, 7}


def test_no_range_is_taken_of_what_fills_a_batch(model: PlaceNet, town: PlaceDataset, tmp_path: Path) -> None:
    """Noise behind the two images that count changes nothing. Two images twice have the ranges of the two."""
    convert(model, tmp_path / "four.tflite", "float32", batch=4)
    two = np.stack([town.database.read(i, SIZE) for i in range(2)])
    noise = np.random.default_rng(0).integers(0, 256, two.shape, np.uint8)
    expected = activation_ranges(tmp_path / "four.tflite", [Batch(np.concatenate([two, two]), 4)])
    assert activation_ranges(tmp_path / "four.tflite", [Batch(np.concatenate([two, noise]), 2)]) == expected
    assert activation_ranges(tmp_path / "four.tflite", [Batch(np.concatenate([two, noise]), 4)]) != expected
