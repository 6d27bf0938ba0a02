"""What an index knows of the places of each kind of data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfplaces.datasets import load_dataset
from tfplaces.datasets.positions import common_zone, degrees_to_metres, metres_to_degrees, to_earth_centred
from tfplaces.index import Place
from tfplaces.index.dataset_places import places_of, with_queries

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")
Write = Callable[..., Path]


def test_names_with_utm_coordinates(write_photos: Write) -> None:
    """The name is one of a real set, which says degrees to seven decimals itself: they are not what is taken."""
    name = "@0302800.83@5787594.66@31@U@52.2034676@0.1140892@0999@@090@@@@2019-07@@.png"
    root = write_photos(f"queries/{name}", f"database/{name}")
    for spec in (f"utm:{root}", f"folder:{root / 'database'}"):  # positions of the data set, and of names alone
        (place,) = places_of(load_dataset(spec))
        assert (place.latitude, place.longitude) == pytest.approx((52.2034676, 0.1140892), abs=1e-7)
        assert (place.easting, place.northing, place.zone) == (302800.83, 5787594.66, "31N")
        assert (place.heading, place.group, place.time) == (90, "0999", "2019-07")


@pytest.mark.parametrize(
    ("fields", "degrees", "zone"),
    [
        ("@@@@", None, None),
        ("@@@52.2@0.1@", (52.2, 0.1), None),
        ("@@@152.2@0.1@", None, None),
        ("@56@H@@@", (-33.8688, 151.2093), "56S"),  # Sydney
    ],
)
def test_zones_that_are_not_known_and_southern_ones(
    fields: str, degrees, zone: str | None, write_photos: Write
) -> None:
    name = f"@334368.63@6250948.35{fields}.png"
    root = write_photos(f"queries/{name}", f"database/{name}")
    (place,) = places_of(load_dataset(f"utm:{root}"))
    assert (place.easting, place.northing, place.zone) == (334368.63, 6250948.35, zone)
    found = (place.latitude, place.longitude)
    assert found == ((None, None) if degrees is None else pytest.approx(degrees, abs=1e-4))


def test_tables_in_degrees(write_photos: Write) -> None:
    """In one zone, and across two, where the data set itself has earth-centred coordinates."""
    root = write_photos("a.png", "b.png")
    for second in ("52.3,0.2", "-10,140"):
        (root / "t.csv").write_text(
            f"path,latitude,longitude,heading,sequence,time\na.png,52.2,0.1,370,s,2020-01-02 03:04:05\n"
            f"b.png,{second},,s,2021-01-02\n"
        )
        places = places_of(load_dataset(f"csv:{root / 't.csv'}?radius=1000000"))
        found = [(place.latitude, place.longitude) for place in places]
        assert found == [
            pytest.approx((52.2, 0.1), abs=1e-9), pytest.approx([float(x) for x in second.split(",")], abs=1e-9)
        ]  # fmt: skip
        assert [place.heading for place in places] == [10, None]
        assert places[0].time == "2020-01-02T03:04:05.000000" and places[0].group is None


def test_labels_are_groups(write_photos: Write) -> None:
    root = write_photos(*(f"{place}/{k}.png" for place in ("mill", "church") for k in range(3)))
    assert [place.group for place in places_of(load_dataset(f"folder:{root}"))] == ["church"] * 2 + ["mill"] * 2
    assert places_of(load_dataset("toytown?places=2"))[4] == Place("place0001_day_0", group="1")


def test_photos_of_which_nothing_is_known(write_photos: Write) -> None:
    root = write_photos("a.png")
    assert places_of(load_dataset(f"folder:{root}")) == [Place("a.png")]


def test_metres_that_are_no_place_on_the_earth() -> None:
    assert metres_to_degrees(np.array([[1.0, 2.0, 3.0]]), None) is None  # of a set's own
    assert metres_to_degrees(np.array([[1e7, 0.0]]), "31N") is None
    assert metres_to_degrees(np.empty((0, 2)), "31N") is None
    assert common_zone(np.array([31, 32]), np.array([False, False])) is None
    assert common_zone(np.array([31, 31]), np.array([False, True])) is None
    assert common_zone(np.array([0]), np.array([False])) is None


def test_degrees_there_and_back_again() -> None:
    rng = np.random.default_rng(0)
    latitudes, longitudes = rng.uniform(-90, 90, 200), rng.uniform(-180, 180, 200)
    back = metres_to_degrees(to_earth_centred(latitudes, longitudes), None)
    assert back is not None
    np.testing.assert_allclose(back, (latitudes, longitudes), atol=1e-9)
    town = degrees_to_metres(latitudes[:1], longitudes[:1])
    assert town.shape == (1, 2)


def test_queries_as_places_too(write_photos: Write) -> None:
    root = write_photos(*(f"{place}/{k}.png" for place in ("mill", "church") for k in range(2)))
    dataset = with_queries(load_dataset(f"folder:{root}"))
    assert [(place.name, place.group) for place in places_of(dataset)] == [
        ("church/1.png", "church"), ("mill/1.png", "mill"), ("church/0.png", "church"), ("mill/0.png", "mill"),
    ]  # fmt: skip
    assert dataset.database.read(3, (4, 4)).shape == (4, 4, 3) and len(dataset.queries) == 0
    name = "@302800.83@5787594.66@31@U@@@{}@@{}@@@@2019@@.png"
    write_photos(*(f"town/{part}/{name.format(part, h)}" for part, h in (("queries", "010"), ("database", "020"))))
    places = places_of(with_queries(load_dataset(f"utm:{root / 'town'}")))
    assert [(place.heading, place.zone, place.time) for place in places] == [(20, "31N", "2019"), (10, "31N", "2019")]
    assert None not in [place.latitude for place in places]
    alone = load_dataset(f"utm:{root / 'town' / 'database'}")  # queries among themselves
    assert with_queries(alone) is alone
