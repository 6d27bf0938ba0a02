"""Photos that a table lists with their positions: `csv:FILE`, as a spreadsheet or exiftool writes it."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.discovery import points_outside, resolve_names
from tfplaces.datasets.located import Located, Rule, located_dataset
from tfplaces.datasets.positions import common_zone, degrees_to_metres, trouble_with_degrees, utm_to_metres, utm_zones
from tfplaces.datasets.table_files import Table, named_lines, read_degrees, read_number, read_table, read_times

# What headers may be called, in small letters without punctuation; the first that is there is taken.
COLUMNS: dict[str, Sequence[str]] = {
    "path": (
        "path", "imagepath", "filepath", "sourcefile", "file", "filename", "image", "imagename", "imagefile", "img",
        "photo", "picture", "name", "key", "imagekey", "datei", "dateiname", "pfad", "bild", "foto", "fichier",
    ),
    "latitude": ("latitude", "lat", "gpslatitude", "gpslat", "latdeg", "breite", "breitengrad"),
    "longitude": (
        "longitude", "lon", "lng", "long", "gpslongitude", "gpslon", "gpslng", "londeg", "länge", "längengrad",
    ),
    "easting": ("easting", "utmeasting", "utmeast", "utme", "east", "eastings", "utmx", "rechtswert", "ostwert"),
    "northing": ("northing", "utmnorthing", "utmnorth", "utmn", "north", "northings", "utmy", "hochwert", "nordwert"),
    "zone": ("zone", "utmzone", "zonenumber"),
    "split": ("split", "set", "subset", "partition"),
    "role": ("role", "type", "kind", "part"),
    "heading": (
        "heading", "bearing", "compass", "compassangle", "ca", "azimuth", "yaw", "northdeg", "direction",
        "gpsimgdirection",
    ),
    "sequence": ("sequence", "sequenceid", "sequencekey", "seq", "seqid", "track", "trackid", "drive", "trip", "run"),
    "time": ("time", "timestamp", "datetime", "date", "capturedat", "datetimeoriginal", "takenat", "taken"),
}  # fmt: skip

_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_ROLES = {
    "query": "query", "queries": "query", "q": "query", "database": "database", "db": "database",
    "reference": "database", "references": "database", "ref": "database", "gallery": "database", "map": "database",
}  # fmt: skip

# No coordinate on the earth is larger, whatever its grid.
_MAX_METRES = 1e8


@dataclasses.dataclass(frozen=True)
class CsvTable:
    """A table of photos: a path, easting and northing or latitude and longitude, and more columns if there are any.

    A column `split` (or `set`) says `train`, `val` or `test`, a column `role` (or `split` again) says `query` or
    `database`. Without roles each photo is a query among the others, those of its own sequence left aside.

    Attributes:
        path: the table; see `tfplaces.datasets.table_files` for how it may be written, `COLUMNS` for its headers.
        images: the folder that its paths are relative to; by default the folder of the table.
        split: `train`, `val` or `test`, where the table has splits; by default `test`, or the only one.
        radius: a database image at most so far from a query shows its place, metres.
        training_radius: training draws a query towards database images at most so far from it, metres.
        max_angle: if given, photos show one place only if their headings differ by at most so many degrees.
    """

    path: str
    images: str = ""
    split: Literal["train", "val", "test"] | None = None
    radius: float = 25
    training_radius: float = 10
    max_angle: float | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the table has; none where it has none."""
        there = set(self._labels[0])
        return tuple(split for split in ("train", "val", "test") if split in there)

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: an option is out of range, the table is not as expected, or photos are missing. Every row that
                cannot be used is named by its line.
        """
        rule = Rule(self.radius, min(self.training_radius, self.radius), self.max_angle)
        rule.check(self._name)
        table, (splits, roles) = self._table, self._labels
        chosen = self._chosen_split()
        rows = np.flatnonzero([chosen in (None, split) for split in splits])
        photos, notes = self._located(rows)
        shown = [*table.notes, *notes]
        if chosen is not None:
            shown.append(f"these are the {len(rows):,} rows of the split {chosen}, of {len(table):,}")
        if not any(roles):
            return located_dataset(self._name, photos, None, rule, shown, "sequence")
        role = np.array(roles)[rows]
        parts = [photos.take(np.flatnonzero(role == one)) for one in ("query", "database")]
        return located_dataset(self._name, parts[0], parts[1], rule, shown)

    @property
    def _name(self) -> str:
        return f"csv:{printable_name(self.path)}"

    @functools.cached_property
    def _table(self) -> Table:
        table = read_table(self.path, COLUMNS)
        has = table.cells.keys()
        if "path" not in has:
            raise UserError(f"{self._name}: no column of the first line is called path, file, image or name")
        if not ({"easting", "northing"} <= has or {"latitude", "longitude"} <= has):
            raise UserError(
                f"{self._name}: its first line must name easting and northing, or latitude and longitude; it has "
                f"{', '.join(sorted(has))}"
            )
        if not len(table):
            raise UserError(f"{self._name}: has a line of headers, but no rows")
        return table

    @functools.cached_property
    def _labels(self) -> tuple[list[str], list[str]]:
        """The split and the role of each row, empty where there are none."""
        table = self._table
        found: dict[str, list[str]] = {"split": [""] * len(table), "role": [""] * len(table)}
        trouble = _Trouble(table)
        for column in ("split", "role"):
            cells = table.cells.get(column)
            if cells is None or not any(cells):
                continue
            if column == "role" and not {cell.casefold() for cell in cells} & (_SPLITS.keys() | _ROLES.keys()):
                continue  # a column of that name may be about anything
            for row, cell in enumerate(cells):
                label = cell.casefold()
                if label in _SPLITS:
                    found["split"][row] = _SPLITS[label]
                elif label in _ROLES:
                    found["role"][row] = _ROLES[label]
                elif cell:
                    trouble.add(row, f"{column} {_shown(cell)} is none of train, val, test, query, database")
        for meaning, labels in found.items():
            if any(labels):
                for row in range(len(labels)):
                    if not labels[row]:
                        trouble.add(row, f"has no {meaning}, unlike other rows")
        trouble.raise_if_any(self._name)
        return found["split"], found["role"]

    def _chosen_split(self) -> str | None:
        splits = self.splits
        there = f"there are {' and '.join(splits)}" if splits else "its rows have none"
        if self.split and self.split not in splits:
            raise UserError(f"{self._name}: no split {self.split}; {there}")
        if self.split or not splits:
            return self.split
        if "test" not in splits and len(splits) > 1:
            raise UserError(f"{self._name}: name a split, as in ?split=train; {there}")
        return "test" if "test" in splits else splits[0]

    def _located(self, rows: np.ndarray) -> tuple[Located, list[str]]:
        """The photos of some rows, and notes."""
        table, trouble = self._table, _Trouble(self._table)
        positions, zone, notes = _positions(self._name, table, trouble)
        headings = np.full(len(table), np.nan)
        for row, cell in enumerate(table.cells.get("heading", [])):
            if cell:
                headings[row] = read_degrees(cell)
                if not np.isfinite(headings[row]):
                    trouble.add(row, f"heading {_shown(cell)} is no number")
        root = os.path.expanduser(self.images) or os.path.dirname(self.path) or "."
        if not os.path.isdir(root):
            raise UserError(f"{self._name}: images={printable_name(self.images)} is no folder")
        names = [_relative(name, root) for name in table.cells["path"]]
        lines: dict[str, int] = {}
        for row, name in enumerate(names):
            first = lines.setdefault(name, table.lines[row])
            if not name:
                trouble.add(row, "has no path")
            elif points_outside(name):
                place = f"{printable_name(root)}, which ?images=DIR may change"
                trouble.add(row, f"{printable_name(name[:500])} points outside {place}")
            elif first != table.lines[row]:
                trouble.add(row, f"{printable_name(name[:500])} is in line {first} too")
        trouble.raise_if_any(self._name)
        files = resolve_names(root, names, self._name, table.lines)
        sequences = table.cells.get("sequence", [])
        # A photo that names no sequence stands alone.
        named = [one or f"line {line}" for one, line in zip(sequences, table.lines, strict=False)]
        groups = np.array(named) if any(sequences) else None
        times = table.cells.get("time")
        moments = read_times(times) if times and all(times) else None
        if times and any(times) and moments is None:
            notes.append("its times are left out, for not all are numbers or dates such as 2021-05-31 10:59:00")
        return Located(root, files, positions, headings, groups, moments, zone).take(rows), notes


class _Trouble:
    """What is wrong with rows of a table."""

    def __init__(self, table: Table):
        self._table = table
        self._said: dict[int, str] = {}

    def add(self, row: int, what: str) -> None:
        self._said.setdefault(row, what)

    def raise_if_any(self, spec: str) -> None:
        """Raises a UserError that names every row that something is wrong with."""
        if not self._said:
            return
        rows = sorted(self._said)
        lines = [self._table.lines[row] for row in rows]
        listed = "; ".join(f"line {line}: {self._said[row]}" for line, row in zip(lines[:10], rows[:10], strict=True))
        rest = f"; and {named_lines(lines[10:])}" if len(lines) > 10 else ""
        raise UserError(f"{spec}: {len(rows)} of {len(self._table)} rows cannot be used: {listed}{rest}")


def _positions(spec: str, table: Table, trouble: _Trouble) -> tuple[np.ndarray, str | None, list[str]]:
    """The position of each row in metres, their UTM zone, and notes; of rows that have none it says so."""
    on_grid = {"easting", "northing"} <= table.cells.keys()
    first, second = ("easting", "northing") if on_grid else ("latitude", "longitude")
    read = read_number if on_grid else read_degrees
    cells = list(zip(table.cells[first], table.cells[second], strict=True))
    numbers = np.array([(read(one), read(other)) for one, other in cells], float).reshape(-1, 2)
    usable = np.ones(len(cells), bool)
    for row, (one, other) in enumerate(numbers.tolist()):
        what = ""
        if not np.isfinite([one, other]).all():
            shown = [f"{name} {_shown(cell)}" for name, cell in zip((first, second), cells[row], strict=True)]
            what = f"{shown[0] if not np.isfinite(one) else shown[1]} is no number"
        elif not on_grid:
            what = trouble_with_degrees(one, other)
        elif max(abs(one), abs(other)) > _MAX_METRES:
            what = f"easting {one:g}, northing {other:g} are no metres on the earth"
        if what:
            trouble.add(row, what)
            usable[row] = False
    zones, southern, notes = np.zeros(len(cells), np.int64), np.zeros(len(cells), bool), []
    texts = table.cells.get("zone") if on_grid else None
    letters = {text[-1:].upper() for text in texts or []} - set("0123456789")
    for row, text in enumerate(texts or []):
        match = re.fullmatch(r"(0?[1-9]|[1-5]\d|60)\s*([A-Za-z]?)", text)
        if match:
            zones[row] = int(match[1])
            # N and S alone are hemispheres; with other letters they are bands of latitude, which both lie north.
            southern[row] = match[2].upper() in (("S",) if letters <= {"N", "S"} else tuple("CDEFGHJKLM"))
        elif text:
            trouble.add(row, f"zone {_shown(text)} is not 1 to 60 with or without a letter")
    if on_grid and usable.any() and (np.abs(numbers[usable]) <= (180, 90)).all() and (numbers[usable] % 1).any():
        notes.append("easting and northing look like degrees; call the columns longitude and latitude if they are")
    numbers[~usable] = numbers[usable][0] if usable.any() else 0
    if not on_grid:
        metres = degrees_to_metres(numbers[:, 0], numbers[:, 1])
        zone = common_zone(utm_zones(numbers[:, 0], numbers[:, 1]), numbers[:, 0] < 0)
        return metres, zone if metres.shape[1] == 2 else None, notes
    try:
        metres = utm_to_metres(numbers[:, 0], numbers[:, 1], zones, southern)
        return metres, common_zone(zones, southern), notes
    except UserError as error:
        trouble.raise_if_any(spec)
        raise UserError(f"{spec}: {error}") from None


def _shown(cell: str) -> str:
    return repr(printable_name(cell[:60]))


def _relative(name: str, root: str) -> str:
    """A path in the table; one that begins with the folder of the photos without that."""
    if os.path.isabs(name):
        inside = os.path.relpath(name, os.path.abspath(root))
        if not inside.startswith(os.pardir):
            return inside
    return name
