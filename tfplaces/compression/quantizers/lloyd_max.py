"""One-dimensional k-means on a fine histogram: a dynamic programme finds the optimum, a second one sharpens its edges.

Runs of neighbouring values share a level. The squared error is that of a level at zero less the
gain (Σ x)² / n of each run, so what is maximised is the sum of the gains; a run at the level zero gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tfplaces.common.errors import UserError

# Bins that the range is divided into where it is crowded; so many values at most are their own bins.
BINS = 2**16
# Bits of a float32 that a bin of the first pass ignores; the second pass tells them apart where it is crowded.
_LOW_BITS = 12
# Bins that the dynamic programme starts from; neighbours are put together where there are more.
_ATOMS = 4096
# Values counted at a time: their temporary arrays stay in the cache.
_BLOCK = 2**18
# Steps to either side that an edge may take at once.
_REACH = 8


def kmeans_1d(values: np.ndarray | Callable[[], Iterable[np.ndarray]], k: int, keep_zero: bool = False) -> np.ndarray:
    """Levels that minimise the squared error of values (Lloyd-Max quantizer).

    Up to 4096 distinct values the optimum is exact. Beyond, it is that of 4096 groups of neighbouring values, put
    together anew around a first solution, then improved on a histogram of some 100,000 bins that are finest where
    levels are dense; less than 0.1 % away for k up to 256.

    Args:
        values: float32 of any shape, at least one; or a function that gives them in blocks. It is called twice, and no
            more than a block is held at a time.
        k: number of levels, at least 1.
        keep_zero: one of the levels is exactly zero. Then zeros among the values do not matter.

    Returns:
        float32, ascending, at most k distinct levels.

    Raises:
        ValueError: values that are not finite.
    """
    centres, counts = _histogram(values if callable(values) else lambda: [values])
    distinct = np.unique(np.append(centres, 0.0) if keep_zero else centres)
    if len(distinct) <= k:
        return distinct.astype(np.float32)
    # Far from zero, gains would swallow the errors. The median, as a mean would follow an outlier.
    shift = 0.0 if keep_zero else centres[np.searchsorted(np.cumsum(counts), counts.sum() / 2)]
    if keep_zero:
        below, above = centres < 0, centres > 0
        parts = [
            _Runs(-centres[below][::-1], counts[below][::-1], k, zero_first=True),
            _Runs(centres[above], counts[above], k, zero_first=True),
        ]
    else:
        parts = [_Runs(centres - shift, counts, k, zero_first=False)]
    for _ in range(1 if len(centres) <= _ATOMS else 2):
        gains = [part.solve() for part in parts]
        # So many runs behind the first; where there are two parts they share k - 1.
        more = [k - 1]
        if keep_zero:
            split = int(np.argmax(gains[0] + gains[1][::-1]))
            more = [split, k - 1 - split]
        for part, count in zip(parts, more, strict=True):
            part.refine(count)
    found = [part.levels() for part in parts]
    levels = np.concatenate([-found[0][::-1], [0.0], found[1]]) if keep_zero else found[0] + shift
    return np.unique(levels.astype(np.float32))


def _histogram(blocks: Callable[[], Iterable[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Means, ascending, and counts of the bins that hold any values; few values are their own bins.

    A bin of the first pass is all floats of the same upper bits, so it is as fine, relatively, for small values as for
    large ones. The second pass divides it so that bins are as dense as optimal levels are: like the cube root of the
    density of the values (Panter and Dite 1951).
    """
    coarse = np.zeros(2 ** (32 - _LOW_BITS), np.int64)
    for _, bits in _float_bits(blocks):
        coarse += np.bincount(bits >> _LOW_BITS, minlength=len(coarse))
    first = np.arange(len(coarse), dtype=np.uint32) << np.uint32(_LOW_BITS)
    if np.any(coarse[~np.isfinite(first.view(np.float32))]):
        raise UserError("values that are not finite (NaN or infinity)")
    if coarse.sum() <= BINS:
        values, counts = np.unique(np.concatenate([block for block, _ in _float_bits(blocks)]), return_counts=True)
        return values.astype(np.float64), counts.astype(np.float64)
    last = first | np.uint32(2**_LOW_BITS - 1)
    with np.errstate(invalid="ignore"):
        width = np.abs(last.view(np.float32).astype(np.float64) - first.view(np.float32))
    share = np.where(coarse > 0, np.cbrt(coarse * width * width), 0)
    for _ in range(4):  # a lone value needs one bin, however far from the others
        share = np.minimum(share * (BINS / max(share.sum(), 1e-300)), coarse)
    divided = np.minimum(np.ceil(np.log2(np.maximum(share, 1))), _LOW_BITS).astype(np.uint8)
    shift = np.uint8(_LOW_BITS) - divided
    bins = np.where(coarse > 0, 1 << divided.astype(np.int64), 0)
    offset = (np.cumsum(bins) - bins).astype(np.uint32)
    counts, sums = np.zeros(bins.sum()), np.zeros(bins.sum())
    for block, bits in _float_bits(blocks):
        upper = bits >> _LOW_BITS
        index = bits & np.uint32(2**_LOW_BITS - 1)
        index >>= shift[upper]
        index += offset[upper]
        index = index.astype(np.intp)
        counts += np.bincount(index, minlength=len(counts))
        sums += np.bincount(index, block, minlength=len(counts))
    filled = counts > 0
    means, counts = sums[filled] / counts[filled], counts[filled]
    order = np.argsort(means)
    return means[order], counts[order]


