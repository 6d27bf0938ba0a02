"""The one way to describe many images: streamed in batches, with progress, into a sink."""

from __future__ import annotations

import numpy as np

from tfplaces.common.progress import progress
from tfplaces.datasets import Images, read_batches
from tfplaces.describers.base import Describer


def describe_images(
    describer: Describer, images: Images, label: str = "describing", out: np.ndarray | None = None
) -> np.ndarray:
    """Descriptors of images, streamed, with a progress bar.

    Args:
        describer: what describes them.
        images: what to describe.
        label: of the progress bar.
        out: where to write them, float32 `[len(images), describer.descriptor_dim]`; by default a new array.

    Returns:
        float32 `[len(images), describer.descriptor_dim]`.
    """
    if out is None:
        out = np.empty((len(images), describer.descriptor_dim), np.float32)
    done = 0
    with progress(len(images), label, "image") as bar:
        for batch in read_batches(images, describer.input_size):
            out[done : done + len(batch)] = describer.describe(batch)
            done += len(batch)
            bar.update(len(batch))
    return out
