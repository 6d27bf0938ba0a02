"""Exact search against a full sort, over descriptors at right angles or of whole numbers, whose products are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfplaces.evaluation import search as retrieval

RNG = np.random.default_rng(0)
# Of length 1 to the last bit (0, ±1, ±3/5, ±4/5 are not exact, but ±1/2 four times is): many products are tied.
DATABASE = RNG.choice([-0.5, 0.5], (40, 4)).astype(np.float32)
QUERIES = RNG.choice([-0.5, 0.5], (13, 4)).astype(np.float32)


class Counted:
    """Descriptors that note how many are asked for at a time."""

    def __init__(self, vectors: np.ndarray):
        self.vectors, self.chunks = vectors, []
        self.shape, self.dtype = vectors.shape, vectors.dtype

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.chunks.append(len(self.vectors[rows]))
        return self.vectors[rows]


@pytest.mark.parametrize("k", [1, 2, 7, 39, 40, 100, None])
def test_rank_is_the_beginning_of_a_full_sort(k: int | None) -> None:
    """Best first and ties in database order: sorted by (−product, index)."""
    for query, order in zip(QUERIES, retrieval.rank(QUERIES, DATABASE, k), strict=True):
        products = [float(query @ row) for row in DATABASE]
        assert len(set(products)) < len(products)
        expected = sorted(range(len(DATABASE)), key=lambda i: (-products[i], i))[:k]
        assert order.tolist() == expected
        assert order.dtype == np.int64


@pytest.mark.parametrize(("limit", "chunks"), [(2**26, [13]), (100, [2] * 6 + [1]), (3, [1] * 13)])
def test_products_are_made_in_chunks(limit: int, chunks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """100 products are two queries with 40 images each; never less than one query. All are checked at once before."""
    monkeypatch.setattr(retrieval, "_MAX_PRODUCTS", limit)
    queries = Counted(QUERIES)
    rows = list(retrieval.similarities(queries, DATABASE))
    assert queries.chunks == [13, *chunks]
    np.testing.assert_array_equal(rows, QUERIES @ DATABASE.T)


def test_the_database_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a memory map, 12 numbers of dimension 4 are three images at a time; the products are the same."""
    np.save(tmp_path / "database.npy", 3 * DATABASE)
    monkeypatch.setattr(retrieval, "_MAX_NUMBERS", 12)
    database = Counted(np.load(tmp_path / "database.npy", mmap_mode="r"))
    rows = list(retrieval.similarities(QUERIES, database))
    assert database.chunks[1:] == [3] * 13 + [1]
    np.testing.assert_allclose(rows, QUERIES @ DATABASE.T, atol=1e-6)


def test_is_lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_MAX_PRODUCTS", 40)
    queries = Counted(QUERIES)
    next(retrieval.rank(queries, DATABASE, 5))
    assert queries.chunks == [13, 1]


def test_nothing_to_search() -> None:
    assert list(retrieval.rank(QUERIES[:0], DATABASE)) == []
    assert [len(order) for order in retrieval.rank(QUERIES, DATABASE[:0], 5)] == [0] * 13


def test_lengths_do_not_count() -> None:
    """Cosines: what is ten times as long is no nearer."""
    vectors = RNG.normal(size=(30, 5)) * RNG.uniform(0.01, 100, (30, 1))
    cosines = np.array(list(retrieval.similarities(vectors[:7], vectors)))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(cosines, units[:7] @ units.T, atol=1e-6)


def test_equal_images_are_equally_near_wherever_they_stand() -> None:
    """A matrix product may round the same row differently at its edges; equal descriptors are given equal cosines."""
    vectors = RNG.normal(size=(50, 77)).astype(np.float32)
    vectors = np.concatenate([vectors, vectors[::-1], vectors[:7]])
    for row in retrieval.similarities(vectors[:9], vectors):
        np.testing.assert_array_equal(row[:50], row[50:100][::-1])
        np.testing.assert_array_equal(row[:7], row[100:])


def test_descriptors_of_different_lengths_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"^descriptors of 3 numbers for the queries and 4 for the database$"):
        retrieval.similarities(QUERIES[:, :3], DATABASE)
