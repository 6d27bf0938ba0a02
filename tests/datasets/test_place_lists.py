"""Places made of labels and of positions, against their definitions image by image."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.datasets import (
    GroundTruth,
    ImageFiles,
    IndexLists,
    PlaceDataset,
    PlaceList,
    grid_places,
    labelled_places,
    load_dataset,
    make_places,
    nearby_places,
    truth_places,
)
from tfplaces.datasets.located import Located, Rule, located_dataset


def town(seed: int, count: int, headings: bool = True, queries: int = 0) -> tuple[PlaceDataset, np.ndarray, np.ndarray]:
    """Photos in a square of 80 m, and positions and headings as `PlaceList.images` has them: database, then queries."""
    rng = np.random.default_rng(seed)

    def photos(name: str, n: int) -> Located:
        turned = rng.integers(0, 12, n) * 30.0 - 60 if headings else np.full(n, np.nan)
        return Located("/none", [f"{name}{k}.png" for k in range(n)], rng.integers(-40, 40, (n, 2)) + 0.5, turned)

    database = photos("d", count)
    if not queries:
        return located_dataset("x", database, None, Rule(25, 10)), database.positions, database.headings
    asked = photos("q", queries)
    truth = GroundTruth(
        IndexLists.within(asked.positions, database.positions, 25),
        query_positions=asked.positions,
        database_positions=database.positions,
        query_headings=asked.headings,
        database_headings=database.headings,
        radius=25,
    )
    return (
        PlaceDataset("x", ImageFiles("/none", database.names), ImageFiles("/none", asked.names), truth),
        np.concatenate([database.positions, asked.positions]),
        np.concatenate([database.headings, asked.headings]),
    )


def alike(positions: np.ndarray, headings: np.ndarray, i: int, j: int, radius: float, angle: float) -> bool:
    turn = abs(headings[i] - headings[j]) % 360
    return bool(np.hypot(*(positions[i] - positions[j])) <= radius and not min(turn, 360 - turn) >= angle)


def check_overlaps(
    places: PlaceList, positions: np.ndarray, headings: np.ndarray, apart: float, angle: float, spot: float
) -> None:
    for one, ours in enumerate(places.members):
        expected = [
            other
            for other, theirs in enumerate(places.members)
            if any(alike(positions, headings, i, j, apart, angle) for i in ours for j in theirs)
        ]
        assert places.overlapping[one].tolist() == expected
        at_spot = [
            other
            for other, theirs in enumerate(places.members)
            if any(alike(positions, headings, i, j, spot, 360) for i in ours for j in theirs)
        ]
        assert places.beside[one].tolist() == sorted(set(at_spot) - set(expected))


@given(st.integers(0, 2**32 - 1), st.integers(20, 50), st.booleans(), st.sampled_from([0, 15]))
def test_cells_and_sectors(seed: int, count: int, with_headings: bool, queries: int) -> None:
    """Classes as CosPlace's dataset makes them: floor(e / M), floor(n / M), floor(h / α)."""
    dataset, positions, headings = town(seed, count, with_headings, queries)
    classes: dict[tuple, list[int]] = {}
    for k, ((east, north), heading) in enumerate(zip(positions, headings, strict=True)):
        sector = int(heading % 360 // 60) if with_headings else 0
        classes.setdefault((east // 20, north // 20, sector), []).append(k)
    expected = sorted(members for members in classes.values() if len(members) > 1)
    if len(expected) < 2:
        with pytest.raises(UserError, match=f"{len(expected)} places of two images"):
            grid_places(dataset, cell=20, sector=60, apart=15)
        return
    places = grid_places(dataset, cell=20, sector=60, apart=15)
    assert len(places.images) == len(positions)
    assert sorted(members.tolist() for members in places.members) == expected
    check_overlaps(places, positions, headings, 15, 60, spot=20)


@given(st.integers(0, 2**32 - 1), st.integers(20, 40), st.booleans(), st.sampled_from([0, 15]))
def test_around_each_image(seed: int, count: int, with_headings: bool, queries: int) -> None:
    dataset, positions, headings = town(seed, count, with_headings, queries)
    expected = [
        near
        for i in range(len(positions))
        if len(near := [j for j in range(len(positions)) if alike(positions, headings, i, j, 20, 45)]) > 1
    ]
    if len(expected) < 2:
        with pytest.raises(UserError, match="0 places of two images"):
            nearby_places(dataset, radius=20, angle=45, apart=30)
        return
    places = nearby_places(dataset, radius=20, angle=45, apart=30)
    assert [members.tolist() for members in places.members] == expected
    check_overlaps(places, positions, headings, 30, 45, spot=20)


def labelled(queries: list[int], database: list[int]) -> PlaceDataset:
    files = ImageFiles("/none", [f"d{k}.png" for k in database]), ImageFiles("/none", [f"q{k}.png" for k in queries])
    return PlaceDataset("x", *files, GroundTruth.of_labels(np.array(queries), np.array(database)))


def test_labels() -> None:
    """Image 4 + k is query k. Label 9 has one image, label 5 only a query: neither is a place to train on."""
    places = labelled_places(labelled([3, 0, 5, 3], [0, 3, 9, 0]))
    assert places.images.names == ["d0.png", "d3.png", "d9.png", "d0.png", "q3.png", "q0.png", "q5.png", "q3.png"]
    assert [members.tolist() for members in places.members] == [[0, 3, 5], [1, 4, 7]]
    assert [near.tolist() for near in places.overlapping] == [[0], [1]]
    assert [near.tolist() for near in places.beside] == [[], []]
    assert len(places) == 2


@given(st.data())
def test_of_a_ground_truth(data) -> None:
    """Each query with what it is drawn towards; whatever must not be a negative of one keeps the other away."""
    queries, database = data.draw(st.integers(2, 12)), data.draw(st.integers(2, 12))

    def lists() -> IndexLists:
        index = st.integers(0, database - 1)
        return IndexLists.of(data.draw(st.lists(st.lists(index, max_size=3), min_size=queries, max_size=queries)))

    own = data.draw(st.lists(st.integers(-1, database - 1), min_size=queries, max_size=queries))
    truth = GroundTruth(
        lists(),
        training_positives=data.draw(st.none() | st.builds(lists)),
        not_negatives=data.draw(st.none() | st.builds(lists)),
        own_images=data.draw(st.none() | st.just(np.array(own))),
    )
    files = (ImageFiles("/none", [f"{kind}{k}.png" for k in range(n)]) for kind, n in (("d", database), ("q", queries)))
    dataset = PlaceDataset("x", *files, truth)
    names = dataset.database.names
    shown, kept_away = [], []
    for q in truth.trainable():
        itself = f"q{q}.png" if truth.own_images is None or own[q] < 0 else names[own[q]]
        shown.append({itself, *(names[k] for k in truth.to_train(q))})
        kept_away.append({itself, *(names[k] for k in truth.never_negative(q))})
    if len(shown) < 2:
        with pytest.raises(UserError, match=f"{len(shown)} places of two images"):
            truth_places(dataset)
        return
    places = truth_places(dataset)
    assert [{places.images.names[k] for k in members} for members in places.members] == shown
    for one in range(len(shown)):
        expected = [k for k in range(len(shown)) if kept_away[one] & shown[k] or kept_away[k] & shown[one]]
        assert places.overlapping[one].tolist() == expected and one in expected
        assert places.beside[one].tolist() == []


def test_ways_to_make_places_have_names() -> None:
    """By default what the data set knows most of."""
    located = town(0, 30)[0]
    queries_and_positives = PlaceDataset("x", located.database, located.queries, located.truth.positives)
    for dataset, spec, expected in (
        (labelled([0, 1], [0, 1]), None, labelled_places(labelled([0, 1], [0, 1]))),
        (located, None, nearby_places(located)),
        (located, "nearby?radius=20&apart=30", nearby_places(located, radius=20, apart=30)),
        (located, "grid?cell=20&sector=60", grid_places(located, cell=20, sector=60)),
        (located, "truth", truth_places(located)),
        (queries_and_positives, None, truth_places(queries_and_positives)),
    ):
        found = make_places(dataset, spec)
        for ours, theirs in ((found.members, expected.members), (found.overlapping, expected.overlapping)):
            assert [one.tolist() for one in ours] == [one.tolist() for one in theirs]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cells", "places 'cells' are not known; there are labels, grid, nearby, truth"),
        ("grid?cel=3", "unknown option 'cel'; grid has cell, sector, apart"),
        ("grid?dataset=3", "unknown option 'dataset'"),
        ("grid?cell=wide", "cell=wide is not a number"),
        ("labels?cell=3", "labels has none"),
        ("labels", "have no labels"),
        ("nearby?radius=-1", "radius=-1"),
    ],
)
def test_places_that_cannot_be_made(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_places(town(0, 20)[0], spec)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: labelled_places(town(0, 20)[0]), "have no labels"),
        (lambda: labelled_places(labelled([0], [0, 1])), "1 places of two images"),
        (lambda: grid_places(labelled([0, 1], [0, 1])), "have none"),
        (lambda: nearby_places(labelled([0, 1], [0, 1])), "have none"),
        (lambda: grid_places(town(0, 20)[0], cell=0), "cell=0"),
        (lambda: grid_places(town(0, 20)[0], cell=float("nan")), "cell=nan"),
        (lambda: grid_places(town(0, 20)[0], sector=100), "whole number of sectors"),
        (lambda: nearby_places(town(0, 20)[0], apart=1e7), "apart=1e"),
        (lambda: nearby_places(town(0, 20)[0], radius=0.1), "0 places of two images"),
    ],
)
def test_what_cannot_be_had_is_said(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_images_without_a_heading_among_others_are_refused() -> None:
    located = Located("/none", ["a.png", "b.png", "c.png"], np.zeros((3, 2)), np.array([0, np.nan, 90]))
    dataset = located_dataset("x", located, None, Rule(25, 10))
    for make in (grid_places, nearby_places):
        with pytest.raises(UserError, match=r"1 of 3 images have no heading.*b\.png"):
            make(dataset)


def test_real_panoramas(tfplaces_data: Path) -> None:
    """Cells counted from the names of the files; each of the four headings is a sector of its own."""
    with pytest.warns(DataWarning):
        dataset = load_dataset(f"utm:{tfplaces_data}/cambridge_train")
    places = grid_places(dataset, cell=15, sector=90)
    fields = [name.split("@") for name in dataset.database.names]
    cells = collections.Counter((float(f[1]) // 15, float(f[2]) // 15, int(f[9])) for f in fields)
    assert len(places) == sum(count > 1 for count in cells.values())
    assert places.members.lengths.sum() == sum(count for count in cells.values() if count > 1)
    around = nearby_places(dataset)
    for place in range(0, len(around), 100):
        members = around.members[place]
        shown = np.array([[float(fields[k][1]), float(fields[k][2])] for k in members])
        assert len({fields[k][9] for k in members}) == 1
        assert np.linalg.norm(shown[:, None] - shown[None], axis=-1).max() <= 25
