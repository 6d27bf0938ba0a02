"""Anybody's photos, with the positions that phones and cameras write into them."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.decoding import open_image
from tfplaces.datasets.discovery import find_images
from tfplaces.datasets.located import Located, Rule, located_dataset
from tfplaces.datasets.positions import common_zone, degrees_to_metres, trouble_with_degrees, utm_zones
from tfplaces.datasets.table_files import read_times


@dataclasses.dataclass(frozen=True)
class ExifPhotos:
    """Photos that have GPS positions in their EXIF, in `queries/` and `database/`, or all in one folder.

    All in one folder, each photo is a query among the others. Photos without a position are left out and counted.

    Attributes:
        path: the folder; photos in folders below it count too.
        radius: a database image at most so far from a query shows its place, metres.
        training_radius: training draws a query towards database images at most so far from it, metres.
        max_angle: if given, photos show one place only if the directions that their compasses wrote differ by at most
            so many degrees.
    """

    path: str
    radius: float = 25
    training_radius: float = 10
    max_angle: float | None = None

    def open(self) -> PlaceDataset:
        """Opens the data set. The headers of all photos are read.

        Raises:
            UserError: an option is out of range, a file is no image, or no photo has a position.
        """
        rule = Rule(self.radius, min(self.training_radius, self.radius), self.max_angle)
        rule.check(self._name)
        if not os.path.isdir(self.path):
            raise UserError(f"{self._name}: no such folder")
        folders = [os.path.join(self.path, part) for part in ("queries", "database")]
        divided = [os.path.isdir(folder) for folder in folders]
        if any(divided) and not all(divided):
            raise UserError(f"{self._name}: has one of queries and database, but not the other")
        parts = [_read(self._name, folder) for folder in (folders if all(divided) else [self.path])]
        # Together, for the kind of coordinates depends on all of them.
        places = np.array([(tags.latitude, tags.longitude) for part in parts for tags in part.tags])
        together = degrees_to_metres(*places.T)
        positions = np.split(together, [len(parts[0].tags)])
        zone = common_zone(utm_zones(*places.T), places[:, 0] < 0) if together.shape[1] == 2 else None
        photos = [
            Located(
                part.folder,
                part.names,
                metres,
                np.array([tags.heading for tags in part.tags]),
                times=read_times([tags.time for tags in part.tags]),
                zone=zone,
            )
            for part, metres in zip(parts, positions, strict=False)
        ]
        notes = [note for part in parts for note in part.notes]
        return located_dataset(self._name, photos[0], photos[1] if all(divided) else None, rule, notes)

    @property
    def _name(self) -> str:
        return f"exif:{printable_name(self.path)}"


class Tags(NamedTuple):
    """What a photo says of where and when it was taken."""

    latitude: float  # degrees
    longitude: float  # degrees
    heading: float  # degrees clockwise from north; NaN where it does not say
    time: str  # as EXIF writes it; empty where it does not say


class _Part(NamedTuple):
    folder: str
    names: list[str]
    tags: list[Tags]
    notes: list[str]


def read_tags(path: str | os.PathLike) -> Tags | str:
    """Reads the position and the time of a photo, or why it has no position.

    Raises:
        UserError: the file is missing or is no image.
    """
    with open_image(path) as image:
        try:
            exif = image.getexif()
            gps = dict(exif.get_ifd(ExifTags.IFD.GPSInfo))
            moment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
        except Exception:  # Pillow raises many kinds for damaged EXIF; the pixels may be sound all the same
            return "with damaged EXIF"
    if not {ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLongitude} & gps.keys():
        return "without a GPS position"
    latitude = _degrees(gps, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "NS")
    longitude = _degrees(gps, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "EW")
    if trouble_with_degrees(latitude, longitude):
        return "with a GPS position that is damaged or incomplete"
    if latitude == 0 == longitude:
        return "whose GPS position is 0, 0, as without a fix"
    heading = _number(gps.get(ExifTags.GPS.GPSImgDirection))
    return Tags(latitude, longitude, heading % 360, moment if isinstance(moment, str) else "")


def _degrees(gps: Mapping[int, Any], value: int, reference: int, letters: str) -> float:
    """Degrees from degrees, minutes and seconds; NaN if they are damaged or it is not said on which side."""
    side = gps.get(reference, "")
    side = side.decode("ascii", "replace") if isinstance(side, bytes) else str(side)
    side = side.strip("\0 ").upper()[:1]
    parts = gps.get(value)
    parts = list(parts) if isinstance(parts, tuple) else [parts]
    if not side or side not in letters or len(parts) > 3:
        return math.nan
    numbers = [_number(part) for part in parts] + [0.0] * (3 - len(parts))
    if (
        not all(number >= 0 for number in numbers) or max(numbers[1:]) > 60
    ):  # NaN is not >= 0; 60 is what 59.9999 is rounded to
        return math.nan
    size = numbers[0] + numbers[1] / 60 + numbers[2] / 3600
    return size if side == letters[0] else -size


def _number(value: Any) -> float:
    """A rational number of EXIF; NaN where it is none, as 0/0 is."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _read(spec: str, folder: str) -> _Part:
    """The photos of a folder that have positions."""
    found = find_images(folder)
    names, tags, without = [], [], collections.Counter[str]()
    for name in found.names:
        read = read_tags(os.path.join(folder, name))
        if isinstance(read, str):
            without[read] += 1
        else:
            names.append(name)
            tags.append(read)
    reasons = ", ".join(f"{count} {reason}" for reason, count in without.most_common())
    shown = printable_name(folder)
    if not names:
        why = f": {reasons}" if reasons else "; there are no images" if not found.note else f"; {found.note}"
        raise UserError(f"{spec}: no photo in {shown} has a GPS position{why}")
    notes = [found.note] if found.note else []
    if reasons:
        notes.append(f"of {len(found.names)} images in {shown} are left out {reasons}")
    return _Part(folder, names, tags, notes)
