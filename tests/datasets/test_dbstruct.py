"""Anybody's `dbStruct`, and fields that do not fit each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.common.matlab_files import dbstruct, write_mat
from tfplaces.common.errors import UserError
from tfplaces.datasets import load_dataset

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")


def test_anybodys(write_photos: Callable[..., Path]) -> None:
    root = write_photos("photos/a.jpg", "photos/b.jpg", "asked/q.jpg")
    file = write_mat(root / "truth/mine.mat", dbstruct(["a.jpg", ".\\b.jpg"], ["q.jpg"]))
    dataset = load_dataset(f"dbstruct:{file}?images={root}/photos&queries={root}/asked")
    assert dataset.notes == ("1 queries and 2 database images",)
    assert dataset.database.names == ["a.jpg", "b.jpg"]
    assert dataset.queries.read(0, (4, 4)).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dbImageFns": ["../../etc/passwd", "b.jpg"]}, "is no name of a file inside the folder"),
        ({"dbImageFns": ["/etc/passwd", "b.jpg"]}, "is no name of a file inside the folder"),
        ({"dbImageFns": ["a\x1b[2J.jpg", "b.jpg"]}, r"a\\x1b"),
        ({"dbImageFns": np.eye(2)}, "dbImageFns is no cell of file names"),
        ({"numImages": 3}, "dbImageFns has 2 names, but numImages is"),
        ({"utmDb": np.zeros((2, 3))}, "utmDb is not two finite numbers for each of 2 images"),
        ({"utmQ": np.full((2, 1), np.nan)}, "utmQ is not two finite numbers for each of 1 images"),
        ({"posDistThr": np.nan}, "posDistThr is no number from 0"),
        ({"posDistThr": "far"}, "posDistThr is no number from 0"),
        ({"nonTrivPosDistSqThr": -1}, "nonTrivPosDistSqThr is no number from 0"),
        ({"dbTimeStamp": np.zeros((1, 2))}, "has no qTimeStamp"),
        ({"dbTimeStamp": np.zeros((1, 2)), "qTimeStamp": ["a"]}, "not both numbers or both texts"),
        ({"dbTimeStamp": np.zeros((1, 3)), "qTimeStamp": np.zeros((1, 1))}, "not one number or text for each image"),
    ],
)
def test_what_does_not_fit(change: dict, message: str, tmp_path: Path) -> None:
    write_mat(tmp_path / "a.mat", dbstruct(["a.jpg", "b.jpg"], ["q.jpg"], **change))
    with pytest.raises(UserError, match=message) as raised:
        load_dataset(f"dbstruct:{tmp_path}/a.mat")
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_dataset(f"dbstruct:{tmp_path}/a.mat?images={tmp_path}/none")
