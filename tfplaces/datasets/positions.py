"""Places on the earth as metres, in which distances are Euclidean: from degrees, and from UTM coordinates.

The ellipsoid is that of WGS 84, which GPS uses. The transverse Mercator projection follows Krüger's series to the
fourth order as Karney writes them ("Transverse Mercator with an accuracy of a few nanometers", Journal of Geodesy 85,
2011, equations 7 to 36); within a UTM zone the error is below a micrometre.
"""

from __future__ import annotations

import numpy as np

from tfplaces.common.errors import UserError

# Half the larger axis in metres, and the flattening, of WGS 84.
_AXIS = 6_378_137.0
_FLATTENING = 1 / 298.257223563
_ECCENTRICITY = np.sqrt(_FLATTENING * (2 - _FLATTENING))

_N = _FLATTENING / (2 - _FLATTENING)
# The radius of the circle that is as long as a meridian, times the scale of UTM's central meridians.
_RADIUS = 0.9996 * _AXIS / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
_TO_GRID = (
    _N / 2 - 2 / 3 * _N**2 + 5 / 16 * _N**3 + 41 / 180 * _N**4,
    13 / 48 * _N**2 - 3 / 5 * _N**3 + 557 / 1440 * _N**4,
    61 / 240 * _N**3 - 103 / 140 * _N**4,
    49561 / 161280 * _N**4,
)
_FROM_GRID = (
    _N / 2 - 2 / 3 * _N**2 + 37 / 96 * _N**3 - 1 / 360 * _N**4,
    1 / 48 * _N**2 + 1 / 15 * _N**3 - 437 / 1440 * _N**4,
    17 / 480 * _N**3 - 37 / 840 * _N**4,
    4397 / 161280 * _N**4,
)
_FALSE_EASTING, _FALSE_NORTHING = 500_000.0, 10_000_000.0


def trouble_with_degrees(latitude: float, longitude: float) -> str:
    """What is wrong with a place in degrees, as a clause; empty if nothing is."""
    if not np.isfinite([latitude, longitude]).all():
        return f"latitude {latitude:g} and longitude {longitude:g} are not both finite numbers"
    if abs(latitude) > 90:
        swapped = "; are latitude and longitude swapped?" if abs(longitude) <= 90 and abs(latitude) <= 180 else ""
        return f"latitude {latitude:g} is not within -90 and 90 degrees{swapped}"
    if abs(longitude) > 180:
        return f"longitude {longitude:g} is not within -180 and 180 degrees"
    return ""


def degrees_to_metres(latitudes: np.ndarray, longitudes: np.ndarray) -> np.ndarray:
    """Coordinates in metres for places in degrees.

    Within one zone of UTM these are easting and northing, as the field's programs use; where the places are of several
    zones, on both sides of the equator or near a pole, they are earth-centred coordinates of points on the ellipsoid.

    Args:
        latitudes: degrees north, -90 to 90, `[n]`.
        longitudes: degrees east, -180 to 180, `[n]`.

    Returns:
        float64 `[n, 2]` or `[n, 3]`.

    Raises:
        UserError: a number is out of range or not finite.
    """
    latitudes, longitudes = _checked(latitudes, longitudes)
    zones = utm_zones(latitudes, longitudes)
    if common_zone(zones, latitudes < 0) and ((latitudes >= -80) & (latitudes <= 84)).all():
        return to_utm(latitudes, longitudes, zones)
    return to_earth_centred(latitudes, longitudes)


def common_zone(zones: np.ndarray, southern: np.ndarray) -> str | None:
    """The UTM zone that all positions are in, its number and the hemisphere N or S, as in `30N`.

    Args:
        zones: 1 to 60, or 0 where it is not known, `[n]`.
        southern: whether a northing is counted from 10,000 km south of the equator, bool `[n]`.

    Returns:
        None where there are several, or it is not known of all.
    """
    if not len(zones) or len(np.unique(np.stack([zones, southern]), axis=1).T) != 1 or not 1 <= zones[0] <= 60:
        return None
    return f"{zones[0]}{'S' if southern[0] else 'N'}"


