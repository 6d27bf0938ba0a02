"""What an index says of a place, of the model that described the places, and of how to notice another runtime."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets.positions import trouble_with_degrees

MAX_DIMENSIONS = 2**18
MAX_PIXELS = 2**24  # of a model's input
MAX_NAME_BYTES = 2**16


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """One known place: a photo of it and where that was taken, as far as it is known.

    Attributes:
        name: the photo's name in its data set; no two places of an index have the same.
        latitude: degrees north (WGS 84), -90 to 90; known together with the longitude or not at all.
        longitude: degrees east, -180 to 180.
        easting: metres on a grid; known together with the northing or not at all.
        northing: metres on the same grid.
        zone: the UTM zone of easting and northing, its number and the hemisphere N or S, as in `30N`; None where the
            grid is another or not known.
        heading: where the camera looked, degrees clockwise from north.
        group: what the photo is one of several of, such as a floor, a panorama or a labelled place.
        time: when it was taken, as its data set writes it.
        digest: tells whether the picture behind a name is still the same, 16 bytes; empty where it is not known.
    """

    name: str
    latitude: float | None = None
    longitude: float | None = None
    easting: float | None = None
    northing: float | None = None
    zone: str | None = None
    heading: float | None = None
    group: str | None = None
    time: str | None = None
    digest: bytes = b""

    def check(self) -> None:
        """Refuses what cannot be a place.

        Raises:
            UserError: a number is out of range or not finite, half a position is missing, or a text is too long.
        """
        if not self.name or len(self.name) > MAX_NAME_BYTES:
            raise UserError("a place has no name, or one that is too long")
        for first, second in ((self.latitude, self.longitude), (self.easting, self.northing)):
            if (first is None) != (second is None):
                raise UserError("half of the position is missing")
        for number in (self.easting, self.northing, self.heading):
            if number is not None and not (math.isfinite(number) and abs(number) <= 1e9):
                raise UserError(f"the coordinate or heading {number:g} is out of range")
        if self.latitude is not None and self.longitude is not None:
            trouble = trouble_with_degrees(self.latitude, self.longitude)
            if trouble:
                raise UserError(trouble)
        if self.zone is not None and not is_zone(self.zone):
            raise UserError("the zone is no number from 1 to 60 with N or S behind it")
        for text in (self.group, self.time):
            if text is not None and len(text) > MAX_NAME_BYTES:
                raise UserError("the group or the time is too long")
        if len(self.digest) > 64:
            raise UserError("the digest of the picture is too long")


def is_zone(text: str) -> bool:
    """Whether a text is a UTM zone, as in `30N`."""
    number, hemisphere = text[:-1], text[-1:]
    return hemisphere in ("N", "S") and number in map(str, range(1, 61))


@dataclasses.dataclass(frozen=True)
class ModelIdentity:
    """The model that described the places: queries by any other one are not comparable.

    Attributes:
        sha256: of the model's file, 64 hexadecimal digits.
        precision: the types of the numbers that it has, as in `float32+int8`; `float32` for Keras models.
        input_size: (height, width) in pixels of the images that it took.
        dimensions: length of a descriptor.
    """

    sha256: str
    precision: str
    input_size: tuple[int, int]
    dimensions: int

    def check(self) -> None:
        """Raises UserError where a value is out of range."""
        if len(self.sha256) != 64 or not set(self.sha256) <= set("0123456789abcdef"):
            raise UserError("the model's SHA-256 is not 64 hexadecimal digits")
        if not 0 < len(self.precision) <= 100:
            raise UserError("the model's precision has no name")
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise UserError("the model's input size is out of range")
        if self.input_size[0] * self.input_size[1] > MAX_PIXELS:
            raise UserError(f"the model's input has more than {MAX_PIXELS:,} pixels")
        if not 0 < self.dimensions <= MAX_DIMENSIONS:
            raise UserError(f"descriptors of {self.dimensions} numbers; possible are 1 to {MAX_DIMENSIONS:,}")


@dataclasses.dataclass(frozen=True)
class TestVector:
    """An image and the descriptor that the model gave of it where the index was made: tells another runtime.

    Attributes:
        image: RGB, uint8 `[height, width, 3]`, of the model's input size.
        descriptor: float32 `[dimensions]`, of unit length.
    """

    __test__ = False  # it is none of pytest's

    image: np.ndarray
    descriptor: np.ndarray
