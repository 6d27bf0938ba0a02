"""Degrees and UTM as metres, against published values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfplaces.common.errors import UserError
from tfplaces.datasets.positions import (
    degrees_to_metres,
    from_utm,
    to_earth_centred,
    to_utm,
    trouble_with_degrees,
    utm_to_metres,
    utm_zones,
)

# Latitude, longitude, zone, easting, northing, and the accuracy of what is published, in metres.
PUBLISHED = [
    # GeographicLib, manual of GeoConvert.
    (33.3, 44.4, 38, 444140.54, 3684706.36, 0.005),
    # PROJ, test/gie/builtins.gie, +proj=utm +ellps=GRS80 +zone=30; GRS 80 and WGS 84 differ by 0.1 mm.
    (1, -2, 30, 611263.81227890507, 110547.10569680421, 2e-4),
    (-1, -2, 30, 611263.81227890507, 10_000_000 - 110547.10569680421, 2e-4),
    # Eight degrees outside of the zone: 8 cm to the millimetre, as far as Krüger's fourth order goes.
    (1, 2, 30, 1057002.4054912981, 110955.14117594929, 1e-3),
    # The Python library utm, README.
    (51.2, 7.5, 32, 395201.3103811303, 5673135.241182375, 1e-3),
]


@pytest.mark.parametrize("latitude, longitude, zone, easting, northing, accuracy", PUBLISHED)
def test_utm_is_as_published(latitude, longitude, zone, easting, northing, accuracy) -> None:
    found = to_utm(np.array([latitude]), np.array([longitude]), np.array([zone]))
    np.testing.assert_allclose(found, [[easting, northing]], rtol=0, atol=accuracy)
    back = from_utm(*found.T, np.array([zone]), np.array([latitude < 0]))
    np.testing.assert_allclose(np.ravel(back), [latitude, longitude], rtol=0, atol=1e-9)


def test_earth_centred_is_as_published() -> None:
    """EPSG Guidance Note 7-2, geographic/geocentric conversions: 53° 48' 33.820" N, 2° 07' 46.380" E, 73 m."""
    found = to_earth_centred(np.array([53 + 48 / 60 + 33.82 / 3600]), np.array([2 + 7 / 60 + 46.38 / 3600]), 73)
    np.testing.assert_allclose(found, [[3771793.968, 140253.342, 5124304.349]], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "latitude, longitude, zone",
    [
        (0, -180, 1), (0, -174.0001, 1), (0, -174, 2), (0, 0, 31), (0, 179.9, 60), (0, 180, 1), (-33.9, 18.4, 34),
        # Bergen is in 32V, not 31V; Longyearbyen in 33X; the edges of Svalbard's zones are 9, 21 and 33 degrees.
        (60.4, 5.3, 32), (55.9, 5.3, 31), (78.2, 15.6, 33), (78, 8.9, 31), (78, 9, 33), (78, 21, 35), (78, 33, 37),
    ],
)  # fmt: skip
def test_zones(latitude: float, longitude: float, zone: int) -> None:
    assert utm_zones(np.array([latitude]), np.array([longitude])).tolist() == [zone]


@given(st.floats(-80, 84), st.floats(-180, 179.999))
def test_there_and_back_again(latitude: float, longitude: float) -> None:
    place = np.array([latitude]), np.array([longitude])
    zones = utm_zones(*place)
    back = from_utm(*to_utm(*place, zones).T, zones, place[0] < 0)
    np.testing.assert_allclose(to_earth_centred(*back), to_earth_centred(*place), rtol=0, atol=1e-6)


def test_one_zone_gives_utm_and_several_the_earth() -> None:
    assert degrees_to_metres(np.array([52.2, 52.3]), np.array([0.1, 5.9])).shape == (2, 2)
    across = degrees_to_metres(np.array([52.2, 52.2]), np.array([-0.0001, 0.0001]))
    assert across.shape == (2, 3)
    # A parallel of 52.2 degrees is cos(52.2°) of the radius of curvature 6391.5 km: 0.0002 degrees are 13.67 m.
    assert np.linalg.norm(across[0] - across[1]) == pytest.approx(13.674, abs=0.01)
    assert degrees_to_metres(np.array([0.0001, -0.0001]), np.array([3.0, 3.0])).shape == (2, 3)
    assert degrees_to_metres(np.array([89.0]), np.array([3.0])).shape == (1, 3)
    assert len(degrees_to_metres(np.empty(0), np.empty(0))) == 0


def test_utm_of_several_zones_becomes_comparable() -> None:
    """The same two places on either side of Greenwich, each in its own zone, and mock zones left alone."""
    latitudes, longitudes = np.array([52.2, 52.2]), np.array([-0.0001, 0.0001])
    zones = utm_zones(latitudes, longitudes)
    grid = to_utm(latitudes, longitudes, zones)
    assert abs(grid[0, 0] - grid[1, 0]) > 400_000
    both = utm_to_metres(*grid.T, zones, np.zeros(2, bool))
    np.testing.assert_allclose(both, to_earth_centred(latitudes, longitudes), rtol=0, atol=1e-5)
    unknown = utm_to_metres(*grid.T, np.array([31, 0]), np.zeros(2, bool))
    np.testing.assert_array_equal(unknown, grid)
    with pytest.raises(UserError, match="easting 0, northing 1e\\+08 is in none"):
        utm_to_metres(np.array([0, 0]), np.array([1e8, 0]), np.array([30, 31]), np.zeros(2, bool))


@pytest.mark.parametrize(
    "latitude, longitude, said",
    [
        (float("nan"), 0, "finite"), (0, float("inf"), "finite"), (103.8, 1.3, "swapped"), (91, 0, "swapped"),
        (1e9, 0, "90 degrees"), (0, 181, "180 degrees"), (-90, 180, ""), (90, -180, ""),
    ],
)  # fmt: skip
def test_what_is_no_place_is_said(latitude: float, longitude: float, said: str) -> None:
    trouble = trouble_with_degrees(latitude, longitude)
    assert said in trouble and bool(said) == bool(trouble)
    if said:
        with pytest.raises(UserError, match="position 1: ") as raised:
            degrees_to_metres(np.array([0, latitude]), np.array([0, longitude]))
        assert "\n" not in str(raised.value)
