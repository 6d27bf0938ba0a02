"""Splits by place: on any ground truth, nothing of a held-out place is left to train on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaces.datasets import GroundTruth, ImageFiles, IndexLists, PlaceDataset, halve_by_place, hold_out
from tfplaces.training.mining import PairMiner


def data_set(truth: GroundTruth, database: int) -> PlaceDataset:
    queries = len(truth.positives)
    return PlaceDataset(
        "mine",
        ImageFiles("database", [f"d{k}" for k in range(database)]),
        ImageFiles("queries", [f"q{k}" for k in range(queries)]),
        truth,
    )


def of_lists(*positives: list[int], database: int = 40, **known) -> PlaceDataset:
    return data_set(GroundTruth(IndexLists.of(positives), **known), database)


def names(dataset: PlaceDataset) -> list[str]:
    return list(dataset.queries.names)


def shown(dataset: PlaceDataset, query: int) -> set[str]:
    """The database images, by name, that a query is trained towards or must not be told from."""
    return {dataset.database.names[i] for i in dataset.truth.never_negative(query)}


def check(whole: PlaceDataset, train: PlaceDataset, val: PlaceDataset) -> None:
    """No image that shows the place of a query that judges is trained on, in any role."""
    truth = {name: q for q, name in enumerate(whole.queries.names)}
    assert val.queries.names and train.queries.names
    assert not set(train.queries.names) & set(val.queries.names)
    assert list(val.database.names) == list(whole.database.names)
    of_held = set().union(*(shown(whole, truth[name]) for name in val.queries.names))
    assert not of_held & set(train.database.names)
    for q, name in enumerate(train.queries.names):
        # What is known about a query is what was known, but for images that are gone; no place is in both sets.
        assert shown(train, q) == shown(whole, truth[name])
        assert not shown(train, q) & of_held
        assert len(train.others(q))
    for q, name in enumerate(val.queries.names):
        assert val.others(q).tolist() == whole.others(truth[name]).tolist() != []


rows = st.lists(st.lists(st.integers(0, 39), max_size=4), max_size=30)


@settings(max_examples=200, deadline=None)
@given(rows, st.integers(2, 6), st.data())
def test_nothing_leaks(positives: list[list[int]], every: int, data: st.DataObject) -> None:
    """Any lists of positives, to train by and not to take for negatives; and any own images."""
    known = {}
    for name in ("training_positives", "not_negatives"):
        if data.draw(st.booleans()):
            more = data.draw(st.lists(st.lists(st.integers(0, 39), max_size=2), min_size=len(positives),
                                      max_size=len(positives)))  # fmt: skip
            known[name] = IndexLists.of(more)
    if data.draw(st.booleans()):
        own = st.lists(st.integers(-1, 39), min_size=len(positives), max_size=len(positives))
        known["own_images"] = np.array(data.draw(own), np.int64)
    dataset = of_lists(*positives, **known)
    try:
        train, val = hold_out(dataset, every)
    except ValueError as error:
        assert "too few places to hold some out" in str(error)
        return
    check(dataset, train, val)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.lists(st.integers(0, 9), max_size=40))
def test_nothing_leaks_of_labelled_places(queries: list[int], database: list[int]) -> None:
    """A label is a place, all of its images on one side, and no more places are left out than there are queries."""
    dataset = data_set(GroundTruth.of_labels(np.array(queries, np.int64), np.array(database, np.int64)), len(database))
    places = {label for label in queries if label in database}
    if len(places) < 2:
        with pytest.raises(ValueError, match="too few places"):
            hold_out(dataset)
        return
    train, val = hold_out(dataset)
    check(dataset, train, val)
    held = {queries[int(name[1:])] for name in val.queries.names}
    kept = {queries[int(name[1:])] for name in train.queries.names}
    assert held | kept == places and not held & kept
    left = [label for label in database if label not in held]
    assert [database[int(name[1:])] for name in train.database.names] == left == train.database_places.tolist()


@settings(max_examples=100, deadline=None)
@given(rows)
def test_halves_share_no_place(positives: list[list[int]]) -> None:
    dataset = of_lists(*positives)
    try:
        first, second = halve_by_place(dataset)
    except ValueError as error:
        assert "too few places for two halves" in str(error)
        return
    assert len(first) and len(second) and set(first.tolist()) | set(second.tolist()) <= set(dataset.answerable())
    images = [{int(i) for q in half for i in dataset.positives[q]} for half in (first, second)]
    assert not images[0] & images[1]


def test_every_fifth_place() -> None:
    """Places of one query: every fifth, from the first; queries without positives go to neither side."""
    dataset = of_lists([], [1], [2], [3], [], [4], [5], [6], [7])
    train, val = hold_out(dataset)
    assert names(val) == ["q1", "q7"]
    assert names(train) == ["q2", "q3", "q5", "q6", "q8"]
    assert [p.tolist() for p in val.positives] == [[1], [6]]
    # Images 1 and 6 of the held-out places are gone.
    assert [p.tolist() for p in train.positives] == [[1], [2], [3], [4], [5]]
    assert [name for name in dataset.database.names if name not in train.database.names] == ["d1", "d6"]
    assert (train.spec, train.notes, val.notes) == ("mine", (), ())


def test_queries_that_share_a_positive_stay_together() -> None:
    """Five places of two queries each, of which one image is shared."""
    dataset = of_lists(*([3 * k, 3 * k + own] for k in range(5) for own in (1, 2)))
    train, val = hold_out(dataset)
    assert names(val) == ["q4", "q5"] and len(train.queries) == 8
    assert set(dataset.database.names) - set(train.database.names) == {"d6", "d7", "d8"}
    PairMiner(train, 2)
    # Of two queries each, the second place is the first that comes to half of what was seen.
    first, second = halve_by_place(dataset)
    assert (first.tolist(), second.tolist()) == ([2, 3, 6, 7], [0, 1, 4, 5, 8, 9])


def test_one_large_place_is_kept_to_train_on() -> None:
    """Twelve queries of one place and four of others: the others judge, and the user hears of it."""
    dataset = of_lists(*([[0]] * 12), [1], [2], [3], [4])
    train, val = hold_out(dataset)
    assert names(train)[:12] == [f"q{k}" for k in range(12)]
    assert 2 <= len(val.queries) <= 4
    assert "12 of 16 queries are of one place" in train.notes[0]


def test_a_walk_is_cut() -> None:
    """Fifty frames, each with the two before and after it: ten are held out at one end, and some beside them left."""
    dataset = of_lists(*(list(range(max(0, q - 2), min(50, q + 3))) for q in range(50)), database=50)
    train, val = hold_out(dataset)
    check(dataset, train, val)
    held, kept = (sorted(int(name[1:]) for name in names(half)) for half in (val, train))
    assert len(held) == 10 and len(kept) >= 32
    assert kept[-1] < held[0] - 4 or held[-1] < kept[0] - 4  # frames that share an image are at most 4 apart
    assert train.notes == val.notes
    assert "50 of 50 queries hang together like the frames of a walk" in train.notes[0]
    assert f"{40 - len(kept)} queries at the cut" in train.notes[1]
    first, second = halve_by_place(dataset)
    assert len(first) == 25 and len(second) >= 17


@pytest.mark.parametrize("positives", [[], [[], []], [[3]], [[], [3], []], [[3], [3], [3]], [[3, 4], [4, 5]]])
def test_too_few_places(positives: list[list[int]]) -> None:
    usable = sum(map(bool, positives))
    with pytest.raises(ValueError, match=f"^mine: too few places to hold some out, its {usable} queries"):
        hold_out(of_lists(*positives))
    with pytest.raises(ValueError, match=r"^mine: too few places for two halves"):
        halve_by_place(of_lists(*positives))


def test_positions_within_the_radius_are_one_place() -> None:
    """Queries 20 m apart belong together where the radius is 25 m, though they have no positive in common."""
    east = np.array([0, 20, 1000, 2000, 3000, 4000], float)
    positions = np.stack([east, np.zeros(6)], axis=1)
    known = {"query_positions": positions, "database_positions": positions[:, ::-1] + [0.0, 1e6], "radius": 25.0}
    far = known["database_positions"].copy()
    for k in range(6):
        far[k] = positions[k] + [0, 10]
    known["database_positions"] = far
    apart = IndexLists.of([[k] for k in range(6)])
    dataset = data_set(GroundTruth(apart, **known), 6)
    first, second = halve_by_place(dataset)
    assert {0, 1} <= set(first.tolist()) or {0, 1} <= set(second.tolist())
    closer = data_set(GroundTruth(apart, **{**known, "radius": 15.0}), 6)
    assert halve_by_place(closer)[0].tolist() == [0, 2, 4]
    # A walk in steps of 20 m is one place.
    steps = np.stack([np.arange(30) * 20.0, np.zeros(30)], axis=1)
    walk = GroundTruth(
        IndexLists.of([[k] for k in range(30)]), query_positions=steps, database_positions=steps, radius=25
    )
    train, val = hold_out(data_set(walk, 30))
    held = {int(name[1:]) for name in names(val)}
    gap = min(abs(a - int(name[1:])) for a in held for name in (*names(train), *train.database.names))
    assert gap >= 2 and "like the frames of a walk" in train.notes[0]
