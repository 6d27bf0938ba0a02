"""Oxford Buildings (Philbin et al., CVPR 2007) and Paris Buildings (Philbin et al., CVPR 2008) as data sets.

The archives may be unpacked as one likes, in the folder itself or below it: images `NAME.jpg`, names unique, and, all
in one folder, four files of ground truth for each query: `QUERY_query.txt` holds `NAME x1 y1 x2 y2` (in Oxford's NAME
is preceded by `oxc1_`), `QUERY_good.txt`, `QUERY_ok.txt` and `QUERY_junk.txt` one NAME a line.

Positives are good and ok. Query images are database images too: as in compute_ap.cpp they count for average precision.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.decoding import load_image, open_image
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.images import ImageFiles
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.datasets.listed_images import counts_note

# That of conv5_3 of VGG16, in pixels.
VGG16_RECEPTIVE_FIELD = 196

# Files of the archives that hold no image (corrupt.txt of Paris Buildings); papers leave them out.
PARIS_CORRUPT = frozenset(
    f"paris_{name}"
    for name in (
        "louvre_000136", "louvre_000146", "moulinrouge_000422", "museedorsay_001059", "notredame_000188",
        "pantheon_000284", "pantheon_000960", "pantheon_000974", "pompidou_000195", "pompidou_000196",
        "pompidou_000201", "pompidou_000467", "pompidou_000640", "sacrecoeur_000299", "sacrecoeur_000330",
        "sacrecoeur_000353", "triomphe_000662", "triomphe_000833", "triomphe_000863", "triomphe_000867",
    )
)  # fmt: skip

# Folders below the one named that are searched: jpg/paris/defense, say.
_MAX_DEPTH = 3


@dataclasses.dataclass(frozen=True)
class OxfordBuildings:
    """Oxford Buildings: 5063 images, 55 queries.

    Attributes:
        path: a folder with the images and the ground truth; see the module.
        protocol: `crop`, which NetVLAD's authors (Arandjelović et al., CVPR 2016) recommend as the sets' own: a query
            is its box, expanded by half the receptive field on each side and clipped to the image, so that the centres
            of all features are in the box; or `full`: the whole image.
        receptive_field: that of a feature, in pixels of the image file: 196 of VGG16's conv5_3, 163 of AlexNet's conv5,
            0 for the box alone. It depends on the network; the default keeps the queries the same for all.
    """

    path: str
    protocol: Literal["crop", "full"] = "crop"
    receptive_field: int = VGG16_RECEPTIVE_FIELD

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: an option is out of range, images or ground truth are missing or ambiguous, or a file of the
                ground truth is malformed.
        """
        return _buildings(self, "oxford5k", "oxc1_", frozenset(), (55, 5_063))


@dataclasses.dataclass(frozen=True)
class ParisBuildings(OxfordBuildings):
    """Paris Buildings: 6392 images, the 20 corrupt ones left out, and 55 queries; options as of `OxfordBuildings`."""

    def open(self) -> PlaceDataset:
        """Opens the data set; raises what `OxfordBuildings.open` does."""
        return _buildings(self, "paris6k", "", PARIS_CORRUPT, (55, 6_392))


class Crops(ImageFiles):
    """Parts of images in files.

    Args:
        root: folder that the names are relative to.
        names: file names.
        boxes: for each image (left, top, right, bottom), as for `load_image`.
    """

    def __init__(self, root: str, names: Sequence[str], boxes: Sequence[tuple[int, int, int, int]]):
        super().__init__(root, names)
        self.boxes = boxes

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return load_image(os.path.join(self.root, self.names[index]), size, self.boxes[index])

    def path(self, index: int) -> str | None:
        return None


@dataclasses.dataclass(frozen=True)
class _Query:
    """What the ground truth says of a query."""

    image: str
    box: tuple[float, float, float, float]  # x1, y1, x2, y2
    positives: list[str]
    junk: list[str]


def _buildings(
    options: OxfordBuildings, kind: str, prefix: str, corrupt: frozenset[str], published: tuple[int, int]
) -> PlaceDataset:
    path, protocol, receptive_field = options.path, options.protocol, options.receptive_field
    spec = f"{kind}:{path}"
    if protocol not in ("crop", "full"):
        raise UserError(f"{spec}: protocol={protocol}, but it must be crop or full")
    if receptive_field < 0:
        raise UserError(f"{spec}: receptive_field={receptive_field}, but it must be 0 or more")
    if not os.path.isdir(path):
        raise UserError(f"{spec}: no such folder")
    files = find_files(path)
    images = index_images(spec, path, files, corrupt)
    queries = [_read_query(os.path.join(path, file), prefix, corrupt) for file in _find_queries(spec, path, files)]

    named = dict.fromkeys(name for q in queries for name in (q.image, *q.positives, *q.junk))
    missing = [name for name in named if name not in images]
    if missing:
        raise UserError(
            f"{spec}: {len(missing)} of the {len(named)} images that its ground truth names are missing, first: "
            f"{missing[0]}.jpg"
        )
    number = {name: k for k, name in enumerate(images)}

    def indices(names: list[str]) -> np.ndarray:
        return np.unique(np.asarray([number[name] for name in names], np.int64))

    query_images = ImageFiles(path, [images[q.image] for q in queries])
    if protocol == "crop":
        boxes = [_crop_box(os.path.join(path, images[q.image]), q.box, receptive_field) for q in queries]
        query_images = Crops(path, query_images.names, boxes)
    truth = GroundTruth(
        IndexLists.of([indices(q.positives) for q in queries]),
        junk=IndexLists.of([indices(q.junk) for q in queries]),
        own_images=np.asarray([number[q.image] for q in queries], np.int64),
    )
    database = ImageFiles(path, list(images.values()))
    notes = (counts_note(len(queries), len(database), published),)
    return PlaceDataset(spec, database, query_images, truth, protocol="oxford", notes=notes)


