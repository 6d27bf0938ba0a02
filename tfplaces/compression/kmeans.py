"""One-dimensional k-means, on a histogram: the optimum by dynamic programming, then Lloyd's iterations."""

from __future__ import annotations

import numpy as np

BINS = 2**16
# Bins that the dynamic programme starts from; neighbours are put together where there are more.
_ATOMS = 4096
# Lloyd's iterations stop when the levels move less than this part of the range.
_TOLERANCE = 1e-7
_MAX_ITERATIONS = 2000


def kmeans_1d(values: np.ndarray, k: int, keep_zero: bool = False) -> np.ndarray:
    """Levels that minimise the squared error of values (Lloyd-Max quantizer).

    Up to 4096 distinct values the optimum is exact; beyond, it is that of 4096 groups of neighbouring values, improved
    by Lloyd's iterations on a histogram of 65,536 bins, and less than 1 % away.

    Args:
        values: float `[n]`, n >= 1.
        k: number of levels, at least 1.
        keep_zero: one of the levels is exactly zero.

    Returns:
        float32, ascending, at most k distinct levels.
    """
    centres, counts = _histogram(values)
    if len(np.union1d(centres, 0.0) if keep_zero else centres) <= k:
        return np.unique(np.append(centres, 0.0) if keep_zero else centres).astype(np.float32)
    levels = _optimal_levels(*_atoms(centres, counts), k, keep_zero)
    zero = int(np.argmin(np.abs(levels)))
    count_before = np.concatenate([[0.0], np.cumsum(counts)])
    sum_before = np.concatenate([[0.0], np.cumsum(counts * centres)])
    tolerance = _TOLERANCE * (centres[-1] - centres[0])
    for _ in range(_MAX_ITERATIONS):
        edges = np.concatenate([[0], np.searchsorted(centres, (levels[1:] + levels[:-1]) / 2), [len(centres)]])
        count = np.diff(count_before[edges])
        moved = np.where(count > 0, np.diff(sum_before[edges]) / np.maximum(count, 1), levels)
        if keep_zero:
            moved[zero] = 0.0
        shift = np.max(np.abs(moved - levels))
        levels = moved
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


def _atoms(centres: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and counts of groups of neighbouring bins, at most 4096.

    A third of the cuts each is even in the values' range, in their number, and in the cube root of their density, which
    is how optimal levels lie (Panter and Dite 1951).
    """
    if len(centres) <= _ATOMS:
        return centres, counts
    width = np.gradient(centres)
    grids = np.cumsum(width), np.cumsum(counts), np.cumsum(np.cbrt(counts / width) * width)
    cuts = sum((grid / grid[-1] * (_ATOMS / 3 - 1)).astype(np.int64) for grid in grids)
    _, group = np.unique(cuts, return_inverse=True)
    merged = np.bincount(group, counts)
    return np.bincount(group, counts * centres) / merged, merged


def _optimal_levels(centres: np.ndarray, counts: np.ndarray, k: int, keep_zero: bool) -> np.ndarray:
    """The best k levels, or fewer, by dynamic programming over runs of neighbouring values.

    The squared error is that of a level at zero less the gain (Σ x)² / n of each run, so the programme maximises the
    sum of the gains; a run that keeps the level zero gains nothing.
    """
    # Far from zero, gains would swallow the errors.
    shift = 0.0 if keep_zero else np.average(centres, weights=counts)
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    total = np.concatenate([[0.0], np.cumsum(counts * (centres - shift))])
    n = len(weight)
    # Best gain of the values before each position, in one run more each time: without the level zero, and with it.
    gain, with_zero = np.square(total) / np.maximum(weight, 1), np.zeros(n)
    starts, starts_with, at_zero = [np.zeros(n, np.int64)], [np.zeros(n, np.int64)], [np.ones(n, bool)]
    for _ in range(k - 1):
        if keep_zero:
            longer, start = _best_last_runs(with_zero, weight, total)
            now_zero = np.maximum.accumulate(gain)
            start_zero = np.maximum.accumulate(np.where(gain == now_zero, np.arange(n), 0))
            at_zero.append(now_zero > longer)
            with_zero = np.maximum(longer, now_zero)
            starts_with.append(np.where(at_zero[-1], start_zero, start))
        gain, start = _best_last_runs(gain, weight, total)
        starts.append(start)
    levels, end, zero_ahead = [], n - 1, keep_zero
    for run in reversed(range(k)):
        start = (starts_with if zero_ahead else starts)[run][end]
        if zero_ahead and at_zero[run][end]:
            levels.append(0.0)
            zero_ahead = False
        elif start < end:
            levels.append((total[end] - total[start]) / (weight[end] - weight[start]) + shift)
        end = start
    return np.array(levels[::-1])


def _best_last_runs(before: np.ndarray, weight: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each position j the largest before[i] + gain of the run from i to j, and its i.

    The best i ascends with j: those of every second position bound the others', level by level (divide and conquer).
    """
    n = len(before)
    best, start = np.empty(n), np.empty(n, np.int64)
    stride = 1 << n.bit_length()
    while stride:
        ends = np.arange(stride - 1, n, 2 * stride)
        if len(ends):
            low = np.where(ends >= stride, start[ends - stride], 0)
            high = np.where(ends + stride < n, start[np.minimum(ends + stride, n - 1)], ends)
            length = np.minimum(high, ends) - low + 1
            first = np.cumsum(length) - length
            i = np.arange(length.sum()) - np.repeat(first - low, length)
            j = np.repeat(ends, length)
            gains = before[i] + np.square(total[j] - total[i]) / np.maximum(weight[j] - weight[i], 1)
            best[ends] = np.maximum.reduceat(gains, first)
            hits = np.flatnonzero(gains == np.repeat(best[ends], length))
            start[ends] = i[hits[np.searchsorted(hits, first)]]
        stride //= 2
    return best, start
