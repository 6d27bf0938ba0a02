"""Batches of places: what is in them, that overlapping places never meet, and that the seed gives all of it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.datasets import Images, IndexLists, PlaceList
from tfplaces.layers import L2Normalization
from tfplaces.losses import MultiSimilarityLoss
from tfplaces.training import PlaceBatches

SIZE = (2, 3)


class Numbered(Images):
    """Image k is all k."""

    def __init__(self, count: int):
        self.names = [str(k) for k in range(count)]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return np.full((*size, 3), index, np.uint8)


class Coloured(Images):
    """Images 4k to 4k + 3 are of one colour, a little lighter each: the corners of the cube of colours."""

    def __init__(self, count: int):
        self.names = [str(k) for k in range(count)]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        corner = [index // 4 >> bit & 1 for bit in range(3)]
        return np.broadcast_to(np.array(corner, np.uint8) * 150 + 10 * (index % 4), (*size, 3))


def places_of(sizes: list[int], links: Sequence[tuple[int, int]] = ()) -> PlaceList:
    """Places of so many images each; links are pairs of places that overlap."""
    ends = np.cumsum(sizes)
    members = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    near = [{place} for place in range(len(sizes))]
    for one, other in links:
        near[one].add(other)
        near[other].add(one)
    return PlaceList(
        "x",
        Numbered(ends[-1]),
        IndexLists.of([list(m) for m in members]),
        IndexLists.of([sorted(n) for n in near]),
        IndexLists.of([[]] * len(sizes)),
    )


def epoch(batches: PlaceBatches, number: int) -> list[np.ndarray]:
    chosen = itertools.chain.from_iterable(batches.choose(number))
    return list(itertools.islice(chosen, len(batches)))


@given(st.data())
def test_batches(data) -> None:
    count = data.draw(st.integers(3, 25))
    sizes = data.draw(st.lists(st.integers(2, 6), min_size=count, max_size=count))
    pair = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    links = data.draw(st.lists(pair.filter(lambda p: p[0] != p[1]), max_size=count // 2))
    n, m = data.draw(st.integers(2, 8)), data.draw(st.integers(2, 4))
    places = places_of(sizes, links)
    of_image = np.repeat(np.arange(count), sizes)
    batches = PlaceBatches(places, SIZE, places_in_batch=n, images_of_place=m, min_images=2)
    overlapping = {*links, *((b, a) for a, b in links)}
    for batch in epoch(batches, 0):
        assert batch.shape[1] == m and 2 <= len(batch) <= n
        drawn = of_image[batch]
        assert (drawn == drawn[:, :1]).all()
        assert len(np.unique(drawn[:, 0])) == len(batch)
        assert not any((a, b) in overlapping for a, b in itertools.permutations(drawn[:, 0].tolist(), 2))
        for place, row in zip(drawn[:, 0], batch, strict=True):
            assert len(np.unique(row)) == m or sizes[place] < m


def test_an_epoch_draws_each_place_once_where_none_overlap() -> None:
    batches = PlaceBatches(places_of([4] * 12), SIZE, places_in_batch=3)
    orders = []
    for number in range(3):
        batch = np.stack(epoch(batches, number))
        assert batch.shape == (4, 3, 4)
        assert sorted(batch.ravel().tolist()) == list(range(48))
        orders.append(batch.tolist())
    assert orders[0] != orders[1] != orders[2]


def test_a_street_whose_places_all_overlap_the_next_still_makes_full_batches() -> None:
    """Twelve places in a row, each overlapping its two neighbours: four of them fit in a batch."""
    batches = PlaceBatches(places_of([4] * 12, [(k, k + 1) for k in range(11)]), SIZE, places_in_batch=4)
    drawn = [np.unique(batch // 4) for number in range(20) for batch in epoch(batches, number)]
    assert all((np.diff(places) > 1).all() for places in drawn)
    assert {len(places) for places in drawn} == {4}
    counts = np.bincount(np.concatenate(drawn), minlength=12)
    assert counts.min() >= 20 * 0.6 and counts.max() <= 20 * 1.5


def test_places_beside_each_other_come_together() -> None:
    """Five spots of four places each; the first and the last place of a spot overlap, so three of four can come."""
    links = [(4 * spot, 4 * spot + 3) for spot in range(5)]
    beside = [[4 * (p // 4) + k for k in range(4) if k != p % 4 and {k, p % 4} != {0, 3}] for p in range(20)]
    places = dataclasses.replace(places_of([4] * 20, links), beside=IndexLists.of(beside))
    for batch in epoch(PlaceBatches(places, SIZE, places_in_batch=6, beside=True), 0):
        spots = np.bincount(batch[:, 0] // 16, minlength=5)
        assert sorted(spots) == [0, 0, 0, 3, 3]
    # Unless that is asked for, they are drawn from all over.
    drawn = epoch(PlaceBatches(places, SIZE, places_in_batch=6), 0)
    assert any(np.count_nonzero(np.bincount(batch[:, 0] // 16)) > 2 for batch in drawn)
    # Those of too few images do not come, and where there is no room the rest is left out.
    few = dataclasses.replace(places_of([4, 4, 3, 4] * 5), beside=IndexLists.of(beside))
    few_drawn = [np.unique(b) for b in epoch(PlaceBatches(few, SIZE, places_in_batch=2, beside=True), 0)]
    assert not any(image % 15 in (8, 9, 10) for images in few_drawn for image in images)


def test_small_places_are_left_out_or_drawn_from_with_repetition() -> None:
    places = places_of([2, 4, 5, 3])
    every = np.unique(np.concatenate([b.ravel() for b in epoch(PlaceBatches(places, SIZE), 0)]))
    assert every.min() >= 2 and every.max() < 11
    repeated = PlaceBatches(places, SIZE, min_images=3)
    assert max(b.max() for b in epoch(repeated, 0)) >= 11
    assert min(b.min() for number in range(5) for b in epoch(repeated, number)) >= 2


def test_seed_and_epoch_give_everything() -> None:
    def brighter(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return images + rng.integers(1, 100, (len(images), 1, 1, 1)).astype(np.uint8)

    def read(seed: int, number: int, first: int) -> list[np.ndarray]:
        batches = PlaceBatches(places_of([4] * 6), SIZE, places_in_batch=2, augmentation=brighter, seed=seed)
        batches.start_epoch(number)
        for step in range(3):  # as the driver does
            batches.step_done(step)
        # Threads may ask in any order.
        found = {k: batches[k] for k in (first, 1 - first)}
        batches.close()
        assert all(np.array_equal(targets, [0] * 4 + [1] * 4) for _, targets in found.values())
        return [found[k][0] for k in (0, 1)]

    assert np.array_equal(read(3, 1, 0), read(3, 1, 1))
    assert not np.array_equal(read(3, 1, 0), read(3, 2, 0))
    assert not np.array_equal(read(3, 1, 0), read(4, 1, 0))


@pytest.mark.parametrize(
    ("places", "options", "message"),
    [
        (places_of([4, 4]), {"places_in_batch": 1}, "at least 2 of each"),
        (places_of([4, 4]), {"images_of_place": 1}, "at least 2 of each"),
        (places_of([4, 3, 3]), {}, "1 of 3 places have 4 images or more"),
        (places_of([4, 4, 4], [(0, 1), (0, 2), (1, 2)]), {}, "all its 3 places overlap"),
    ],
)
def test_what_cannot_be_trained_on_is_said(places: PlaceList, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PlaceBatches(places, SIZE, **options)


def test_trains_in_a_users_fit() -> None:
    """With the driver as a callback, as `ImageBatches` says; eight places, each of a colour of its own."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.layers.Rescaling(1 / 127.5, -1),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(8),
            keras.layers.ReLU(),
            keras.layers.Dense(4),
            L2Normalization(),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), MultiSimilarityLoss())
    places = dataclasses.replace(places_of([4] * 8), images=Coloured(32))
    batches = PlaceBatches(places, SIZE, places_in_batch=8)
    batches.start_epoch(0)
    history = model.fit(batches, epochs=40, verbose=0, callbacks=[batches.driver()]).history["loss"]
    assert history[-1] < 0.8 * history[0]
