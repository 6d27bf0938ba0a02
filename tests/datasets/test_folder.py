"""The four layouts of a folder of photos, and everything that can be wrong with one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.datasets import PlaceDataset, load_dataset, load_image

Write = Callable[..., Path]


def open_folder(path: Path) -> PlaceDataset:
    return load_dataset(f"folder:{path}")


def positives(dataset: PlaceDataset) -> list[list[int]]:
    return [list(row) for row in dataset.positives]


def test_ground_truth(write_photos: Write) -> None:
    """Layout (a): the order of gt.json, not that of the names; duplicate positives are one, rows are sorted."""
    root = write_photos("database/z.png", "database/a.png", "database/m.png", "queries/q.png", "queries/p.png")
    truth = {"queries": ["q.png", "p.png"], "database": ["z.png", "a.png", "m.png"], "positives": [[2, 0, 2], []]}
    (root / "gt.json").write_text(json.dumps({**truth, "info": {"any": "thing"}}))
    dataset = open_folder(root)
    assert dataset.spec == f"folder:{root}"
    assert dataset.protocol == "plain"
    assert dataset.database.names == ["z.png", "a.png", "m.png"]
    assert dataset.queries.names == ["q.png", "p.png"]
    assert positives(dataset) == [[0, 2], []]
    assert all(row.dtype == np.int64 for row in dataset.positives)
    assert dataset.database_places is None
    for part, name in (("database", "z.png"), ("queries", "q.png")):
        expected = load_image(root / part / name, (5, 7))
        np.testing.assert_array_equal(getattr(dataset, part).read(0, (5, 7)), expected)


def test_labels(write_photos: Write) -> None:
    """Layout (b): of each place the first by name is the query; images without a label do not count."""
    root = write_photos(*(f"images/{name}.png" for name in "abcdefg"))
    labels = {"d.png": "mill", "a.png": 7, "c.png": "mill", "b.png": 7, "e.png": "7", "f.png": "alone"}
    (root / "labels.json").write_text(json.dumps(labels))
    dataset = open_folder(root)
    assert dataset.queries.names == ["a.png", "c.png", "f.png"]
    assert dataset.database.names == ["b.png", "d.png", "e.png"]
    assert positives(dataset) == [[0, 2], [1], []]
    assert dataset.database_places.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(dataset.database.read(1, (4, 4)), load_image(root / "images/d.png", (4, 4)))


def test_sub_folders(write_photos: Write) -> None:
    """Layout (c): hidden files, hidden folders, empty folders and what is no image do not count."""
    root = write_photos(
        "mill/2.png", "mill/1.JPG", "mill/3.png", "bridge/b.png", "bridge/a.png", ".x/h.png", "inn/.h.png"
    )
    (root / "mill" / "notes.txt").write_text("hello")
    (root / "readme.txt").write_text("hello")
    dataset = open_folder(root)
    assert dataset.queries.names == ["bridge/a.png", "mill/1.JPG"]
    assert dataset.database.names == ["bridge/b.png", "mill/2.png", "mill/3.png"]
    assert positives(dataset) == [[0], [1, 2]]
    assert dataset.database_places.tolist() == [0, 1, 1]


def test_flat(write_photos: Write) -> None:
    """Layout (d): unlabelled."""
    dataset = open_folder(write_photos("b.png", "a.jpeg", "c.webp"))
    assert dataset.database.names == ["a.jpeg", "b.png", "c.webp"]
    assert len(dataset.queries) == 0 == len(dataset.positives)


def test_positives_belong_to_the_places(write_photos: Write) -> None:
    """For many places: a positive of a query is a database image of its folder, and every one is."""
    rng = np.random.default_rng(0)
    names = [f"{place}/{image}.png" for place in rng.permutation(30) for image in rng.permutation(rng.integers(1, 5))]
    dataset = open_folder(write_photos(*names, size=(2, 2)))
    assert len(dataset.queries) == 30
    for name, row in zip(dataset.queries.names, dataset.positives, strict=True):
        place = name.split("/")[0] + "/"
        assert list(row) == [i for i, other in enumerate(dataset.database.names) if other.startswith(place)]


GOOD = {"queries": ["q.png"], "database": ["a.png", "b.png"], "positives": [[1]]}


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("{", "no JSON: Expecting property name"),
        ("", "no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ([], 'expected {"queries": '),
        ({}, 'expected {"queries": '),
        ({**GOOD, "positives": {"q.png": [1]}}, "has no list 'positives' of the positives of each query"),
        ('{"queries": ["q.png"], "queries": [], "database": [], "positives": []}', "queries"),
        ({**GOOD, "database": "a.png"}, 'expected {"queries": '),
        ({**GOOD, "database": [1, 2]}, "a file name is not a string"),
        ({**GOOD, "queries": [["q.png"]]}, "a file name is not a string"),
        ({**GOOD, "database": ["a.png", "x.png", "y.png"]}, "2 of 3 images missing under .*database, first: x.png"),
        ({**GOOD, "queries": ["q.png", "x.png"]}, "1 of 2 images missing under .*queries, first: x.png"),
        ({**GOOD, "queries": [""]}, "no file can have the name"),
        ({**GOOD, "queries": ["q\0.png"]}, "no file can have the name"),
        ({**GOOD, "database": ["../a.png"]}, r"\.\./a\.png points outside .*database"),
        ({**GOOD, "database": ["x/../../a.png"]}, "points outside"),
        ({**GOOD, "database": ["..\\a.png"]}, "points outside"),
        ({**GOOD, "database": ["/etc/passwd"]}, "/etc/passwd points outside"),
        ({**GOOD, "database": []}, "database is empty"),
        ({**GOOD, "positives": []}, "1 queries, but positives for 0"),
        ({**GOOD, "positives": [[0], [1]]}, "1 queries, but positives for 2"),
        ({**GOOD, "positives": [[2]]}, "positive 2 of q.png is out of range: the database has 2 images"),
        ({**GOOD, "positives": [[-1]]}, "positive -1 of q.png is out of range"),
        ({**GOOD, "positives": [[10**30]]}, "out of range"),
        ({**GOOD, "positives": [1]}, "positives of q.png are not a list of whole numbers"),
        ({**GOOD, "positives": [["a.png"]]}, "positives of q.png are not a list of whole numbers"),
        ({**GOOD, "positives": [[0.0]]}, "positives of q.png are not a list of whole numbers"),
        ({**GOOD, "positives": [[True]]}, "positives of q.png are not a list of whole numbers"),
    ],
)  # fmt: skip
def test_bad_ground_truth(truth: Any, message: str, write_photos: Write) -> None:
    root = write_photos("database/a.png", "database/b.png", "queries/q.png", "a.png")
    (root / "gt.json").write_text(truth if isinstance(truth, str) else json.dumps(truth))
    with pytest.raises(ValueError, match=f"^{root}/gt.json: .*{message}"):
        open_folder(root)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("nothing", "no JSON"),
        ([], 'expected {"file name": "label"'),
        ({}, 'expected {"file name": "label"'),
        ({"a.png": ["mill"]}, 'expected {"file name": "label"'),
        ({"a.png": None}, 'expected {"file name": "label"'),
        ({"a.png": "x", "no.png": "x"}, "1 of 2 images missing under .*images, first: no.png"),
        ({"../gt.png": "x"}, "points outside"),
    ],
)
def test_bad_labels(labels: Any, message: str, write_photos: Write) -> None:
    root = write_photos("images/a.png", "images/b.png", "gt.png")
    (root / "labels.json").write_text(labels if isinstance(labels, str) else json.dumps(labels))
    with pytest.raises(ValueError, match=f"^{root}/labels.json: .*{message}"):
        open_folder(root)


def test_bytes_that_are_no_text(write_photos: Write) -> None:
    root = write_photos("images/a.png")
    (root / "labels.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"labels\.json: no JSON"):
        open_folder(root)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no images there .*jpg"),
        (["a.txt", "b/c.txt"], "no images there"),
        (["a/1.png", "a/2.png", "beside.png"], "1 sub-folders; move the 1 beside them .* first: beside.png"),
        (["a/1.png", "b/1.png"], "each place has one image only"),
    ],
)
def test_folders_without_use(names: list[str], message: str, write_photos: Write) -> None:
    root = write_photos(*(name for name in names if name.endswith("png")))
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        if name.endswith("txt"):
            (root / name).write_text("hello")
    with pytest.raises(ValueError, match=f"^folder:{root}: .*{message}"):
        open_folder(root)


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    for name in ("nothing", "file"):
        with pytest.raises(ValueError, match=f"^folder:{tmp_path}/{name}: no such folder"):
            open_folder(tmp_path / name)


def test_a_damaged_photo_is_named_when_read(write_photos: Write) -> None:
    root = write_photos("a/1.png", "a/2.png")
    (root / "a/2.png").write_bytes(b"hello")
    with pytest.raises(ValueError, match=f"^{root}/a/2.png: cannot be read"):
        open_folder(root).database.read(0, (4, 4))


@pytest.mark.parametrize(
    ("name", "queries", "database"), [("corridor", 111, 111), ("amos_night", 204, 204), ("ietower", 598, 628)]
)
def test_real_sets(name: str, queries: int, database: int, tfplaces_data: Path) -> None:
    dataset = open_folder(tfplaces_data / name)
    assert (len(dataset.queries), len(dataset.database)) == (queries, database)
    assert dataset.queries.read(0, (60, 80)).shape == (60, 80, 3)


def test_all_folders_below_a_place_belong_to_it(write_photos: Callable[..., Path]) -> None:
    root = write_photos("a/1.png", "a/left/2.png", "a/left/far/3.png", "b/right/1.png", "b/right/2.png")
    with pytest.warns(DataWarning, match="4 images lie in folders below a place's folder and count to .*: a, b"):
        dataset = load_dataset(f"folder:{root}")
    assert dataset.queries.names == ["a/1.png", "b/right/1.png"]
    assert dataset.database.names == ["a/left/2.png", "a/left/far/3.png", "b/right/2.png"]
    assert dataset.database_places.tolist() == [0, 0, 1]


def test_what_is_left_out_is_said(write_photos: Callable[..., Path]) -> None:
    root = write_photos("a/1.png", "a/2.png")
    for name in ("3.HEIC", "4.heic", "5.cr2", "notes.txt"):
        (root / "a" / name).write_bytes(b"x")
    with pytest.warns(DataWarning, match=r"left out: 2 \.heic \(.*\), 1 \.cr2") as warned:
        dataset = load_dataset(f"folder:{root}")
    assert len(warned) == 1 and len(dataset.notes) == 1 and "txt" not in dataset.notes[0]
    for name in ("1.png", "2.png"):
        (root / "a" / name).unlink()
    with pytest.raises(UserError, match=r"no images there; left out: 2 \.heic"):
        load_dataset(f"folder:{root}")


def test_links_to_folders_are_followed(write_photos: Callable[..., Path]) -> None:
    root = write_photos("set/a/1.png", "elsewhere/1.png", "elsewhere/2.png")
    (root / "set" / "b").symlink_to("../elsewhere")
    (root / "set" / "a" / "loop").symlink_to("..")
    with pytest.warns(DataWarning, match="1 links back to a folder above"):
        dataset = load_dataset(f"folder:{root}/set")
    assert [*dataset.queries.names, *dataset.database.names] == ["a/1.png", "b/1.png", "b/2.png"]


def test_names_of_other_systems(write_photos: Callable[..., Path]) -> None:
    """Backslashes, another Unicode form, a byte order mark: as a list made on Windows or macOS has them."""
    root = write_photos("queries/sub/q.png", "database/caf\u00e9.png", "database/B.PNG")
    gt = {"queries": ["sub\\q.png"], "database": ["cafe\u0301.png", "b.png"], "positives": [[0]]}
    (root / "gt.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(gt).encode())
    dataset = load_dataset(f"folder:{root}")
    assert (dataset.queries.names, dataset.database.names) == (["sub/q.png"], ["caf\u00e9.png", "B.PNG"])
    (root / "gt.json").write_bytes(json.dumps(gt, ensure_ascii=False).encode("utf-16"))
    assert load_dataset(f"folder:{root}").database.names == dataset.database.names


def test_queries_that_are_in_the_database_are_counted(write_photos: Callable[..., Path]) -> None:
    root = write_photos("a/1.png", "a/2.png", "b/1.png", "b/2.png", "c/1.png", "c/2.png")
    assert load_dataset(f"folder:{root}").notes == ()
    (root / "b" / "3.png").write_bytes((root / "b" / "1.png").read_bytes())
    with pytest.warns(DataWarning, match="1 of 3 queries are in the database too, byte by byte"):
        load_dataset(f"folder:{root}")
    (root / "a" / "4.png").symlink_to("1.png")
    with pytest.warns(DataWarning, match="2 of 3 queries"):
        load_dataset(f"folder:{root}")
    # Of one size, and alike at the beginning.
    for name, end in (("1.png", b"1"), ("2.png", b"2")):
        (root / "c" / name).write_bytes((root / "a" / "1.png").read_bytes() + b"\0" * 100_000 + end)
    with pytest.warns(DataWarning, match="2 of 3 queries"):
        load_dataset(f"folder:{root}")
