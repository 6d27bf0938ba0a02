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
        scores: score of each database image, the higher the better, `[database]`, sorted ascending.
        positives: scores of the positives, `[positives]`, not empty.
        skipped: scores of the images that are taken out of the list first, such as junk, none of them positive,
            `[skipped]`.
    """
    values, counts = np.unique(positives, return_counts=True)
    skipped = np.sort(skipped)
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


# A data set names its rule by one of these. Each is linear in `hits`, on which the sharing of ties relies.
PROTOCOLS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": plain_precision,
    "oxford": oxford_precision,
}


def average_precision(groups: Groups, protocol: str) -> float:
    """Average precision of a query, 0 to 1; its expectation over the order of images of equal score.

    In a group of n images, r of them positive, a position holds a positive with probability r / n, and of the
    positions before it in the group (r − 1) / (n − 1) then hold one as well. The precision is linear in the number of
    positives before, so the expected number stands for all orders.

    Args:
        groups: group of each of the query's positives.
        protocol: a key of `PROTOCOLS`.
    """
    n, r = groups.size, groups.positives
    hits = np.cumsum(r) - r
    # One entry for every position in every group; `place` is its number in the group.
    which = np.repeat(np.arange(len(n)), n)
    place = np.arange(len(which)) - np.repeat(np.cumsum(n) - n, n)
    share = (r - 1) / np.maximum(n - 1, 1)
    precision = PROTOCOLS[protocol](hits[which] + share[which] * place, groups.before[which] + place)
    return float(np.sum((r / n)[which] * precision) / np.sum(r))


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