def _float_bits(blocks: Callable[[], Iterable[np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Values, float32 `[n]`, and their bits, uint32 `[n]`, a few at a time."""
    for block in blocks():
        flat = np.ravel(block)
        for start in range(0, len(flat), _BLOCK):
            values = np.ascontiguousarray(flat[start : start + _BLOCK], np.float32)
            yield values, values.view(np.uint32)


class _Runs:
    """The best division of ascending values into a first run and others behind it.

    Args:
        centres, counts: float64 `[n]`, of the bins.
        k: runs at most.
        zero_first: the first run goes to the level zero.
    """

    def __init__(self, centres: np.ndarray, counts: np.ndarray, k: int, zero_first: bool):
        self._weight = np.concatenate([[0.0], np.cumsum(counts)])
        self._total = np.concatenate([[0.0], np.cumsum(counts * centres)])
        self._first = np.zeros(len(self._weight)) if zero_first else _gain(self._weight, self._total)
        self._k, self._zero_first = k, zero_first
        self._atoms = _atom_edges(centres, counts)

    def solve(self) -> np.ndarray:
        """The best gains on the atoms, `[k]`, by the number of runs behind the first."""
        weight, total, best = self._weight[self._atoms], self._total[self._atoms], self._first[self._atoms]
        gains, self._starts = [best[-1]], []
        for _ in range(self._k - 1):
            best, start = _best_last_runs(best, weight, total)
            gains.append(best[-1])
            self._starts.append(start)
        return np.array(gains)

    def refine(self, more: int) -> None:
        """Takes the solution with so many runs behind the first, and atoms that divide each of its runs alike."""
        ends = [len(self._atoms) - 1]
        for start in reversed(self._starts[:more]):
            ends.append(start[ends[-1]])
        self._ends = self._atoms[ends[::-1]]
        if len(self._weight) - 1 > _ATOMS:
            parts = max(_ATOMS // self._k, 2)
            runs = np.append(0, self._ends)
            divided = np.interp(np.arange(parts * (more + 1) + 1) / parts, np.arange(more + 2), runs)
            self._atoms = np.unique(divided.astype(np.int64))

    def levels(self) -> np.ndarray:
        """The levels of the runs, float64, ascending; without the zero of the first run, if it is one."""
        ends = self._sharpened(self._ends)
        edges = ends if self._zero_first else np.append(0, ends)
        weight = np.diff(self._weight[edges])
        return np.diff(self._total[edges])[weight > 0] / weight[weight > 0]

    def _sharpened(self, ends: np.ndarray) -> np.ndarray:
        """Moves the ends of the runs, all together, as long as that gains: by ever smaller steps, to a bin's width."""
        weight, total, n = self._weight, self._total, len(self._weight) - 1
        offsets = np.arange(-_REACH, _REACH + 1)
        step, gain = n // len(self._atoms) if len(ends) > 1 else 0, -np.inf
        while step:
            places = np.clip(ends[:-1, None] + step * offsets, 0, n)
            i, j = places[:, :, None], np.append(places[1:], np.full_like(places[:1], n), axis=0)[:, None]
            gains = np.where(i <= j, _gain(weight[j] - weight[i], total[j] - total[i]), -np.inf)
            best, came_from = self._first[places[0]], []
            for run in gains:
                candidates = best[:, None] + run
                came_from.append(np.argmax(candidates, axis=0))
                best = np.max(candidates, axis=0)
            choice, moved = 0, ends.copy()
            for run in reversed(range(len(places))):
                choice = came_from[run][choice]
                moved[run] = places[run, choice]
            # Where an edge went as far as it could, it may want to go on.
            far = np.max(np.abs(moved - ends)) >= step * _REACH and best[0] > gain
            step, gain, ends = step if far else step // 2, best[0], moved
        return ends


def _gain(weight: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.square(total) / np.maximum(weight, 1)


def _atom_edges(centres: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Edges, as numbers of bins before them, of at most 4096 groups of neighbouring bins.

    A third of the cuts each is even in the values' range, in their number, and in the cube root of their density, which
    is how optimal levels lie (Panter and Dite 1951).
    """
    if len(centres) <= _ATOMS:
        return np.arange(len(centres) + 1)
    width = np.gradient(centres)
    grids = np.cumsum(width), np.cumsum(counts), np.cumsum(np.cbrt(counts * width * width))
    cuts = sum((grid / grid[-1] * (_ATOMS / 3 - 1)).astype(np.int64) for grid in grids)
    return np.concatenate([[0], np.flatnonzero(np.diff(cuts)) + 1, [len(centres)]])


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
            gains = before[i] + _gain(weight[j] - weight[i], total[j] - total[i])
            best[ends] = np.maximum.reduceat(gains, first)
            hits = np.flatnonzero(gains == np.repeat(best[ends], length))
            start[ends] = i[hits[np.searchsorted(hits, first)]]
        stride //= 2
    return best, start
