"""Batches of images with the descriptors that a network is to give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tfplaces.datasets import Images
from tfplaces.training.batches import ImageBatches


class DescribedBatches(ImageBatches):
    """All images once in an epoch, in an order drawn for each, with a descriptor of each as the target.

    Args:
        images: what is trained on.
        size: (height, width) in pixels that images are read at.
        descriptors: float `[len(images), dim]`; may be a memory map.
        batch_size: images in a batch; the last of an epoch has what is left.
        seed: gives the order.
    """

    def __init__(
        self,
        images: Images,
        size: tuple[int, int],
        descriptors: np.ndarray,
        *,
        batch_size: int = 16,
        seed: int = 0,
    ):
        super().__init__(images, size, -(-len(images) // batch_size), seed=seed)
        self._descriptors, self._batch_size = descriptors, batch_size

    def order(self, epoch: int) -> np.ndarray:
        """The images of an epoch, 0-based, one after the other, int64 `[n]`."""
        return np.random.default_rng([self._seed, epoch]).permutation(len(self.images))

    def choose(self, epoch: int) -> Iterator[list[np.ndarray]]:
        order = self.order(epoch)
        yield [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]

    def targets(self, batch: np.ndarray, images: np.ndarray) -> Any:
        return self._descriptors[batch]