def find_files(path: str) -> list[str]:
    """Names of the files in a folder and below, relative to it, sorted; hidden ones left out."""
    found = []
    # Links are followed, for large sets often lie elsewhere; the depth bounds a circle of them.
    for folder, folders, files in os.walk(path, followlinks=True):
        relative = os.path.relpath(folder, path)
        parts = [] if relative == "." else relative.split(os.sep)
        folders[:] = [f for f in folders if not f.startswith(".")] if len(parts) < _MAX_DEPTH else []
        found += ["/".join([*parts, file]) for file in files if not file.startswith(".")]
    return sorted(found)


def index_images(spec: str, path: str, files: list[str], corrupt: frozenset[str]) -> dict[str, str]:
    """The file of each `.jpg` image by its name without folder and ending.

    Args:
        spec: the data set, for messages.
        path: its folder.
        files: names of files relative to it.
        corrupt: names that are left out.

    Raises:
        UserError: there are none, or two have one name.
    """
    images: dict[str, str] = {}
    for file in files:
        name, ending = os.path.splitext(os.path.basename(file))
        if ending.lower() == ".jpg" and name not in corrupt:
            if name in images:
                raise UserError(
                    f"{spec}: {images[name]} and {file} have one name; leave one copy of each image below {path}"
                )
            images[name] = file
    if not images:
        raise UserError(f"{spec}: no .jpg images there; unpack the archives of images there")
    return images


def _find_queries(spec: str, path: str, files: list[str]) -> list[str]:
    """The `_query.txt` files, each with its lists beside it."""
    queries = [file for file in files if file.endswith("_query.txt")]
    if not queries:
        raise UserError(f"{spec}: no ground truth (QUERY_query.txt and so on) there; unpack its archive there")
    folders = sorted({os.path.dirname(file) for file in queries})
    if len(folders) > 1:
        raise UserError(
            f"{spec}: ground truth in {len(folders)} folders, {folders[0] or '.'} and {folders[1]}; leave one of them "
            f"below {path}"
        )
    there = set(files)
    lists = [file.removesuffix("query.txt") + kind for file in queries for kind in ("good.txt", "ok.txt", "junk.txt")]
    missing = [file for file in lists if file not in there]
    if missing:
        raise UserError(
            f"{spec}: {len(missing)} of the {len(lists)} lists of its ground truth missing, first: {missing[0]}"
        )
    return queries


def _read_query(file: str, prefix: str, corrupt: frozenset[str]) -> _Query:
    """Reads the four files of a query. Names are looked up among the images found, never opened as paths."""
    fields = _read_text(file).split()
    try:
        image, *numbers = fields
        x1, y1, x2, y2 = (float(number) for number in numbers)
    except ValueError:
        raise UserError(f"{file}: expected NAME x1 y1 x2 y2, but it has {' '.join(fields)[:80]!r}") from None
    box = (x1, y1, x2, y2)
    if not all(math.isfinite(v) for v in box) or x1 >= x2 or y1 >= y2:
        raise UserError(f"{file}: the box {x1:g} {y1:g} {x2:g} {y2:g} is empty; expected x1 < x2 and y1 < y2")

    def names(kind: str) -> list[str]:
        lines = (line.strip() for line in _read_text(file.removesuffix("query.txt") + kind).splitlines())
        return [name for name in lines if name and name not in corrupt]

    positives, junk = names("good.txt") + names("ok.txt"), names("junk.txt")
    both = set(positives) & set(junk)
    if both:
        raise UserError(f"{file}: {min(both)} is listed both as junk and as good or ok; take it out of one")
    return _Query(image.removeprefix(prefix), box, positives, junk)


def _read_text(file: str) -> str:
    # Bytes that are no text make names that are no image's, which is then said.
    with open(file, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def _crop_box(file: str, box: tuple[float, float, float, float], receptive_field: int) -> tuple[int, int, int, int]:
    """Expands and clips a box as NetVLAD's dbVGG.m does: pixels are counted from 1, the last one is part of it.

    Args:
        file: the image.
        box: x1, y1, x2, y2.
        receptive_field: twice the expansion.

    Returns:
        (left, top, right, bottom), from 0, right and bottom exclusive.
    """
    with open_image(file) as image:
        width, height = image.size
    # MATLAB rounds halves up.
    low = [math.floor(v - receptive_field / 2 + 0.5) for v in box[:2]]
    high = [math.floor(v + receptive_field / 2 + 0.5) for v in box[2:]]
    left, top = (max(v, 1) - 1 for v in low)
    right, bottom = min(high[0], width), min(high[1], height)
    if left >= right or top >= bottom:
        text = " ".join(f"{v:g}" for v in box)
        raise UserError(f"{file}: the query's box {text} lies outside its {width} x {height} pixels")
    return left, top, right, bottom
