"""Lists of what is near, against comparing everything with everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.datasets.index_lists import IndexLists


def brute(rows: np.ndarray, values: np.ndarray, radius: float, beyond: float | None = None) -> list[list[int]]:
    distances = ((rows[:, None] - values[None]) ** 2).sum(2)
    near = distances <= radius**2
    if beyond is not None:
        near &= distances > beyond**2
    return [np.flatnonzero(row).tolist() for row in near]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
    st.integers(0, 40),
    st.integers(0, 60),
    st.sampled_from([0.0, 1.0, 3.0, 25.0, 1e7]),
    st.sampled_from([None, 1.0]),
    st.sampled_from([0.0, 5e6]),
)
@example(0, 2, 5, 5, 1.0, None, 5e6)
def test_within_is_what_comparing_all_pairs_gives(seed, dimensions, rows, values, radius, beyond, offset) -> None:
    """Whole metres, so that many distances equal the radius exactly, and many positions are the same."""
    rng = np.random.default_rng(seed)
    first = rng.integers(-9, 10, (rows, dimensions)) + offset
    second = rng.integers(-6, 7, (values, dimensions)) + offset
    found = IndexLists.within(first, second, radius, beyond)
    assert [row.tolist() for row in found] == brute(first, second, radius, beyond)


def test_rows_of_one_position_share_a_list() -> None:
    rows = np.repeat(np.arange(5.0)[:, None], 12, axis=0)
    found = IndexLists.within(rows, np.arange(5.0)[:, None], 1)
    assert len(found) == 60 and len(found.values) == 3 * 5 - 2
    assert found[59].tolist() == [3, 4]


def test_far_outliers_do_no_harm() -> None:
    """A position on the other side of the world, and one of 1e15 metres, make cells wider, not wrong."""
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.uniform(0, 1000, (500, 3)), [[1e15, -1e15, 0], [-2e7, 2e7, 0]]])
    rows = np.concatenate([values[::7], [[-1e15, 0, 0]]])
    found = IndexLists.within(rows, values, 25)
    assert [row.tolist() for row in found] == brute(rows, values, 25)


def test_blocks_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfplaces.datasets.index_lists._BLOCK", 7)
    rng = np.random.default_rng(2)
    rows, values = rng.uniform(0, 100, (50, 2)), rng.uniform(0, 100, (200, 2))
    assert [row.tolist() for row in IndexLists.within(rows, values, 10)] == brute(rows, values, 10)


def test_a_radius_that_joins_everything_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfplaces.datasets.index_lists._MAX_ENTRIES", 99)
    points = np.arange(10.0)[:, None]
    with pytest.raises(UserError, match="within a radius of 10 there are more than 99 pairs"):
        IndexLists.within(points, points, 10)
    assert IndexLists.within(points, points, 8).lengths.sum() == 98


def test_what_is_no_distance_is_refused() -> None:
    points = np.zeros((2, 2))
    for radius in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="radius"):
            IndexLists.within(points, points, radius)
    with pytest.raises(UserError, match="finite"):
        IndexLists.within(points, points * np.nan, 1)


def test_keep() -> None:
    """Rows that share a list may keep different parts of it."""
    lists = IndexLists(np.array([0, 2, 5, 1]), np.array([0, 3, 4, 4]), np.array([1, 0, 2, 0]))
    kept = lists.keep(lambda row, value: (value + row) % 2 == 1)
    assert [row.tolist() for row in kept] == [[1], [0, 2], [], [0, 2]]
    assert [row.tolist() for row in lists.keep(lambda row, value: row == value + 1)] == [[], [0], [], [2]]
