"""Kernels by output channel, and in blocks, so that the largest take no full-size temporaries."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

# Weights worked on at a time: full-size temporaries of a large kernel are what memory goes on.
BLOCK = 2**20

# Where the output channels of a kernel lie: one axis, or several neighbouring ones that together count them, as the two
# last of a depthwise kernel `[height, width, channels in, depth multiplier]` do.
ChannelAxis = int | tuple[int, ...]


def channel_axes(channel_axis: ChannelAxis) -> tuple[int, ...]:
    """The axes of the output channels, ascending and neighbouring."""
    return (channel_axis,) if isinstance(channel_axis, int) else tuple(channel_axis)


def channel_view(weights: np.ndarray, channel_axis: ChannelAxis) -> np.ndarray:
    """A kernel as `[outer, channels, inner]`, without a copy where it is contiguous."""
    return weights.reshape(channel_view_shape(weights.shape, channel_axis))


def channel_view_shape(shape: tuple[int, ...], channel_axis: ChannelAxis) -> tuple[int, int, int]:
    """The shape `[outer, channels, inner]` of a kernel's view by output channel."""
    axes = channel_axes(channel_axis)
    first, behind = axes[0], axes[-1] + 1
    return math.prod(shape[:first]), math.prod(shape[first:behind]), math.prod(shape[behind:])


def row_blocks(view: np.ndarray) -> Iterator[slice]:
    """Slices of the first axis of a `[outer, channels, inner]` view that hold about a million weights each."""
    rows = max(1, BLOCK // max(1, view.shape[1] * view.shape[2]))
    for start in range(0, view.shape[0], rows):
        yield slice(start, start + rows)


def channel_rms(view: np.ndarray) -> np.ndarray:
    """Root mean square of each channel of a `[outer, channels, inner]` view, float32 `[channels]`; 1 where all is 0.

    It is never zero: at least the smallest normal float32.
    """
    total = np.zeros(view.shape[1])
    for rows in row_blocks(view):
        total += np.einsum("oci,oci->c", view[rows], view[rows], dtype=np.float64)
    rms = np.sqrt(total / (view.shape[0] * view.shape[2]))
    return np.where(rms > 0, np.maximum(rms, np.finfo(np.float32).tiny), 1.0).astype(np.float32)
