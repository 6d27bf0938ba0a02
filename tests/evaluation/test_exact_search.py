"""Search by blocks against a full sort of float64 cosines."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.evaluation.exact_search import nearest

MODULE = sys.modules["tfplaces.evaluation.exact_search"]


def brute_force(queries: np.ndarray, database: np.ndarray, k: int) -> tuple[list[list[int]], list[list[float]]]:
    """All cosines by plain sums in float64, sorted by (−cosine, index)."""
    indices, cosines = [], []
    for query in queries.astype(np.float32).astype(np.float64):
        rows = database.astype(np.float32).astype(np.float64)
        row = [np.sum(query * other) / np.sqrt(np.sum(query**2) * np.sum(other**2)) for other in rows]
        # To eleven digits, as sums in another order may differ in the last bits, which must not tell equal rows apart.
        order = sorted(range(len(row)), key=lambda i: (-round(row[i], 11), i))[:k]
        indices.append(order)
        cosines.append([row[i] for i in order])
    return indices, cosines


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(0, 60),
    k=st.integers(0, 70),
    numbers=st.sampled_from([1, 30, 100, 2**26]),
    kind=st.sampled_from(["float16", "float32", "few directions", "one direction", "nearly one direction"]),
)
def test_it_is_the_beginning_of_a_full_sort(seed: int, size: int, k: int, numbers: int, kind: str) -> None:
    """Whatever the blocks; with many equal descriptors, and with such as differ by less than float32's products."""
    rng = np.random.default_rng(seed)
    database = rng.normal(size=(size, 6))
    if kind == "few directions":
        database = rng.choice([-1.0, 1.0, 2.0], (size, 6))
    elif "one direction" in kind:
        database = np.ones((size, 6)) + rng.normal(size=(size, 6)) * (1e-6 if "nearly" in kind else 0)
    database = database.astype("float16" if kind == "float16" else "float32")
    queries = np.concatenate([rng.normal(size=(4, 6)), database[:3].astype(float)]).astype(np.float32)
    with mock.patch.object(MODULE, "_MAX_NUMBERS", numbers), mock.patch.object(MODULE, "_MAX_QUERIES", 3):
        indices, cosines = nearest(queries, database, k)
    expected = brute_force(queries, database, k)
    assert all(len(set(row)) == len(row) for row in indices.tolist())
    assert indices.dtype == np.int64 and indices.shape == cosines.shape == (len(queries), min(k, size))
    np.testing.assert_allclose(cosines, np.reshape(expected[1], cosines.shape), atol=1e-12)
    if kind != "nearly one direction":  # its cosines are told apart by the digits that brute force rounds off
        assert indices.tolist() == expected[0]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_memory_map_is_read_in_blocks(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    database = rng.normal(size=(500, 33)).astype(dtype)
    np.save(tmp_path / "database.npy", database)
    mapped = np.load(tmp_path / "database.npy", mmap_mode="r")
    queries = rng.normal(size=(20, 33))
    with mock.patch.object(MODULE, "_MAX_NUMBERS", 33 * 64):
        found = nearest(queries, mapped, 7)
    for ours, theirs in zip(found, nearest(queries, database, 7), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found[0].tolist() == brute_force(queries, database, 7)[0]


def test_lengths_beyond_the_squares_of_float32() -> None:
    """Cosines do not depend on lengths, even where their squares are infinite or zero in float32."""
    rng = np.random.default_rng(0)
    database = rng.normal(size=(30, 5)).astype(np.float32)
    scaled = database * np.float32(10.0) ** rng.choice([-25, 0, 25], (30, 1)).astype(np.float32)
    queries = rng.normal(size=(3, 5))
    np.testing.assert_array_equal(nearest(queries, scaled, 30)[0], nearest(queries, database, 30)[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("where", ["queries", "database"])
def test_what_cannot_be_compared_is_refused(value: float, where: str) -> None:
    both = {"queries": np.ones((12, 3)), "database": np.ones((40, 3))}
    both[where][11] = value
    with (
        mock.patch.object(MODULE, "_MAX_NUMBERS", 24),
        pytest.raises(UserError, match=rf"^{where}: the descriptor of 11 is (not finite|zero)"),
    ):
        nearest(both["queries"], both["database"], 5)


def test_other_lengths_and_kinds_are_refused() -> None:
    with pytest.raises(UserError, match="descriptors of 3 numbers for the queries and 4 for the database"):
        nearest(np.ones((2, 3)), np.ones((2, 4)), 1)
    with pytest.raises(UserError, match="database: descriptors of type int64"):
        nearest(np.ones((2, 3)), np.ones((2, 3), np.int64), 1)
