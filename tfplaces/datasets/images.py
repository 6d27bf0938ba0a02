"""Sequences of image files, and of images that are kept in memory once they are decoded."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import threading
import weakref
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

    def paths(self) -> list[str]:
        """The paths of the files."""
        return [os.path.join(self.root, name) for name in self.names]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return load_image(os.path.join(self.root, self.names[index]), size)

    def stamp(self, index: int) -> list[int | str]:
        """The size and the time of the last change of the file; nothing of one that is not there."""
        try:
            status = os.stat(os.path.join(self.root, self.names[index]))
        except (OSError, ValueError):  # to be said by whoever reads it
            return []
        return [status.st_size, status.st_mtime_ns]

    def path(self, index: int) -> str | None:
        return os.path.join(self.root, self.names[index])


class Room:
    """A bound on the memory of images that are kept, which caches may share.

    Args:
        size: bytes in all.
    """

    def __init__(self, size: int):
        self.left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Takes so many bytes, if there are as many."""
        with self._lock:
            fits = size <= self.left
            self.left -= size * fits
            return fits

    def give_back(self, sizes: list[int]) -> None:
        """Gives back what a cache has taken, when it goes."""
        with self._lock:
            self.left += sum(sizes)


# Of all caches of the process together.
ROOM = Room(2**30)


class CachedImages(Images):
    """Keeps decoded images in memory, as many as there is room for; the rest is read again.

    Any number of threads may read; an image that several ask for at once is decoded once.

    Args:
        images: what is read.
        room: bounds the memory of the images kept; by default a gibibyte for all caches of the process together.
    """

    def __init__(self, images: Images, room: Room = ROOM):
        self.images = images
        self.names = images.names
        self._room = room
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, tuple[int, int]], concurrent.futures.Future[np.ndarray]] = {}
        self._sizes: list[int] = []
        weakref.finalize(self, room.give_back, self._sizes)

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        key = index, (int(size[0]), int(size[1]))
        with self._lock:
            found = self._kept.get(key)
            mine = found is None
            if found is None:
                found = self._kept[key] = concurrent.futures.Future()
        if not mine:
            return found.result()
        try:
            image = self.images.read(index, size)
        except BaseException as error:
            self._forget(key)
            found.set_exception(error)
            raise
        if self._room.take(image.nbytes):
            self._sizes.append(image.nbytes)
        else:
            self._forget(key)
        image.setflags(write=False)  # it is everybody's
        found.set_result(image)
        return image

    def stamp(self, index: int) -> list[int | str]:
        return self.images.stamp(index)

    def path(self, index: int) -> str | None:
        return self.images.path(index)

    def _forget(self, key: tuple[int, tuple[int, int]]) -> None:
        with self._lock:
            del self._kept[key]


def cached(dataset: PlaceDataset) -> PlaceDataset:
    """A data set whose images are kept in memory once decoded, as many as fit."""
    if isinstance(dataset.database, CachedImages):
        return dataset
    database, queries = CachedImages(dataset.database), CachedImages(dataset.queries)
    return dataclasses.replace(dataset, database=database, queries=queries)
