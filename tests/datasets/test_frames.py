"""Folders of frames in the same order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.datasets import PlaceDataset, load_dataset

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")

Write = Callable[..., Path]


def positives(dataset: PlaceDataset) -> list[list[str]]:
    return [[dataset.database.names[i] for i in row] for row in dataset.positives]


def files(folder: str, *names: object) -> list[str]:
    return [f"{folder}/{name}.png" for name in names]


@pytest.mark.parametrize("pair", ["queries database", "query ref", "query reference", "Winter Summer"])
def test_frames_of_one_number_belong_together(write_photos: Write, pair: str) -> None:
    """VPR-Bench's names are whole numbers, and sorted as numbers."""
    query, database = pair.split()
    root = write_photos(*files(query, 2, 10, 1), *files(database, 1, 2, 3, 10, 11))
    dataset = load_dataset(f"frames:{root}")
    assert dataset.queries.names == ["1.png", "2.png", "10.png"]
    assert positives(dataset) == [["1.png"], ["2.png"], ["10.png"]]
    assert dataset.notes[0].endswith("matched by the numbers in their names")
    assert positives(load_dataset(f"frames:{root}?tolerance=1")) == [
        ["1.png", "2.png"], ["1.png", "2.png", "3.png"], ["10.png", "11.png"]
    ]  # fmt: skip
    assert positives(load_dataset(f"frames:{root}?match=order")) == [["1.png"], ["2.png"], ["3.png"]]


def test_every_tenth_frame_is_found_among_all(write_photos: Write) -> None:
    root = write_photos(*files("queries", "images-00010", "images-00020"), *files("database", *range(9, 22)))
    found = positives(load_dataset(f"nordland:{root}?tolerance=1"))
    assert found == [["9.png", "10.png", "11.png"], ["19.png", "20.png", "21.png"]]


def test_every_tenth_frame_may_be_numbered_anew(write_photos: Write) -> None:
    """gsv-cities' Nordland: query q matches the frames 10q ± 1. Whoever does not say so is told."""
    root = write_photos(*files("query", "0000", "0001", "0002"), *files("ref", *(f"{k:04d}" for k in range(25))))
    dataset = load_dataset(f"nordland:{root}?every=10&tolerance=1")
    assert [row.tolist() for row in dataset.positives] == [[0, 1], [9, 10, 11], [19, 20, 21]]
    assert not any("every=10" in note for note in dataset.notes)
    dataset = load_dataset(f"nordland:{root}?tolerance=0")
    assert [row.tolist() for row in dataset.positives] == [[0], [1], [2]]
    assert any("say every=10" in note for note in dataset.notes)
    assert not any("say every=10" in note for note in load_dataset(f"nordland:{root}?match=number").notes)
    with pytest.raises(UserError, match="every=10 is for frames in order"):
        load_dataset(f"nordland:{root}?every=10&match=number")


def test_nordland_counts_ten_frames(write_photos: Write) -> None:
    root = write_photos(*files("winter", *range(30)), *files("summer", *range(30)))
    dataset = load_dataset(f"nordland:{root}")
    assert dataset.positives.lengths.tolist() == [min(k, 10) + min(29 - k, 10) + 1 for k in range(30)]
    assert dataset.notes[0].startswith("30 of 27,592 queries and 30 of 27,592 database images")


def test_frames_of_other_numbers_belong_together_by_order(write_photos: Write) -> None:
    root = write_photos(*files("queries", "a7", "a70", "a8"), *files("database", "x1", "x2", "x3"))
    dataset = load_dataset(f"frames:{root}")
    assert dataset.queries.names == ["a7.png", "a8.png", "a70.png"]
    assert positives(dataset) == [["x1.png"], ["x2.png"], ["x3.png"]]
    assert dataset.notes[0].endswith("matched by their order")


def test_folders_may_be_named(write_photos: Write) -> None:
    root = write_photos(*files("fall", 1, 2), *files("spring", 1, 2), *files("summer", 1, 3), *files("winter", 1))
    assert positives(load_dataset(f"frames:{root}?queries=fall&database=spring")) == [["1.png"], ["2.png"]]
    with pytest.raises(UserError, match="2 queries and 1 database frames, and the numbers"):
        load_dataset(f"frames:{root}?queries=fall&database=winter")
    with pytest.raises(
        UserError, match=r"no folder autumn; name two folders, .* there are: fall, spring, summer, winter"
    ):
        load_dataset(f"frames:{root}?queries=autumn")
    with pytest.raises(UserError, match="are one folder"):
        load_dataset(f"frames:{root}?queries=fall&database=fall")


def test_missing_frames_and_truths_that_are_not_read_are_noted(write_photos: Write) -> None:
    root = write_photos(*files("queries", 1, 2, 3), *files("database", 1, 3))
    (root / "ground_truth_new.npy").write_bytes(b"")
    dataset = load_dataset(f"frames:{root}?match=number")
    assert positives(dataset) == [["1.png"], [], ["3.png"]]
    assert "ground_truth_new.npy is there and was not read" in dataset.notes
    assert "1 queries have no frame in the database" in dataset.notes


@pytest.mark.parametrize(
    "names, options, said",
    [
        ([], "", "no queries and database there"),
        (["queries/1.png", "database/a.txt.gif2"], "", "no images in .*database"),
        (["queries/1.png", "database/1.png"], "?tolerance=-1", "tolerance=-1, but"),
        (["queries/1.png", "database/1.png"], "?every=0", "every=0, but"),
        (["queries/a.png", "database/1.png"], "?match=number", "not every frame has a number of its own"),
        (["queries/1a1.png", "queries/2a1.png", "database/1.png"], "?match=number", "number of its own"),
        (["queries/" + "9" * 40 + ".png", "database/1.png"], "?match=number", "number of its own"),
    ],
)
def test_one_line_for_what_is_wrong(write_photos: Write, names: list[str], options: str, said: str) -> None:
    root = write_photos(*(name for name in names if name.endswith(".png")))
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=said) as raised:
        load_dataset(f"frames:{root}{options}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["nordland_tiny", "sped_thumb"])
def test_real_frames_give_the_positives_of_their_ground_truth(tfplaces_data: Path, name: str) -> None:
    """gt.json was made from the sets' own lists."""
    with pytest.warns(DataWarning, match="gt.json is there and was not read"):
        dataset = load_dataset(f"frames:{tfplaces_data}/{name}")
    truth = json.loads((tfplaces_data / name / "gt.json").read_text())
    expected = [[truth["database"][i] for i in row] for row in truth["positives"]]
    assert dataset.queries.names == truth["queries"]
    assert positives(dataset) == expected
