"""gsv-cities' lists and Patch-NetVLAD's positions: miniatures, real files, and files that do not fit or mean harm."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import load_dataset

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")
DATABASE, QUERIES = ["ref/0.jpg", "ref/1.jpg", "ref/2.jpg"], ["query/0.jpg", "query/1.jpg"]


def rows(*lists: Any) -> np.ndarray:
    made = np.empty(len(lists), object)
    made[:] = lists
    return made


def write_lists(root: Path, truth: Any, name: str = "Inria", ending: str = "gt", **more: Any) -> Path:
    arrays = {"dbImages": np.array(DATABASE), "qImages": np.array(QUERIES), ending: truth} | more
    for part, array in arrays.items():
        np.save(root / f"{name}_{part}.npy", array, allow_pickle=True)
    return root


@pytest.mark.parametrize("ending", ["gt", "gt_25m", "pIdx"])
@pytest.mark.parametrize(
    ("truth", "positives"),
    [
        (rows(np.array([0, 1]), np.array([2])), [[0, 1], [2]]),
        (rows([2, 0], []), [[0, 2], []]),
        (np.array([[1], [2]]), [[1], [2]]),
        (np.array([1, 2]), [[1], [2]]),
        (np.array([[0, 1], [1, 2]]), [[0, 1], [1, 2]]),
    ],
)
def test_lists(ending: str, truth: np.ndarray, positives: list, write_photos: Callable[..., Path]) -> None:
    root = write_lists(write_photos(*DATABASE, *QUERIES), truth, ending=ending)
    dataset = load_dataset(f"npy:{root}")
    assert [row.tolist() for row in dataset.positives] == positives
    assert dataset.notes == ("2 of 300 queries and 3 of 512 database images",)
    assert dataset.database.read(2, (4, 4)).shape == dataset.queries.read(1, (4, 4)).shape == (4, 4, 3)


def test_queries_that_count(tmp_path: Path) -> None:
    """Of MSLS's 747 queries 740 do."""
    write_lists(tmp_path, rows(np.array([2])), "msls_val", "pIdx", qIdx=np.array([1]))
    write_lists(tmp_path, np.array([0, 1]), "other")
    dataset = load_dataset(f"npy:{tmp_path}?set=msls_val")
    assert dataset.queries.names == ["query/1.jpg"]
    assert [row.tolist() for row in dataset.positives] == [[2]]
    with pytest.raises(UserError, match=r"name one with set=…: msls_val, other"):
        load_dataset(f"npy:{tmp_path}")


class Caller:
    def __reduce__(self) -> Any:
        return os.mkdir, ("called",)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (rows(Caller(), [1]), r"it would import (posix|nt)\.mkdir"),
        (rows([0]), "2"),
        (rows([0], [3]), "query 1: no list of whole numbers from 0 to 2"),
        (rows([0], [-1]), "query 1: no list"),
        (rows([0], [0.5]), "query 1: no list"),
        (rows([0], [2**70]), "query 1: no list"),
        (rows([0], None), "query 1: no list"),
        (rows([0], "12"), "query 1: no list"),
        (rows([0], np.zeros((1, 1), int)), "query 1: no list"),
        (np.array([0.0, 1.0]), "query 0: no list"),
        (np.array(5), "positives of"),
    ],
)
def test_lists_that_do_not_fit(truth: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_lists(tmp_path, truth)
    with pytest.raises(UserError, match=message) as raised:
        load_dataset(f"npy:{tmp_path}")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "called").exists()


def test_a_list_that_is_listed_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfplaces.datasets.numpy_truth._MAX_POSITIVES", 10)
    row = np.arange(3)
    write_lists(tmp_path, rows(*[row] * 50), qImages=np.array(["q.jpg"] * 50))
    with pytest.raises(UserError, match="lists more than 10 positives"):
        load_dataset(f"npy:{tmp_path}")


def test_lists_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no SET_dbImages\.npy there"):
        load_dataset(f"npy:{tmp_path}")
    write_lists(tmp_path, np.array([0, 1]), ending="x")
    with pytest.raises(UserError, match=r"none of Inria_gt\.npy, Inria_gt_25m\.npy, Inria_pIdx\.npy there"):
        load_dataset(f"npy:{tmp_path}")
    write_lists(tmp_path, np.array([0, 1]), dbImages=np.arange(3))
    with pytest.raises(UserError, match="is no list of file names"):
        load_dataset(f"npy:{tmp_path}")
    with pytest.raises(UserError, match="no such folder"):
        load_dataset(f"npy:{tmp_path}?images={tmp_path}/none")


def write_positions(root: Path, **more: Any) -> Path:
    places = {"utmDb": np.array([[0.0, 0], [30, 0], [99, 0]]), "utmQ": np.array([[5.0, 0], [200, 0]]), "posDistThr": 25}
    folder = root / "dataset_gt_files"
    folder.mkdir(exist_ok=True)
    np.savez(folder / "pitts30k_test.npz", **(places | more))
    return folder / "pitts30k_test.npz"


