"""Weight sharing: each weight is one of a few levels of its layer, times the scale of its output channel."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfplaces.compression.kmeans import kmeans_1d

# Weights worked on at a time.
_BLOCK = 2**22


@dataclasses.dataclass
class SharedKernel:
    """A kernel whose weights are levels[indices] · scales.

    Attributes:
        levels: float32 `[n]`, ascending, zero among them, n at most 256.
        indices: uint8 of the kernel's shape.
        scales: float32 `[channels]`, positive.
        channel_axis: the axis of the kernel that scales go along.
    """

    levels: np.ndarray
    indices: np.ndarray
    scales: np.ndarray
    channel_axis: int

    @property
    def zero(self) -> int:
        """Index of the level that is zero."""
        return int(np.searchsorted(self.levels, 0.0))

    def weights(self) -> np.ndarray:
        """The kernel, float32."""
        weights = self.levels[self.indices]
        weights *= broadcast_scales(self.scales, self.channel_axis, weights.ndim)
        return weights


def broadcast_scales(scales, channel_axis: int, ndim: int):
    """Reshapes scales `[channels]` so that they multiply a kernel."""
    return scales.reshape([-1 if axis == channel_axis else 1 for axis in range(ndim)])


def share(weights: np.ndarray, channel_axis: int, bits: int) -> SharedKernel:
    """Shares a kernel's weights among at most 2^bits levels by k-means; zeros stay zero.

    The weights are divided by the largest magnitude of their output channel first: where batch norm was folded in,
    channels differ too much for common levels.

    Args:
        weights: float32 of any shape.
        channel_axis: axis of the output channels.
        bits: 2 to 8.

    Raises:
        ValueError: weights that are not finite, or bits out of range.
    """
    check_bits(bits)
    if not np.all(np.isfinite(weights)):
        raise ValueError("weights that are not finite (NaN or infinity) cannot be shared")
    other = tuple(axis for axis in range(weights.ndim) if axis != channel_axis)
    scales = np.max(np.abs(weights), axis=other)
    scales[scales == 0] = 1.0
    scaled = weights / broadcast_scales(scales, channel_axis, weights.ndim)
    surviving = scaled[scaled != 0]
    pruned = len(surviving) < scaled.size
    if pruned and len(surviving):
        levels = np.union1d(kmeans_1d(surviving, 2**bits - 1), np.float32(0))
    elif pruned:
        levels = np.zeros(1, np.float32)
    else:
        levels = kmeans_1d(surviving, 2**bits, keep_zero=True)
    return SharedKernel(levels, nearest(scaled, levels), scales.astype(np.float32), channel_axis)


def check_bits(bits: int) -> None:
    """Raises ValueError unless bits are 2 to 8."""
    if not 2 <= bits <= 8:
        raise ValueError(f"bits={bits}: 2 to 8")


def nearest(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Index of the level nearest to each value, uint8 of the values' shape; zero goes to the level zero only."""
    # In float64, as half of the smallest float32 is zero.
    edges = (levels[1:].astype(np.float64) + levels[:-1]) / 2
    flat, out = values.reshape(-1), np.empty(values.size, np.uint8)
    for start in range(0, flat.size, _BLOCK):
        out[start : start + _BLOCK] = np.searchsorted(edges, flat[start : start + _BLOCK])
    return out.reshape(values.shape)
