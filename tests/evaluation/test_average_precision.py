"""Average precision against a walk down the ranked list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.evaluation.average_precision import PROTOCOLS, oxford_average_precision, plain_average_precision

ranks = st.sets(st.integers(0, 60), min_size=1, max_size=20).map(sorted)


def compute_ap(ranks: list[int]) -> float:
    """The loop of Oxford's compute_ap.cpp over a ranked list."""
    old_recall, old_precision, ap, hits = 0.0, 1.0, 0.0, 0
    for j in range(max(ranks) + 1):
        hits += j in ranks
        recall, precision = hits / len(ranks), hits / (j + 1)
        ap += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return ap


@given(ranks)
def test_oxford_equals_compute_ap(ranks: list[int]) -> None:
    assert oxford_average_precision(np.array(ranks)) == pytest.approx(compute_ap(ranks))


@given(ranks)
def test_plain_equals_the_precision_at_each_hit(ranks: list[int]) -> None:
    precisions = [sum(r <= rank for r in ranks) / (rank + 1) for rank in ranks]
    assert plain_average_precision(np.array(ranks)) == pytest.approx(sum(precisions) / len(precisions))


@pytest.mark.parametrize(
    ("ranks", "plain", "oxford"),
    [
        ([0], 1, 1),
        ([0, 1, 2], 1, 1),
        ([1], 1 / 2, 1 / 4),  # precision goes from 0 at rank 0 to 1/2
        ([0, 2], (1 + 2 / 3) / 2, (1 + (1 / 2 + 2 / 3) / 2) / 2),
        ([3], 1 / 4, 1 / 8),
    ],
)
def test_worked_values(ranks: list[int], plain: float, oxford: float) -> None:
    assert PROTOCOLS["plain"](np.array(ranks)) == pytest.approx(plain)
    assert PROTOCOLS["oxford"](np.array(ranks)) == pytest.approx(oxford)
