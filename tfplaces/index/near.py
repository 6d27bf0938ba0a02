"""Which places are near a rough fix, such as the last position of a phone."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets.positions import to_earth_centred, trouble_with_degrees
from tfplaces.index.reader import PlaceIndex


@dataclasses.dataclass(frozen=True)
class Near:
    """A circle around a rough fix.

    Attributes:
        first: latitude in degrees; or easting in metres, of an index that knows no degrees.
        second: longitude in degrees, or northing in metres.
        metres: the circle's radius.
    """

    first: float
    second: float
    metres: float


def rows_near(index: PlaceIndex, near: Near) -> np.ndarray:
    """The rows of the places within a circle, ascending, int64 `[n]`, n at least 1.

    Places whose position is not known are not among them.

    Raises:
        UserError: the index knows no positions, the fix is none, or no place is within the circle.
    """
    columns = index.columns
    in_degrees = bool(np.isfinite(columns.latitudes).any())
    if in_degrees:
        trouble = trouble_with_degrees(near.first, near.second)
        if trouble:
            raise UserError(f"--near: {trouble}")
        known = np.flatnonzero(np.isfinite(columns.latitudes) & np.isfinite(columns.longitudes))
        here = to_earth_centred(np.array([near.first]), np.array([near.second]))
        positions = to_earth_centred(columns.latitudes[known], columns.longitudes[known])
    else:
        known = np.flatnonzero(np.isfinite(columns.eastings) & np.isfinite(columns.northings))
        here = np.array([[near.first, near.second]])
        positions = np.stack([columns.eastings[known], columns.northings[known]], axis=1)
    if not len(known):
        raise UserError(f"{index.path}: knows no positions of its places; leave out --near")
    distances = np.linalg.norm(positions - here, axis=1)
    found = known[distances <= near.metres]
    if not len(found):
        kind = "" if in_degrees else "; it knows no degrees, so --near takes easting,northing"
        raise UserError(
            f"{index.path}: none of its places is within {near.metres:g} m of {near.first:g},{near.second:g}; the "
            f"nearest is {distances.min():,.0f} m away{kind}"
        )
    return found
