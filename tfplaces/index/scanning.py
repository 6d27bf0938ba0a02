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
    rows, scores = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for first, codes in blocks:
        numbers = np.broadcast_to(np.arange(first, first + len(codes)), (len(queries), len(codes)))
        rows = np.concatenate([rows, numbers], axis=1)
        scores = np.concatenate([scores, codec.scan(queries, codes)], axis=1)
        # Stable, and what came before comes first.
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        rows, scores = np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)
    return rows, scores
