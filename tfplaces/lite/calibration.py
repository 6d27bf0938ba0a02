"""The images that the ranges of activations are taken from: chosen evenly over data sets, and put into batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfplaces.datasets import Images, Subset, concatenate, read_batches

# Images that are taken, where there are as many; a batch that they do not fill takes more of them.
CALIBRATION_IMAGES = 64


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images for a model of a fixed batch.

    Attributes:
        images: uint8 `[batch, height, width, 3]`.
        count: how many of them, the first ones, are images of their own. What follows fills the batch up, and no
            statistics are taken of it.
    """

    images: np.ndarray
    count: int


def choose_images(sets: Sequence[Images], batch: int, seed: int) -> Images:
    """Chooses images for calibration, at random, as evenly over the sets as their sizes allow.

    They are 64, or more where the last batch would not be full otherwise, and never one twice.

    Args:
        sets: at least one, with at least one image in all.
        batch: images that the model takes at once.
        seed: seed of the choice.
    """
    full_batches = -(-min(CALIBRATION_IMAGES, sum(map(len, sets))) // batch)
    shares = _even_shares([len(images) for images in sets], full_batches * batch)
    chosen = []
    for images, share in zip(sets, shares, strict=True):
        indices = np.random.default_rng(seed).permutation(len(images))[:share]
        chosen.append(Subset(images, np.sort(indices)))
    return concatenate([part for part in chosen if len(part)])


def _even_shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many of each set make up count, or all there are; what a small set lacks is spread over the others."""
    shares = [0] * len(sizes)
    left = min(count, sum(sizes))
    while left:
        unfinished = [i for i, size in enumerate(sizes) if shares[i] < size]
        each = max(1, left // len(unfinished))
        for i in unfinished:
            more = min(each, sizes[i] - shares[i], left)
            shares[i] += more
            left -= more
            if not left:
                break
    return shares


def read_full_batches(images: Images, size: tuple[int, int], batch: int) -> list[Batch]:
    """The images in batches of one size; where they do not fill the last one, they are repeated in turn.

    Args:
        images: at least one.
        size: (height, width) in pixels.
        batch: images in a batch.
    """
    return [
        Batch(part[np.arange(batch) % len(part)], len(part)) for part in read_batches(images, size, batch_size=batch)
    ]
