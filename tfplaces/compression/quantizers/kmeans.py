"""Weight sharing: each weight is one of a few levels of its layer, times the scale of its output channel."""

from __future__ import annotations

import numbers

import numpy as np

from tfplaces.coding.channels import ChannelAxis, channel_rms, channel_view, row_blocks
from tfplaces.coding.shared_kernel import GRID_MAX, SharedKernel
from tfplaces.common.errors import UserError
from tfplaces.compression.quantizers.lloyd_max import kmeans_1d

GRIDS = ("int8", "none")
# Levels and scales are fitted in turn, this often, on at most so many rows of a kernel.
_ROUNDS = 2
_SAMPLE = 2**20
# The smallest normal number: a scale is never zero.
_TINY = np.finfo(np.float32).tiny


def share(weights: np.ndarray, channel_axis: ChannelAxis, bits: int, grid: str = "int8") -> SharedKernel:
    """Shares a kernel's weights among at most 2^bits levels by k-means; zeros stay zero.

    Levels go with a scale per output channel: where batch norm was folded in, channels differ too much for common
    levels. Scales start at the largest magnitude and at the RMS of the channel; then levels (k-means) and scales (least
    squares) are fitted in turn, and the better of the two is taken.

    Args:
        weights: float32 of any shape.
        channel_axis: axis of the output channels, or the neighbouring axes that count them together.
        bits: 2 to 8.
        grid: int8 puts the levels on whole numbers from −127 to 127, as an int8 TFLite holds them, at most 255; none
            leaves them free.

    Raises:
        ValueError: weights that are not finite, or bits or grid out of range.
    """
    check_bits(bits)
    if grid not in GRIDS:
        raise UserError(f"grid {grid!r}: {' or '.join(GRIDS)}")
    view = channel_view(np.ascontiguousarray(weights, np.float32), channel_axis)
    if not all(np.all(np.isfinite(view[rows])) for rows in row_blocks(view)):
        raise UserError("weights that are not finite (NaN or infinity) cannot be shared")
    pruned = any(np.any(view[rows] == 0) for rows in row_blocks(view))
    sample = view[:: max(1, weights.size // _SAMPLE)]
    fits = [
        _fit(sample, scales, bits, grid, pruned) for scales in (_largest(view), np.maximum(channel_rms(view), _TINY))
    ]
    levels, scales, _ = min(fits, key=lambda fit: fit[2])
    indices = np.empty(weights.shape, np.uint8)
    out = channel_view(indices, channel_axis)
    for rows in row_blocks(view):
        out[rows] = nearest(view[rows] / scales[:, None], levels)
    # Adding zero makes -0 a plain zero.
    return SharedKernel(levels + np.float32(0), indices, scales, channel_axis)


def _largest(view: np.ndarray) -> np.ndarray:
    """Largest magnitude of each channel, 1 where all is 0."""
    largest = np.max([np.max(np.abs(view[rows]), axis=(0, 2)) for rows in row_blocks(view)], axis=0)
    return np.where(largest > 0, np.maximum(largest, _TINY), 1.0).astype(np.float32)


def _fit(sample, scales, bits: int, grid: str, pruned: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Levels and scales from a start of the scales, and their squared error relative to each channel's energy."""
    rms = channel_rms(sample)[:, None]
    fits = []
    for _ in range(_ROUNDS):
        scaled = sample / scales[:, None]
        if grid == "int8" and bits == 8:
            levels = np.arange(-GRID_MAX, GRID_MAX + 1, dtype=np.float32) / GRID_MAX
        else:
            levels = _levels(scaled, bits, pruned)
        if grid == "int8":
            unit = np.float32(np.max(np.abs(levels)) / GRID_MAX) or np.float32(1)
            levels, scales = np.unique(np.round(levels / unit)), np.maximum(scales * unit, _TINY)
            scaled = sample / scales[:, None]
        values = levels[nearest(scaled, levels)]
        error = float(np.mean(np.square((values * scales[:, None] - sample) / rms), dtype=np.float64))
        fits.append((levels, scales, error))
        # The scale of least squared error for these values.
        power = np.einsum("oci,oci->c", values, values, dtype=np.float64)
        fitted = np.einsum("oci,oci->c", values, sample, dtype=np.float64) / np.maximum(power, 1e-30)
        scales = np.maximum(np.where((power > 0) & (fitted > 0), fitted, scales), _TINY).astype(np.float32)
    return min(fits, key=lambda fit: fit[2])


def _levels(scaled: np.ndarray, bits: int, pruned: bool) -> np.ndarray:
    """The levels of a kernel divided by its scales: float32, ascending, zero among them."""
    if not pruned:
        return kmeans_1d(scaled, 2**bits, keep_zero=True)
    surviving = scaled[scaled != 0]
    levels = kmeans_1d(surviving, 2**bits - 1) if len(surviving) else np.zeros(0, np.float32)
    return np.union1d(levels, np.float32(0))


def check_bits(bits: int) -> None:
    """Raises UserError unless bits are a whole number from 2 to 8."""
    if isinstance(bits, bool) or not isinstance(bits, numbers.Integral) or not 2 <= bits <= 8:
        raise UserError(f"bits={bits!r}: a whole number from 2 to 8")


def nearest(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Index of the level nearest to each value, uint8 of the values' shape; zero goes to the level zero only."""
    # In float64, as half of the smallest float32 is zero.
    edges = (levels[1:].astype(np.float64) + levels[:-1]) / 2
    return np.searchsorted(edges, values.reshape(-1)).astype(np.uint8).reshape(values.shape)
