"""The one image pipeline: decode, orient, RGB, resize. The same with and without TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps

from tfplaces.common.errors import UserError
from tfplaces.datasets.base import Images, PlaceDataset
from tfplaces.datasets.image_kinds import EXTENSIONS as EXTENSIONS


@contextlib.contextmanager
def open_image(path: str | os.PathLike) -> Iterator[Image.Image]:
    """Opens an image with Pillow; it is decoded when its pixels are first used.

    Raises:
        ValueError: the file is missing, is no image or, found out inside the block, is damaged.
    """
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise UserError(f"{path}: no such image") from None
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise UserError(f"{path}: cannot be read as an image ({error})") from None


def load_image(
    path: str | os.PathLike,
    size: tuple[int, int] | None = None,
    box: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Reads an image file: cropped, EXIF orientation applied, RGB, resized.

    Args:
        path: an image in any format that Pillow decodes.
        size: (height, width) in pixels, resized by Pillow's BILINEAR (antialiased), aspect ratio not kept; None for
            the size in the file, or of the box.
        box: (left, top, right, bottom) in pixels as they are stored, inside the image, right and bottom exclusive;
            None for the whole image.

    Returns:
        uint8 `[height, width, 3]`.

    Raises:
        ValueError: the file is missing, is no image or is damaged.
    """
    with open_image(path) as image:
        # Pillow would clip 16-bit grey at 255; before version 11 it opens such a PNG as "I".
        deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
        upright = ImageOps.exif_transpose(image if box is None else image.crop(box))
        if deep:
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        return resize(upright.convert("RGB"), size)


def resize(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """An RGB Pillow image as uint8 `[height, width, 3]`, resized to size (height, width) unless that is None."""
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


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
        key = (index, tuple(size))
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
