"""Two drives along one route as data sets: folders of frames in the same order, such as Nordland's seasons.

Where all names end in numbers, each folder's numbers are different, and those of the queries occur in the database too,
a query belongs to the frame of its own number, so that every tenth frame of a drive can be looked for in all. Otherwise
the n-th query belongs to the n-th database frame, and there must be equally many; with `every=10` it belongs to the
10·n-th, counted from 0, as in gsv-cities' Nordland of 2,760 queries. Frames are in the order of their
names, with numbers in them sorted as numbers.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import ClassVar, Literal

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.copies import note_of_copies
from tfplaces.datasets.discovery import find_images
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.images import ImageFiles
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.datasets.listed_images import counts_note

# What the folders of queries and of database images are called, the first pair that is there is taken.
_PAIRS = (("queries", "database"), ("query", "database"), ("query", "ref"), ("queries", "references"),
          ("query", "reference"), ("winter", "summer"))  # fmt: skip

# Files that may say what shows what, which these kinds do not read.
_TRUTHS = re.compile(r"gt\.json|ground_truth.*\.npy")


@dataclasses.dataclass(frozen=True)
class Frames:
    """Two folders of frames in the same order; see the module for which frames belong together.

    Attributes:
        path: the folder that has both.
        queries: the folder of the queries within it; by default `queries` or `query`, or else `winter`.
        database: the folder of the known places; by default `database`, `ref` or `references`, or else `summer`.
        tolerance: frames that are at most so many frames away from a query's own show its place too.
        every: the n-th query belongs to the database frame of `every` times n, both counted from 0.
        match: `number` or `order`, to have it this way.
    """

    path: str
    queries: str = ""
    database: str = ""
    tolerance: int = 0
    every: int = 1
    match: Literal["number", "order"] | None = None

    _kind: ClassVar[str] = "frames"
    _published: ClassVar[tuple[int, int] | None] = None

    def open(self) -> PlaceDataset:
        """Opens the data set.

        Raises:
            UserError: an option is out of range, a folder is missing or empty, or it is not clear which frames belong
                together.
        """
        if not 0 <= self.tolerance <= 1_000_000:
            raise UserError(f"{self._name}: tolerance={self.tolerance}, but it must be within 0 and 1000000 frames")
        if not 1 <= self.every <= 1_000_000:
            raise UserError(f"{self._name}: every={self.every}, but it must be within 1 and 1000000 frames")
        if self.every > 1 and self.match == "number":
            raise UserError(f"{self._name}: every={self.every} is for frames in order, not for match=number")
        notes = []
        images = []
        for folder in self._folders():
            found = find_images(folder)
            if not found.names:
                raise UserError(f"{self._name}: no images in {printable_name(folder)}")
            notes += [found.note] if found.note else []
            images.append(ImageFiles(folder, sorted(found.names, key=_natural)))
        queries, database = images
        ranks, how = self._ranks(queries, database)
        try:
            positives = IndexLists.within(ranks[0][:, None], ranks[1][:, None], self.tolerance)
        except UserError as error:
            raise UserError(f"{self._name}: {error}") from None
        counted = f"{counts_note(len(queries), len(database), self._published)}, matched by {how}"
        unread = sorted(name for name in os.listdir(self.path) if _TRUTHS.fullmatch(name))
        if unread:
            notes.append(f"{', '.join(map(printable_name, unread))} is there and was not read")
        open_which = self.match is None and self.every == 1 and 4 <= 2 * len(queries) <= len(database)
        if open_which and (np.diff(ranks[0]) == 1).all():
            notes.append(
                "the queries are numbered one by one, and the database has many more frames; if they are every 10th "
                "frame, say every=10, and if this is right, match=number"
            )
        missing = int((positives.lengths == 0).sum())
        if missing:
            notes.append(f"{missing} queries have no frame in the database")
        notes = [counted, *notes, *note_of_copies(queries, database)]
        return PlaceDataset(self._name, database, queries, GroundTruth(positives), notes=tuple(notes))

    @property
    def _name(self) -> str:
        return f"{self._kind}:{printable_name(self.path)}"

    def _folders(self) -> tuple[str, str]:
        if not os.path.isdir(self.path):
            raise UserError(f"{self._name}: no such folder")
        there = {name.casefold(): name for name in sorted(os.listdir(self.path), reverse=True)}
        there = {key: name for key, name in there.items() if os.path.isdir(os.path.join(self.path, name))}
        for pair in _PAIRS:
            named = [given or there.get(name) for given, name in zip((self.queries, self.database), pair, strict=True)]
            folders = [os.path.join(self.path, name) for name in named if name]
            if len(folders) == 2 and all(map(os.path.isdir, folders)):
                if os.path.samefile(*folders):
                    raise UserError(f"{self._name}: queries and database are one folder")
                return folders[0], folders[1]
        listed = ", ".join(map(printable_name, sorted(there.values()))) or "none"
        asked = "".join(
            f", no folder {printable_name(given)}"
            for given in (self.queries, self.database)
            if given and not os.path.isdir(os.path.join(self.path, given))
        )
        raise UserError(
            f"{self._name}: no queries and database there{asked}; name two folders, as in "
            f"?queries=winter&database=summer; there are: {listed}"
        )

    def _ranks(self, queries: ImageFiles, database: ImageFiles) -> tuple[tuple[np.ndarray, np.ndarray], str]:
        """What places each frame on the route, a number that two frames of one place share; and how that was found."""
        if self.every > 1:
            return (self.every * np.arange(len(queries)), np.arange(len(database))), f"every {self.every}th frame"
        ours, theirs = _numbers(queries), _numbers(database)
        if ours is not None and theirs is not None:
            if self.match == "number" or (self.match is None and np.isin(ours, theirs).all()):
                return (ours, theirs), "the numbers in their names"
        elif self.match == "number":
            raise UserError(f"{self._name}: match=number, but not every frame has a number of its own")
        if self.match is None and len(queries) != len(database):
            raise UserError(
                f"{self._name}: {len(queries)} queries and {len(database)} database frames, and the numbers in their "
                "names do not say which belong together; match=order takes the first for the first, and so on"
            )
        return (np.arange(len(queries)), np.arange(len(database))), "their order"


@dataclasses.dataclass(frozen=True)
class Nordland(Frames):
    """Nordland (Sünderhauf et al., 2013): a railway in four seasons, 27,592 frames each in Patch-NetVLAD's split.

    Options are those of `Frames`. Papers that use that split count frames at most 10 away; gsv-cities, which looks for
    every tenth frame, counts those at most 1 away; Patch-NetVLAD's own list comes to 7.
    """

    tolerance: int = 10

    _kind: ClassVar[str] = "nordland"
    _published: ClassVar[tuple[int, int] | None] = (27_592, 27_592)


def _natural(name: str) -> tuple[list[tuple[str, int]], str]:
    """Sorts numbers within a name as numbers."""
    parts = re.findall(r"(\D*)(\d{0,18})", name, re.ASCII)
    return [(text, int(digits or -1)) for text, digits in parts], name


def _numbers(images: ImageFiles) -> np.ndarray | None:
    """The last number in each name, int64 `[n]`; None where one has none or two share one."""
    found = [re.search(r"(\d+)\D*$", os.path.splitext(name.rpartition("/")[2])[0], re.ASCII) for name in images.names]
    digits = [match[1] for match in found if match]
    if len(digits) < len(found) or max(map(len, digits)) > 15:
        return None
    numbers = np.array(digits, np.int64)
    return numbers if len(np.unique(numbers)) == len(numbers) else None
