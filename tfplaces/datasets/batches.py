"""Batches of images, each decoded by several threads: the one way that every part of the library reads many images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from tfplaces.common.processors import usable_processors
from tfplaces.datasets.base import Images


def read_batch(images: Images, indices: Sequence[int] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Reads some images at once, as many at a time as the process has processors.

    It is for batches in an order that is not known ahead, as those of a `keras.utils.PyDataset`; one worker of that
    is enough. Where the order is known `read_batches` decodes ahead.

    Args:
        images: what to read from.
        indices: which images, in which order, at least one.
        size: (height, width) in pixels.

    Returns:
        uint8 `[len(indices), height, width, 3]`.

    Raises:
        UserError: an image cannot be read.
    """
    return next(read_batches(images, size, len(indices), indices))


def read_batches(
    images: Images, size: tuple[int, int], batch_size: int = 32, indices: Sequence[int] | np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Streams images in batches, decoding two batches ahead, as many images at a time as the process has processors.

    Args:
        images: what to read.
        size: (height, width) in pixels.
        batch_size: images in a batch; the last one may be smaller.
        indices: which images, in which order; all by default.

    Yields:
        uint8 `[n, height, width, 3]`.

    Raises:
        UserError: an image cannot be read.
    """
    order = [int(i) for i in (range(len(images)) if indices is None else indices)]
    starts = range(0, len(order), batch_size)
    with ThreadPoolExecutor(min(usable_processors(), len(order) or 1)) as pool:

        def submit(start: int) -> list[Future[np.ndarray]]:
            return [pool.submit(images.read, i, size) for i in order[start : start + batch_size]]

        pending = [submit(start) for start in starts[:2]]
        try:
            for start in starts:
                batch = np.stack([future.result() for future in pending.pop(0)])
                if start + 2 * batch_size < len(order):
                    pending.append(submit(start + 2 * batch_size))
                yield batch
        finally:
            for future in itertools.chain(*pending):
                future.cancel()
