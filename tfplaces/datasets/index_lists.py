"""Lists of database images, one list for each query, in memory that grows with the lists and not with their square."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np

from tfplaces.common.errors import UserError

# Pairs of positions that are compared at once.
_BLOCK = 2**21
# 2 GB of lists; more than that is a radius in the wrong unit.
_MAX_ENTRIES = 250_000_000


class IndexLists(Sequence[np.ndarray]):
    """A sequence of lists of indices, held as three arrays (the rows of a sparse matrix in CSR form).

    Rows may share a list: all queries of a labelled place point to the one list of that place's images.

    Args:
        values: all lists, one after the other, int64 `[total]`; each list is strictly ascending.
        offsets: list k is `values[offsets[k]:offsets[k + 1]]`, int64 `[lists + 1]`.
        rows: for each row the number of its list, int64 `[rows]`; by default row k has list k.

    The arrays that it keeps are read-only, and so is what indexing gives.
    """

    def __init__(self, values: np.ndarray, offsets: np.ndarray, rows: np.ndarray | None = None):
        self.values, self.offsets = np.asarray(values, np.int64), np.asarray(offsets, np.int64)
        self.rows = np.arange(len(self.offsets) - 1) if rows is None else np.asarray(rows, np.int64)
        # Views, so that the caller's arrays stay as they are.
        self.values, self.offsets, self.rows = (a.view() for a in (self.values, self.offsets, self.rows))
        for array in (self.values, self.offsets, self.rows):
            array.flags.writeable = False

    @classmethod
    def of(cls, lists: Sequence[Sequence[int] | np.ndarray]) -> IndexLists:
        """Takes any lists of whole numbers; each is sorted and freed of repetitions.

        Raises:
            UserError: an entry is no one-dimensional list of whole numbers from 0.
        """
        arrays = []
        for number, entries in enumerate(lists):
            array = np.asarray(entries)
            if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
                raise UserError(f"list {number}: expected whole numbers in one dimension, but it has {array.dtype}")
            if array.size and array.min() < 0:
                raise UserError(f"list {number}: {array.min()} is no index, they begin at 0")
            arrays.append(np.unique(array.astype(np.int64)))
        return cls(_joined(arrays), _offsets([len(array) for array in arrays]))

    @classmethod
    def by_label(cls, row_labels: np.ndarray, value_labels: np.ndarray) -> IndexLists:
        """Row k has the indices whose label is `row_labels[k]`; memory is linear in the number of labels given.

        Args:
            row_labels: int64 `[rows]`.
            value_labels: int64 `[values]`.
        """
        row_labels, value_labels = np.asarray(row_labels, np.int64), np.asarray(value_labels, np.int64)
        order = np.argsort(value_labels, kind="stable")
        known, starts = np.unique(value_labels[order], return_index=True)
        # One more list, an empty one, for the labels that no value has.
        offsets = np.concatenate([starts, [len(order)] * 2])
        rows = np.searchsorted(known, row_labels)
        found = np.isin(row_labels, known)
        return cls(order, offsets, np.where(found, rows, len(known)))

    @classmethod
    def within(
        cls, row_positions: np.ndarray, value_positions: np.ndarray, radius: float, beyond: float | None = None
    ) -> IndexLists:
        """Row k has the indices whose position is near that of the row.

        Values are sorted into cells as wide as the radius, so that a row is compared with those of its own and the
        neighbouring cells alone. Rows of one position share a list. Memory grows with the lists and the input.

        Args:
            row_positions: metres, float64 `[rows, d]`, d from 1 to 3.
            value_positions: metres, float64 `[values, d]`.
            radius: the largest distance that is near, metres; a distance that equals it is near.
            beyond: what is this near or nearer does not count, metres; by default nothing is too near.

        Raises:
            UserError: the radius or a position is not finite, the radius is below 0, or the lists would be longer than
                250 million entries.
        """
        row_positions, value_positions = np.asarray(row_positions, float), np.asarray(value_positions, float)
        if not (0 <= radius < np.inf):
            raise UserError(f"a radius of {radius:g} metres: it must be a finite number from 0")
        if not np.isfinite(row_positions).all() or not np.isfinite(value_positions).all():
            raise UserError("a position is not a finite number of metres")
        if not len(row_positions) or not len(value_positions):
            return cls(np.empty(0), np.zeros(len(row_positions) + 1))
        spots, rows = np.unique(row_positions, axis=0, return_inverse=True)
        lists, counts = [], np.zeros(len(spots), np.int64)
        for spot, values in _Cells(value_positions, radius).pairs(spots):
            distances = np.square(spots[spot] - value_positions[values]).sum(1)
            near = distances <= radius**2
            if beyond is not None:
                near &= distances > beyond**2
            spot, values = spot[near], values[near]
            lists.append(values[np.lexsort((values, spot))])
            counts += np.bincount(spot, minlength=len(spots))
            if counts.sum() > _MAX_ENTRIES:
                raise UserError(
                    f"within a radius of {radius:g} there are more than {_MAX_ENTRIES:,} pairs of a query and a "
                    "database image; make it smaller"
                )
        return cls(_joined(lists), _offsets(counts), rows.ravel())

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, row: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, row: slice) -> IndexLists: ...
    def __getitem__(self, row: int | slice) -> np.ndarray | IndexLists:
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        number = self.rows[row]
        return self.values[self.offsets[number] : self.offsets[number + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """The number of indices in each row, int64 `[rows]`."""
        return np.diff(self.offsets)[self.rows]

    def take(self, rows: Sequence[int] | np.ndarray) -> IndexLists:
        """Some rows, in the order given; the lists themselves are not copied."""
        return IndexLists(self.values, self.offsets, self.rows[np.asarray(rows, np.int64)])

    def keep(self, wanted: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> IndexLists:
        """The same rows with some of their indices.

        Args:
            wanted: is given the number of the row and the index of each entry, int64 `[total]` both, and gives a truth
                value for each, bool `[total]`.
        """
        lengths = self.lengths
        row = np.repeat(np.arange(len(self)), lengths)
        begins = self.offsets[self.rows] - (np.cumsum(lengths) - lengths)
        values = self.values[np.repeat(begins, lengths) + np.arange(len(row))]
        kept = wanted(row, values)
        return IndexLists(values[kept], _offsets(np.bincount(row[kept], minlength=len(self))))

    def counts(self, chosen: np.ndarray) -> np.ndarray:
        """How many indices of each row are chosen.

        Args:
            chosen: a truth value for each index that may occur, bool `[values]`.

        Returns:
            int64 `[rows]`.
        """
        sums = np.concatenate([[0], np.cumsum(chosen[self.values])])
        return np.diff(sums[self.offsets])[self.rows]

    def renumber(self, numbers: np.ndarray) -> IndexLists:
        """The same lists after some of what they point to is gone.

        Args:
            numbers: the new index of each old one, -1 for what is gone, ascending otherwise, int64 `[values]`.
        """
        values = np.asarray(numbers, np.int64)[self.values]
        kept = np.concatenate([[0], np.cumsum(values >= 0)])
        return IndexLists(values[values >= 0], kept[self.offsets], self.rows)


class _Cells:
    """Positions sorted into square or cubic cells, to find those nearby.

    Args:
        positions: `[n, d]`, at least one.
        radius: how far nearby is.
    """

    def __init__(self, positions: np.ndarray, radius: float):
        dimensions = positions.shape[1]
        self._low = positions.min(0)
        extent = float((positions.max(0) - self._low).max())
        # A little wider than the radius, so that rounding moves no neighbour beyond the next cell, and so wide that the
        # number of a cell fits in 64 bits.
        self._width = max(max(radius, 0.01) * (1 + 1e-6), extent / 2 ** min(30, 60 // dimensions))
        cells = np.floor((positions - self._low) / self._width) + 1
        self._high = cells.max(0) + 1
        self._strides = np.append(np.cumprod(self._high[:0:-1] + 1)[::-1], 1).astype(np.int64)
        keys = cells.astype(np.int64) @ self._strides
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def pairs(self, spots: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields arrays of numbers of spots and of positions that may be near, spot by spot, a block at a time."""
        # A spot outside is put into the empty cells around all positions.
        cells = np.clip(np.floor((spots - self._low) / self._width) + 1, 0, self._high)
        keys = cells.astype(np.int64) @ self._strides
        # Cells that are neighbours in the last coordinate have consecutive numbers.
        rows = np.array(list(itertools.product((-1, 0, 1), repeat=len(self._low) - 1)), np.int64) @ self._strides[:-1]
        middles = keys[:, None] + rows
        begins = np.searchsorted(self._keys, middles - 1, "left")
        counts = np.searchsorted(self._keys, middles + 1, "right") - begins
        sums = np.append(0, np.cumsum(counts.sum(1)))
        first = 0
        while first < len(spots):
            last = max(first + 1, int(np.searchsorted(sums, sums[first] + _BLOCK, "right")) - 1)
            count, begin = counts[first:last].ravel(), begins[first:last].ravel()
            within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            spot = np.repeat(np.arange(first, last), counts[first:last].sum(1))
            yield spot, self._order[np.repeat(begin, count) + within]
            first = last


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *arrays])


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
