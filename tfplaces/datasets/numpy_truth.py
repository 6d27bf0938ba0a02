"""Ground truth in numpy files: gsv-cities' and OpenVPRLab's `.npy` lists, Patch-NetVLAD's `.npz` positions."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import read_regular
from tfplaces.common.npy_file import read_npy
from tfplaces.common.npz_file import NpzFile
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.datasets.listed_images import counts_note, listed_images

# Queries and database images of the sets that are published so.
_COUNTS = {
    "CrossSeason": (191, 191),
    "ESSEX": (210, 210),
    "Inria": (300, 512),
    "msls_val": (740, 18_871),
    "pitts30k_test": (6_816, 10_000),
    "pitts30k_val": (7_608, 10_000),
    "SPED": (607, 607),
}
_DATABASE, _QUERIES, _CHOSEN = "_dbImages.npy", "_qImages.npy", "_qIdx.npy"
_TRUTHS = ("_gt.npy", "_gt_25m.npy", "_pIdx.npy")
_MAX_POSITIVES = 2**27
_MAX_LIST_BYTES = 2**28
_MAX_IMAGES = 10_000_000


@dataclasses.dataclass(frozen=True)
class NumpyLists:
    """Lists of images and of the database images of each query: `SET_dbImages.npy`, `SET_qImages.npy` and
    `SET_gt.npy`, `SET_gt_25m.npy` or `SET_pIdx.npy`; where there is `SET_qIdx.npy` it says which queries count.

    Attributes:
        path: the folder of the files.
        set: the name that they begin with; by default that of the only set there.
        images: the folder that the names of images are relative to; by default that of the files.
    """

    path: str
    set: str = ""
    images: str = ""

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: a folder or file is missing, is damaged or holds more than lists, or they do not fit each other.
        """
        spec = f"npy:{printable_name(self.path)}"
        for folder in filter(None, (self.path, self.images)):
            if not os.path.isdir(folder):
                raise UserError(f"{spec}: no such folder: {printable_name(folder)}")
        there = sorted(name.removesuffix(_DATABASE) for name in os.listdir(self.path) if name.endswith(_DATABASE))
        name = self.set or (there[0] if len(there) == 1 else "")
        if name not in there:
            listed = ", ".join(map(printable_name, there))
            raise UserError(f"{spec}: " + (f"name one with set=…: {listed}" if there else f"no SET{_DATABASE} there"))
        start = os.path.join(self.path, name)
        database, queries = _names(start + _DATABASE), _names(start + _QUERIES)
        truth = next((start + ending for ending in _TRUTHS if os.path.exists(start + ending)), None)
        if truth is None:
            raise UserError(f"{spec}: none of {', '.join(name + ending for ending in _TRUTHS)} there")
        if os.path.exists(start + _CHOSEN):
            chosen = _indices(printable_name(start + _CHOSEN), read_npy(start + _CHOSEN), len(queries))
            queries = [queries[k] for k in chosen]
        positives = _positives(truth, len(queries), len(database))
        folders = [self.images or self.path]
        images, missing = listed_images(printable_name(start + _DATABASE), "database images", database, folders)
        asked, also = listed_images(printable_name(start + _QUERIES), "queries", queries, folders)
        notes = counts_note(len(asked), len(images), _COUNTS.get(name)), *missing, *also
        return PlaceDataset(spec, images, asked, GroundTruth(positives), notes=notes)


