"""What an index keeps of the pictures of places: a digest, by which another picture is noticed, and a thumbnail."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from tfplaces.common.errors import UserError
from tfplaces.common.files import sha256
from tfplaces.common.processors import usable_processors
from tfplaces.datasets import Images
from tfplaces.datasets.decoding import upright_size

_DIGEST_BYTES = 16


def picture_digests(images: Images, size: tuple[int, int]) -> list[bytes]:
    """What tells whether a picture is still the same: 16 bytes of the SHA-256 of its file.

    Args:
        images: the pictures.
        size: (height, width) at which pictures that are no files are looked at.

    Raises:
        UserError: a picture cannot be read.
    """

    def digest(index: int) -> bytes:
        path = images.path(index)
        try:
            found = hashlib.sha256(images.read(index, size).tobytes()).hexdigest() if path is None else sha256(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        return bytes.fromhex(found)[:_DIGEST_BYTES]

    with ThreadPoolExecutor(usable_processors()) as pool:
        return list(pool.map(digest, range(len(images))))


def thumbnails(images: Images, indices: Sequence[int], side: int, pool: ThreadPoolExecutor) -> Iterator[bytes]:
    """Small JPEGs of some pictures, with nothing in them of what the photo's file says beside the pixels.

    Args:
        images: the pictures.
        indices: which ones.
        side: the longer side, pixels.
        pool: what makes several at once.
    """
    return pool.map(lambda index: _thumbnail(images, index, side), indices)


def _thumbnail(images: Images, index: int, side: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(small_picture(images, index, side)).save(file, "JPEG", quality=80)
    return file.getvalue()


def small_picture(images: Images, index: int, side: int) -> np.ndarray:
    """A picture with its own proportions, of at most so many pixels on its longer side; uint8 `[height, width, 3]`.

    One that is drawn, or a part of a file, does not say its size: it is shown three by four.
    """
    path = images.path(index)
    height, width = (3, 4) if path is None else upright_size(path)
    scale = side / max(height, width)
    if path is not None:
        scale = min(scale, 1.0)
    return images.read(index, (max(1, round(scale * height)), max(1, round(scale * width))))
