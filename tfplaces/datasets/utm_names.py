"""Folders of photos that have their positions in their names, as the field's data sets are distributed.

A name is `@easting@northing@zone@letter@latitude@longitude@panorama@tile@heading@pitch@roll@height@time@note@.jpg`
(VPR-datasets-downloader, CosPlace, SF-XL); all but the first two fields may be empty or absent. The photos lie in

(a) `queries/` and `database/`,
(b) `train/`, `val/` and `test/`, or some of them, with (a) or (c) in each,
(c) the folder itself and folders below it: each photo is a query among the others.

All of these may lie in `images/`. The names in `queries_images_paths.txt` and the like, beside a folder, are taken in
place of a listing of that folder.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Literal, NamedTuple

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import read_regular
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.discovery import find_images, resolve_names
from tfplaces.datasets.located import Located, Rule, located_dataset
from tfplaces.datasets.positions import common_zone, to_utm, utm_to_metres

_NUMBER = re.compile(r"[-+]?\d{1,12}(\.\d{0,12})?")
_SPLITS = ("train", "val", "test")
_MAX_LIST_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class UtmNames:
    """A folder of photos with UTM coordinates in their names; see the module for the layouts.

    Attributes:
        path: the folder.
        split: `train`, `val` or `test`, where there are such folders; by default `test`, or the only one.
        queries: the folder of the queries. SF-XL has `queries_v1` and `queries_v2`, SVOX `queries_night` and others.
        radius: a database image at most so far from a query shows its place, metres.
        training_radius: training draws a query towards database images at most so far from it, metres.
        max_angle: if given, photos show one place only if their headings differ by at most so many degrees.
    """

    path: str
    split: Literal["train", "val", "test"] | None = None
    queries: str = "queries"
    radius: float = 25
    training_radius: float = 10
    max_angle: float | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that there are; none where the photos are not divided into such folders."""
        base = self._base()
        if _is_folder(base, "database"):
            return ()
        return tuple(split for split in _SPLITS if _is_folder(base, split))

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: an option is out of range, or no photos with such names are there.
        """
        if not os.path.isdir(self.path):
            raise UserError(f"{self._name}: no such folder")
        rule = Rule(self.radius, min(self.training_radius, self.radius), self.max_angle)
        rule.check(self._name)
        folder, chosen = self._split_folder()
        if not _is_folder(folder, "database"):
            if _is_folder(folder, self.queries):
                raise UserError(f"{self._name}: {printable_name(folder)} has {self.queries}, but no database")
            photos = self._read(folder)
            (located,), notes = _located(self._name, photos)
            return located_dataset(self._name, located, None, rule, [*chosen, *photos.notes, *notes], "panorama")
        if not _is_folder(folder, self.queries):
            others = sorted(name for name in os.listdir(folder) if name.startswith("quer") and _is_folder(folder, name))
            instead = f"; of queries there is {', '.join(map(printable_name, others))}: ?queries=NAME" if others else ""
            raise UserError(
                f"{self._name}: {printable_name(folder)} has database, but no {printable_name(self.queries)}{instead}"
            )
        parts = [self._read(os.path.join(folder, part)) for part in (self.queries, "database")]
        (queries, database), notes = _located(self._name, *parts)
        notes = [*chosen, *(note for part in parts for note in part.notes), *notes]
        return located_dataset(self._name, queries, database, rule, notes)

    @property
    def _name(self) -> str:
        return f"utm:{printable_name(self.path)}"

    def _base(self) -> str:
        """The folder itself, or `images/` within it."""
        inner = os.path.join(self.path, "images")
        here = any(_is_folder(self.path, part) for part in (self.queries, "database", *_SPLITS))
        return self.path if here or not os.path.isdir(inner) else inner

    def _split_folder(self) -> tuple[str, list[str]]:
        """The folder of the split, and a note of which that is if nobody named it."""
        base, splits = self._base(), self.splits
        if self.split is None and not splits:
            return base, []
        if self.split is None and ("test" in splits or len(splits) == 1):
            split = "test" if "test" in splits else splits[0]
            return os.path.join(base, split), [f"this is the split {split}"]
        if self.split in splits:
            return os.path.join(base, self.split), []
        there = f"there are {' and '.join(splits)}" if splits else "its photos are not divided into splits"
        raise UserError(
            f"{self._name}: " + (f"no split {self.split}; {there}" if self.split else f"name a split; {there}")
        )

    def _read(self, folder: str) -> _Photos:
        """The photos of a folder whose names fit."""
        listed = f"{folder.rstrip(os.sep)}_images_paths.txt"
        if os.path.exists(listed):
            lines = read_regular(listed, _MAX_LIST_BYTES).decode("utf-8", "surrogateescape").splitlines()
            names, notes = resolve_names(folder, [line for line in lines if line], printable_name(listed)), []
        else:
            found = find_images(folder)
            names, notes = found.names, [found.note] if found.note else []
        fields = [read_fields(name) for name in names]
        strangers = [name for name, read in zip(names, fields, strict=True) if read is None]
        shown = printable_name(folder)
        if len(strangers) == len(names):
            first = f", as {printable_name(names[0])} shows" if names else f": no images there{'; ' if notes else ''}"
            raise UserError(f"{self._name}: no image in {shown} is named @easting@northing@…{first}{''.join(notes)}")
        if strangers:
            notes.append(
                f"{len(strangers)} of {len(names)} images in {shown} are left out, for their names are not "
                f"@easting@northing@…, first: {printable_name(strangers[0])}"
            )
        kept = [name for name, read in zip(names, fields, strict=True) if read is not None]
        return _Photos(folder, kept, [read for read in fields if read is not None], notes)


class UtmFields(NamedTuple):
    """What a name says."""

    easting: float
    northing: float
    zone: int  # 0 where it does not say
    southern: bool
    latitude: float  # NaN where it does not say, and so the next one
    longitude: float
    panorama: str
    heading: float  # NaN where it does not say
    time: str


class _Photos(NamedTuple):
    folder: str
    names: list[str]
    fields: list[UtmFields]
    notes: list[str]


def read_fields(name: str) -> UtmFields | None:
    """Reads the fields of a name; None where it does not begin with two coordinates."""
    start, *fields = os.path.splitext(name.rpartition("/")[2])[0].split("@")
    fields += [""] * (13 - len(fields))
    if start or not _NUMBER.fullmatch(fields[0]) or not _NUMBER.fullmatch(fields[1]):
        return None
    zone, band = fields[2], fields[3].upper()
    return UtmFields(
        float(fields[0]),
        float(fields[1]),
        int(zone) if re.fullmatch(r"0?[1-9]|[1-5]\d|60", zone) else 0,
        len(band) == 1 and band in "CDEFGHJKLM",
        _number(fields[4]),
        _number(fields[5]),
        fields[6],
        _number(fields[8]),
        fields[12],
    )


def _number(field: str) -> float:
    return float(field) if _NUMBER.fullmatch(field) else float("nan")


def _located(spec: str, *parts: _Photos) -> tuple[list[Located], list[str]]:
    """The photos with their positions, in coordinates that all parts share, and notes."""
    fields = [read for part in parts for read in part.fields]
    columns = {name: np.array([getattr(read, name) for read in fields]) for name in UtmFields._fields}
    try:
        positions = utm_to_metres(columns["easting"], columns["northing"], columns["zone"], columns["southern"])
    except UserError as error:
        raise UserError(f"{spec}: {error}") from None
    # A photo that names no panorama is one by itself.
    named = [read.panorama or f"@{number}" for number, read in enumerate(fields)]
    groups = np.array(named) if any(columns["panorama"]) else None
    times = columns["time"] if all(columns["time"]) else None
    names = [name for part in parts for name in part.names]
    zone = common_zone(columns["zone"], columns["southern"])
    located = Located("", names, positions, columns["heading"], groups, times, zone)
    ends = np.cumsum([len(part.names) for part in parts])
    divided = [
        dataclasses.replace(located.take(np.arange(end - len(part.names), end)), root=part.folder)
        for part, end in zip(parts, ends, strict=True)
    ]
    return divided, _contradictions(columns, names)


def _contradictions(columns: dict[str, np.ndarray], names: list[str]) -> list[str]:
    """A note of the names whose two positions, on the grid and in degrees, are not the same place."""
    latitudes, longitudes = columns["latitude"], columns["longitude"]
    both = np.flatnonzero(np.isfinite(latitudes) & np.isfinite(longitudes) & (columns["zone"] > 0))
    bad = (np.abs(latitudes[both]) > 90) | (np.abs(longitudes[both]) > 180)
    both, beyond = both[~bad], both[bad]
    on_grid = to_utm(latitudes[both], longitudes[both], columns["zone"][both])
    given = np.stack([columns["easting"], columns["northing"]], axis=1)[both]
    far = np.sort(np.concatenate([beyond, both[~(np.abs(on_grid - given) < 100).all(1)]]))
    if not len(far):
        return []
    return [
        f"in {len(far)} of {len(names)} names latitude and longitude are another place than easting and northing, "
        f"which are used; are they swapped? first: {printable_name(names[far[0]])}"
    ]


def _is_folder(*parts: str) -> bool:
    return os.path.isdir(os.path.join(*parts))
