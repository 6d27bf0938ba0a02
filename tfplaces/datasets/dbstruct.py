"""Ground truth as a `dbStruct` in a `.mat` file, as NetVLAD's authors publish it (Arandjelović et al., CVPR 2016).

A database image shows the place of a query if it was taken within `posDistThr` metres (25). Training draws a query
towards those that are more than a metre and at most √`nonTrivPosDistSqThr` metres (10) away. Tokyo Time Machine has
time stamps too: images of the query's own are left out of the training and of every ranking.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.matlab import read_struct
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.datasets.listed_images import counts_note, listed_images


@dataclasses.dataclass(frozen=True)
class DbStruct:
    """What a `dbStruct` says.

    Attributes:
        database: names of the database images.
        queries: names of the queries.
        database_positions: UTM easting and northing of each database image, metres, float64 `[database, 2]`.
        query_positions: the same of each query, float64 `[queries, 2]`.
        radius: up to what distance a database image is a positive, metres.
        training_radius: up to what distance training takes it for one, metres; None where the file does not say.
        query_times: a number for the time stamp of each query, int64 `[queries]`; None without time stamps.
        database_times: the same of each database image, int64 `[database]`.
    """

    database: list[str]
    queries: list[str]
    database_positions: np.ndarray
    query_positions: np.ndarray
    radius: float
    training_radius: float | None
    query_times: np.ndarray | None
    database_times: np.ndarray | None

    def ground_truth(self) -> GroundTruth:
        """Which database images show the place of each query, to score by and to train by."""
        positives = IndexLists.within(self.query_positions, self.database_positions, self.radius)
        near = None
        if self.training_radius is not None:
            near = IndexLists.within(self.query_positions, self.database_positions, self.training_radius, beyond=1)
        junk = None
        if self.database_times is not None and self.query_times is not None:
            junk = IndexLists.by_label(self.query_times, self.database_times)
            positives, near = _without(positives, junk), near and _without(near, junk)
        return GroundTruth(
            positives,
            training_positives=near,
            junk=junk,
            query_positions=self.query_positions,
            database_positions=self.database_positions,
            radius=self.radius,
            query_times=self.query_times,
            database_times=self.database_times,
        )


def read_dbstruct(path: str) -> DbStruct:
    """Reads a `dbStruct`, its fields by name: they stand in another order where there are time stamps.

    Raises:
        UserError: the file is none, or its fields do not fit each other.
    """
    shown, fields = printable_name(path), read_struct(path, "dbStruct")

    def field(name: str) -> Any:
        if name not in fields:
            raise UserError(f"{shown}: its dbStruct has no {name}, but {', '.join(map(printable_name, fields))}")
        return fields[name]

    def names(name: str, count: str) -> list[str]:
        value = field(name)
        if not isinstance(value, list) or not all(type(item) is str for item in value):
            raise UserError(f"{shown}: {name} is no cell of file names")
        if count in fields and _number(shown, count, fields[count]) != len(value):
            raise UserError(f"{shown}: {name} has {len(value):,} names, but {count} is {fields[count]}")
        return value

    def positions(name: str, count: int) -> np.ndarray:
        value = field(name)
        if not isinstance(value, np.ndarray) or value.shape != (2, count) or not np.isfinite(value).all():
            raise UserError(f"{shown}: {name} is not two finite numbers for each of {count:,} images")
        return np.ascontiguousarray(value.T, dtype=np.float64)

    database, queries = names("dbImageFns", "numImages"), names("qImageFns", "numQueries")
    radius = _number(shown, "posDistThr", field("posDistThr"))
    squared = fields.get("nonTrivPosDistSqThr")
    times: tuple[np.ndarray, np.ndarray] | tuple[None, None] = None, None
    if "dbTimeStamp" in fields or "qTimeStamp" in fields:
        times = _times(shown, field("qTimeStamp"), field("dbTimeStamp"), len(queries), len(database))
    return DbStruct(
        database,
        queries,
        positions("utmDb", len(database)),
        positions("utmQ", len(queries)),
        radius,
        None if squared is None else math.sqrt(_number(shown, "nonTrivPosDistSqThr", squared)),
        *times,
    )


def _number(shown: str, name: str, value: Any) -> float:
    if not isinstance(value, np.ndarray) or value.size != 1 or not 0 <= value.item() < 1e9:
        raise UserError(f"{shown}: {name} is no number from 0")
    return float(value.item())


def _times(shown: str, queries: Any, database: Any, *counts: int) -> tuple[np.ndarray, np.ndarray]:
    """One number for each time stamp, whatever it is written as."""
    columns = [np.asarray(column).ravel() for column in (queries, database)]
    if any(column.shape != (n,) or column.dtype.kind not in "iufU" for column, n in zip(columns, counts, strict=True)):
        raise UserError(f"{shown}: dbTimeStamp and qTimeStamp are not one number or text for each image")
    if len({column.dtype.kind == "U" for column in columns}) > 1:
        raise UserError(f"{shown}: dbTimeStamp and qTimeStamp are not both numbers or both texts")
    numbers = np.unique(np.concatenate(columns), return_inverse=True)[1].ravel().astype(np.int64)
    return numbers[: counts[0]], numbers[counts[0] :]


def _without(lists: IndexLists, left_out: IndexLists) -> IndexLists:
    return IndexLists.of([np.setdiff1d(a, b, assume_unique=True) for a, b in zip(lists, left_out, strict=True)])


def open_dbstruct(
    spec: str, file: str, database: Sequence[str], queries: Sequence[str], published: tuple[int, int] | None
) -> PlaceDataset:
    """A data set from a `dbStruct`.

    Args:
        spec: its name.
        file: the `.mat` file.
        database: folders where its database images may lie, in `.jpg` or `.png` files whatever the names end in.
        queries: folders where its queries may lie.
        published: how many queries and database images there are, where that is known.

    Raises:
        UserError: the file is no sound `dbStruct`.
    """
    read, shown = read_dbstruct(file), printable_name(file)
    images, missing = listed_images(shown, "database images", read.database, database, (".png",))
    query_images, also_missing = listed_images(shown, "queries", read.queries, queries)
    notes = counts_note(len(query_images), len(images), published), *missing, *also_missing
    return PlaceDataset(spec, images, query_images, read.ground_truth(), notes=notes)


def find_dbstruct(spec: str, path: str, name: str) -> str:
    """The `.mat` file of a published data set, in its folder or in `datasets` there.

    Raises:
        UserError: it is not there.
    """
    if not os.path.isdir(path):
        raise UserError(f"{spec}: no such folder")
    files = [os.path.join(path, *folders, name) for folders in ((), ("datasets",))]
    file = next(filter(os.path.exists, files), None)
    if file is None:
        raise UserError(f"{spec}: no {name} there or in datasets")
    return file


@dataclasses.dataclass(frozen=True)
class DbStructFile:
    """Anybody's `dbStruct`.

    Attributes:
        path: the `.mat` file, of version 5 or 7.3.
        images: the folder that its names are relative to; by default that of the file.
        queries: the folder that the names of its queries are relative to; by default that of the images.
    """

    path: str
    images: str = ""
    queries: str = ""

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: a folder is not there, or the file is no sound `dbStruct`.
        """
        spec = f"dbstruct:{printable_name(self.path)}"
        for folder in filter(None, (self.images, self.queries)):
            if not os.path.isdir(folder):
                raise UserError(f"{spec}: no such folder: {printable_name(folder)}")
        images = self.images or os.path.dirname(self.path) or "."
        return open_dbstruct(spec, self.path, [images], [self.queries or images], None)
