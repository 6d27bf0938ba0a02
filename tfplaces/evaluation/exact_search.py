"""The nearest database images of each query, exactly, of a database that need not fit into memory."""

from __future__ import annotations

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.evaluation.unit_descriptors import Vectors, check_vectors, checked_lengths

# Numbers of float32 held at a time, of the database as of its products with the queries: 256 MB of each.
_MAX_NUMBERS = 2**26
# Queries for which the database is gone through together.
_MAX_QUERIES = 2**13
# Numbers of float64 held while candidates are judged exactly: 32 MB.
_MAX_EXACT = 2**22


def nearest(queries: Vectors, database: Vectors, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k database images whose cosine with each query is the greatest.

    The cosines are those of the descriptors as float32, computed in float64; of equal ones the first in the database
    comes first. So the result depends neither on the blocks nor on the library that multiplies. The database is read
    block by block: a matrix product in float32 finds all images that may be among the best, by the bound of its error
    (N. Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), and these are judged in float64.

    Besides the queries, less than 1.5 GB of memory is taken, however large the database is.

    Args:
        queries: descriptors, `[n, dim]` of any float type; they need not be of unit length.
        database: the same, `[m, dim]`; may be a memory map, as `np.load(path, mmap_mode="r")` gives it.
        k: how many to find for each query.

    Returns:
        database indices, best first, int64 `[n, min(k, m)]`, and their cosines, float64 of the same shape.

    Raises:
        UserError: they are no descriptors of one length, or some are not finite or zero.
    """
    check_vectors(queries, "queries")
    check_vectors(database, "database")
    if queries.shape[1] != database.shape[1]:
        raise UserError(
            f"descriptors of {queries.shape[1]} numbers for the queries and {database.shape[1]} for the database"
        )
    count = min(k, len(database))
    indices, cosines = np.empty((len(queries), count), np.int64), np.empty((len(queries), count))
    for start in range(0, len(queries), _MAX_QUERIES):
        some = slice(start, start + _MAX_QUERIES)
        indices[some], cosines[some] = _nearest(np.asarray(queries[some], np.float32), database, count, start)
    return indices, cosines


def _nearest(queries: np.ndarray, database: Vectors, k: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    dim = queries.shape[1]
    # Of a float32 product of a vector of unit length and another, over the other's length, which is of float32 too.
    error = 2 * (dim + 8) * 2.0**-24
    ours = checked_lengths(queries, "queries", start=start)
    units = (queries / ours[:, None]).astype(np.float32)
    indices, cosines = np.full((len(queries), k), len(database)), np.full((len(queries), k), -np.inf)
    rows = max(1, _MAX_NUMBERS // max(dim, len(queries)))
    for first in range(0, len(database) if k else 0, rows):
        with np.errstate(over="ignore"):  # of larger float types; found out by the check
            block = np.asarray(database[first : first + rows], np.float32)
        products = units @ block.T
        products /= _lengths(block, first)
        # The exact cosine of the k-th best so far; and, until there are k, that of the k-th best of the block.
        least = cosines[:, -1] - error
        if first < k < len(block):
            least = np.maximum(least, np.partition(products, -k, axis=1)[:, -k] - 2 * error)
        which, candidates = np.nonzero(products >= least[:, None].astype(np.float32))
        bounds = np.searchsorted(which, np.arange(len(queries) + 1))
        for q in np.flatnonzero(np.diff(bounds)):
            found = candidates[bounds[q] : bounds[q + 1]]
            exact = _exact_cosines(queries[q], block, found) / ours[q]
            every = np.concatenate([cosines[q], exact])
            # The sort is stable, and what was found before comes before.
            best = np.argsort(-every, kind="stable")[:k]
            cosines[q], indices[q] = every[best], np.concatenate([indices[q], first + found])[best]
    return indices, cosines


def _lengths(block: np.ndarray, first: int) -> np.ndarray:
    """The lengths of database images in float32, `[rows]`, once all of them are found fit to be compared."""
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("ij,ij->i", block, block)
    # What is not finite leaves its mark on the sum; so do numbers whose squares are beyond float32.
    if np.all((squares > 2.0**-96) & (squares < np.inf)):
        return np.sqrt(squares)
    return checked_lengths(block, "database", start=first).astype(np.float32)


def _exact_cosines(query: np.ndarray, block: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The products in float64 of a query with some rows of a block, over the rows' lengths; equal for equal rows."""
    query = query.astype(np.float64)
    step = max(1, _MAX_EXACT // max(len(query), 1))
    parts = []
    for i in range(0, len(rows), step):
        some = block[rows[i : i + step]].astype(np.float64)
        # Not a matrix product, which may round a row differently where another stands beside it.
        parts.append(np.einsum("ij,j->i", some, query) / np.sqrt(np.einsum("ij,ij->i", some, some)))
    return np.concatenate(parts)
