"""How sure figures are that are means over queries, and the difference of two models' figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Resamples drawn, and how many numbers of them are held at a time.
_RESAMPLES = 10_000
_MAX_DRAWN = 2**22


def mean_intervals(
    values: np.ndarray, clusters: np.ndarray | None = None, level: float = 0.95, seed: int = 0
) -> np.ndarray | None:
    """The intervals of means over queries, by a bootstrap over the queries or over clusters of them.

    The queries are drawn anew, with replacement, 10,000 times, and each interval is between the percentiles of the
    means (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13). Queries that are not independent, as
    neighbouring frames of a drive, are drawn a whole cluster at a time; the mean is then that of all queries drawn.
    For two models, the differences of their values make it paired.

    Args:
        values: of each query several figures, floats `[queries, figures]`.
        clusters: the label of each query's cluster, `[queries]`; by default each query is one.
        level: the share of draws within the interval, above 0 and below 1.
        seed: gives the draws.

    Returns:
        the lower and the upper bound of the mean of each figure, float64 `[figures, 2]`; None where there are fewer
        than two queries, or clusters, to draw from.
    """
    values = np.asarray(values, np.float64)
    if clusters is None:
        sums, sizes = values, np.ones(len(values))
    else:
        _, cluster = np.unique(clusters, return_inverse=True)
        sizes = np.bincount(cluster).astype(np.float64)
        sums = np.stack([np.bincount(cluster, column) for column in values.T], axis=1)
    count = len(sums)
    if count < 2:
        return None
    rng = np.random.default_rng(seed)
    at_once = max(1, _MAX_DRAWN // count)
    means = []
    for done in range(0, _RESAMPLES, at_once):
        rows = min(at_once, _RESAMPLES - done)
        drawn = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        means.append((times @ sums) / (times @ sizes)[:, None])
    return np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2], axis=0).T


def drop_interval(base: np.ndarray, other: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The interval of the drop in mAP from one model to another by a paired bootstrap over the queries.

    The queries are drawn anew, with replacement, 10,000 times; both models are scored on the same draw, so that what
    makes a query hard for both does not count. The interval is between the percentiles of the drops (Efron and
    Tibshirani, An Introduction to the Bootstrap, chapter 13). It tells of the choice of queries alone, not of the
    chance in training.

    Args:
        base: the average precision of each query under the model to compare with, `[queries]`.
        other: the same queries' under the other model, in the same order and units.
        level: the share of draws within the interval, above 0 and below 1.
        seed: gives the draws.

    Returns:
        the lower and the upper bound of mean(base) − mean(other), in the units of the average precisions.

    Raises:
        ValueError: the two are not of the same queries, or there are none.
    """
    return mean_drop_interval([base], [other], level, seed)


def mean_drop_interval(
    bases: Sequence[np.ndarray], others: Sequence[np.ndarray], level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The interval of the drop in the mean mAP of several data sets: `drop_interval`, drawing from each apart.

    Args:
        bases: for each data set, the average precision of each query under the model to compare with, `[queries]`.
        others: the same under the other model.
        level, seed: see `drop_interval`.

    Returns:
        the lower and the upper bound, in the units of the average precisions.

    Raises:
        ValueError: two are not of the same queries, or there are none.
    """
    rng = np.random.default_rng(seed)
    drops = np.mean([_drawn(b, o, rng) for b, o in zip(bases, others, strict=True)], axis=0)
    low, high = np.quantile(drops, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _drawn(base: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The drops in mAP of draws of the queries, `[10000]`."""
    base, other = np.asarray(base, np.float64), np.asarray(other, np.float64)
    if base.ndim != 1 or base.shape != other.shape or not len(base):
        raise ValueError(f"average precisions of shapes {base.shape} and {other.shape}: not of the same queries")
    differences = base - other
    at_once = max(1, _MAX_DRAWN // len(differences))
    return np.concatenate(
        [
            differences[rng.integers(0, len(differences), (min(at_once, _RESAMPLES - done), len(differences)))].mean(1)
            for done in range(0, _RESAMPLES, at_once)
        ]
    )
