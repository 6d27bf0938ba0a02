"""Batches of pairs: their promises on data sets of every kind, checked against the data set itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.pixels import Pixels, Reader
from tfplaces.datasets import GroundTruth, PlaceDataset, load_dataset
from tfplaces.training import mining
from tfplaces.training.mining import PairMiner


def dataset(places: list[int], queries: list[int], labelled: bool, seed: int = 0) -> PlaceDataset:
    """Database images of the given places, and a query for each place named."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (len(places) + len(queries), 1, 8, 3), np.uint8)
    of = np.array(places)
    return PlaceDataset(
        "numbered",
        Pixels(pixels[: len(places)], "d"),
        Pixels(pixels[len(places) :], "q"),
        GroundTruth.of_labels(np.array(queries), of)
        if labelled
        else [np.flatnonzero(of == place) for place in queries],
    )


def check_epoch(
    data: PlaceDataset, miner: PairMiner, pairs: int, pool: int = 10_000, epoch: int = 0
) -> list[np.ndarray]:
    """Checks an epoch against the data set's own words and returns its batches."""
    n = len(data.database)
    related = {(n + q, int(p)) for q, positives in enumerate(data.positives) for p in positives}
    if data.database_places is not None:
        same = data.database_places[:, None] == data.database_places[None]
        related |= {(int(a), int(b)) for a, b in np.argwhere(same) if a != b}
    batches = [batch for block in miner.epoch(Reader(), epoch, pool) for batch in block]
    queries = [int(q) for batch in batches for q, _ in batch]
    assert len(queries) == len(set(queries)) and set(queries) <= {a for a, _ in related}
    for batch in batches:
        assert batch.dtype == np.int64 and 2 <= len(batch) <= pairs and batch.shape[1] == 2
        assert all((int(q), int(p)) in related for q, p in batch)
        assert len(set(batch.ravel().tolist())) == batch.size
        for k, first in enumerate(batch.tolist()):
            for second in batch[k + 1 :].tolist():
                assert not any((a, b) in related or (b, a) in related for a in first for b in second)
    return batches


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=25),
    st.lists(st.integers(0, 7), max_size=12),
    st.booleans(),
    st.integers(2, 6),
    st.integers(2, 40),
    st.integers(1, 2**31),
)
def test_any_data_set(places: list[int], queries: list[int], labelled: bool, pairs: int, pool: int, seed: int) -> None:
    data = dataset(places, queries, labelled)
    usable = sum(place in places for place in queries)
    if labelled:
        usable += sum(places.count(place) > 1 for place in places)
    if usable < 2:
        with pytest.raises(ValueError, match="nothing to train on"):
            PairMiner(data, pairs, seed)
    else:
        miner = PairMiner(data, pairs, seed)
        check_epoch(data, miner, pairs, pool)
        check_epoch(data, miner, pairs, pool, epoch=1)


@pytest.mark.parametrize("labelled", [False, True])
def test_more_queries_than_the_cache_holds(labelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "QUERIES_PER_CACHE", 50)
    rng = np.random.default_rng(0)
    data = dataset(rng.integers(0, 60, 200).tolist(), rng.integers(0, 60, 130).tolist(), labelled)
    batches = check_epoch(data, PairMiner(data, 8), 8)
    anchors = sum(len(p) > 0 for p in data.positives) + (200 if labelled else 0)
    assert sum(map(len, batches)) > 0.9 * anchors


def test_toytown() -> None:
    data = load_dataset("toytown?places=5")
    data = dataset(data.database_places.tolist(), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4], True)
    batches = check_epoch(data, PairMiner(data, 3), 3)
    # 20 database images and 15 queries are anchors; where the last places are used up, some are left.
    assert 30 <= sum(map(len, batches)) <= 35


def test_the_order_depends_on_the_seed_alone() -> None:
    data = dataset([k % 9 for k in range(40)], list(range(9)), True)

    def run(seed: int) -> list[list]:
        miner = PairMiner(data, 5, seed)
        return [[b.tolist() for block in miner.epoch(Reader(), epoch, 20) for b in block] for epoch in range(2)]

    assert run(3) == run(3)
    # An epoch taken up again is the same without those before it.
    assert run(3)[1] == [b.tolist() for block in PairMiner(data, 5, 3).epoch(Reader(), 1, 20) for b in block]
    assert run(3) != run(4)
    assert run(3)[0] != run(3)[1]


def test_a_batch_holds_the_hardest_negatives_and_the_nearest_positive() -> None:
    """Four places on a circle at 0, 10, 180 and 190 degrees: those 10 degrees apart come together."""
    angles = {"d": [1, 5, 11, 15, 181, 185, 191, 195], "q": [0, 10, 180, 190]}

    class Circle(Reader):
        descriptor_dim = 2

        def describe(self, images: np.ndarray) -> np.ndarray:
            angle = np.radians(images[:, 0, 0, 0].astype(float) + images[:, 0, 0, 1])
            return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)

    def images(kind: str) -> Pixels:
        pixels = np.zeros((len(angles[kind]), 1, 8, 3), np.uint8)
        for k, angle in enumerate(angles[kind]):
            pixels[k, 0, 0, :2] = min(angle, 200), max(angle - 200, 0)
        return Pixels(pixels, kind)

    data = PlaceDataset("circle", images("d"), images("q"), [np.arange(2 * k, 2 * k + 2) for k in range(4)])
    (batches,) = PairMiner(data, 2).epoch(Circle(), 0, 4)
    # Query q is image 8 + q; its nearest positive is the first of its two.
    found = sorted(sorted(map(tuple, b.tolist())) for b in batches)
    assert found == [[(8, 0), (9, 2)], [(10, 4), (11, 6)]]


def test_a_small_pool_makes_random_batches() -> None:
    """Of as many queries as a batch holds nothing is chosen: batches are farther apart than those of a large pool."""
    data = dataset(list(range(200)), list(range(200)), False)
    pixels = np.concatenate([data.database.pixels, data.queries.pixels])
    descriptors = Reader().describe(pixels)

    def nearness(pool: int) -> float:
        batches = check_epoch(data, PairMiner(data, 5), 5, pool)
        assert sum(map(len, batches)) == 200
        return float(np.mean([descriptors[b[1:, 0]] @ descriptors[b[0, 0]] for b in batches]))

    assert abs(nearness(5)) < 0.05 < nearness(20) < nearness(200)


def test_too_little_to_learn_from() -> None:
    with pytest.raises(ValueError, match="numbered: fewer than two queries have a positive"):
        PairMiner(dataset([0, 1, 2], [0], True), 4)
    with pytest.raises(ValueError, match="nothing to train on"):
        PairMiner(dataset([0, 0, 1, 1], [], False), 4)
