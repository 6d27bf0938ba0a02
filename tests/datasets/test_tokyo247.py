"""Tokyo 24/7 in miniature: two panoramas, two places by day, at sunset and at night."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.common.matlab_files import dbstruct, write_mat
from tfplaces.common.errors import UserError
from tfplaces.datasets import load_dataset
from tfplaces.evaluation import score

DATABASE = [f"03814/381450_394690/pano{p}_012_{30 * k}.jpg" for p in range(2) for k in range(12)]
QUERIES = [f"{k:05d}.jpg" for k in range(10, 16)]
pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")


def tokyo(root: Path, **more: object) -> Path:
    places = np.repeat([[0.0, 100.0], [0.0, 0.0]], 12, axis=1)
    asked = np.repeat([[3.0, 97.0], [4.0, 4.0]], 3, axis=1)  # 5 m from their panoramas
    fields = dbstruct(DATABASE, QUERIES, utmDb=places, utmQ=asked)
    write_mat(root / "datasets/tokyo247.mat", fields | more)
    return root


@pytest.mark.parametrize(
    ("version", "folder"),
    [("v2", "247query_subset_v2"), ("v3", "247_Tokyo_GSV_Perspective/247query_v3"), ("v2", "query"), ("v3", "queries")],
)
def test_layouts(version: str, folder: str, write_photos: Callable[..., Path]) -> None:
    """The database's names end in .jpg, its files in .png."""
    database = [f"images/{name[:-3]}png" for name in DATABASE]
    root = tokyo(write_photos(*database, *(f"{folder}/{name}" for name in QUERIES)))
    dataset = load_dataset(f"tokyo247:{root}?queries={version}")
    assert dataset.notes == ("6 of 315 queries and 24 of 75,984 database images",)
    assert dataset.database.names[1] == "03814/381450_394690/pano0_012_30.png"
    assert dataset.database.read(23, (4, 4)).shape == dataset.queries.read(5, (4, 4)).shape == (4, 4, 3)
    assert dataset.truth.query_conditions.tolist() == ["day", "sunset", "night"] * 2
    assert dataset.truth.database_groups.tolist() == [0] * 12 + [1] * 12
    assert [row.tolist() for row in dataset.positives] == [[*range(12)]] * 3 + [[*range(12, 24)]] * 3


def test_photos_that_the_downloader_has_renamed(write_photos: Callable[..., Path]) -> None:
    base = "images/test"
    root = write_photos(
        *(
            f"{base}/database/@3810{20 * p:02d}.00@3946000.00@54@S@@@pano{p}@{k}@@@@@@@.jpg"
            for p in (0, 1)
            for k in (0, 1)
        ),
        *(f"{base}/queries/@381000.00@3946{90 - k}.00@54@S@@@000{k}.jpg@@@@@@@@.jpg" for k in (10, 11, 12)),
    )
    truth = load_dataset(f"tokyo247:{root}").truth
    assert truth.database_groups.tolist() == [0, 0, 1, 1]
    assert truth.query_conditions.tolist() == ["night", "sunset", "day"]  # the names sort by their northing
    with pytest.raises(UserError, match="queries=v3, but those in images/test/queries are v2"):
        load_dataset(f"tokyo247:{root}?queries=v3")
    write_photos(f"{base}/queries/@381000.00@3946000.00@54@S@@@@@@@@@@@.jpg")
    with pytest.raises(UserError, match="do not say which panorama or query they are"):
        load_dataset(f"tokyo247:{root}")


def test_the_other_queries_are_not_taken_for_those_asked_for(write_photos: Callable[..., Path]) -> None:
    root = tokyo(write_photos(*DATABASE, *(f"247query_v3/{name}" for name in QUERIES)))
    assert "6 of 6 queries are missing" in load_dataset(f"tokyo247:{root}?queries=v2").notes[1]
    assert len(load_dataset(f"tokyo247:{root}?queries=v3").notes) == 1


def test_a_panorama_counts_once_as_in_the_official_code(tmp_path: Path) -> None:
    """The first of each 12 cut-outs among the nearest 12 n, as dbTokyo247.m has it."""
    dataset = load_dataset(f"tokyo247:{tokyo(tmp_path)}")
    rng = np.random.default_rng(3)
    queries, database = (rng.normal(size=(n, 8)) for n in (6, 24))
    queries, database = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries, database))
    ranked = np.argsort(-(queries @ database.T), axis=1, kind="stable")
    hits = []
    for query, row in enumerate(ranked):
        panoramas = row[:12] // 12
        hits.append(panoramas[np.sort(np.unique(panoramas, return_index=True)[1])[0]] == query // 3)
    assert score(dataset, queries, database).recall[1] == pytest.approx(100 * np.mean(hits))


@pytest.mark.parametrize(
    ("database", "queries", "message"),
    [(23, 6, "23 database images, but they come by 12"), (24, 5, "5 queries, but they come by 3")],
)
def test_what_does_not_come_in_panoramas_or_threes(database: int, queries: int, message: str, tmp_path: Path) -> None:
    write_mat(tmp_path / "tokyo247.mat", dbstruct(DATABASE[:database], QUERIES[:queries]))
    with pytest.raises(UserError, match=message):
        load_dataset(f"tokyo247:{tmp_path}")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokyo247\.mat there or in datasets$"):
        load_dataset(f"tokyo247:{tmp_path}")
    with pytest.raises(UserError, match="queries=v4 is not one of v2, v3"):
        load_dataset(f"tokyo247:{tmp_path}?queries=v4")
