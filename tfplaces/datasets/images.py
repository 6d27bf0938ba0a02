"""Sequences of image files, and of images that are kept in memory once they are decoded."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from tfplaces.datasets.base import Images, PlaceDataset
from tfplaces.datasets.decoding import load_image as load_image
from tfplaces.datasets.image_kinds import EXTENSIONS as EXTENSIONS


class ImageFiles(Images):
    """Images in files.

    Args:
        root: folder that the names are relative to.
        names: file names.
    """

    def __init__(self, root: str, names: Sequence[str]):
        self.root = root
        self.names = list(names)

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return load_image(os.path.join(self.root, self.names[index]), size)


class CachedImages(Images):
    """Keeps decoded images of one size in memory, as many as fit in a bound; the rest is read again.

    Args:
        images: what is read.
        max_bytes: bound on the memory of the images kept.
    """

    def __init__(self, images: Images, max_bytes: int = 2**30):
        self.images = images
        self.names = images.names
        self._room = max_bytes
        self._kept: dict[tuple[int, tuple[int, int]], np.ndarray] = {}

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        key = (index, (size[0], size[1]))
        image = self._kept.get(key)
        if image is None:
            image = self.images.read(index, size)
            if image.nbytes <= self._room:
                self._room -= image.nbytes
                self._kept[key] = image
        return image


def cached(dataset: PlaceDataset) -> PlaceDataset:
    """A data set whose images are kept in memory once decoded, as many as fit."""
    if isinstance(dataset.database, CachedImages):
        return dataset
    database, queries = CachedImages(dataset.database), CachedImages(dataset.queries)
    return dataclasses.replace(dataset, database=database, queries=queries)
