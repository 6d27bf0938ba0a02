"""Data sets by their specs, and what is made of data sets: splits, subsets, concatenations."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfplaces.datasets import (
    Concatenation,
    ImageFiles,
    PlaceDataset,
    Subset,
    has_splits,
    load_dataset,
    load_datasets,
    training_sets,
)

SIZE = (12, 16)


def same_images(a: PlaceDataset, b: PlaceDataset) -> bool:
    return np.array_equal(a.queries.read(0, SIZE), b.queries.read(0, SIZE))


def test_options_and_split() -> None:
    dataset = load_dataset("toytown?places=3&seed=5")
    assert dataset.spec == "toytown?places=3&seed=5"
    assert len(set(dataset.database_places)) == 3
    assert same_images(dataset, load_dataset("toytown?places=3&seed=5&split=test"))
    assert not same_images(dataset, load_dataset("toytown?places=3&seed=6"))
    assert not same_images(dataset, load_dataset("toytown?places=3&seed=5", split="val"))
    named = "toytown?places=3&seed=5&split=train"
    assert same_images(load_dataset(named, split="val"), load_dataset(named))


def test_folder_has_no_splits(write_photos: Callable[..., Path]) -> None:
    spec = f"folder:{write_photos('a/1.png', 'a/2.png')}"
    assert load_dataset(spec, split="val").database.names == load_dataset(spec).database.names
    assert not has_splits(spec)
    assert has_splits("toytown?places=3")
    assert not has_splits("toytown?split=val")


def test_several(write_photos: Callable[..., Path]) -> None:
    root = write_photos("a/1.png", "a/2.png")
    both = load_datasets(f"toytown?places=2,folder:{root}")
    assert [dataset.spec for dataset in both] == ["toytown?places=2", f"folder:{root}"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "names no data set: expected KIND"),
        ("paris", "'paris' names no data set: expected KIND.* one of folder, oxford5k, paris6k, toytown"),
        ("photos/mine", "names no data set"),
        ("folder", "folder takes a path, as in folder:photos"),
        ("folder:", "folder takes a path"),
        ("toytown:here", "toytown takes no path"),
        ("toytown?houses=3", "unknown option 'houses'; toytown has places, seed, split"),
        ("folder:x?path=y", "unknown option 'path'; folder has none"),
        ("toytown?places=many", "places=many is not of type int"),
        ("toytown?places=1.5", "places=1.5 is not of type int"),
        ("toytown?places", "options are key=value, separated by &"),
        ("toytown?places=3&&seed=1", "options are key=value"),
        ("toytown?places=1", "places=1"),
        ("toytown?split=exam", "split='exam'"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(spec)
    assert spec.partition("?")[0] in str(error.value)


def test_training_sets(write_photos: Callable[..., Path]) -> None:
    train, val = training_sets("toytown?places=2")
    assert same_images(train, load_dataset("toytown?places=2&split=train"))
    assert same_images(val, load_dataset("toytown?places=2&split=val"))

    train, val = training_sets("toytown?places=2", "toytown?places=3")
    assert len(val.database) == 12
    assert same_images(val, load_dataset("toytown?places=3&split=val"))

    spec = f"folder:{write_photos(*(f'{place}/{image}.png' for place in 'abcdef' for image in '12'))}"
    train, val = training_sets(spec)
    assert val.queries.names == ["a/1.png", "f/1.png"]
    assert train.queries.names == ["b/1.png", "c/1.png", "d/1.png", "e/1.png"]

    train, val = training_sets("toytown?places=2&split=val")
    assert len(train.queries) + len(val.queries) == 6


def test_subset_and_concatenation(write_photos: Callable[..., Path]) -> None:
    names = ["a.png", "b.png", "c.png"]
    images = ImageFiles(str(write_photos(*names)), names)
    subset = Subset(images, np.array([2, 0]))
    assert (list(subset.names), len(subset)) == (["c.png", "a.png"], 2)
    joined = Concatenation(subset, images)
    assert list(joined.names) == ["c.png", "a.png", "a.png", "b.png", "c.png"]
    for i, name in enumerate(joined.names):
        np.testing.assert_array_equal(joined.read(i, SIZE), images.read(names.index(name), SIZE))


def test_positives_must_fit_the_queries() -> None:
    with pytest.raises(ValueError, match=r"^mine: 1 queries, but positives for 2"):
        PlaceDataset("mine", ImageFiles("", ["a"]), ImageFiles("", ["q"]), [np.array([0])] * 2)
