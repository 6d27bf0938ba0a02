"""Mapillary Street-Level Sequences (Warburg et al., CVPR 2020), image to image, as its official program reads it.

Below `train_val/CITY/` and `test/CITY/` there are `query/` and `database/`, each with `images/KEY.jpg`, `seq_info.csv`,
`subtask_index.csv` and, not for the test, `raw.csv` and `postprocessed.csv`. Panoramas are left out; of val and test
the images of the subtask `all` are taken. A database image within 25 m of a query, in its city, shows its place;
training draws a query towards those within 10 m.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import Literal

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset, take_queries
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.datasets.listed_images import counts_note, listed_images
from tfplaces.datasets.table_files import Table, named_lines, read_table

CITIES = {
    "train": (
        "trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo", "toronto", "saopaulo",
        "moscow", "zurich", "paris", "bangkok", "budapest", "austin", "berlin", "ottawa", "phoenix", "goa", "amman",
        "nairobi", "manila",
    ),
    "val": ("cph", "sf"),
    "test": ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala"),
}  # fmt: skip

_RADIUS, _TRAINING_RADIUS = 25.0, 10.0
# Queries and database images as published, by split and protocol.
_COUNTS = {("val", "cities"): (747, 18_871), ("val", "740"): (740, 18_871), ("test", "cities"): (1_135, 36_565)}
# The northing of no place on the earth is larger, so that cities whose zones differ stay apart.
_APART = 1e8


@dataclasses.dataclass(frozen=True)
class Msls:
    """Mapillary Street-Level Sequences.

    Attributes:
        path: the folder with `train_val` and `test`.
        split: which cities. Those of the test have no published positions: their images can be described, not scored.
        protocol: how val is scored. `cities`: each query is looked for in its own city, as by the official program;
            the images of other cities do not count. `740`: the 740 queries that have something to be found are looked
            for among both cities at once, as most papers do. Figures of the two differ by up to five points.
        city: only some cities, separated by commas.
    """

    path: str
    split: Literal["train", "val", "test"] = "val"
    protocol: Literal["cities", "740"] = "cities"
    city: str = ""

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: no such folder, city or table, or a table is not as the official program writes it.
        """
        spec = f"msls:{printable_name(self.path)}"
        cities = tuple(self.city.split(",")) if self.city else CITIES[self.split]
        unknown = [city for city in cities if city not in CITIES[self.split]]
        if unknown or len(set(cities)) < len(cities):
            name = printable_name((unknown or [self.city])[0])
            raise UserError(f"{spec}: city={name}: the cities of {self.split} are {', '.join(CITIES[self.split])}")
        if self.protocol == "740" and self.split != "val":
            raise UserError(f"{spec}: protocol=740 is of the split val, not {self.split}")
        part = "test" if self.split == "test" else "train_val"
        base = os.path.join(self.path, part)
        if not os.path.isdir(base):
            raise UserError(f"{spec}: no folder {part} there")
        queries, database = (
            _join([_read(base, city, number, role, self.split) for number, city in enumerate(cities)])
            for role in ("query", "database")
        )
        shown = printable_name(base)
        images, missing = listed_images(shown, "database images", database.names, [base])
        query_images, also_missing = listed_images(shown, "queries", queries.names, [base])
        truth = self._truth(queries, database, cities)
        dataset = PlaceDataset(spec, images, query_images, truth, protocol="msls")
        if self.protocol == "740":
            dataset = take_queries(dataset, dataset.answerable())
        published = None if self.city else _COUNTS.get((self.split, self.protocol))
        notes = [counts_note(len(dataset.queries), len(dataset.database), published), *missing, *also_missing]
        if self.split == "test":
            notes.append("the positions of the test are not published: it can be described, not scored")
        elif self.split == "val" and len(cities) > 1:
            notes.append(
                "each query is looked for in its own city (protocol=cities)"
                if self.protocol == "cities"
                else "queries are looked for in both cities at once (protocol=740)"
            )
        return dataclasses.replace(dataset, notes=tuple(notes))

    def _truth(self, queries: _Photos, database: _Photos, cities: tuple[str, ...]) -> GroundTruth:
        names = np.array(cities)[queries.cities]
        if queries.positions is None or database.positions is None:
            return GroundTruth(IndexLists.of([[]] * len(queries.names)), query_cities=names)
        junk = None
        if self.split == "val" and self.protocol == "cities" and len(cities) > 1:
            others = [np.flatnonzero(database.cities != number) for number in range(len(cities))]
            junk = IndexLists.of(others).take(queries.cities)
        return GroundTruth(
            IndexLists.within(queries.positions, database.positions, _RADIUS),
            training_positives=IndexLists.within(queries.positions, database.positions, _TRAINING_RADIUS),
            junk=junk,
            query_positions=queries.positions,
            database_positions=database.positions,
            radius=_RADIUS,
            query_conditions=queries.conditions,
            query_cities=names,
            query_sequences=queries.sequences,
            database_sequences=database.sequences,
        )


