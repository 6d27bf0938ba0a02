"""Evaluation with describers whose every similarity is known."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from tfplaces.datasets import Images, PlaceDataset
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.describers import describe_images
from tfplaces.evaluation import evaluate, score


class Plain(Images):
    """Image i is filled with first + i."""

    def __init__(self, count: int, first: int):
        self.names = [str(i) for i in range(count)]
        self.first = first

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return np.full((*size, 3), self.first + index, np.uint8)


class Table:
    """Describes an image by the row of a table that its pixels number."""

    input_size = (4, 6)

    def __init__(self, rows: np.ndarray):
        self.rows = np.asarray(rows, np.float32)
        self.descriptor_dim = self.rows.shape[1]

    def describe(self, images: np.ndarray) -> np.ndarray:
        assert images.shape[1:] == (4, 6, 3)
        assert images.dtype == np.uint8
        return self.rows[images[:, 0, 0, 0]]


def data_set(database: int, positives: list[list[int]], protocol: str = "plain") -> PlaceDataset:
    """Database images are numbered from 0, queries from 100."""
    rows = [np.array(row, np.int64) for row in positives]
    return PlaceDataset("mine", Plain(database, 0), Plain(len(rows), 100), rows, protocol=protocol)


def describer(database: np.ndarray, queries: np.ndarray) -> Table:
    rows = np.zeros((100 + len(queries), np.shape(database)[1]))
    rows[: len(database)], rows[100:] = database, queries
    return Table(rows)


# Four database images at right angles: a query's components are its similarities. Ranked 0 1 3 2, and 1 2 0 3.
QUERIES = [[0.8, 0.5, 0.1, 0.3], [0.3, 0.7, 0.6, 0.1], [0, 0, 0, 1]]
UNIT_QUERIES = [list(q / np.linalg.norm(q)) for q in np.array(QUERIES)]


PERFECT = {1: 100, 5: 100, 10: 100, 20: 100, 100: 100}


@pytest.mark.parametrize("protocol", ["plain", "oxford"])
def test_perfect(protocol: str) -> None:
    """Each query has the descriptor of its only positive."""
    result = evaluate(describer(np.eye(50), np.eye(50)), data_set(50, [[i] for i in range(50)], protocol))
    assert result.map == 100
    assert result.recall == PERFECT
    assert (result.queries, result.database, result.skipped_queries) == (50, 50, 0)
    assert result.protocol == protocol


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        # ranks 0 and 2: (1 + 2/3) / 2; rank 1: 1/2
        ("plain", 100 * (5 / 6 + 1 / 2) / 2),
        # ((1 + 1)/2 + (1/2 + 2/3)/2) / 2; (0 + 1/2) / 2
        ("oxford", 100 * (19 / 24 + 1 / 4) / 2),
    ],
)
def test_worked_value(protocol: str, expected: float) -> None:
    """Positives 0 and 3 of the first query are ranked 0 and 2, positive 2 of the second 1; the third has none."""
    result = evaluate(describer(np.eye(4), QUERIES), data_set(4, [[0, 3], [2], []], protocol))
    assert result.map == pytest.approx(expected)
    assert result.recall == {**PERFECT, 1: 50}
    assert (result.queries, result.database, result.skipped_queries) == (2, 4, 1)


def test_recall_at_n() -> None:
    """The only positive of query i is ranked i, of twelve: the last database images are the least similar."""
    queries = np.tile(np.linspace(1, 0.1, 12), (12, 1))
    result = evaluate(describer(np.eye(12), queries), data_set(12, [[i] for i in range(12)]))
    assert result.recall == pytest.approx({**PERFECT, 1: 100 / 12, 5: 500 / 12, 10: 1000 / 12})


def test_score_is_evaluate_without_describing() -> None:
    dataset = data_set(4, [[0, 3], [2], []])
    queries = np.array(QUERIES, np.float32)
    assert score(dataset, queries, np.eye(4, dtype=np.float32)) == evaluate(describer(np.eye(4), QUERIES), dataset)


def test_to_json() -> None:
    result = evaluate(describer(np.eye(4), UNIT_QUERIES), data_set(4, [[0], [2], []]))
    read = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert read == {
        "map": 75,
        "recall": {"1": 50, "5": 100, "10": 100, "20": 100, "100": 100},
        "map_at": {},
        "precision_at": {},
        "protocol": "plain",
        "queries": 2,
        "database": 4,
        "skipped_queries": 1,
        "notes": [],
        "parts": {},
    }


def test_lengths_do_not_count_and_are_noted() -> None:
    """Vectors of any length get the scores of their directions, and the figures say so."""
    rng = np.random.default_rng(0)
    database, queries = rng.normal(size=(2, 20, 5))
    dataset = data_set(20, [[i, (i + 1) % 20] for i in range(20)])
    long = score(dataset, queries * rng.uniform(2, 9, (20, 1)), database * rng.uniform(0.01, 0.5, (20, 1)))
    unit = score(dataset, *(v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries, database)))
    assert (long.map, long.recall) == (pytest.approx(unit.map), unit.recall)
    assert unit.notes == ()
    assert len(long.notes) == 1 and long.notes[0].startswith("40 of 40 descriptors were not of unit length")
    assert long.to_json()["notes"] == list(long.notes)


def test_what_the_data_set_says_of_itself_stands_in_the_figures() -> None:
    dataset = data_set(4, [[0], [2], []])
    dataset = dataclasses.replace(dataset, notes=("1 query is also in the database",))
    assert score(dataset, np.array(UNIT_QUERIES), np.eye(4)).notes == ("1 query is also in the database",)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_broken_descriptors_get_no_score(value: float) -> None:
    """The positive is the first database image: its place in the database is no merit."""
    descriptors = np.full((20, 8), value, np.float32)
    with pytest.raises(ValueError, match=r"^queries: the descriptor of 0 is (not finite|zero)") as error:
        score(data_set(20, [[0]] * 20), descriptors, descriptors)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"^database: the descriptor of 7 is (not finite|zero)"):
        database = np.eye(20, 8, dtype=np.float32) + 1
        database[7] = value
        score(data_set(20, [[0]] * 20), np.eye(20, 8) + 1, database)


def test_a_collapsed_network_gets_no_score() -> None:
    descriptors = np.full((20, 8), 8**-0.5, np.float32)
    with pytest.raises(ValueError, match=r"^mine: the descriptors of all 20 database images are equal"):
        score(data_set(20, [[0]] * 20), descriptors, descriptors)


def test_evaluate_names_the_image_whose_descriptor_is_broken() -> None:
    queries = np.array(UNIT_QUERIES)
    queries[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"^queries: the descriptor of 1 is not finite \(NaN\)"):
        evaluate(describer(np.eye(4), queries), data_set(4, [[0], [2], []]))


def test_equal_images_share_their_ranks() -> None:
    """Three photos of equal descriptors, one of them positive, wherever it stands: (1 + 1/2 + 1/3) / 3 and a third."""
    database = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    for positive in range(3):
        result = score(data_set(4, [[positive]]), database[:1], database)
        assert result.map == pytest.approx(100 * 11 / 18)
        assert result.recall == pytest.approx({**PERFECT, 1: 100 / 3})


def test_junk_and_own_images_are_taken_out_of_ties() -> None:
    """Of five equal images one is junk, one the query's own, which is positive, one another positive.

    Average precision counts the own image: two positives among four equal ones; recall looks for the other one among
    three.
    """
    truth = GroundTruth(IndexLists.of([[1, 2]]), junk=IndexLists.of([[0]]), own_images=np.array([1]))
    dataset = dataclasses.replace(data_set(6, [[1, 2]]), truth=truth)
    database = np.array([[1, 0]] * 5 + [[0, 1]], np.float32)
    result = score(dataset, database[:1], database)
    pairs = list(itertools.combinations(range(4), 2))
    assert result.map == pytest.approx(100 * np.mean([(1 / (a + 1) + 2 / (b + 1)) / 2 for a, b in pairs]))
    assert result.recall == pytest.approx({**PERFECT, 1: 100 / 3})


def test_images_of_one_group_count_once() -> None:
    """Ranked 0 1 2 3 4, where 0, 1 and 2 are cut-outs of one panorama and 3 and 4 of another, which is positive: its
    rank is 1, its precision a half. With 0 as junk the next of its group stands for it.
    """
    database = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 1, 5)])
    for junk in ([], [0], [4]):
        truth = GroundTruth(
            IndexLists.of([[3] if 4 in junk else [3, 4]]),
            junk=IndexLists.of([junk]),
            database_groups=np.array([7, 7, 7, 2, 2]),
        )
        result = score(dataclasses.replace(data_set(5, [[3, 4]]), truth=truth), database[:1], database)
        assert result.map == pytest.approx(50) and result.recall == {**PERFECT, 1: 0}


@pytest.mark.parametrize(("queries", "database"), [(2, 4), (3, 5)])
def test_other_counts_of_descriptors_are_refused(queries: int, database: int) -> None:
    with pytest.raises(ValueError, match=r"^mine: [25] descriptors for its [34] images of the (queries|database)$"):
        score(data_set(4, [[0], [2], []]), np.eye(queries, 5), np.eye(database, 5))


@pytest.mark.parametrize("positives", [[], [[], []]])
def test_nothing_to_evaluate(positives: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"^mine: no query has a positive"):
        evaluate(describer(np.eye(4), QUERIES), data_set(4, positives))


def test_describe_images_streams_all() -> None:
    """More than two batches of 32, in order."""
    rows = np.random.default_rng(0).normal(size=(80, 3))
    descriptors = describe_images(Table(rows), Plain(80, 0))
    assert descriptors.dtype == np.float32
    np.testing.assert_allclose(descriptors, rows, rtol=1e-6)
    assert describe_images(Table(rows), Plain(0, 0)).shape == (0, 3)