@dataclasses.dataclass(frozen=True)
class NumpyPositions:
    """Positions of queries and database images, `utmQ`, `utmDb` and `posDistThr` in an `.npz` file, and lists of the
    images, one name a line.

    Attributes:
        path: the `.npz` file.
        database: the list of the database images; by default `NAME_imageNames_index.txt` beside the file or in
            `dataset_imagenames` beside its folder, NAME that of the file, with or without what follows its last `_`.
        queries: the list of the queries; by default `NAME_imageNames_query.txt` there.
        images: the folder that the names of images are relative to; by default that of the file.
        radius: up to what distance a database image shows the place of a query, metres; by default `posDistThr`.
    """

    path: str
    database: str = ""
    queries: str = ""
    images: str = ""
    radius: float | None = None

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: a file is missing or damaged, or they do not fit each other.
        """
        spec, shown = f"npz:{printable_name(self.path)}", printable_name(self.path)
        if self.images and not os.path.isdir(self.images):
            raise UserError(f"{spec}: no such folder: {printable_name(self.images)}")
        arrays: dict[str, np.ndarray] = {}
        with NpzFile(self.path) as file:
            for name in ("utmQ", "utmDb", "posDistThr"):
                if name not in file.names:
                    raise UserError(f"{shown}: has no array {name}")
                shape, dtype = file.header(name)
                fits = shape == () if name == "posDistThr" else len(shape) == 2 and shape[1] in (1, 2, 3)
                if not fits or dtype.kind not in "iuf" or max(shape, default=0) > _MAX_IMAGES:
                    raise UserError(f"{shown}: {name} is of type {dtype} and shape {shape}, which is not read")
                arrays[name] = file.read(name).astype(np.float64)
                if not np.isfinite(arrays[name]).all():
                    raise UserError(f"{shown}: {name} has a position that is not finite")
        if arrays["utmQ"].shape[1] != arrays["utmDb"].shape[1]:
            raise UserError(f"{shown}: utmQ and utmDb are not of one number of coordinates")
        radius = float(arrays["posDistThr"]) if self.radius is None else self.radius
        if not 0 < radius < 1e6:
            raise UserError(f"{spec}: a radius of {radius:g}, but it must be above 0 and below 1e6 metres")
        parts = (("utmDb", "index", self.database), ("utmQ", "query", self.queries))
        names = [self._list(spec, ending, given, len(arrays[array])) for array, ending, given in parts]
        folders = [self.images or os.path.dirname(self.path) or "."]
        images, missing = listed_images(shown, "database images", names[0], folders, (".png",))
        asked, also = listed_images(shown, "queries", names[1], folders)
        truth = GroundTruth(
            IndexLists.within(arrays["utmQ"], arrays["utmDb"], radius),
            query_positions=arrays["utmQ"],
            database_positions=arrays["utmDb"],
            radius=radius,
        )
        return PlaceDataset(
            spec, images, asked, truth, notes=(counts_note(len(asked), len(images), None), *missing, *also)
        )

    def _list(self, spec: str, ending: str, given: str, count: int) -> list[str]:
        """The names in the list of images that is given or lies where Patch-NetVLAD has it."""
        folder, name = os.path.split(self.path)
        stem = os.path.splitext(name)[0]
        stems = dict.fromkeys((stem, stem.rpartition("_")[0] or stem))
        beside = [os.path.join(folder, f"{stem}_imageNames_{ending}.txt") for stem in stems]
        beside += [os.path.join(folder, "..", "dataset_imagenames", os.path.basename(path)) for path in beside]
        path = given or next(filter(os.path.exists, beside), "")
        if not path:
            option = "database" if ending == "index" else "queries"
            raise UserError(f"{spec}: no list of its images: name it with {option}=FILE (looked for {beside[0]})")
        shown = printable_name(path)
        try:
            names = read_regular(path, _MAX_LIST_BYTES).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{shown}: byte {error.start} is no UTF-8; save it as UTF-8") from None
        names = [name.strip() for name in names if name.strip()]
        if len(names) != count:
            raise UserError(f"{shown}: {len(names):,} names, but {printable_name(self.path)} has {count:,} positions")
        return names


def _names(path: str) -> list[str]:
    array = read_npy(path)
    names = array.ravel().tolist()
    if array.dtype.kind not in "UO" or not all(type(name) is str for name in names):
        raise UserError(f"{printable_name(path)}: is no list of file names")
    return names


def _positives(path: str, queries: int, database: int) -> IndexLists:
    shown, array = printable_name(path), read_npy(path)
    if array.ndim == 0 or len(array) != queries:
        raise UserError(f"{shown}: the positives of {array.shape[:1]} queries, but there are {queries:,}")
    if not array.dtype.hasobject and array.size:
        array = array.reshape(queries, -1)
    left = _MAX_POSITIVES
    lists = []
    for query, row in enumerate(array):
        left -= 1 + (len(row) if hasattr(row, "__len__") else 0)
        if left < 0:
            raise UserError(f"{shown}: lists more than {_MAX_POSITIVES:,} positives")
        lists.append(_indices(f"{shown}: query {query}", row, database))
    return IndexLists.of(lists)


def _indices(where: str, value: Any, count: int) -> np.ndarray:
    """A list of whole numbers from 0 to below a count."""
    members = value if isinstance(value, np.ndarray) else np.asarray(value if _is_plain_list(value) else "no list")
    members = members.astype(np.int64) if not members.size else members
    if members.ndim != 1 or members.dtype.kind not in "iu" or (members < 0).any() or (members >= count).any():
        raise UserError(f"{where}: no list of whole numbers from 0 to {count - 1}")
    return members


def _is_plain_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(member) is int for member in value)