@dataclasses.dataclass(frozen=True)
class _Photos:
    """Queries or database images.

    Attributes:
        names: their files.
        cities: the number of the city of each, int64 `[n]`.
        sequences: the sequence of each, strings `[n]`.
        positions: easting, northing and a coordinate that keeps cities apart, float64 `[n, 3]`; None of the test.
        conditions: `day` or `night`, strings `[n]`; None of the test.
    """

    names: list[str]
    cities: np.ndarray
    sequences: np.ndarray
    positions: np.ndarray | None
    conditions: np.ndarray | None


def _join(parts: list[_Photos]) -> _Photos:
    """The photos of several cities, one city after the other."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("cities", "sequences", "positions", "conditions")
        if getattr(parts[0], name) is not None
    }
    positions, conditions = columns.get("positions"), columns.get("conditions")
    names = [name for part in parts for name in part.names]
    return _Photos(names, columns["cities"], columns["sequences"], positions, conditions)


def _read(base: str, city: str, number: int, role: str, split: str) -> _Photos:
    """The photos of a city that the official program takes."""
    folder = os.path.join(base, city, role)
    sequences = _table(folder, "seq_info.csv", "key", "sequence_key")
    keys = sequences.cells["key"]
    taken = np.ones(len(keys), bool)
    if split != "train":
        taken &= _truths(folder, "subtask_index.csv", keys, "all")
    positions = conditions = None
    if split != "test":
        taken &= ~_truths(folder, "raw.csv", keys, "pano")
        table = _table(folder, "postprocessed.csv", "key", "easting", "northing", "night")
        _same_keys(folder, "postprocessed.csv", table, keys)
        places = [_numbers(folder, table, name) for name in ("easting", "northing")]
        positions = np.stack([*places, np.full(len(keys), number * _APART)], axis=1)[taken]
        night = _as_truths(folder, "postprocessed.csv", table, "night")
        conditions = np.where(night, "night", "day")[taken]
    chosen = np.flatnonzero(taken)
    names = [f"{city}/{role}/images/{keys[k]}.jpg" for k in chosen]
    drives = np.array([sequences.cells["sequence_key"][k] for k in chosen], dtype=np.str_)
    return _Photos(names, np.full(len(chosen), number), drives, positions, conditions)


def _table(folder: str, file: str, *columns: str) -> Table:
    path = os.path.join(folder, file)
    # The page of the data set calls the key of a sequence its id.
    other = {"sequence_key": ("sequencekey", "sequenceid")}
    table = read_table(path, {name: other.get(name, (name.replace("_", ""),)) for name in columns})
    missing = [name for name in columns if name not in table.cells]
    if missing:
        raise UserError(f"{printable_name(path)}: has no column {missing[0]}")
    return table


def _truths(folder: str, file: str, keys: list[str], column: str) -> np.ndarray:
    table = _table(folder, file, "key", column)
    _same_keys(folder, file, table, keys)
    return _as_truths(folder, file, table, column)


def _same_keys(folder: str, file: str, table: Table, keys: list[str]) -> None:
    if table.cells["key"] != keys:
        raise UserError(f"{printable_name(os.path.join(folder, file))}: lists other images than seq_info.csv beside it")


def _as_truths(folder: str, file: str, table: Table, column: str) -> np.ndarray:
    cells = table.cells[column]
    bad = [line for line, cell in zip(table.lines, cells, strict=True) if cell not in ("True", "False")]
    if bad:
        where = printable_name(os.path.join(folder, file))
        raise UserError(f"{where}: {column} is neither True nor False on {named_lines(bad)}")
    return np.array([cell == "True" for cell in cells], bool)


def _numbers(folder: str, table: Table, column: str) -> np.ndarray:
    values = np.full(len(table), np.nan)
    for k, cell in enumerate(table.cells[column]):
        with contextlib.suppress(ValueError):
            values[k] = float(cell)
    bad = [table.lines[k] for k in np.flatnonzero(~(np.abs(values) < _APART / 2))]
    if bad:
        where = printable_name(os.path.join(folder, "postprocessed.csv"))
        raise UserError(f"{where}: {column} is no number of metres on {named_lines(bad)}")
    return values
