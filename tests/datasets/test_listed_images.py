"""Names that a ground truth lists, and where their images are found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.datasets.listed_images import checked_name, counts_note, listed_images


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.jpg", "a/b.jpg"),
        (".\\a\\b.jpg", "a/b.jpg"),
        ("./247query_v3//00010.jpg", "247query_v3/00010.jpg"),
        ("écran\u00a01.jpg", "écran\u00a01.jpg"),
        ("..a/b..jpg", "..a/b..jpg"),
    ],
)
def test_names_of_any_system(name: str, expected: str) -> None:
    assert checked_name("list", name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/etc/passwd",
        "\\\\server\\a.jpg",
        "C:\\a.jpg",
        "../a.jpg",
        "a/../../b.jpg",
        "a\0.jpg",
        "a\n.jpg",
        "\ud800",
    ],
)
def test_names_that_lead_elsewhere_or_are_none(name: str) -> None:
    with pytest.raises(UserError, match=r"\Alist: '[^\n]*' is no name of a file inside the folder of images\Z"):
        checked_name("list", name)


@given(st.text())
def test_what_passes_stays_inside(name: str) -> None:
    try:
        checked = checked_name("list", name)
    except UserError:
        return
    assert os.path.normpath(os.path.join("/root", checked)).startswith("/root/")


def test_the_folder_that_has_the_most_is_taken(write_photos: Callable[..., Path]) -> None:
    root = write_photos("a/1.jpg", "b/1.jpg", "b/2.jpg", "c/1.png", "c/2.png", "c/3.png")
    names = ["1.jpg", "2.jpg", "3.jpg"]
    found, notes = listed_images("list", "queries", names, [f"{root}/none", f"{root}/a", f"{root}/b"])
    assert found.root == f"{root}/b"
    assert found.names == names
    assert notes == (f"1 of 3 queries are missing under {root}/b, first: 3.jpg",)
    found, notes = listed_images("list", "queries", names, [f"{root}/b", f"{root}/c"], (".png",))
    assert (found.root, found.names, notes) == (f"{root}/c", ["1.png", "2.png", "3.png"], ())


def test_where_nothing_is_found_a_folder_that_is_there_is_named(tmp_path: Path) -> None:
    found, notes = listed_images("list", "queries", ["1.jpg"], [f"{tmp_path}/none", f"{tmp_path}"])
    assert found.root == str(tmp_path)
    assert notes == (f"1 of 1 queries are missing under {tmp_path}, first: 1.jpg",)
    assert listed_images("list", "queries", [], [f"{tmp_path}"])[1] == ()


def test_counts() -> None:
    assert counts_note(6816, 10_000, None) == "6,816 queries and 10,000 database images"
    assert counts_note(2, 3, (6816, 10_000)) == "2 of 6,816 queries and 3 of 10,000 database images"
