"""The one way to describe many images: streamed in batches, with progress, to memory or to the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tfplaces.common.progress import progress
from tfplaces.datasets import Images, read_batches
from tfplaces.describers.base import Describer, check_finite
from tfplaces.describers.descriptor_file import DescriptorFile


def describe_images(
    describer: Describer, images: Images, label: str = "describing", out: np.ndarray | DescriptorFile | None = None
) -> np.ndarray:
    """Descriptors of images, streamed, with a progress bar.

    Args:
        describer: what describes them.
        images: what to describe.
        label: of the progress bar, and of messages.
        out: where to write them: float32 `[len(images), describer.descriptor_dim]`, which may be a memory map, or a
            file of descriptors, whose images that are done are not described again; by default a new array.

    Returns:
        float32 `[len(images), describer.descriptor_dim]`, a memory map where `out` is a file.

    Raises:
        UserError: a descriptor is not finite; the message names the image.
    """
    file, done = None, 0
    if isinstance(out, DescriptorFile):
        file, done, rows = out, out.done, out.rows
    else:
        rows = np.empty((len(images), describer.descriptor_dim), np.float32) if out is None else out
    for found in stream_descriptors(describer, images, range(done, len(images)), label):
        rows[done : done + len(found)] = found
        done += len(found)
        if file is not None:
            file.advance(done)
    return rows


def stream_descriptors(
    describer: Describer, images: Images, indices: Sequence[int] | np.ndarray, label: str = "describing"
) -> Iterator[np.ndarray]:
    """Descriptors of some images, a batch at a time, with a progress bar: for more than memory holds.

    Args:
        describer: what describes them.
        images: where they are.
        indices: which images, in which order.
        label: of the progress bar, and of messages.

    Yields:
        float32 `[n, describer.descriptor_dim]`, of the next images.

    Raises:
        UserError: a descriptor is not finite; the message names the image.
    """
    done = 0
    with progress(len(indices), label, "image") as bar:
        for batch in read_batches(images, describer.input_size, indices=indices):
            found = describer.describe(batch)
            end = done + len(batch)
            check_finite(found, [images.names[i] for i in indices[done:end]], label)
            yield found
            bar.update(len(batch))
            done = end
