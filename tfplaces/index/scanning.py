"""The best places of each query, over codes that come in blocks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tfplaces.index.codecs import Codec


def best_matches(
    codec: Codec, queries: np.ndarray, blocks: Iterable[tuple[int, np.ndarray]], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The places whose codes are most similar to each query; of equal ones the first row comes first.

    Args:
        codec: of the codes.
        queries: descriptors of unit length, float32 `[q, dimensions]`.
        blocks: the row of a block's first place, and its codes, uint8 `[n, code_bytes]`; in the order of their rows.
        count: how many to find for each query.

    Returns:
        rows, best first, int64 `[q, min(count, places)]`, and their cosines or estimates of them, float32 alike.
    """
    rows = [np.empty(0, np.int64)] * len(queries)
    scores = [np.empty(0, np.float32)] * len(queries)
    for first, codes in blocks:
        for query, found in enumerate(codec.scan(queries, codes)):
            candidates = _best(found, count, scores[query])
            every = np.concatenate([scores[query], found[candidates]])
            # Stable, and what came before comes first.
            best = np.argsort(-every, kind="stable")[:count]
            rows[query], scores[query] = np.concatenate([rows[query], first + candidates])[best], every[best]
    if not len(queries):
        return np.empty((0, 0), np.int64), np.empty((0, 0), np.float32)
    return np.stack(rows), np.stack(scores)


def _best(found: np.ndarray, count: int, before: np.ndarray) -> np.ndarray:
    """Indices of the scores of a block, ascending, among which are all that may be among the best with those before."""
    if len(before) == count:
        return np.flatnonzero(found > before[-1])  # what is equal to the last comes behind it
    if len(found) <= count:
        return np.arange(len(found))
    return np.flatnonzero(found >= np.partition(found, -count)[-count])
