"""Pittsburgh and Tokyo Time Machine: miniatures of their layouts, and the real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.common.matlab_files import dbstruct, write_mat, write_mat73
from tfplaces.common.errors import UserError
from tfplaces.datasets import IndexLists, load_dataset, take_queries, training_sets
from tfplaces.evaluation import score

DATABASE, QUERIES = ["000/a.jpg", "000/b.jpg", "001/c.jpg"], ["000/q.jpg", "001/r.jpg"]
pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")


def rows(lists: IndexLists | None) -> list[list[int]]:
    assert lists is not None
    return [row.tolist() for row in lists]


@pytest.mark.parametrize(
    ("truth", "database", "queries"),
    [("datasets/", "", "queries_real/"), ("", "images/", "queries/"), ("datasets/", "", "")],
)
@pytest.mark.parametrize("write", [write_mat, write_mat73])
def test_pittsburgh_wherever_it_is_unpacked(
    write: Callable[..., Path], truth: str, database: str, queries: str, write_photos: Callable[..., Path]
) -> None:
    root = write_photos(*(database + name for name in DATABASE), *(queries + name for name in QUERIES))
    write(root / f"{truth}pitts30k_test.mat", dbstruct(DATABASE, QUERIES))
    dataset = load_dataset(f"pitts30k:{root}")
    assert dataset.notes == ("2 of 6,816 queries and 3 of 10,000 database images",)
    assert rows(dataset.positives) == [[0], [1]]
    assert dataset.database.names == DATABASE
    assert {dataset.database.read(k, (4, 4)).shape for k in range(3)} == {(4, 4, 3)}
    assert {dataset.queries.read(k, (4, 4)).shape for k in range(2)} == {(4, 4, 3)}


def test_photos_that_the_downloader_has_renamed(write_photos: Callable[..., Path]) -> None:
    names = ("database/@585000@4477000@17@T@@@000829@0", "database/@585040@4477000@17@T@@@000830@0",
             "queries/@585015@4477000@17@T@@@000546@0")  # fmt: skip
    root = write_photos(*(f"images/val/{name}@@@@@@@.jpg" for name in names))
    dataset = load_dataset(f"pitts250k:{root}?split=val")
    assert dataset.notes[0] == "1 of 7,608 queries and 2 of 78,648 database images"
    assert [rows(dataset.positives), rows(dataset.truth.training_positives)] == [[[0, 1]], [[]]]
    with pytest.raises(UserError, match=r"no tokyoTM_val\.mat"):  # its rule needs time stamps
        load_dataset(f"tokyotm:{root}")


def test_scored_within_25_m_and_trained_within_10(tmp_path: Path) -> None:
    distances = [0.0, 1.0, 1.01, 10.0, 10.01, 25.0, 25.01]
    positions = np.array([distances, [0.0] * 7])
    names = [f"{k}.jpg" for k in range(7)]
    write_mat(tmp_path / "pitts250k_val.mat", dbstruct(names, ["q.jpg"], utmDb=positions))
    truth = load_dataset(f"pitts250k:{tmp_path}?split=val").truth
    assert rows(truth.positives) == [[0, 1, 2, 3, 4, 5]]
    assert rows(truth.training_positives) == [[2, 3]]
    assert truth.never_negative(0).tolist() == [0, 1, 2, 3, 4, 5]


def test_splits_to_train_and_to_judge_by(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        names = [f"{k}.jpg" for k in range(count)]
        write_mat(tmp_path / f"pitts30k_{split}.mat", dbstruct(names, ["q.jpg"]))
    training, validation = training_sets(f"pitts30k:{tmp_path}")
    assert [len(training.database), len(validation.database)] == [3, 2]


@pytest.mark.parametrize("stamps", [([201301, 201302, 201301, 201302], [201301]), (["a", "b", "a", "b"], ["a"])])
def test_tokyo_time_machine_leaves_out_the_same_time(stamps: tuple[list, list], tmp_path: Path) -> None:
    positions = np.array([[2.0, 3.0, 90.0, 12.0], [0.0] * 4])
    database, queries = (np.array([s]) if isinstance(s[0], int) else s for s in stamps)
    fields = dbstruct([f"{k}.jpg" for k in range(4)], ["q.jpg"], utmDb=positions)
    # The stamps stand behind the positions, so that nothing can be read by its place.
    order = ["whichSet", "dbImageFns", "utmDb", "dbTimeStamp", "qImageFns", "utmQ", "qTimeStamp"]
    fields |= {"dbTimeStamp": database, "qTimeStamp": queries}
    write_mat(tmp_path / "tokyoTM_train.mat", {name: fields[name] for name in [*order, *fields]})
    truth = load_dataset(f"tokyotm:{tmp_path}?split=train").truth
    assert rows(truth.positives) == [[1, 3]]  # 2 m away, but at the query's time
    assert rows(truth.training_positives) == [[1]]
    assert rows(truth.junk) == [[0, 2]]


def test_missing_images_are_counted_and_reading_one_says_so(write_photos: Callable[..., Path]) -> None:
    root = write_photos(DATABASE[0], "queries/" + QUERIES[0])
    write_mat(root / "pitts30k_test.mat", dbstruct(DATABASE, QUERIES))
    dataset = load_dataset(f"pitts30k:{root}")
    assert [note.split(" are missing")[0] for note in dataset.notes[1:]] == [
        "2 of 3 database images",
        "1 of 2 queries",
    ]
    assert dataset.database.read(0, (4, 4)).shape == (4, 4, 3)
    with pytest.raises(UserError, match=r"b\.jpg"):
        dataset.database.read(1, (4, 4))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_dataset(f"pitts30k:{tmp_path}/none")
    with pytest.raises(UserError, match=r"no pitts30k_test\.mat there or in datasets$"):
        load_dataset(f"pitts30k:{tmp_path}")
    with pytest.raises(UserError, match="split=test is not one of train, val"):
        load_dataset(f"tokyotm:{tmp_path}?split=test")


# The published sizes, and the mean number of database images within 25 m and from 1 to 10 m of a query.
@pytest.mark.parametrize(
    ("spec", "queries", "database", "positives", "training"),
    [
        ("pitts30k:{}", 6_816, 10_000, 142.1, 37.3),
        ("pitts30k:{}?split=train", 7_416, 10_000, 137.2, 41.2),
        ("pitts30k:{}?split=val", 7_608, 10_000, None, None),
        ("pitts250k:{}", 8_280, 83_952, 153.6, 40.0),
    ],
)
def test_real_files(
    spec: str, queries: int, database: int, positives: float | None, training: float | None, tfplaces_data: Path
) -> None:
    dataset = load_dataset(spec.format(tfplaces_data / "importers"))
    assert (len(dataset.queries), len(dataset.database)) == (queries, database)
    assert dataset.notes[0] == f"{queries:,} of {queries:,} queries and {database:,} of {database:,} database images"
    if positives:
        assert dataset.positives.lengths.mean() == pytest.approx(positives, abs=0.05)
        assert dataset.truth.training_positives.lengths.mean() == pytest.approx(training, abs=0.05)


def test_recall_on_a_real_file_is_that_of_brute_force(tfplaces_data: Path) -> None:
    """Recall as recallAtN.m counts it, from squared distances of all pairs; descriptors know the place a little."""
    dataset = load_dataset(f"pitts30k:{tfplaces_data / 'importers'}")
    truth = dataset.truth
    rng = np.random.default_rng(0)
    kept = np.arange(0, len(dataset.queries), 17)
    where = [truth.query_positions[kept], truth.database_positions]
    plane = rng.normal(size=(2, 16)) / 60
    descriptors = [np.cos((p - where[1].mean(0)) @ plane) + rng.normal(0, 0.3, (len(p), 16)) for p in where]
    ours, theirs = (d / np.linalg.norm(d, axis=1, keepdims=True) for d in descriptors)
    squared = ((where[0][:, None] - where[1][None]) ** 2).sum(-1)
    ranked = np.argsort(-(ours @ theirs.T), axis=1, kind="stable")
    hit = np.take_along_axis(squared <= 625, ranked, axis=1)
    scores = score(take_queries(dataset, kept), ours, theirs)
    for n, share in scores.recall.items():
        assert share == pytest.approx(100 * hit[:, :n].any(1).mean(), abs=1e-9)
    assert 5 < scores.recall[1] < 95
