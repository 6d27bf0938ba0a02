"""Cropping and jittering training images: what stays, what changes and by how much, and that the generator decides."""

from __future__ import annotations

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.training import CropAndJitter


def ramp(height: int = 48, width: int = 64) -> np.ndarray:
    """Red tells the column and green the row, in shares of 200."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([200 * (columns + 0.5) / width, 200 * (rows + 0.5) / height, np.full((height, width), 9.0)], -1)
    return np.round(image).astype(np.uint8)


def test_nothing_to_change() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    assert np.array_equal(CropAndJitter(1, 0)(images, np.random.default_rng(1)), images)


def test_the_generator_gives_everything() -> None:
    images = np.stack([ramp()] * 4)
    first, again, other = (CropAndJitter()(images, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.shape == images.shape and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first.reshape(4, -1), axis=0)) == 4  # each in its own way
    assert np.array_equal(images, np.stack([ramp()] * 4))


def test_crops_are_as_large_as_they_should_be_and_lie_anywhere() -> None:
    """The columns and rows that the corners of a crop come from are read off its colours."""
    found = CropAndJitter(crop=0.5, jitter=0)(np.stack([ramp()] * 300), np.random.default_rng(0)).astype(float)
    # Pixels at the borders are half a pixel of the enlarged image inside the crop.
    widths = (found[:, 24, -1, 0] - found[:, 24, 0, 0]) / 200
    heights = (found[:, -1, 32, 1] - found[:, 0, 32, 1]) / 200
    area, shape = widths * heights, widths / heights
    assert 0.43 < area.min() < 0.52 and 0.85 < area.max() < 1
    assert 0.7 < shape.min() < 0.8 and 1.25 < shape.max() < 1.4
    for left, size in ((found[:, 24, 0, 0] / 200, widths), (found[:, 0, 32, 1] / 200, heights)):
        loose = size < 0.9
        lies = (left / (1 - size))[loose]
        assert lies.min() < 0.2 and lies.max() > 0.8


def test_colours_change_by_no_more_than_the_jitter() -> None:
    """A grey image has neither contrast nor saturation, so its brightness alone changes: 100 · (0.7 to 1.3)."""
    grey = np.full((200, 4, 4, 3), 100, np.uint8)
    found = CropAndJitter(crop=1, jitter=0.3)(grey, np.random.default_rng(0))
    assert 69 <= found.min() < 75 and 125 < found.max() <= 131
    assert (found == found[:, :1, :1, :1]).all()
    # A red one has saturation, too: its green is not always 0 any more.
    red = np.zeros((50, 4, 4, 3), np.uint8)
    red[..., 0] = 120
    assert CropAndJitter(crop=1, jitter=0.3)(red, np.random.default_rng(0))[..., 1].max() > 5


@pytest.mark.parametrize("options", [{"crop": 0}, {"crop": 1.1}, {"crop": float("nan")}, {"jitter": -1}, {"jitter": 2}])
def test_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        CropAndJitter(**options)
