"""Kernels by output channel, and in blocks, so that the largest take no full-size temporaries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Weights worked on at a time: full-size temporaries of a large kernel are what memory goes on.
BLOCK = 2**20


def channel_view(weights: np.ndarray, channel_axis: int) -> np.ndarray:
    """A kernel as `[outer, channels, inner]`, without a copy where it is contiguous."""
    shape = weights.shape
    outer, inner = int(np.prod(shape[:channel_axis])), int(np.prod(shape[channel_axis + 1 :]))
    return weights.reshape(outer, shape[channel_axis], inner)


def row_blocks(view: np.ndarray) -> Iterator[slice]:
    """Slices of the first axis of a `[outer, channels, inner]` view that hold about a million weights each."""
    rows = max(1, BLOCK // max(1, view.shape[1] * view.shape[2]))
    for start in range(0, view.shape[0], rows):
        yield slice(start, start + rows)


def channel_rms(view: np.ndarray) -> np.ndarray:
    """Root mean square of each channel of a `[outer, channels, inner]` view, float32 `[channels]`; 1 where all is 0."""
    total = np.zeros(view.shape[1])
    for rows in row_blocks(view):
        total += np.einsum("oci,oci->c", view[rows], view[rows], dtype=np.float64)
    rms = np.sqrt(total / (view.shape[0] * view.shape[2]))
    return np.where(rms > 0, rms, 1.0).astype(np.float32)
