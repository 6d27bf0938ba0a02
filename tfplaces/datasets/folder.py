"""Folders of photos as data sets, in four layouts.

(a) `database/`, `queries/` and `gt.json`: `{"queries": [names], "database": [names], "positives": [[database indices]
    for each query]}`.
(b) `images/` and `labels.json`: `{"file name": "label"}`; a label is a place.
(c) Sub-folders of images; each is a place.
(d) Images in the folder itself: unlabelled, a database without queries.

In (b) and (c) the first image of a place, by name, is its query, the others are the database.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.images import EXTENSIONS, ImageFiles
from tfplaces.datasets.index_lists import IndexLists


def folder(path: str) -> PlaceDataset:
    """Opens a folder; see the module for the layouts.

    Args:
        path: the folder.

    Raises:
        ValueError: nothing usable there, or a ground truth that does not fit the files.
    """
    if not os.path.isdir(path):
        raise UserError(f"folder:{path}: no such folder")
    if os.path.exists(os.path.join(path, "gt.json")):
        return _ground_truth(path)
    if os.path.exists(os.path.join(path, "labels.json")):
        return _labels(path)
    for parts, file in ((("database", "queries"), "gt.json"), (("images",), "labels.json")):
        if all(os.path.isdir(os.path.join(path, part)) for part in parts):
            raise UserError(f"folder:{path}: has {' and '.join(parts)}, but no {file} that says what shows what")
    places = [d for d in sorted(os.listdir(path)) if os.path.isdir(os.path.join(path, d)) and not d.startswith(".")]
    places = [d for d in places if _image_names(os.path.join(path, d))]
    files = _image_names(path)
    if places and files:
        raise UserError(
            f"folder:{path}: images both beside and inside its {len(places)} sub-folders; move the {len(files)} "
            f"beside them into a place of their own, first: {files[0]}"
        )
    if places:
        names = [(f"{d}/{name}", d) for d in places for name in _image_names(os.path.join(path, d))]
        return _labelled(path, path, dict(names))
    if not files:
        raise UserError(f"folder:{path}: no images there (looked for {' '.join(EXTENSIONS)})")
    return PlaceDataset(f"folder:{path}", ImageFiles(path, files), ImageFiles(path, []), GroundTruth(IndexLists.of([])))


def _image_names(path: str) -> list[str]:
    return sorted(n for n in os.listdir(path) if n.lower().endswith(EXTENSIONS) and not n.startswith("."))


def _read_json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None


def _ground_truth(path: str) -> PlaceDataset:
    file = os.path.join(path, "gt.json")
    gt = _read_json(file)
    if not isinstance(gt, dict) or not all(isinstance(gt.get(k), list) for k in ("queries", "database", "positives")):
        raise UserError(f'{file}: expected {{"queries": [...], "database": [...], "positives": [[...], ...]}}')
    images = {}
    for part in ("queries", "database"):
        root = os.path.join(path, part)
        _check_files(file, root, gt[part])
        images[part] = ImageFiles(root, gt[part])
    database, queries = images["database"], images["queries"]
    if not database.names:
        raise UserError(f"{file}: its database is empty")
    if len(gt["positives"]) != len(queries):
        raise UserError(f"{file}: {len(queries)} queries, but positives for {len(gt['positives'])}")
    positives = []
    for name, row in zip(queries.names, gt["positives"], strict=True):
        if not isinstance(row, list) or not all(type(i) is int for i in row):
            raise UserError(f"{file}: the positives of {name} are not a list of whole numbers")
        bad = [i for i in row if not 0 <= i < len(database)]
        if bad:
            raise UserError(
                f"{file}: positive {bad[0]} of {name} is out of range: the database has {len(database)} images, "
                "numbered from 0"
            )
        positives.append(np.unique(np.asarray(row, np.int64)))
    return PlaceDataset(f"folder:{path}", database, queries, GroundTruth(IndexLists.of(positives)))


def _labels(path: str) -> PlaceDataset:
    file = os.path.join(path, "labels.json")
    labels = _read_json(file)
    if not isinstance(labels, dict) or not labels or not all(isinstance(v, (str, int)) for v in labels.values()):
        raise UserError(f'{file}: expected {{"file name": "label", ...}}')
    root = os.path.join(path, "images")
    _check_files(file, root, list(labels))
    return _labelled(path, root, {name: str(label) for name, label in labels.items()})


def _check_files(file: str, root: str, names: list[str]) -> None:
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"{file}: a file name is not a string")
    outside = [n for n in names if os.path.isabs(n) or ".." in n.replace("\\", "/").split("/")]
    if outside:
        raise UserError(f"{file}: {outside[0]} points outside {root}")
    missing = [n for n in names if not os.path.isfile(os.path.join(root, n))]
    if missing:
        raise UserError(f"{file}: {len(missing)} of {len(names)} images missing under {root}, first: {missing[0]}")


def _labelled(path: str, root: str, labels: dict[str, str]) -> PlaceDataset:
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
        raise UserError(f"folder:{path}: each place has one image only; two or more are needed to find one by another")
    # The queries' places are numbered in the order of the queries.
    truth = GroundTruth.of_labels(np.arange(len(queries)), np.asarray(places, np.int64))
    return PlaceDataset(f"folder:{path}", ImageFiles(root, database), ImageFiles(root, queries), truth)
