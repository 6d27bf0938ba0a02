"""GSV-Cities in miniature, and tables that are not as published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import hold_out, load_dataset

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")
HEADER = "place_id,year,month,northdeg,city_id,lat,lon,panoid"
# Trailing zeros and a heading of more than a turn, as the tables have them.
LONDON = """2,2018,7,584,London,51.50,-0.1270,pB
2,2014,12,7,London,51.5,-0.127,pA
100007,2019,1,90,London,51.6,-0.2,pC
100007,2020,1,90,London,51.6,-0.2,pD
5,2020,1,90,London,51.7,-0.3,pE"""
OSL = """2,2011,3,0,OSL,59.9,10.7,pF
2,2012,3,0,OSL,59.9,10.7,pG"""
NAMES = [
    "London/London_0000002_2018_07_584_51.50_-0.1270_pB",
    "London/London_0000002_2014_12_007_51.5_-0.127_pA",
    "London/London_0000007_2019_01_090_51.6_-0.2_pC",
    "London/London_0000007_2020_01_090_51.6_-0.2_pD",
    "OSL/OSL_0000002_2011_03_000_59.9_10.7_pF",
    "OSL/OSL_0000002_2012_03_000_59.9_10.7_pG",
]


def write_tables(root: Path, **tables: str) -> Path:
    (root / "Dataframes").mkdir(exist_ok=True)
    for city, rows in tables.items():
        (root / f"Dataframes/{city}.csv").write_text(f"{HEADER}\n{rows}\n")
    return root


@pytest.mark.parametrize("ending", ["jpg", "JPG"])
def test_places(ending: str, write_photos: Callable[..., Path]) -> None:
    root = write_photos(*(f"Images/{name}.png" for name in NAMES))
    for name in NAMES:
        (root / f"Images/{name}.png").rename(root / f"Images/{name}.{ending}")
    dataset = load_dataset(f"gsvcities:{write_tables(root, London=LONDON, OSL=OSL)}")
    assert dataset.queries.names == [f"{NAMES[k]}.{ending}" for k in (1, 2, 4)]
    assert dataset.database.names == [f"{NAMES[k]}.{ending}" for k in (0, 3, 5)]
    assert [row.tolist() for row in dataset.positives] == [[0], [1], [2]]  # place 2 of two cities is two places
    assert len(set(dataset.database_places)) == 3
    assert dataset.truth.query_cities.tolist() == ["London", "London", "OSL"]
    assert dataset.notes[0].startswith("6 images of 3 places in 2 cities; published are about 530,000 images")
    assert dataset.notes[1:] == ("1 places with one image only are left out",)
    assert dataset.database.read(2, (4, 4)).shape == (4, 4, 3)
    training, held = hold_out(dataset)
    assert len(training.queries) + len(held.queries) == 3


def test_some_cities(tmp_path: Path) -> None:
    root = write_tables(tmp_path, London=LONDON, OSL=OSL)
    dataset = load_dataset(f"gsvcities:{root}?cities=OSL")
    assert dataset.queries.names == [f"{NAMES[4]}.jpg"]
    assert dataset.notes[1:] == (
        f"1 of 1 database images are missing under {root}/Images, first: {NAMES[5]}.jpg",
        f"1 of 1 queries are missing under {root}/Images, first: {NAMES[4]}.jpg",
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("x,2018,7,5,London,1,2,p", r"London\.csv: line 2: place_id, year, month and northdeg are x 2018 7 5"),
        ("2,2018,13,5,London,1,2,p", "line 2: place_id, year, month and northdeg are 2 2018 13 5"),
        ("2,2018,7,-5,London,1,2,p", "line 2: place_id"),
        ("2,2018,7,5,..,1,2,p\n2,2018,8,5,..,1,2,p", "is no name of a file inside the folder"),
        ("2,2018,7,5,London,1,2,p", "no place has two images"),
        ("2,2018,7,5,London,1,2,p,q", "more cells than the 8 headers"),
    ],
)
def test_rows_that_do_not_fit(rows: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load_dataset(f"gsvcities:{write_tables(tmp_path, London=rows)}")
    assert "\n" not in str(raised.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder Dataframes there"):
        load_dataset(f"gsvcities:{tmp_path}")
    with pytest.raises(UserError, match="no tables: there are none"):
        load_dataset(f"gsvcities:{write_tables(tmp_path)}")
    write_tables(tmp_path, London=LONDON)
    for cities in ("Rome", "London,London"):
        with pytest.raises(UserError, match=f"cities={cities}: there are London"):
            load_dataset(f"gsvcities:{tmp_path}?cities={cities}")
    (tmp_path / "Dataframes/London.csv").write_text("place_id,year\n1,2\n")
    with pytest.raises(UserError, match="has no column month"):
        load_dataset(f"gsvcities:{tmp_path}")
