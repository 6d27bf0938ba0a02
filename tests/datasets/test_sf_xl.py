"""San Francisco eXtra Large in miniature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import load_dataset

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")


def photo(folder: str, east: float, panorama: str, heading: str = "90") -> str:
    return f"{folder}/@{east:.2f}@4178000.00@10@S@37.7@-122.4@{panorama}@@{heading}@@@@201309@@.jpg"


@pytest.mark.parametrize("part", ["processed/", "", "small/"])
def test_queries_of_the_test(part: str, write_photos: Callable[..., Path]) -> None:
    root = write_photos(
        photo(f"{part}test/database", 550000, "a"),
        photo(f"{part}test/database", 550100, "b"),
        photo(f"{part}test/queries_v1", 550020, "", ""),
        photo(f"{part}test/queries_night", 550090, "x"),
        photo(f"{part}test/queries_night", 550200, "y"),
    )
    dataset = load_dataset(f"sfxl:{root}")
    assert [row.tolist() for row in dataset.positives] == [[0]]
    assert dataset.notes[0] == "1 of 1,000 queries and 2 of about 2,800,000 database images"
    assert dataset.spec == f"sfxl:{root}"
    dataset = load_dataset(f"sfxl:{root}?queries=night")
    assert [row.tolist() for row in dataset.positives] == [[1], []]
    assert dataset.notes[0].startswith("2 of 466 queries")


def test_other_splits(write_photos: Callable[..., Path]) -> None:
    root = write_photos(
        photo("train", 550000, "a"),
        photo("train", 550005, "b"),
        photo("val/database", 551000, "c"),
        photo("val/queries", 551001, "d"),
    )
    dataset = load_dataset(f"sfxl:{root}", split="val")
    assert [row.tolist() for row in dataset.positives] == [[0]]
    training = load_dataset(f"sfxl:{root}?split=train")
    assert [row.tolist() for row in (training.others(0), training.others(1))] == [[1], [0]]


def test_what_is_not_there(write_photos: Callable[..., Path]) -> None:
    root = write_photos(photo("test/database", 550000, "a"), photo("test/queries_v2", 550000, "a"))
    with pytest.raises(UserError, match="no folder val there, nor in processed"):
        load_dataset(f"sfxl:{root}?split=val")
    with pytest.raises(UserError, match=r"no queries_v1 in .*; there is queries=v2$"):
        load_dataset(f"sfxl:{root}")
    with pytest.raises(UserError, match="queries=v3 is not one of v1, v2, night, occlusion"):
        load_dataset(f"sfxl:{root}?queries=v3")
