"""INRIA Holidays in miniature: three scenes of three, two and two photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import load_dataset
from tfplaces.evaluation import score

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")
NUMBERS = [100000, 100001, 100002, 100100, 100101, 149900, 149901]


@pytest.mark.parametrize("folder", ["", "jpg/", "jpg1/a/"])
def test_scenes(folder: str, write_photos: Callable[..., Path]) -> None:
    root = write_photos(*(f"{folder}{number}.jpg" for number in NUMBERS))
    dataset = load_dataset(f"holidays:{root}")
    assert dataset.notes == ("3 of 500 queries and 7 of 1,491 database images",)
    assert [row.tolist() for row in dataset.positives] == [[1, 2], [4], [6]]
    assert dataset.own_images.tolist() == [0, 3, 5]
    np.testing.assert_array_equal(dataset.queries.read(1, (12, 16)), dataset.database.read(3, (12, 16)))


def test_average_precision_is_that_of_holidays_map(write_photos: Callable[..., Path]) -> None:
    """score_ap_from_ranks_1 of holidays_map.py, the query taken out of its ranking: written out here."""
    dataset = load_dataset(f"holidays:{write_photos(*(f'{number}.jpg' for number in NUMBERS))}")
    database = np.random.default_rng(0).normal(size=(7, 5))
    database /= np.linalg.norm(database, axis=1, keepdims=True)
    expected = []
    for q, own in enumerate((0, 3, 5)):
        ranked = [i for i in np.argsort(-(database @ database[own])) if i != own]
        ranks = [r for r, i in enumerate(ranked) if i in dataset.positives[q]]
        parts = [(1.0 if r == 0 else j / r) + (j + 1) / (r + 1) for j, r in enumerate(ranks)]
        expected.append(sum(parts) / (2 * len(ranks)))
    assert score(dataset, database[[0, 3, 5]], database).map == pytest.approx(100 * np.mean(expected))


def test_what_is_left_out_is_said(write_photos: Callable[..., Path]) -> None:
    root = write_photos("100000.jpg", "100001.jpg", "100201.jpg", "cover.jpg")
    assert load_dataset(f"holidays:{root}").notes[1:] == (
        "1 images are left out, whose names are no six digits",
        "1 photos are of scenes whose query is missing",
    )


def test_what_is_no_holidays(write_photos: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_dataset("holidays:/nowhere")
    root = write_photos("a.jpg", "both/100000.jpg", "both/more/100000.png")
    with pytest.raises(UserError, match="have one number; name one folder"):
        load_dataset(f"holidays:{root}/both")
    (root / "both/100000.jpg").unlink()
    (root / "both/more/100000.png").unlink()
    with pytest.raises(UserError, match=r"no photos there named as 100000\.jpg"):
        load_dataset(f"holidays:{root}")
