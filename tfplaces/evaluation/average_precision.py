"""Average precision and recall of one query, by the rules that data sets prescribe.

A query's positives are given as groups of images of equal score, so that ties are shared fairly: where several images
have one score their order is unknown, and each figure is its expectation over all orders of them, as if the order were
drawn at random. Without ties the figures are the usual ones. See F. McSherry and M. Najork, "Computing information
retrieval performance measures efficiently in the presence of tied scores", ECIR 2008.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Groups:
    """Where the positives of a query stand in its ranked list: the groups of equal score that hold any, best first.

    Attributes:
        before: images ranked before each group, int64 `[groups]`.
        size: images in each group, int64 `[groups]`.
        positives: those of them that are positive, at least one, int64 `[groups]`.
    """

    before: np.ndarray
    size: np.ndarray
    positives: np.ndarray


def group(scores: np.ndarray, positives: np.ndarray, skipped: np.ndarray) -> Groups:
    """Finds the groups of a query's positives in the list of the database, ranked by score, equal scores together.

    Args:
        scores: score of each database image, the higher the better, `[database]`.
        positives: scores of the positives, `[positives]`, not empty.
        skipped: scores of the images that are taken out of the list first, such as junk, none of them positive,
            `[skipped]`.
    """
    values, counts = np.unique(positives, return_counts=True)
    # What is worse than the last positive need not be sorted.
    scores, skipped = (np.sort(some[some >= values[0]]) for some in (scores, skipped))
    below, up_to = (
        np.searchsorted(scores, values, side) - np.searchsorted(skipped, values, side) for side in ("left", "right")
    )
    before = len(scores) - len(skipped) - up_to
    return Groups(before[::-1], (up_to - below)[::-1], counts[::-1])


def plain_precision(hits: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The precision at a positive: (hits + 1) / (rank + 1).

    Positives at ranks 0 and 2 give an average precision of (1/1 + 2/3) / 2 = 0.8333.

    Args:
        hits: positives ranked before it.
        rank: its 0-based rank.
    """
    return (hits + 1) / (rank + 1)


def oxford_precision(hits: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The mean of the precision before and after a positive: the area under the precision-recall curve by trapezoids.

    So compute_ap.cpp of Oxford Buildings has it: at a positive the precision goes from hits / rank (1 at rank 0) to
    (hits + 1) / (rank + 1). Positives at ranks 0 and 2 give ((1 + 1)/2 + (1/2 + 2/3)/2) / 2 = 0.7917.

    Args:
        hits: positives ranked before it.
        rank: its 0-based rank, junk removed before counting.
    """
    return (np.where(rank == 0, 1.0, hits / np.maximum(rank, 1)) + (hits + 1) / (rank + 1)) / 2


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The figures of a data set beside recall.

    Attributes:
        precision: the precision at a positive, from the number of positives ranked before it and its 0-based rank. It
            is linear in the former, on which the sharing of ties relies.
        map_at: the numbers N of which mAP@N is given, see `average_precision`.
        precision_at: the numbers k of which mP@k is given, see `precision_at`.
    """

    precision: Callable[[np.ndarray, np.ndarray], np.ndarray]
    map_at: tuple[int, ...] = ()
    precision_at: tuple[int, ...] = ()


# A data set names its protocol by one of these.
PROTOCOLS: dict[str, Protocol] = {
    "plain": Protocol(plain_precision),
    # Oxford and Paris Buildings: compute_ap.cpp.
    "oxford": Protocol(oxford_precision),
    # Revisited Oxford and Paris: compute_map of its evaluate.py.
    "revisited": Protocol(oxford_precision, precision_at=(1, 5, 10)),
    # Mapillary Street-Level Sequences: evaluate.py of mapillary_sls.
    "msls": Protocol(plain_precision, map_at=(1, 5, 10, 20)),
}


def average_precision(groups: Groups, protocol: str, n: int | None = None) -> float:
    """Average precision of a query, 0 to 1; its expectation over the order of images of equal score.

    In a group of n images, r of them positive, a position holds a positive with probability r / n, and of the
    positions before it in the group (r − 1) / (n − 1) then hold one as well. The precision is linear in the number of
    positives before, so the expected number stands for all orders.

    Args:
        groups: group of each of the query's positives.
        protocol: a key of `PROTOCOLS`.
        n: only the n best are looked at, and the sum over the positives among them is divided by the number of
            positives or by n, whichever is less; all by default. Positives at ranks 0 and 2 of three give AP@2 of
            (1/1) / 2 = 0.5.
    """
    size, positives = groups.size, groups.positives
    hits = np.cumsum(positives) - positives
    # One entry for every position in every group; `place` is its number in the group.
    which = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(which)) - np.repeat(np.cumsum(size) - size, size)
    share = (positives - 1) / np.maximum(size - 1, 1)
    rank = groups.before[which] + place
    precision = PROTOCOLS[protocol].precision(hits[which] + share[which] * place, rank)
    count = int(np.sum(positives))
    if n is not None:
        precision, count = precision * (rank < n), min(n, count)
    return float(np.sum((positives / size)[which] * precision) / count)


def precision_at(groups: Groups, k: int) -> float:
    """The share of positives among the k best; or, where the last positive is ranked before the k-th, among all up to
    it. Its expectation over the order of images of equal score, 0 to 1.

    So evaluate.py of Revisited Oxford and Paris has mP@k: the denominator is min(largest 1-based rank of a positive,
    k). Positives at ranks 0 and 2 (0-based) give P@1 = 1, P@2 = 1/2 and P@5 = 2/3.

    Args:
        groups: group of each of the query's positives.
        k: how many are looked at.
    """
    total = int(np.sum(groups.positives))
    before, size, positives = int(groups.before[-1]), int(groups.size[-1]), int(groups.positives[-1])
    # Of the groups but the last, the expected number of positives among the k best.
    within = np.clip(k - groups.before[:-1], 0, groups.size[:-1])
    earlier = float(np.sum(groups.positives[:-1] * within / groups.size[:-1]))
    # The last positive is the m-th image of the last group, m from `positives` to `size`, with the probability
    # C(m − 1, positives − 1) / C(size, positives), which is found from that of m + 1.
    m = np.arange(size, positives - 1, -1)
    chance = positives / size * np.cumprod(np.concatenate([[1.0], (m[:-1] - positives) / (m[:-1] - 1)]))
    # Where it comes later than the k-th, the others of the group are anywhere among the m − 1 images before it.
    others = (positives - 1) * max(k - before, 0) / np.maximum(m - 1, 1)
    return float(np.sum(chance * np.where(before + m <= k, total / (before + m), (earlier + others) / k)))


def first_rank(groups: Groups) -> float:
    """The 1-based rank of the first positive; its expectation over the order of images of equal score.

    The first of r positives that are drawn among n images is expected at (n + 1) / (r + 1).
    """
    return float(groups.before[0] + (groups.size[0] + 1) / (groups.positives[0] + 1))


def recall(groups: Groups, n: int) -> float:
    """The probability that a positive is among the n best, over the order of images of equal score: 0 or 1 without
    ties.

    Args:
        groups: group of each of the query's positives.
        n: how many are looked at.
    """
    size, positives = int(groups.size[0]), int(groups.positives[0])
    drawn = min(n - int(groups.before[0]), size)
    if drawn <= 0:
        return 0.0
    # All that are drawn from the best group are no positives (hypergeometric distribution).
    drawn_before = np.arange(drawn)
    return 1.0 - float(np.prod(np.maximum(size - positives - drawn_before, 0) / (size - drawn_before)))