def metres_to_degrees(positions: np.ndarray, zone: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Latitudes and longitudes, float64 `[n]`, of positions in metres as a data set has them.

    Args:
        positions: easting and northing, float64 `[n, 2]`, or earth-centred coordinates, `[n, 3]`.
        zone: the UTM zone of easting and northing, as `common_zone` gives it.

    Returns:
        None where that cannot be told: on a grid that is not known, or where three coordinates are no point on the
        ellipsoid.
    """
    if not len(positions):
        return None
    if positions.shape[1] == 2:
        if zone is None or (np.abs(positions[:, 0] - _FALSE_EASTING) > 900_000).any():
            return None
        if (positions[:, 1] < -100_000).any() or (positions[:, 1] > _FALSE_NORTHING).any():
            return None
        zones, southern = np.array(int(zone[:-1])), np.array(zone[-1] == "S")
        return from_utm(positions[:, 0], positions[:, 1], zones, southern)
    from_axis = np.hypot(positions[:, 0], positions[:, 1])
    shrunk = 1 - _ECCENTRICITY**2
    if (np.abs((from_axis**2 + positions[:, 2] ** 2 / shrunk) / _AXIS**2 - 1) > 1e-8).any():
        return None
    latitudes = np.arctan2(positions[:, 2], shrunk * from_axis)
    return np.degrees(latitudes), np.degrees(np.arctan2(positions[:, 1], positions[:, 0]))


def utm_to_metres(eastings: np.ndarray, northings: np.ndarray, zones: np.ndarray, southern: np.ndarray) -> np.ndarray:
    """Coordinates in metres, comparable across zones, for UTM coordinates.

    Args:
        eastings: metres, `[n]`.
        northings: metres, `[n]`.
        zones: 1 to 60, or 0 where it is not known, int64 `[n]`.
        southern: whether a northing is counted from 10,000 km south of the equator, bool `[n]`.

    Returns:
        The coordinates as they are, float64 `[n, 2]`, where all are of one zone or a zone is not known; else
        earth-centred coordinates, float64 `[n, 3]`.

    Raises:
        UserError: a coordinate is not finite, or there are several zones and one is outside of any.
    """
    positions = np.stack([np.asarray(eastings, float), np.asarray(northings, float)], axis=1)
    if not np.isfinite(positions).all():
        raise UserError("a UTM coordinate is not a finite number of metres")
    if not len(positions) or (zones == 0).any() or len(np.unique(np.stack([zones, southern]), axis=1).T) == 1:
        return positions
    strange = (np.abs(positions[:, 0] - _FALSE_EASTING) > 900_000) | (positions[:, 1] < -100_000)
    strange |= positions[:, 1] > _FALSE_NORTHING
    if strange.any() or ((zones < 1) | (zones > 60)).any():
        east, north = positions[np.argmax(strange)]
        raise UserError(
            f"the positions are of several UTM zones, and easting {east:g}, northing {north:g} is in none of them"
        )
    return to_earth_centred(*from_utm(positions[:, 0], positions[:, 1], zones, southern))


def utm_zones(latitudes: np.ndarray, longitudes: np.ndarray) -> np.ndarray:
    """The UTM zone of each place, 1 to 60, with the exceptions of Norway and Svalbard; int64 `[n]`."""
    latitudes, longitudes = _checked(latitudes, longitudes)
    zones = np.floor((longitudes + 180) / 6).astype(np.int64) % 60 + 1
    norway = (latitudes >= 56) & (latitudes < 64) & (longitudes >= 3) & (longitudes < 12)
    svalbard = (latitudes >= 72) & (latitudes <= 84) & (longitudes >= 0) & (longitudes < 42)
    zones[norway] = 32
    zones[svalbard] = 31 + 2 * np.floor((longitudes[svalbard] + 3) / 12).astype(np.int64)
    return zones


def to_utm(latitudes: np.ndarray, longitudes: np.ndarray, zones: np.ndarray) -> np.ndarray:
    """Easting and northing in a UTM zone.

    Args:
        latitudes: degrees, `[n]`.
        longitudes: degrees, `[n]`.
        zones: the zone to use for each, 1 to 60, `[n]`.

    Returns:
        Metres, float64 `[n, 2]`; of latitudes below 0 the northing begins at 10,000 km.
    """
    latitudes, longitudes = _checked(latitudes, longitudes)
    tangent = np.tan(np.radians(latitudes))
    east = np.radians(longitudes - _central_meridians(zones))
    tangent = _conformal(tangent)
    up = np.arctan2(tangent, np.cos(east))
    side = np.arcsinh(np.sin(east) / np.hypot(tangent, np.cos(east)))
    northing, easting = up.copy(), side.copy()
    for k, factor in enumerate(_TO_GRID, 1):
        northing += factor * np.sin(2 * k * up) * np.cosh(2 * k * side)
        easting += factor * np.cos(2 * k * up) * np.sinh(2 * k * side)
    northing = _RADIUS * northing + np.where(latitudes < 0, _FALSE_NORTHING, 0)
    return np.stack([_RADIUS * easting + _FALSE_EASTING, northing], axis=1)


def from_utm(
    eastings: np.ndarray, northings: np.ndarray, zones: np.ndarray, southern: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes in degrees, float64 `[n]`, for UTM coordinates; see `utm_to_metres`."""
    side_on_grid = (np.asarray(eastings, float) - _FALSE_EASTING) / _RADIUS
    up_on_grid = (np.asarray(northings, float) - np.where(southern, _FALSE_NORTHING, 0)) / _RADIUS
    up, side = up_on_grid.copy(), side_on_grid.copy()
    for k, factor in enumerate(_FROM_GRID, 1):
        up -= factor * np.sin(2 * k * up_on_grid) * np.cosh(2 * k * side_on_grid)
        side -= factor * np.cos(2 * k * up_on_grid) * np.sinh(2 * k * side_on_grid)
    conformal = np.sin(up) / np.hypot(np.sinh(side), np.cos(up))
    tangent = conformal / (1 - _ECCENTRICITY**2)
    for _ in range(3):  # Newton's method; its error is squared each time, from 1e-3
        now = _conformal(tangent)
        slope = (1 + (1 - _ECCENTRICITY**2) * tangent**2) / ((1 - _ECCENTRICITY**2) * np.hypot(1, tangent))
        tangent = tangent + (conformal - now) / np.hypot(1, now) * slope
    longitudes = np.degrees(np.arctan2(np.sinh(side), np.cos(up))) + _central_meridians(zones)
    return np.degrees(np.arctan(tangent)), (longitudes + 180) % 360 - 180


def to_earth_centred(latitudes: np.ndarray, longitudes: np.ndarray, height: float = 0) -> np.ndarray:
    """Coordinates from the centre of the earth (EPSG 4978) in metres, float64 `[n, 3]`.

    Args:
        latitudes: degrees, `[n]`.
        longitudes: degrees, `[n]`.
        height: metres above the ellipsoid.
    """
    latitudes, longitudes = map(np.radians, _checked(latitudes, longitudes))
    curvature = _AXIS / np.sqrt(1 - (_ECCENTRICITY * np.sin(latitudes)) ** 2)
    from_axis = (curvature + height) * np.cos(latitudes)
    along_axis = ((1 - _ECCENTRICITY**2) * curvature + height) * np.sin(latitudes)
    return np.stack([from_axis * np.cos(longitudes), from_axis * np.sin(longitudes), along_axis], axis=1)


def _central_meridians(zones: np.ndarray) -> np.ndarray:
    return 6.0 * np.asarray(zones) - 183


def _conformal(tangent: np.ndarray) -> np.ndarray:
    """The tangent of the conformal latitude, from that of the latitude (Karney's equation 7)."""
    secant = np.hypot(1, tangent)
    sigma = np.sinh(_ECCENTRICITY * np.arctanh(_ECCENTRICITY * tangent / secant))
    return tangent * np.hypot(1, sigma) - sigma * secant


def _checked(latitudes: np.ndarray, longitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    latitudes, longitudes = np.asarray(latitudes, float), np.asarray(longitudes, float)
    bad = ~((np.abs(latitudes) <= 90) & (np.abs(longitudes) <= 180))  # NaN is bad as well
    if bad.any():
        first = int(np.argmax(bad))
        raise UserError(f"position {first}: {trouble_with_degrees(latitudes[first], longitudes[first])}")
    return latitudes, longitudes
