"""Exact search against a full sort; whole numbers as descriptors, so that products are exact and ties are ties."""

import numpy as np
import pytest

from tfplaces.evaluation import search as retrieval

RNG = np.random.default_rng(0)
QUERIES = RNG.integers(-2, 3, (13, 3)).astype(np.float32)
DATABASE = RNG.integers(-2, 3, (40, 3)).astype(np.float32)


class Counted:
    """Descriptors that note how many are asked for at a time."""

    def __init__(self, vectors: np.ndarray):
        self.vectors, self.chunks = vectors, []

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
    """100 products are two queries with 40 images each; never less than one query."""
    monkeypatch.setattr(retrieval, "_MAX_PRODUCTS", limit)
    queries = Counted(QUERIES)
    rows = list(retrieval.similarities(queries, DATABASE))
    assert queries.chunks == chunks
    np.testing.assert_array_equal(rows, QUERIES @ DATABASE.T)


def test_is_lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_MAX_PRODUCTS", 40)
    queries = Counted(QUERIES)
    next(retrieval.rank(queries, DATABASE, 5))
    assert queries.chunks == [1]


def test_nothing_to_search() -> None:
    assert list(retrieval.rank(QUERIES[:0], DATABASE)) == []
    assert [len(order) for order in retrieval.rank(QUERIES, DATABASE[:0], 5)] == [0] * 13
