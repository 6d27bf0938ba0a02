"""Lists of database images, one list for each query, in memory that grows with the lists and not with their square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from tfplaces.common.errors import UserError


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

        Args:
            row_positions: metres, float64 `[rows, d]`.
            value_positions: metres, float64 `[values, d]`.
            radius: the largest distance that is near, metres; a distance that equals it is near.
            beyond: what is this near or nearer does not count, metres; by default nothing is too near.
        """
        from scipy.spatial import cKDTree

        row_positions, value_positions = np.asarray(row_positions, float), np.asarray(value_positions, float)
        if not len(row_positions) or not len(value_positions):
            return cls(np.empty(0), np.zeros(len(row_positions) + 1))
        tree = cKDTree(value_positions)
        lists = []
        for position, near in zip(row_positions, tree.query_ball_point(row_positions, radius), strict=True):
            near = np.sort(np.asarray(near, np.int64))
            if beyond is not None:
                near = near[np.linalg.norm(value_positions[near] - position, axis=1) > beyond]
            lists.append(near)
        return cls(_joined(lists), _offsets([len(near) for near in lists]))

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


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *arrays])


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
