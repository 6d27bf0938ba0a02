"""Which queries a page shows: misses first, with where their matches were taken."""

from __future__ import annotations

import numpy as np
import pytest

from tfplaces.datasets import Images, PlaceDataset
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.workflows.shown_queries import shown_queries

COUNT = 40


class Plain(Images):
    names = tuple(f"{k}.jpg" for k in range(COUNT))

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return np.full((*size, 3), index, np.uint8)


def found_but(missed: list[int], **truth) -> tuple:
    """Each query is nearest to the database image of its number, but for some, which are nearest to the next one."""
    dataset = PlaceDataset("mine", Plain(), Plain(), GroundTruth(IndexLists.of([[k] for k in range(COUNT)]), **truth))
    rows = np.eye(COUNT, dtype=np.float32)
    queries = np.stack([rows[(k + 1) % COUNT] + 0.5 * rows[k] if k in missed else rows[k] for k in range(COUNT)])
    return shown_queries(dataset, queries, rows)


@pytest.mark.parametrize("missed", [[], [3], [7, 30, 31], list(range(1, 20))])
def test_misses_come_first(missed: list[int]) -> None:
    retrievals, counts = found_but(missed)
    assert counts == (len(missed), COUNT) and len(retrievals) == 8
    wrong = [int(one.query_name[:-4]) in missed for one in retrievals]
    assert wrong == sorted(wrong, reverse=True) and sum(wrong) == min(len(missed), 6)
    for one, is_wrong in zip(retrievals, wrong, strict=True):
        assert one.correct == ([False, True, False, False, False] if is_wrong else [True] + [False] * 4)
        assert one.first_rank == 1 + is_wrong and one.map is None and len(one.matches) == 5


def test_where_matches_were_taken() -> None:
    """Along a street to the east, 100 m apart, in metres; and on the globe, at 0° north and 90° east, to the north."""
    street = np.stack([100.0 * np.arange(COUNT), np.zeros(COUNT)], axis=1)
    retrievals, _ = found_but([5], query_positions=street, database_positions=street, radius=25.0)
    found = retrievals[0].map
    assert found is not None and found.radius == 25
    assert found.metres[:2].tolist() == [100, 0] and found.positions[:2].tolist() == [[100, 0], [0, 0]]
    angles = np.arange(COUNT) * 100 / 6_378_137
    globe = 6_378_137 * np.stack([np.zeros(COUNT), np.cos(angles), np.sin(angles)], axis=1)
    retrievals, _ = found_but([5], query_positions=globe, database_positions=globe, radius=25.0)
    assert retrievals[0].map is not None
    np.testing.assert_allclose(retrievals[0].map.positions[:2], [[0, 100], [0, 0]], atol=0.01)
