"""Exact nearest-neighbour search over descriptors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.evaluation.unit_descriptors import UnitDescriptors, Vectors

# Products held at a time: 256 MB of float32.
_MAX_PRODUCTS = 2**26
# Numbers of the database held at a time, where it is not in memory or has to be brought to unit length: 256 MB.
_MAX_NUMBERS = 2**26


def similarities(queries: Vectors | UnitDescriptors, database: Vectors | UnitDescriptors) -> Iterator[np.ndarray]:
    """Streams the cosine of each query with the whole database.

    Descriptors that are not of unit length are brought to it. Database images whose descriptors are equal in every bit
    have equal cosines, which a matrix product alone does not promise.

    Args:
        queries: descriptors, `[n, dim]` of any float type.
        database: descriptors, `[m, dim]` of any float type; may be a memory map.

    Returns:
        an iterator that gives for each query in turn float32 `[m]`.

    Raises:
        UserError: they are no descriptors of one length, or some are not finite or zero.
    """
    queries = queries if isinstance(queries, UnitDescriptors) else UnitDescriptors(queries, "queries")
    database = database if isinstance(database, UnitDescriptors) else UnitDescriptors(database, "database")
    if queries.dim != database.dim:
        raise UserError(f"descriptors of {queries.dim} numbers for the queries and {database.dim} for the database")
    return _products(queries, database)


def _products(queries: UnitDescriptors, database: UnitDescriptors) -> Iterator[np.ndarray]:
    step = max(1, _MAX_PRODUCTS // max(len(database), 1))
    rows = max(1, _MAX_NUMBERS // max(database.dim, 1))
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        found = np.empty((len(some), len(database)), np.float32)
        for first in range(0, len(database), rows):
            np.matmul(some, database[first : first + rows].T, out=found[:, first : first + rows])
        yield from found if database.first_equal is None else found[:, database.first_equal]


def rank(
    queries: Vectors | UnitDescriptors, database: Vectors | UnitDescriptors, k: int | None = None
) -> Iterator[np.ndarray]:
    """Ranks the database for each query, best first; ties in database order.

    Args:
        queries, database: descriptors, as for `similarities`.
        k: how many to return; all by default.

    Returns:
        an iterator that gives for each query in turn database indices, int64 `[min(k, m)]`.

    Raises:
        UserError: as for `similarities`.
    """
    return (_best(row, k) for row in similarities(queries, database))


def _best(row: np.ndarray, k: int | None) -> np.ndarray:
    if k is None or k >= len(row):
        return np.argsort(-row, kind="stable")
    # Everything as good as the k-th, so that ties are broken alike for every k.
    best = np.flatnonzero(row >= np.partition(row, len(row) - k)[len(row) - k])
    return best[np.argsort(-row[best], kind="stable")][:k]
