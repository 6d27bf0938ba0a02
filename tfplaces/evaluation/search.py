"""Exact nearest-neighbour search over descriptors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Products held at a time: 256 MB of float32.
_MAX_PRODUCTS = 2**26


def similarities(queries: np.ndarray, database: np.ndarray) -> Iterator[np.ndarray]:
    """Streams the cosine of each query with the whole database.

    Args:
        queries: L2-normalised descriptors, float32 `[n, dim]`.
        database: L2-normalised descriptors, float32 `[m, dim]`; may be a memory map.

    Yields:
        for each query in turn float32 `[m]`.
    """
    step = max(1, _MAX_PRODUCTS // max(len(database), 1))
    for start in range(0, len(queries), step):
        yield from queries[start : start + step] @ database.T


def rank(queries: np.ndarray, database: np.ndarray, k: int | None = None) -> Iterator[np.ndarray]:
    """Ranks the database for each query, best first; ties in database order.

    Args:
        queries, database: as for `similarities`.
        k: how many to return; all by default.

    Yields:
        for each query in turn database indices, int64 `[min(k, m)]`.
    """
    for row in similarities(queries, database):
        if k is not None and k < len(row):
            # Everything as good as the k-th, so that ties are broken alike for every k.
            best = np.flatnonzero(row >= np.partition(row, len(row) - k)[len(row) - k])
            yield best[np.argsort(-row[best], kind="stable")][:k]
        else:
            yield np.argsort(-row, kind="stable")
