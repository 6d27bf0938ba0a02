"""Folders of photos as data sets, in four layouts.

(a) `database/`, `queries/` and `gt.json`: `{"queries": [names], "database": [names], "positives": [[database indices]
    for each query]}`.
(b) `images/` and `labels.json`: `{"file name": "label"}`; a label is a place.
(c) Sub-folders of images; each is a place, with all that lies in folders below it.
(d) Images in the folder itself: unlabelled, a database without queries.

In (b) and (c) the first image of a place, by name, is its query, the others are the database.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.strict_json import read_json
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.copies import note_of_copies
from tfplaces.datasets.discovery import find_images, resolve_names
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.images import EXTENSIONS, ImageFiles
from tfplaces.datasets.index_lists import IndexLists


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder of photos; see the module for the layouts.

    Attributes:
        path: the folder.
        truth: the key of `gt.json` that holds the database indices of each query.
    """

    path: str
    truth: str = "positives"

    def open(self) -> PlaceDataset:
        """Opens the folder.

        Raises:
            UserError: nothing usable is there, or the ground truth does not fit the files.
        """
        path = self.path
        if not os.path.isdir(path):
            comma = "; of several data sets each begins with its kind, as in folder:a,folder:b" if "," in path else ""
            raise UserError(f"{self._name}: no such folder{comma}")
        if os.path.exists(os.path.join(path, "gt.json")):
            return self._ground_truth()
        if self.truth != "positives":
            raise UserError(f"{self._name}: truth={self.truth} is for a folder with a gt.json, and there is none")
        if os.path.exists(os.path.join(path, "labels.json")):
            return self._labels()
        for parts, file in ((("database", "queries"), "gt.json"), (("images",), "labels.json")):
            if all(os.path.isdir(os.path.join(path, part)) for part in parts):
                raise UserError(f"{self._name}: has {' and '.join(parts)}, but no {file} that says what shows what")
        return self._images()

    @property
    def _name(self) -> str:
        return f"folder:{printable_name(self.path)}"

    def _images(self) -> PlaceDataset:
        found = find_images(self.path)
        notes = [found.note] if found.note else []
        beside = [name for name in found.names if "/" not in name]
        places = {name: name.partition("/")[0] for name in found.names if "/" in name}
        if places and beside:
            raise UserError(
                f"{self._name}: images both beside and inside its {len(set(places.values()))} sub-folders; move the "
                f"{len(beside)} beside them into a place of their own, first: {printable_name(beside[0])}"
            )
        if places:
            deeper = collections.Counter(place for name, place in places.items() if name.count("/") > 1)
            if deeper:
                first = ", ".join(map(printable_name, list(deeper)[:3]))
                notes.append(
                    f"{sum(deeper.values())} images lie in folders below a place's folder and count to that place: "
                    f"{first}" + (", …" if len(deeper) > 3 else "")
                )
            return self._labelled(self.path, places, notes)
        if not beside:
            looked = f"; {found.note}" if found.note else f" (looked for {' '.join(EXTENSIONS)})"
            raise UserError(f"{self._name}: no images there{looked}")
        truth = GroundTruth(IndexLists.of([]))
        files = ImageFiles(self.path, beside), ImageFiles(self.path, [])
        return PlaceDataset(self._name, *files, truth, notes=tuple(notes))

    def _ground_truth(self) -> PlaceDataset:
        file = os.path.join(self.path, "gt.json")
        gt, shown = read_json(file), printable_name(file)
        if not isinstance(gt, dict) or not all(isinstance(gt.get(k), list) for k in ("queries", "database")):
            raise UserError(f'{shown}: expected {{"queries": [...], "database": [...], "positives": [[...], ...]}}')
        rows = gt.get(self.truth)
        if not isinstance(rows, list):
            lists = [key for key, value in gt.items() if isinstance(value, list) and key not in ("queries", "database")]
            others = f"; instead there are {', '.join(lists)}" if lists else ""
            raise UserError(f"{shown}: has no list {self.truth!r} of the positives of each query{others}")
        images = {}
        for part in ("queries", "database"):
            root = os.path.join(self.path, part)
            images[part] = ImageFiles(root, resolve_names(root, _names(shown, gt[part]), shown))
        database, queries = images["database"], images["queries"]
        if not database.names:
            raise UserError(f"{shown}: its database is empty")
        if len(rows) != len(queries):
            raise UserError(f"{shown}: {len(queries)} queries, but {self.truth} for {len(rows)}")
        positives = []
        for name, row in zip(queries.names, rows, strict=True):
            if not isinstance(row, list) or not all(type(i) is int for i in row):
                raise UserError(f"{shown}: the {self.truth} of {printable_name(name)} are not a list of whole numbers")
            bad = [i for i in row if not 0 <= i < len(database)]
            if bad:
                raise UserError(
                    f"{shown}: positive {bad[0]} of {printable_name(name)} is out of range: the database has "
                    f"{len(database)} images, numbered from 0"
                )
            positives.append(np.unique(np.asarray(row, np.int64)))
        truth = GroundTruth(IndexLists.of(positives))
        return PlaceDataset(self._name, database, queries, truth, notes=note_of_copies(queries, database))

    def _labels(self) -> PlaceDataset:
        file = os.path.join(self.path, "labels.json")
        labels, shown = read_json(file), printable_name(file)
        if not isinstance(labels, dict) or not labels or not all(type(v) in (str, int) for v in labels.values()):
            raise UserError(f'{shown}: expected {{"file name": "label", ...}}')
        root = os.path.join(self.path, "images")
        names = resolve_names(root, list(labels), shown)
        return self._labelled(root, dict(zip(names, map(str, labels.values()), strict=True)), [])

    def _labelled(self, root: str, labels: dict[str, str], notes: list[str]) -> PlaceDataset:
        """A data set from the label of each file; the first file of a label is its query."""
        numbers: dict[str, int] = {}
        queries, database, places = [], [], []
        for name in sorted(labels):
            label = labels[name]
            if label not in numbers:
                numbers[label] = len(numbers)
                queries.append(name)
            else:
                database.append(name)
                places.append(numbers[label])
        if not database:
            raise UserError(
                f"{self._name}: each place has one image only; two or more are needed to find one by another"
            )
        # The queries' places are numbered in the order of the queries.
        truth = GroundTruth.of_labels(np.arange(len(queries)), np.asarray(places, np.int64))
        truth = dataclasses.replace(truth, label_names=list(numbers))
        files = ImageFiles(root, database), ImageFiles(root, queries)
        return PlaceDataset(self._name, *files, truth, notes=(*notes, *note_of_copies(files[1], files[0])))


def _names(shown: str, names: list[Any]) -> list[str]:
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"{shown}: a file name is not a string")
    return names
