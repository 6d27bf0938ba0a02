"""Figures against the programs of the data sets' authors, written down here step by step as those walk their lists.

The functions below share nothing with the package: they take ranked lists of database images. Where images are equally
near, the expected value is the mean over every order of them.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaces.datasets import PlaceDataset
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.evaluation import score, write_query_table
from tfplaces.evaluation.query_scores import score_queries

RECALL_AT = (1, 5, 10, 20, 100)


class Names(list):
    """Images of which only the names are looked at."""

    @property
    def names(self) -> list[str]:
        return list(self)


def images(count: int, prefix: str = "d") -> Names:
    return Names(f"{prefix}{i}" for i in range(count))


def data_set(truth: GroundTruth, database: int, protocol: str = "plain") -> PlaceDataset:
    return PlaceDataset("mine", images(database), images(len(truth.positives), "q"), truth, protocol=protocol)


def recall_of_netvlad(ranked: list[int], positives: set[int], n: int) -> float:
    """recallAtN of NetVLAD: whether any of the n nearest is a positive."""
    return float(bool(positives & set(ranked[:n])))


def recall_of_tokyo(ranked: list[int], positives: set[int], n: int) -> float:
    """NetVLAD's for Tokyo 24/7: of the 12 n nearest, the first of each floor((id - 1) / 12), id 1-based, are kept."""
    seen: list[int] = []
    kept = []
    for image in ranked[: 12 * n]:
        panorama = (image + 1 - 1) // 12
        if panorama not in seen:
            seen.append(panorama)
            kept.append(image)
    return float(bool(positives & set(kept[:n])))


def msls_apk(ranked: list[int], positives: set[int], k: int) -> float:
    """apk of mapillary_sls: the precision at each hit among the first k, over min(positives, k)."""
    hits, total = 0, 0.0
    for i, image in enumerate(ranked[:k]):
        if image in positives:
            hits += 1
            total += hits / (i + 1)
    return total / min(len(positives), k)


def revisited(ranked: list[int], positives: set[int], junk: set[int]) -> list[float]:
    """compute_map of revisitop for one query: AP, and the precision at 1, 5 and 10."""
    at = np.array([i for i, image in enumerate(ranked) if image in positives])
    junk_at = [i for i, image in enumerate(ranked) if image in junk]
    k = ij = 0
    for ip in range(len(at)):
        while ij < len(junk_at) and at[ip] > junk_at[ij]:
            k += 1
            ij += 1
        at[ip] -= k
    ap = 0.0
    for j, rank in enumerate(at):
        p0 = 1.0 if rank == 0 else j / rank
        ap += (p0 + (j + 1) / (rank + 1)) / (2 * len(positives))
    at += 1
    return [ap, *(float((at <= min(max(at), kappa)).sum() / min(max(at), kappa)) for kappa in (1, 5, 10))]


def official(ranked: list[int], positives: set[int], junk: set[int], protocol: str) -> dict[str, float]:
    """All figures of a query, 0 to 100, junk taken out of the list as each program does."""
    left = [image for image in ranked if image not in junk]
    figures = {f"recall@{n}": recall_of_netvlad(left, positives, n) for n in RECALL_AT}
    if protocol == "revisited":
        figures |= dict(zip(("mAP", "mP@1", "mP@5", "mP@10"), revisited(ranked, positives, junk), strict=True))
    else:
        figures["mAP"] = msls_apk(left, positives, len(left))
    if protocol == "msls":
        figures |= {f"mAP@{k}": msls_apk(left, positives, k) for k in (1, 5, 10, 20)}
    return {name: 100 * value for name, value in figures.items()}


def all_orders(row: list[float]) -> list[list[int]]:
    """Every order of the database that sorts the similarities."""
    return [
        list(order)
        for order in itertools.permutations(range(len(row)))
        if all(row[a] >= row[b] for a, b in itertools.pairwise(order))
    ]


PROTOCOLS = ["plain", "msls", "revisited"]
KINDS = st.sampled_from(["positive", "wrong", "wrong", "junk"])


