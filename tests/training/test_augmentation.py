"""Changing training images: what stays, what changes and by how much, and that the generator decides."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tfplaces.common.errors import UserError
from tfplaces.training import CropAndJitter, RandAugment, make_augmentation
from tfplaces.training.augmentation import OPERATIONS
from tfplaces.training.augmentation import _jittered as jittered


def ramp(height: int = 48, width: int = 64) -> np.ndarray:
    """Red tells the column and green the row, in shares of 200."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([200 * (columns + 0.5) / width, 200 * (rows + 0.5) / height, np.full((height, width), 9.0)], -1)
    return np.round(image).astype(np.uint8)


def test_nothing_to_change() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    assert np.array_equal(CropAndJitter(1, 0)(images, np.random.default_rng(1)), images)


@pytest.mark.parametrize("augmentation", [CropAndJitter(), RandAugment()])
def test_the_generator_gives_everything(augmentation) -> None:
    images = np.stack([ramp()] * 4)
    first, again, other = (augmentation(images, np.random.default_rng(seed)) for seed in (5, 5, 6))
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


def test_colours_change_as_pillow_changes_them() -> None:
    """One factor after the other by Pillow's enhancers; colours from 60 to 190, so that nothing is cut off."""
    rng = np.random.default_rng(0)
    image = rng.integers(60, 190, (40, 50, 3), dtype=np.uint8)
    for factors in [(1.2, 1, 1), (1, 1.25, 1), (1, 1, 0.6), (0.8, 1.2, 1.1), (1, 1, 1)]:
        enhanced = Image.fromarray(image)
        for enhancer, factor in zip(
            (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=True
        ):
            enhanced = enhancer(enhanced).enhance(factor)
        found = np.asarray(jittered(Image.fromarray(image), *factors)).astype(int)
        assert np.abs(found - np.asarray(enhanced)).max() <= 3, factors  # Pillow cuts off decimals three times


@pytest.mark.parametrize("options", [{"crop": 0}, {"crop": 1.1}, {"crop": float("nan")}, {"jitter": -1}, {"jitter": 2}])
def test_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        CropAndJitter(**options)


def applied(number: int, share: float, sign: float = 1, image: np.ndarray | None = None) -> np.ndarray:
    return np.asarray(OPERATIONS[number](Image.fromarray(ramp() if image is None else image), share, sign))


def test_operations_that_have_a_strength_do_nothing_without_it() -> None:
    """All but the last three: solarizing turns white alone, and two stretch the colours."""
    for number in range(len(OPERATIONS) - 3):
        assert np.array_equal(applied(number, 0), ramp()), number
    white = np.full((2, 2, 3), 255, np.uint8)
    assert not applied(-3, 0, image=white).any()


def test_operations_at_their_strongest() -> None:
    """By hand, in a middle row and column of the ramp, whose red is 200 · (column + ½) / 64."""
    columns = (np.arange(64) + 0.5) * 200 / 64
    # Sheared: row 24 is moved by 0.3 · 24.5 columns. Moved: by 150/331 of the width, which is 29 columns.
    np.testing.assert_allclose(applied(1, 1)[24, :56, 0], columns[:56] + 0.3 * 24.5 * 200 / 64, atol=1.5)
    assert not applied(1, 1)[24, 58:].any()
    assert np.array_equal(applied(3, 1)[24, : 64 - 29], ramp()[24, 29:])
    assert np.array_equal(applied(3, 1, -1)[24, 29:], ramp()[24, : 64 - 29])
    assert np.array_equal(applied(4, 1)[: 48 - 21, 9], ramp()[21:, 9])
    # Turned by 30 degrees about the middle: the red there grows by cos 30° from column to column.
    turned = applied(5, 1)[24, 24:40, 0].astype(float)
    assert np.polyfit(np.arange(16), turned, 1)[0] == pytest.approx(200 / 64 * np.cos(np.radians(30)), rel=0.03)
    # Brightness 0.1 or 1.9 times, four bits of colour, and what is at or above 128 inverted at half strength.
    np.testing.assert_allclose(applied(6, 1, -1), ramp() * 0.1, atol=1)
    assert applied(6, 1)[24, 32, 0] == pytest.approx(ramp()[24, 32, 0] * 1.9, abs=1)
    assert np.array_equal(applied(10, 1), ramp() & 0xF0)
    half = np.where(ramp() < 128, ramp(), 255 - ramp())
    assert np.array_equal(applied(11, 0.5), half)
    stretched = applied(12, 1)
    assert stretched[..., 0].min() == 0 and stretched[..., 0].max() >= 254


def test_so_many_operations_are_drawn() -> None:
    """At magnitude 0 a ramp is changed by 2 of the 14 alone: solarizing changes no image without white."""
    images = np.stack([ramp()] * 300)
    for operations in (1, 2):
        found = RandAugment(operations, magnitude=0)(images, np.random.default_rng(0))
        same = np.mean((found == images).all((1, 2, 3)))
        assert same == pytest.approx((12 / 14) ** operations, abs=0.06)


def test_augmentations_have_names() -> None:
    assert make_augmentation("none") is None
    assert make_augmentation("crop_jitter") == CropAndJitter(0.5, 0.3)
    assert make_augmentation("crop_jitter?jitter=0.1") == CropAndJitter(0.5, 0.1)
    assert make_augmentation("rand_augment?operations=2&magnitude=9") == RandAugment(2, 9)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mixup", "augmentation 'mixup' is not known; there are none, crop_jitter, rand_augment"),
        ("none?crop=1", "is not known"),
        ("crop_jitter?magnitude=3", "unknown option 'magnitude'; crop_jitter has crop, jitter"),
        ("crop_jitter?crop=0", "crop=0: "),
        ("rand_augment?operations=0", "operations=0: "),
        ("rand_augment?operations=2.5", "operations=2.5 is not a whole number"),
        ("rand_augment?magnitude=31", "magnitude=31: "),
    ],
)
def test_augmentations_that_there_are_not(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make_augmentation(spec)
