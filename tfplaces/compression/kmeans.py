"""One-dimensional k-means, on a histogram."""

from __future__ import annotations

import numpy as np

BINS = 2**16
# Lloyd's iterations stop when the levels move less than this part of the range.
_TOLERANCE = 1e-7
_MAX_ITERATIONS = 2000


def kmeans_1d(values: np.ndarray, k: int, keep_zero: bool = False) -> np.ndarray:
    """Levels that minimise the squared error of values (Lloyd-Max quantizer).

    Starts from the asymptotic optimum, levels with density proportional to the cube root of the values' density (Panter
    and Dite 1951), and iterates to convergence.

    Args:
        values: float `[n]`, n >= 1.
        k: number of levels, at least 1.
        keep_zero: one of the levels is exactly zero.

    Returns:
        float32, ascending, at most k distinct levels.
    """
    centres, counts = _histogram(values)
    if len(centres) <= k - keep_zero:
        return np.unique(np.append(centres, 0.0) if keep_zero else centres).astype(np.float32)
    levels = _companding_levels(centres, counts, k)
    count_before = np.concatenate([[0.0], np.cumsum(counts)])
    sum_before = np.concatenate([[0.0], np.cumsum(counts * centres)])
    tolerance = _TOLERANCE * (centres[-1] - centres[0])
    zero = int(np.argmin(np.abs(levels)))
    for _ in range(_MAX_ITERATIONS):
        if keep_zero:
            levels[zero] = 0.0
        edges = np.concatenate([[0], np.searchsorted(centres, (levels[1:] + levels[:-1]) / 2), [len(centres)]])
        count = np.diff(count_before[edges])
        moved = np.where(count > 0, np.diff(sum_before[edges]) / np.maximum(count, 1), levels)
        if keep_zero:
            moved[zero] = 0.0
        shift = np.max(np.abs(moved - levels))
        levels = np.sort(moved)
        if keep_zero:
            zero = int(np.argmin(np.abs(levels)))
        if shift <= tolerance:
            break
    return np.unique(levels.astype(np.float32))


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and counts of the bins that hold any values; few values are their own bins."""
    values = np.asarray(values, np.float32).reshape(-1)
    if len(values) <= BINS:
        centres, counts = np.unique(values, return_counts=True)
        return centres.astype(np.float64), counts.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.array([low]), np.array([float(len(values))])
    counts, sums = np.zeros(BINS), np.zeros(BINS)
    for start in range(0, len(values), 2**22):
        block = values[start : start + 2**22]
        bins = np.minimum(((block - low) * (BINS / (high - low))).astype(np.int32), BINS - 1)
        counts += np.bincount(bins, minlength=BINS)
        sums += np.bincount(bins, weights=block, minlength=BINS)
    filled = counts > 0
    return sums[filled] / counts[filled], counts[filled]


def _companding_levels(centres: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """k levels spaced by the cube root of the density, estimated over 8 k equal parts of the range."""
    edges = np.linspace(centres[0], centres[-1], 8 * k + 1)
    density, _ = np.histogram(centres, edges, weights=counts)
    mass = np.concatenate([[0.0], np.cumsum(np.cbrt(density))])
    return np.interp((np.arange(k) + 0.5) / k * mass[-1], mass, edges)