@settings(max_examples=60, deadline=None)
@given(
    row=st.lists(st.tuples(st.integers(0, 3), KINDS), min_size=1, max_size=6).filter(
        lambda row: any(kind == "positive" for _, kind in row)
    ),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_equal_scores_are_the_mean_over_all_orders(row: list[tuple[int, str]], protocol: str) -> None:
    similar = [value / 4 for value, _ in row]
    positives, junk = ([i for i, (_, kind) in enumerate(row) if kind == which] for which in ("positive", "junk"))
    truth = GroundTruth(IndexLists.of([positives]), junk=IndexLists.of([junk]))
    found = score_queries(data_set(truth, len(row), protocol), iter([np.array(similar, np.float32)]))
    orders = all_orders(similar)
    expected = [official(order, set(positives), set(junk), protocol) for order in orders]
    assert found.figures.keys() == expected[0].keys()
    for name, figure in found.figures.items():
        assert figure[0] == pytest.approx(np.mean([one[name] for one in expected]), abs=1e-9), name
    first = [next(r for r, i in enumerate((i for i in o if i not in junk), 1) if i in positives) for o in orders]
    assert found.first_rank[0] == pytest.approx(np.mean(first))


def random_case(seed: int, protocol: str, ties: bool) -> tuple[PlaceDataset, np.ndarray]:
    rng = np.random.default_rng(seed)
    queries, database = 7, 150
    kinds = rng.choice(3, (queries, database), p=[0.85, 0.1, 0.05])
    truth = GroundTruth(
        IndexLists.of([np.flatnonzero(k == 1) for k in kinds]),
        junk=IndexLists.of([np.flatnonzero(k == 2) for k in kinds]),
    )
    similar = (
        rng.choice(40, (queries, database)) / 40
        if ties
        else rng.permuted(np.tile(np.linspace(-1, 1, database), (queries, 1)), axis=1)
    )
    return data_set(truth, database, protocol), similar.astype(np.float32)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_random_lists_without_ties(seed: int, protocol: str) -> None:
    dataset, similar = random_case(seed, protocol, ties=False)
    found = score_queries(dataset, iter(similar))
    for i, q in enumerate(found.queries):
        order = np.argsort(-similar[q], kind="stable").tolist()
        expected = official(order, set(dataset.positives[q]), set(dataset.junk[q]), protocol)
        assert {name: figure[i] for name, figure in found.figures.items()} == pytest.approx(expected)
        left = [image for image in order if image not in set(dataset.junk[q])]
        assert found.top[i] == left[0] and found.similarity[i] == similar[q][left[0]]


@given(seed=st.integers(0, 2**32), protocol=st.sampled_from(PROTOCOLS))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_database_and_more_junk_change_nothing(seed: int, protocol: str) -> None:
    """With ties: the database is permuted, and images are added that are junk for every query, some equally near."""
    dataset, similar = random_case(seed, protocol, ties=True)
    plain = score_queries(dataset, iter(similar))
    rng = np.random.default_rng(seed)
    order = rng.permutation(150)
    place = np.argsort(order)
    added = rng.choice(40, (7, 20)).astype(np.float32) / 40
    truth = GroundTruth(
        IndexLists.of([place[dataset.positives[q]] for q in range(7)]),
        junk=IndexLists.of([np.concatenate([place[dataset.junk[q]], np.arange(150, 170)]) for q in range(7)]),
    )
    other = score_queries(data_set(truth, 170, protocol), iter(np.concatenate([similar[:, order], added], axis=1)))
    for name, figure in plain.figures.items():
        np.testing.assert_allclose(other.figures[name], figure, rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(other.first_rank, plain.first_rank)
    np.testing.assert_array_equal(other.similarity, plain.similarity)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_tokyo_keeps_the_first_of_each_panorama(seed: int) -> None:
    """Twelve cut-outs of each of 30 panoramas, which all show one place; recall by the official walk."""
    rng = np.random.default_rng(seed)
    right = rng.random((5, 30)) < 0.08
    truth = GroundTruth(
        IndexLists.of([np.flatnonzero(np.repeat(row, 12)) for row in right]), database_groups=np.arange(360) // 12
    )
    similar = rng.permuted(np.tile(np.linspace(-1, 1, 360), (5, 1)), axis=1).astype(np.float32)
    found = score_queries(data_set(truth, 360), iter(similar))
    for i, q in enumerate(found.queries):
        order = np.argsort(-similar[q]).tolist()
        for n in RECALL_AT:
            expected = 100 * recall_of_tokyo(order, set(truth.positives[q].tolist()), n)
            assert found.figures[f"recall@{n}"][i] == expected


@given(seed=st.integers(0, 2**32), protocol=st.sampled_from(PROTOCOLS))
@settings(max_examples=30, deadline=None)
def test_a_group_is_as_good_as_its_nearest_image(seed: int, protocol: str) -> None:
    """With ties: figures are those of a database of one image a group, the most similar of those that are no junk."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.concatenate([np.arange(25), rng.integers(0, 25, 50)]))
    kinds = rng.choice(3, 25, p=[0.6, 0.3, 0.1])
    kinds[0] = 1
    similar = rng.integers(0, 12, 75).astype(np.float32) / 12
    extra = rng.random(75) < 0.1  # junk whatever its group
    junk = extra | (kinds[groups] == 2)
    truth = GroundTruth(
        IndexLists.of([np.flatnonzero((kinds[groups] == 1) & ~junk)]),
        junk=IndexLists.of([np.flatnonzero(junk)]),
        database_groups=groups,
    )
    there = [g for g in range(25) if not junk[groups == g].all()]
    best = np.array([similar[(groups == g) & ~junk].max() for g in there], np.float32)
    reduced = GroundTruth(IndexLists.of([[i for i, g in enumerate(there) if kinds[g] == 1]]))
    found = score_queries(data_set(truth, 75, protocol), iter([similar]))
    expected = score_queries(data_set(reduced, len(there), protocol), iter([best]))
    assert len(found.queries) == len(expected.queries)
    for name, figure in expected.figures.items():
        np.testing.assert_allclose(found.figures[name], figure, rtol=1e-9, err_msg=name)


def at_ranks(positives: list[int], length: int, protocol: str, junk: tuple[int, ...] = ()) -> dict[str, float]:
    truth = GroundTruth(IndexLists.of([positives]), junk=IndexLists.of([list(junk)]))
    found = score_queries(data_set(truth, length, protocol), iter([np.linspace(1, 0, length, dtype=np.float32)]))
    return {name: figure[0] for name, figure in found.figures.items()}


def test_worked_values() -> None:
    """By hand. Positives at 0-based ranks 0 and 2 of twelve, or 1 and 3 with junk at 0.

    mP@5 has the last positive at rank 3 (1-based): 2/3. mAP@1 is 1/1 over min(2, 1); mAP@5 (1/1 + 2/3) / 2.
    """
    expected = {"mAP": 100 * 19 / 24, "mP@1": 100, "mP@5": 200 / 3, "mP@10": 200 / 3}
    for found in (at_ranks([0, 2], 12, "revisited"), at_ranks([1, 3], 12, "revisited", junk=(0,))):
        assert {name: found[name] for name in expected} == pytest.approx(expected)
    found = at_ranks([0, 2], 12, "msls")
    assert {name: found[name] for name in ("mAP", "mAP@1", "mAP@5")} == pytest.approx(
        {"mAP": 500 / 6, "mAP@1": 100, "mAP@5": 500 / 6}
    )
    assert at_ranks([6], 12, "msls")["mAP@5"] == 0 and at_ranks([6], 12, "msls")["mAP@10"] == pytest.approx(100 / 7)
    # The last of two positives at rank 12: 1 of the first 5, 1 of the first 10.
    found = at_ranks([0, 11], 12, "revisited")
    assert (found["mP@1"], found["mP@5"], found["mP@10"]) == pytest.approx((100, 20, 10))


@pytest.fixture
def drives() -> tuple[PlaceDataset, np.ndarray, np.ndarray]:
    """Four queries of two drives, by day and by night, in two cities; the third has no positive."""
    truth = GroundTruth(
        IndexLists.of([[0], [1], [], [2]]),
        query_positions=np.array([[0, 0], [10, 0], [500, 0], [20, 0.0]]),
        database_positions=np.array([[3, 4], [10, 7], [20, 24.0]]),
        radius=25.0,
        query_conditions=np.array(["day", "night", "day", "night"]),
        query_cities=np.array(["cph", "cph", "sf", "sf"]),
        query_sequences=np.array(["a", "a", "b", "b"]),
    )
    return data_set(truth, 3), np.eye(4)[[0, 0, 1, 2]] + 0.01, np.eye(4)[:3]


def test_conditions_cities_and_the_table_of_queries(drives, tmp_path: Path) -> None:
    """The second query takes the first image for its place: it is 7 m east and 4 m north of it.

    The other two images are equally near, so that the right one is second or third.
    """
    dataset, queries, database = drives
    found = score(dataset, queries, database)
    assert found.parts["condition"]["day"]["queries"] == 1 and found.parts["condition"]["day"]["recall@1"] == 100
    assert found.parts["condition"]["night"]["queries"] == 2 and found.parts["condition"]["night"]["recall@1"] == 50
    assert {city: part["recall@1"] for city, part in found.parts["city"].items()} == {"cph": 50, "sf": 100}
    write_query_table(tmp_path / "q.csv", dataset, found.of_queries)
    with open(tmp_path / "q.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["query"] for row in rows] == ["q0", "q1", "q3"]
    assert [row["top_match"] for row in rows] == ["d0", "d0", "d2"]
    assert [row["first_correct_rank"] for row in rows] == ["1", "2.5", "1"]
    assert [float(row["metres"]) for row in rows] == pytest.approx([5, np.hypot(7, 4), 24], abs=0.01)
    assert [(row["condition"], row["city"], row["sequence"]) for row in rows] == [
        ("day", "cph", "a"), ("night", "cph", "a"), ("night", "sf", "b"),
    ]  # fmt: skip
    assert all(0 < float(row["similarity"]) <= 1 for row in rows)


def test_intervals_are_over_sequences_where_there_are_any(drives) -> None:
    """Drives of 50 % (two queries) and of 100 % (one): two draws give 50, 66.7 or 100 %."""
    dataset, queries, database = drives
    found = score(dataset, queries, database)
    assert found.intervals()["recall@1"] == (50, 100)
    alone = dataclasses.replace(dataset, truth=dataclasses.replace(dataset.truth, query_sequences=None))
    assert score(alone, queries, database).intervals()["recall@1"] == (0, 100)
    one = dataclasses.replace(dataset.truth, query_sequences=np.array(["a"] * 4))
    assert score(dataclasses.replace(dataset, truth=one), queries, database).intervals() is None


def test_a_difference_is_paired() -> None:
    """Of 200 queries of which half are found by both models, ten more are by one: 5 points, more than chance."""
    database = np.eye(200)
    dataset = data_set(GroundTruth(IndexLists.of([[i] for i in range(200)])), 200)
    ours = np.eye(200)[[i if i < 110 else (i + 1) % 200 for i in range(200)]]
    theirs = np.eye(200)[[i if i < 100 else (i + 1) % 200 for i in range(200)]]
    found = score(dataset, ours, database).differences(score(dataset, theirs, database))
    difference, (low, high) = found["recall@1"]
    assert difference == pytest.approx(5) and 1.5 < low < 3 and 7 < high < 9
    same = score(dataset, ours, database).differences(score(dataset, ours, database))
    assert same["mAP"] == (0, (0, 0))
    fewer = dataclasses.replace(dataset, truth=GroundTruth(IndexLists.of([[]] + [[i] for i in range(1, 200)])))
    with pytest.raises(ValueError, match="not of the same queries"):
        score(dataset, ours, database).differences(score(fewer, ours, database))
