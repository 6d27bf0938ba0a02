"""Sequences of images: files, and those that are kept in memory once decoded."""

import concurrent.futures
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import CachedImages, ImageFiles, Images, PlaceDataset, cached, load_image
from tfplaces.datasets.images import Room


class Numbered(Images):
    """Image i is filled with i; notes what is read, and fails for one of them."""

    def __init__(self, count: int, broken: int | None = None):
        self.names = [f"{i}.png" for i in range(count)]
        self.broken = broken
        self.reads: list[int] = []

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        self.reads.append(index)
        time.sleep(0.002 * (index % 3))  # so that threads do not finish in order
        if index == self.broken:
            raise ValueError(f"{self.names[index]}: broken")
        return np.full((*size, 3), index, np.uint8)


def test_image_files(write_photos: Callable[..., Path]) -> None:
    root = write_photos("a.png", "sub/b.png")
    files = ImageFiles(str(root), ["sub/b.png", "a.png"])
    assert len(files) == 2
    np.testing.assert_array_equal(files.read(0, (5, 6)), load_image(root / "sub/b.png", (5, 6)))


def test_cache_keeps_what_fits() -> None:
    """Images of 2 · 3 · 3 = 18 bytes: two fit in 40, the third is read again each time."""
    source = Numbered(3)
    images = CachedImages(source, Room(40))
    assert images.names == source.names
    for _ in range(3):
        for i in range(3):
            np.testing.assert_array_equal(images.read(i, (2, 3)), np.full((2, 3, 3), i))
    assert source.reads == [0, 1, 2, 2, 2]


def test_caches_share_their_room_and_give_it_back() -> None:
    """Images of 18 bytes: two fit in 40, whichever cache they are in."""
    room = Room(40)
    first, second = CachedImages(Numbered(3), room), CachedImages(Numbered(3), room)
    for images in (first, second, second, first):
        images.read(0, (2, 3))
    assert room.left == 4
    second.read(1, (2, 3))
    assert room.left == 4 and second.images.reads == [0, 1]
    del second, images
    gc.collect()
    assert room.left == 22


def test_an_image_is_decoded_once_however_many_threads_ask() -> None:
    class Slow(Numbered):
        def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
            both.wait(5)  # until all have asked, or the cache has let only one ask
            return super().read(index, size)

    source, room, both = Slow(1), Room(1000), threading.Event()
    images = CachedImages(source, room)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(images.read, 0, (2, 3)) for _ in range(8)]
        both.set()
        for image in asked:
            np.testing.assert_array_equal(image.result(), np.zeros((2, 3, 3)))
    assert source.reads == [0] and room.left == 982


def test_what_could_not_be_read_is_read_again() -> None:
    class Once(Numbered):
        def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
            if not self.reads:
                self.reads.append(-1)
                raise UserError("not now")
            return super().read(index, size)

    images = CachedImages(Once(1), Room(100))
    with pytest.raises(UserError, match="not now"):
        images.read(0, (2, 3))
    assert images.read(0, (2, 3)).shape == (2, 3, 3)


def test_cache_knows_sizes() -> None:
    source = Numbered(2)
    images = CachedImages(source)
    assert images.read(1, (2, 3)).shape == (2, 3, 3)
    assert images.read(1, (4, 5)).shape == (4, 5, 3)
    assert images.read(1, [2, 3]).shape == (2, 3, 3)
    assert source.reads == [1, 1]


def test_cached_data_set() -> None:
    dataset = PlaceDataset("x", Numbered(3), Numbered(1), [np.array([0])])
    once = cached(dataset)
    for part in (once.database, once.queries):
        assert isinstance(part, CachedImages)
    assert cached(once) is once
