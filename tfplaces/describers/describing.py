"""The one way to describe many images: streamed in batches, with progress, to memory or to the disk."""

from __future__ import annotations

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
    with progress(len(images) - done, label, "image") as bar:
        for batch in read_batches(images, describer.input_size, indices=range(done, len(images))):
            found = describer.describe(batch)
            end = done + len(batch)
            check_finite(found, images.names[done:end], label)
            rows[done:end] = found
            done = end
            if file is not None:
                file.advance(done)
            bar.update(len(batch))
    return rows
