"""The one way to describe many images: streamed in batches, with progress, into an array or a memory map."""

from __future__ import annotations

import numpy as np

from tfplaces.common.progress import progress
from tfplaces.datasets import Images, read_batches
from tfplaces.describers.base import Describer, check_finite


def describe_images(
    describer: Describer, images: Images, label: str = "describing", out: np.ndarray | None = None
) -> np.ndarray:
    """Descriptors of images, streamed, with a progress bar.

    Args:
        describer: what describes them.
        images: what to describe.
        label: what the progress bar and messages call the images.
        out: where to write them, float32 `[len(images), describer.descriptor_dim]`, which may be a memory map; by
            default a new array.

    Returns:
        float32 `[len(images), describer.descriptor_dim]`.

    Raises:
        UserError: a descriptor is not finite; the message names the image.
    """
    if out is None:
        out = np.empty((len(images), describer.descriptor_dim), np.float32)
    describe_rows(describer, images, range(len(images)), label, out)
    return out


def describe_rows(describer: Describer, images: Images, indices: range, label: str, out: np.ndarray) -> None:
    """Describes some of the images, as `describe_images`, into `[len(indices), describer.descriptor_dim]`."""
    done = 0
    with progress(len(indices), label, "image") as bar:
        for batch in read_batches(images, describer.input_size, indices=indices):
            found = describer.describe(batch)
            check_finite(found, [images.names[i] for i in indices[done : done + len(batch)]], label)
            out[done : done + len(batch)] = found
            done += len(batch)
            bar.update(len(batch))
