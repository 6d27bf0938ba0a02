"""Revisited Oxford and Paris (Radenović et al., CVPR 2018): new ground truth for Oxford and Paris Buildings.

`gnd_roxford5k.pkl` and `gnd_rparis6k.pkl` are pickles; they are read as data, and nothing in them is run. Each query
has easy, hard and junk images. Easy: the easy ones are to be found, the hard ones are junk too. Medium: both are to be
found. Hard: the hard ones are to be found, the easy ones are junk too.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, ClassVar, Literal

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import read_regular
from tfplaces.common.plain_pickle import read_pickle
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.decoding import open_image
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.images import ImageFiles
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.datasets.listed_images import checked_name, counts_note, missing_note
from tfplaces.datasets.oxford_paris import Crops, find_files, index_images

_MAX_BYTES = 2**26
# Both sets together list 120,000. A pickle may list one list a million times.
_MAX_LISTED = 10_000_000

# The lists that are to be found, and those that are junk beside the junk.
_DIFFICULTIES = {"easy": (("easy",), ("hard",)), "medium": (("easy", "hard"), ()), "hard": (("hard",), ("easy",))}


@dataclasses.dataclass(frozen=True)
class RevisitedOxford:
    """Revisited Oxford: 70 queries, 4,993 database images.

    A query is its box, cut out of an image that is not in the database. Queries with nothing to be found by the
    difficulty are left out of the figures.

    Attributes:
        path: a folder with the images, in it or below it, and `gnd_roxford5k.pkl`.
        difficulty: what is to be found.
    """

    path: str
    difficulty: Literal["easy", "medium", "hard"] = "medium"

    kind: ClassVar[str] = "roxford5k"
    counts: ClassVar[tuple[int, int]] = (70, 4_993)

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: no such folder, no images or no ground truth there, or the ground truth is not sound.
        """
        spec = f"{self.kind}:{printable_name(self.path)}"
        if not os.path.isdir(self.path):
            raise UserError(f"{spec}: no such folder")
        files = find_files(self.path)
        name = f"gnd_{self.kind}.pkl"
        truths = [file for file in files if os.path.basename(file) == name]
        if not truths:
            raise UserError(f"{spec}: no {name} there")
        file = os.path.join(self.path, truths[0])
        gnd = _read(file)
        images = index_images(spec, self.path, files, frozenset())
        database, queries = (
            [images.get(name, f"{name}.jpg") for name in gnd.names[part]] for part in ("imlist", "qimlist")
        )
        there = set(images.values())
        boxes = [
            _box(os.path.join(self.path, query), box, query in there)
            for query, box in zip(queries, gnd.boxes, strict=True)
        ]
        wanted, left_out = _DIFFICULTIES[self.difficulty]
        truth = GroundTruth(gnd.lists(wanted), junk=gnd.lists(("junk", *left_out)))
        notes = [counts_note(len(queries), len(database), self.counts)]
        for what, names in (("database images", database), ("queries", queries)):
            notes += missing_note(what, names, [name for name in names if name not in there], self.path)
        return PlaceDataset(
            spec,
            ImageFiles(self.path, database),
            Crops(self.path, queries, boxes),
            truth,
            protocol="revisited",
            notes=tuple(notes),
        )


@dataclasses.dataclass(frozen=True)
class RevisitedParis(RevisitedOxford):
    """Revisited Paris: 70 queries, 6,322 database images, `gnd_rparis6k.pkl`; options as of `RevisitedOxford`."""

    kind: ClassVar[str] = "rparis6k"
    counts: ClassVar[tuple[int, int]] = (70, 6_322)


@dataclasses.dataclass(frozen=True)
class _Gnd:
    """What the ground truth says: the names of images by list, and for each query its box and its lists of indices."""

    names: dict[str, list[str]]
    boxes: list[np.ndarray]
    queries: list[dict[str, np.ndarray]]

    def lists(self, parts: tuple[str, ...]) -> IndexLists:
        """The database images in any of some lists of each query; what is junk and easy or hard is not junk."""
        return IndexLists.of([np.concatenate([query[part] for part in parts]) for query in self.queries])


def _read(file: str) -> _Gnd:
    shown = printable_name(file)
    gnd = read_pickle(read_regular(file, _MAX_BYTES), shown)
    if not isinstance(gnd, dict) or not all(isinstance(gnd.get(key), list) for key in ("imlist", "qimlist", "gnd")):
        raise UserError(f"{shown}: expected a dictionary of the lists imlist, qimlist and gnd")
    names = {}
    for key in ("imlist", "qimlist"):
        if not all(isinstance(name, str) for name in gnd[key]):
            raise UserError(f"{shown}: {key} is no list of names")
        names[key] = [checked_name(shown, name) for name in gnd[key]]
    if len(gnd["gnd"]) != len(names["qimlist"]):
        raise UserError(f"{shown}: {len(names['qimlist'])} queries, but ground truth for {len(gnd['gnd'])}")
    boxes, queries = [], []
    left = _MAX_LISTED
    for name, query in zip(names["qimlist"], gnd["gnd"], strict=True):
        where = f"{shown}: query {name}"
        if not isinstance(query, dict):
            raise UserError(f"{where}: its ground truth is no dictionary")
        lists = {
            part: _indices(where, part, query.get(part), len(names["imlist"])) for part in ("easy", "hard", "junk")
        }
        left -= 10 + sum(map(len, lists.values()))
        if left < 0:
            raise UserError(f"{shown}: its queries list more than {_MAX_LISTED:,} images")
        found = np.union1d(lists["easy"], lists["hard"])
        if len(np.intersect1d(found, lists["junk"])):
            raise UserError(f"{where}: an image is listed both as junk and as easy or hard")
        box = _numbers(query.get("bbx"))
        if box.shape != (4,) or not np.isfinite(box).all() or (box[:2] >= box[2:]).any() or np.abs(box).max() > 1e6:
            raise UserError(f"{where}: bbx is no box of left, top, right and bottom")
        boxes.append(box)
        queries.append(lists)
    return _Gnd(names, boxes, queries)


def _numbers(value: Any) -> np.ndarray:
    """A list or array of numbers in one dimension; anything else gives what has another shape."""
    members = value.ravel().tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(members, (list, tuple)) or not all(isinstance(m, (int, float, np.number)) for m in members):
        return np.empty((0, 0))
    return np.asarray(members, np.float64)


def _indices(where: str, part: str, value: Any, database: int) -> np.ndarray:
    indices = _numbers(value)
    if indices.ndim != 1 or (indices != np.floor(indices)).any() or ((indices < 0) | (indices >= database)).any():
        raise UserError(f"{where}: {part} is no list of database images, numbered from 0 to {database - 1}")
    return np.unique(indices.astype(np.int64))


def _box(file: str, box: np.ndarray, there: bool) -> tuple[int, int, int, int]:
    """A box as Pillow rounds it, clipped to the image."""
    left, top, right, bottom = (round(side) for side in box.tolist())
    if there:
        with open_image(file) as image:
            right, bottom = min(right, image.width), min(bottom, image.height)
    left, top = max(left, 0), max(top, 0)
    if left >= right or top >= bottom:
        raise UserError(f"{printable_name(file)}: the query's box {left} {top} {right} {bottom} lies outside of it")
    return left, top, right, bottom
