"""Tells which positions and times of photos cannot be right, by those of the other photos."""

from __future__ import annotations

import collections
import itertools

import numpy as np

# A photo with no other within this distance is far away, metres.
FAR = 2000.0
# If more photos than this part stand out, the data set is like that.
_FEW = 0.1


def regions(positions: np.ndarray) -> np.ndarray:
    """The region that each position is in, numbered from 0 by the number of positions, the largest first; int64 `[n]`.

    Regions are at least `FAR` metres apart. Memory grows with the number of positions.

    Args:
        positions: metres, float64 `[n, d]`.
    """
    cells, of_position = np.unique(np.floor(positions / FAR).astype(np.int64), axis=0, return_inverse=True)
    numbers = {tuple(cell): k for k, cell in enumerate(cells.tolist())}
    steps = list(itertools.product((-1, 0, 1), repeat=positions.shape[1]))
    region = np.full(len(cells), -1, np.int64)
    for first, cell in enumerate(numbers):
        if region[first] >= 0:
            continue
        region[first] = first
        waiting = collections.deque([cell])
        while waiting:
            here = waiting.popleft()
            for step in steps:
                there = tuple(a + b for a, b in zip(here, step, strict=True))
                k = numbers.get(there)
                if k is not None and region[k] < 0:
                    region[k] = first
                    waiting.append(there)
    _, each, counts = np.unique(region[of_position.ravel()], return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return rank[each.ravel()]


def far_away(region: np.ndarray) -> np.ndarray:
    """The photos that are alone, or almost, in their region, int64 `[k]`; none where many are.

    Args:
        region: as `regions` gives it, int64 `[n]`.
    """
    counts = np.bincount(region)
    lone = (counts <= max(2, len(region) // 1000)) & (2 * counts <= counts[0])
    found = np.flatnonzero(lone[region])
    return found if len(found) <= max(1, _FEW * len(region)) else found[:0]


def changes_zone(positions: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The photos that lie where those of the largest region would lie in the next zone of UTM, int64 `[k]`.

    At the edge of a zone the easting jumps from one side of 500 km to the other, by 300 to 700 km within 75 degrees of
    latitude from the equator, while the northing stays.

    Args:
        positions: eastings and northings in metres, `[n, 2]`.
        region: as `regions` gives it, int64 `[n]`.
    """
    centre = np.median(positions[region == 0], axis=0)
    across = np.abs(positions[:, 0] + centre[0] - 1e6) < 50_000
    jump = np.abs(positions[:, 0] - centre[0]) > 150_000
    return np.flatnonzero(across & jump & (np.abs(positions[:, 1] - centre[1]) < 50_000) & (region > 0))


def out_of_order(positions: np.ndarray) -> np.ndarray:
    """The photos, in the order of a drive, that lie aside from the way between the one before and the one after.

    A photo does if it is more than three usual steps from both while those are at most half as far from each other.
    Nothing is found if the order is not that of a drive, in which steps are short.

    Args:
        positions: metres, float64 `[n, d]`.

    Returns:
        Of each such place the first photo, int64 `[k]`.
    """
    if len(positions) < 9:
        return np.empty(0, np.int64)
    # The cut-outs of a panorama have one position.
    moved = np.append(True, (np.diff(positions, axis=0) != 0).any(1))
    first = np.flatnonzero(moved)
    way = positions[first]
    steps = np.linalg.norm(np.diff(way, axis=0), axis=1)
    if len(steps) < 8:
        return first[:0]
    # In any other order a step is as long as the way between photos that stand far from each other in the list; of two
    # or three rounds of one circuit one of the two is long.
    shifted = (way[len(way) // k :] - way[: -(len(way) // k)] for k in (2, 3))
    apart = max(float(np.median(np.linalg.norm(far, axis=1))) for far in shifted)
    if 2.5 * np.median(steps) > apart:
        return first[:0]
    shortcut = np.linalg.norm(way[2:] - way[:-2], axis=1)
    aside = (np.minimum(steps[:-1], steps[1:]) > 3 * np.median(steps)) & (
        2 * shortcut <= np.minimum(steps[:-1], steps[1:])
    )
    found = first[1:-1][aside]
    return found if len(found) <= max(4, len(way) // 50) else found[:0]


def backwards(times: np.ndarray, sequences: np.ndarray | None) -> np.ndarray:
    """The photos that were taken before the one before them, int64 `[k]`; none if their order is not that of time.

    Args:
        times: anything that compares, `[n]`.
        sequences: the sequence of each, `[n]`; photos of several are not compared.
    """
    within = np.ones(max(0, len(times) - 1), bool)
    if sequences is not None:
        within = sequences[1:] == sequences[:-1]
    later, earlier = (times[1:] > times[:-1]) & within, (times[1:] < times[:-1]) & within
    return np.flatnonzero(earlier) + 1 if 4 * earlier.sum() <= later.sum() else np.empty(0, np.int64)
