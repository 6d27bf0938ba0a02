"""Revisited Oxford and Paris in miniature, and ground truth that is damaged or means harm."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import load_dataset, load_image
from tfplaces.evaluation import score

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")
IMAGES, QUERIES = [f"all_souls_{k:06d}" for k in range(6)], ["q_0", "q_1"]


def gnd(**more: Any) -> dict[str, Any]:
    queries = [
        {"bbx": [2.4, 1.6, 10.0, 9.0], "easy": [0, 1], "hard": [2], "junk": [3]},
        {"bbx": [0, 0, 500.0, 500.0], "easy": np.array([], int), "hard": np.array([5]), "junk": np.array([0])},
    ]
    return {"imlist": IMAGES, "qimlist": QUERIES, "gnd": queries} | more


@pytest.fixture
def oxford(write_photos: Callable[..., Path]) -> Path:
    root = write_photos(*(f"jpg/{name}.jpg" for name in IMAGES + QUERIES))
    (root / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(gnd()))
    return root


@pytest.mark.parametrize(
    ("difficulty", "positives", "junk"),
    [
        ("easy", [[0, 1], []], [[2, 3], [0, 5]]),
        ("medium", [[0, 1, 2], [5]], [[3], [0]]),
        ("hard", [[2], [5]], [[0, 1, 3], [0]]),
    ],
)
def test_difficulties(difficulty: str, positives: list, junk: list, oxford: Path) -> None:
    dataset = load_dataset(f"roxford5k:{oxford}?difficulty={difficulty}")
    assert [row.tolist() for row in dataset.positives] == positives
    assert [row.tolist() for row in dataset.junk] == junk
    assert dataset.notes == ("2 of 70 queries and 6 of 4,993 database images",)
    assert dataset.protocol == "revisited"


def test_queries_are_their_boxes(oxford: Path) -> None:
    dataset = load_dataset(f"roxford5k:{oxford}")
    whole = load_image(oxford / "jpg/q_0.jpg")
    np.testing.assert_array_equal(dataset.queries.read(0, (7, 8)), whole[2:9, 2:10])
    np.testing.assert_array_equal(dataset.queries.read(1, whole.shape[:2]), load_image(oxford / "jpg/q_1.jpg"))
    assert dataset.database.names == [f"jpg/{name}.jpg" for name in IMAGES]


def test_paris_in_its_folders(write_photos: Callable[..., Path]) -> None:
    root = write_photos(*(f"paris/{name[:3]}/{name}.jpg" for name in IMAGES + QUERIES))
    (root / "gnd_rparis6k.pkl").write_bytes(pickle.dumps(gnd(), protocol=2))
    dataset = load_dataset(f"rparis6k:{root}")
    assert dataset.notes == ("2 of 70 queries and 6 of 6,322 database images",)
    assert dataset.database.names[0] == f"paris/all/{IMAGES[0]}.jpg"


def test_average_precision_is_that_of_the_official_code(oxford: Path) -> None:
    """compute_ap of evaluate.py, on ranks from which junk is taken: written out here from its description."""
    rng = np.random.default_rng(1)
    queries, database = (rng.normal(size=(n, 4)) for n in (2, 6))
    queries, database = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries, database))
    for difficulty in ("easy", "medium", "hard"):
        dataset = load_dataset(f"roxford5k:{oxford}?difficulty={difficulty}")
        expected = []
        for q in range(2):
            ranked = [i for i in np.argsort(-(database @ queries[q])) if i not in dataset.junk[q]]
            ranks = [r for r, i in enumerate(ranked) if i in dataset.positives[q]]
            if ranks:
                before = [1.0 if r == 0 else j / r for j, r in enumerate(ranks)]
                at = [(j + 1) / (r + 1) for j, r in enumerate(ranks)]
                expected.append((sum(before) + sum(at)) / (2 * len(ranks)))
        found = score(dataset, queries, database)
        assert found.map == pytest.approx(100 * np.mean(expected)) and list(found.precision_at) == [1, 5, 10]


def test_missing_images_are_counted(oxford: Path) -> None:
    os.remove(oxford / f"jpg/{IMAGES[2]}.jpg")
    assert "1 of 6 database images are missing" in load_dataset(f"roxford5k:{oxford}").notes[1]


class Caller:
    def __reduce__(self) -> Any:
        return os.mkdir, ("called",)


QUERY = {"bbx": [0, 0, 9, 9], "easy": [0], "hard": [], "junk": []}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Caller(), r"it would import (posix|nt)\.mkdir"),
        (gnd(gnd=[QUERY, Caller()]), r"it would import (posix|nt)\.mkdir"),
        ([], "expected a dictionary of the lists imlist, qimlist and gnd"),
        (gnd(imlist=["../a", "b"]), "no name of a file inside the folder"),
        (gnd(imlist=[1, 2]), "imlist is no list of names"),
        (gnd(gnd=[QUERY]), "2 queries, but ground truth for 1"),
        (gnd(gnd=[QUERY, 5]), "query q_1: its ground truth is no dictionary"),
        (
            gnd(gnd=[QUERY, QUERY | {"easy": [6]}]),
            "query q_1: easy is no list of database images, numbered from 0 to 5",
        ),
        (gnd(gnd=[QUERY, QUERY | {"easy": [-1]}]), "query q_1: easy is no list"),
        (gnd(gnd=[QUERY, QUERY | {"easy": [0.5]}]), "query q_1: easy is no list"),
        (gnd(gnd=[QUERY, QUERY | {"easy": [float("nan")]}]), "query q_1: easy is no list"),
        (gnd(gnd=[QUERY, QUERY | {"hard": None}]), "query q_1: hard is no list"),
        (gnd(gnd=[QUERY, QUERY | {"junk": [0]}]), "query q_1: an image is listed both as junk and as easy or hard"),
        (gnd(gnd=[QUERY, QUERY | {"bbx": [5, 5, 5, 9]}]), "query q_1: bbx is no box"),
        (gnd(gnd=[QUERY, QUERY | {"bbx": [1e300, 5, 1e301, 9]}]), "query q_1: bbx is no box"),
        (gnd(gnd=[QUERY, QUERY | {"bbx": [100, 100, 200, 200]}]), "q_1.jpg: the query's box .* lies outside"),
    ],
)
def test_hostile(value: Any, message: str, oxford: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(oxford)
    (oxford / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(UserError, match=message) as raised:
        load_dataset(f"roxford5k:{oxford}")
    assert "\n" not in str(raised.value)
    assert not (oxford / "called").exists()


def test_a_list_that_is_listed_without_end(oxford: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfplaces.datasets.revisited._MAX_LISTED", 1000)
    many = {"qimlist": ["q_0"] * 500, "gnd": [QUERY] * 500}
    (oxford / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(gnd(**many)))
    with pytest.raises(UserError, match="its queries list more than 1,000 images"):
        load_dataset(f"roxford5k:{oxford}")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_dataset(f"roxford5k:{tmp_path}/none")
    with pytest.raises(UserError, match=r"no gnd_roxford5k\.pkl there"):
        load_dataset(f"roxford5k:{tmp_path}")
    with pytest.raises(UserError, match="difficulty=mild is not one of easy, medium, hard"):
        load_dataset(f"roxford5k:{tmp_path}?difficulty=mild")