def write_names(root: Path, folder: str = "dataset_imagenames", name: str = "pitts30k") -> None:
    (root / folder).mkdir(exist_ok=True)
    (root / folder / f"{name}_imageNames_index.txt").write_text("\n".join(DATABASE) + "\n")
    (root / folder / f"{name}_imageNames_query.txt").write_text("\n".join(f"./{name}" for name in QUERIES) + "\n")


def test_positions_and_lists_where_patch_netvlad_has_them(write_photos: Callable[..., Path]) -> None:
    root = write_photos(*(f"photos/{name}" for name in DATABASE + QUERIES))
    write_names(root)
    dataset = load_dataset(f"npz:{write_positions(root)}?images={root}/photos")
    assert [row.tolist() for row in dataset.positives] == [[0, 1], []]
    assert dataset.notes == ("2 queries and 3 database images",)
    assert dataset.queries.read(1, (4, 4)).shape == (4, 4, 3)
    dataset = load_dataset(f"npz:{write_positions(root)}?radius=10")
    assert [row.tolist() for row in dataset.positives] == [[0], []]


def test_lists_that_are_named(tmp_path: Path) -> None:
    write_names(tmp_path, "mine", "x")
    lists = f"database={tmp_path}/mine/x_imageNames_index.txt&queries={tmp_path}/mine/x_imageNames_query.txt"
    dataset = load_dataset(f"npz:{write_positions(tmp_path)}?{lists}")
    assert dataset.queries.names == QUERIES
    swapped = lists.replace("index", "other").replace("query", "index")
    (tmp_path / "mine/x_imageNames_other.txt").write_text("\n".join(DATABASE))
    with pytest.raises(UserError, match=r"3 names, but .* has 2 positions"):
        load_dataset(f"npz:{write_positions(tmp_path)}?{swapped}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"utmQ": np.zeros((2, 4))}, "utmQ is of type float64 and shape"),
        ({"utmQ": np.array(["a", "b"])}, "utmQ is of type"),
        ({"utmQ": np.full((2, 2), np.nan)}, "npz: utmQ has a position that is not finite"),
        ({"posDistThr": np.arange(2)}, "posDistThr is of type"),
        ({"posDistThr": -1}, "a radius of -1"),
        ({"utmDb": np.zeros((3, 3))}, "utmQ and utmDb are not of one number of coordinates"),
    ],
)
def test_positions_that_do_not_fit(change: dict, message: str, tmp_path: Path) -> None:
    write_names(tmp_path)
    with pytest.raises(UserError, match=message) as raised:
        load_dataset(f"npz:{write_positions(tmp_path, **change)}")
    assert "\n" not in str(raised.value)


def test_positions_that_are_not_there(tmp_path: Path) -> None:
    path = write_positions(tmp_path)
    with pytest.raises(UserError, match="no list of its images: name it with database=FILE"):
        load_dataset(f"npz:{path}")
    np.savez(path, utmQ=np.zeros((2, 2)))
    with pytest.raises(UserError, match="has no array utmDb"):
        load_dataset(f"npz:{path}")


def test_real_lists(tfplaces_data: Path) -> None:
    """Inria's 300 queries find 1.7 images each on average; the files are those of gsv-cities."""
    dataset = load_dataset(f"npy:{tfplaces_data}/importers/gsvcities_npy?set=Inria")
    assert dataset.notes[0] == "300 of 300 queries and 512 of 512 database images"
    truth = np.load(tfplaces_data / "importers/gsvcities_npy/Inria_gt.npy", allow_pickle=True)
    assert [row.tolist() for row in dataset.positives] == [sorted(row.tolist()) for row in truth]


@pytest.mark.parametrize(
    ("name", "queries", "database"),
    [("patchnetvlad_pitts30k_test", 6_816, 10_000), ("patchnetvlad_tokyo247", 315, 75_984)],
)
def test_real_positions(name: str, queries: int, database: int, tfplaces_data: Path, tmp_path: Path) -> None:
    """The names are not at hand; Pittsburgh's positives are those of the `.mat` file."""
    for part, count in (("queries", queries), ("database", database)):
        (tmp_path / part).write_text("\n".join(f"{k}.jpg" for k in range(count)))
    lists = f"queries={tmp_path}/queries&database={tmp_path}/database"
    dataset = load_dataset(f"npz:{tfplaces_data}/importers/{name}.npz?{lists}")
    assert dataset.notes[0] == f"{queries:,} queries and {database:,} database images"
    if "pitts" in name:
        mat = load_dataset(f"pitts30k:{tfplaces_data}/importers").positives
        np.testing.assert_array_equal(dataset.positives.lengths, mat.lengths)
        assert all(np.array_equal(a, b) for a, b in zip(dataset.positives, mat, strict=True))
