"""Consecutive frames vote for a place, where an index has its places in the order of a drive or a walk."""

from __future__ import annotations

import numpy as np

# How many rows a frame may be further than the one before: standing still, the index's own pace, twice that.
STEPS = (0, 1, 2)


def sequence_scores(scores: np.ndarray, frames: int, groups: np.ndarray | None = None) -> np.ndarray:
    """The mean score of the best way that ends at each place, over the last frames.

    A way is a row of the index for each frame, 0, 1 or 2 rows further than that of the frame before, and it stays
    within a group. It is found by dynamic programming (as in M. Milford and G. Wyeth, SeqSLAM, 2012, where the ways are
    straight lines). Where places do not follow each other as the frames do, it finds less than single frames do.

    Args:
        scores: of each frame, in the order taken, with the places in the order of their rows, floats `[n, places]`.
        frames: how many frames vote together, the one itself and those before it; the first ones have fewer. 1 changes
            nothing.
        groups: the group of each place, int64 `[places]`; ways do not lead from one to another. None where all are one.

    Returns:
        float32 `[n, places]`. A place that no way of so many frames can lead to, as the first rows, has the frames that
        it lacks count as the worst score of all places.

    Raises:
        ValueError: frames is below 1.
    """
    if frames < 1:
        raise ValueError(f"{frames} frames")
    found = np.empty(scores.shape, np.float32)
    for last in range(len(scores)):
        first = max(0, last + 1 - frames)
        ways = scores[first].astype(np.float32)
        for frame in range(first + 1, last + 1):
            ways = _further(ways, groups) + scores[frame]
        found[last] = ways / (last + 1 - first)
    return found


def _further(ways: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """The best way to each row that was 0, 1 or 2 rows before."""
    best = np.full_like(ways, ways.min(initial=np.inf))
    for step in STEPS:
        there, before = slice(step, len(ways)), slice(0, max(0, len(ways) - step))
        reached = ways[before]
        if groups is not None:
            reached = np.where(groups[there] == groups[before], reached, -np.inf)
        np.maximum(best[there], reached, out=best[there])
    return best
