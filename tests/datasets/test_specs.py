"""Data sets by their specs, and what is made of data sets: splits, subsets, concatenations."""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.datasets import (
    KINDS,
    Concatenation,
    ImageFiles,
    PlaceDataset,
    Subset,
    has_splits,
    load_dataset,
    load_datasets,
    specs,
    split_specs,
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
        ("paris", "'paris' names no data set: expected KIND.* one of .*folder, .*oxford5k, .*toytown"),
        ("photos/mine", "names no data set"),
        ("folder", "folder takes a path, as in folder:photos"),
        ("folder:", "folder takes a path"),
        ("toytown:here", "toytown takes no path"),
        ("toytown?houses=3", "unknown option 'houses'; toytown has places, seed, split"),
        ("folder:x?path=y", "unknown option 'path'; folder has truth"),
        ("toytown?places=many", "places=many is not a whole number"),
        ("toytown?places=1.5", "places=1.5 is not a whole number"),
        ("toytown?places", "options are key=value, separated by &"),
        ("toytown?places=3&&seed=1", "options are key=value"),
        ("toytown?places=1", "places=1"),
        ("toytown?split=exam", "split=exam is not one of train, val, test"),
        ("toytown?places=3&places=4", "the option places is given twice"),
        ("toytown?places=", "places= is not a whole number"),
        ("folder:nowhere,folder:neither", "no such folder; of several data sets each begins with its kind"),
        ("oxford5k:.?receptive_field=nan", "receptive_field=nan is not a whole number"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(spec)
    assert spec.partition("?")[0] in str(error.value)


NAMES = ["with, comma", "what?", "50%", "%2C", "a=b&c", "#1", "plain", "truth=a?truth=b", "ü", "~", "folder:x"]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_that_is_there_may_be_written_as_it_is(name: str, write_photos: Callable[..., Path]) -> None:
    root = write_photos(f"{name}/a.png", "other/b.png")
    assert load_dataset(f"folder:{root}/{name}").database.names == ["a.png"]
    both = load_datasets(f"folder:{root}/{name},folder:{root}/other,toytown?places=2")
    assert [dataset.database.names[0] for dataset in both[:2]] == ["a.png", "b.png"] and len(both) == 3


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_path_can_be_written_with_percent_escapes(name: str) -> None:
    """The path is nowhere, so that it is taken as its escapes say, up to the options."""
    quoted = urllib.parse.quote(f"/nowhere/{name}", safe="/")
    assert specs._parse(f"folder:{quoted}?truth=mine") == ("folder", {"path": f"/nowhere/{name}", "truth": "mine"})
    assert split_specs(f"folder:{quoted},toytown") == [f"folder:{quoted}", "toytown"]


def test_options_follow_a_path_with_a_question_mark(write_photos: Callable[..., Path]) -> None:
    root = write_photos("what?/queries/q.png", "what?/database/d.png")
    gt = {"queries": ["q.png"], "database": ["d.png"], "positives": [[]], "mine": [[0]]}
    (root / "what?" / "gt.json").write_text(json.dumps(gt))
    assert [list(row) for row in load_dataset(f"folder:{root}/what??truth=mine").positives] == [[0]]
    assert [list(row) for row in load_dataset(f"folder:{root}/what?").positives] == [[]]
    with pytest.raises(
        UserError, match=r"has no list 'theirs' of the positives of each query; instead there are positives, mine"
    ):
        load_dataset(f"folder:{root}/what?" + "?truth=theirs")


def test_home(write_photos: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(write_photos("photos/a.png")))
    assert load_dataset("folder:~/photos").database.names == ["a.png"]
    assert [dataset.database.names for dataset in load_datasets("folder:~/photos,folder:~/photos")] == [["a.png"]] * 2


@dataclasses.dataclass(frozen=True)
class Typed:
    """A kind with an option of each type."""

    cache: bool = True
    radius: float = 25.0
    most: int | None = None
    name: str | None = None
    side: Literal["left", "right"] = "left"

    def open(self) -> PlaceDataset:
        return PlaceDataset(repr(self), ImageFiles("", []), ImageFiles("", []), [], notes=(repr(self),))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", Typed()),
        ("cache=false", Typed(cache=False)),
        ("cache=no&radius=1e1", Typed(cache=False, radius=10.0)),
        ("cache=TRUE&most=3", Typed(most=3)),
        ("name=a+b%26c&side=right", Typed(name="a b&c", side="right")),
    ],
)
def test_options_have_types(query: str, expected: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(specs.KINDS, "typed", Typed)
    with pytest.warns(DataWarning, match="typed"):
        dataset = load_dataset("typed" + f"?{query}" * bool(query))
    assert dataset.notes == (repr(expected),)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("cache=maybe", "cache=maybe is not true or false"),
        ("radius=wide", "radius=wide is not a number"),
        ("radius=inf", "radius=inf is not a number"),
        ("most=2.5", "most=2.5 is not a whole number"),
        ("side=top", "side=top is not one of left, right"),
    ],
)
def test_options_of_other_types(query: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(specs.KINDS, "typed", Typed)
    with pytest.raises(UserError, match=message):
        load_dataset(f"typed?{query}")


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


def test_the_page_names_every_kind_and_only_kinds_and_options_that_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page)) | set(re.findall(r"--dataset='?(\w+)", page))
    assert KINDS.keys() <= named
    for spec in re.findall(r"--dataset='?([^'` ]+)", page):
        kind, _, rest = spec.partition(":") if ":" in spec else spec.partition("?")
        options = re.findall(r"[?&](\w+)=", f"?{rest}" if ":" not in spec else rest)
        assert set(options) <= set(KINDS[kind].__dataclass_fields__), spec


def test_every_kind_is_on_the_page_of_data_sets() -> None:
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    assert [kind for kind in specs.KINDS if not re.search(rf"[`'=]{kind}[`:?]", page)] == []
