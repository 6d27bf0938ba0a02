"""Average precision of one query, by the rules that data sets prescribe."""

from __future__ import annotations

import numpy as np


def plain_average_precision(ranks: np.ndarray) -> float:
    """Mean of the precision at each hit: (1/P) Σ_j j / (rank_j + 1), j = 1 … P.

    Ranks 0 and 2 give (1/1 + 2/3) / 2 = 0.8333.

    Args:
        ranks: 0-based ranks of all positives, int `[positives]`, ascending, not empty.

    Returns:
        0 to 1.
    """
    return float(np.mean(np.arange(1, len(ranks) + 1) / (np.asarray(ranks) + 1.0)))


def oxford_average_precision(ranks: np.ndarray) -> float:
    """The area under the precision-recall curve by trapezoids, as compute_ap.cpp of Oxford Buildings has it.

    At rank j precision goes from hits before / j (1 at j = 0) to hits / (j + 1). Ranks 0 and 2 give
    ((1 + 1)/2 + (1/2 + 2/3)/2) / 2 = 0.7917.

    Args:
        ranks: 0-based ranks of all positives, int `[positives]`, ascending, not empty; junk removed before counting.

    Returns:
        0 to 1.
    """
    ranks = np.asarray(ranks, np.float64)
    hits = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, hits / np.maximum(ranks, 1))
    return float(np.mean((before + (hits + 1) / (ranks + 1)) / 2))


# A data set names its rule by one of these.
PROTOCOLS = {"plain": plain_average_precision, "oxford": oxford_average_precision}
