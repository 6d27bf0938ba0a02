"""What a data set is to the rest of the library: images read one at a time, and which of them show one place."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from tfplaces.common.errors import UserError


class Images(abc.ABC):
    """A sequence of images that are read (or drawn) on demand; nothing is kept in memory."""

    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @abc.abstractmethod
    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """Reads one image.

        Args:
            index: position in the sequence, 0 <= index < len(self).
            size: (height, width) in pixels to which the image is resized (Pillow's BILINEAR, antialiased; the
                aspect ratio is not kept).

        Returns:
            RGB, uint8 `[height, width, 3]`.

        Raises:
            ValueError: the image cannot be read; the message names the file.
        """


@dataclasses.dataclass(frozen=True)
class PlaceDataset:
    """Queries to be found among database images.

    Attributes:
        spec: what the user wrote, for example `folder:photos`.
        database: the known places.
        queries: the images to recognise. Never used to initialise, whiten, calibrate or distil.
        positives: for each query the database indices that show its place, int64 `[n]`, sorted; may be empty.
        database_places: the place of each database image, int64 `[len(database)]`, or None where only `positives`
            says what belongs together. With it, database images are training anchors too.
        protocol: the rule of average precision, a key of `tfplaces.evaluation.average_precision.PROTOCOLS`.
        junk: for each query the database indices that are neither right nor wrong, int64 `[n]`, sorted, none of them
            positive; or None where there are none.
        own_images: where the queries are among the database images: the database index of each query's own image, -1
            for none, int64 `[len(queries)]`; or None. Average precision counts it as what it is, positive, junk
            or neither; recall and training leave it out.
    """

    spec: str
    database: Images
    queries: Images
    positives: Sequence[np.ndarray]
    database_places: np.ndarray | None = None
    protocol: str = "plain"
    junk: Sequence[np.ndarray] | None = None
    own_images: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("positives", "junk", "own_images"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.queries):
                raise UserError(f"{self.spec}: {len(self.queries)} queries, but {name} for {len(value)}")

    def ignored(self, query: int) -> np.ndarray:
        """Database indices that tell nothing about a query: its junk and its own image; int64 `[n]`, sorted."""
        junk = np.empty(0, np.int64) if self.junk is None else self.junk[query]
        if self.own_images is None or self.own_images[query] < 0:
            return junk
        return np.union1d(junk, self.own_images[query])

    def others(self, query: int) -> np.ndarray:
        """The positives of a query other than its own image: what is to be found; int64 `[n]`, sorted."""
        return np.setdiff1d(self.positives[query], self.ignored(query))

    def answerable(self) -> list[int]:
        """The queries that have something to be found; the rest is left out of every figure and of training."""
        return [q for q in range(len(self.queries)) if len(self.others(q))]


class Subset(Images):
    """Some images of a sequence, in a given order."""

    def __init__(self, images: Images, indices: Sequence[int] | np.ndarray):
        self.images, self.indices = images, indices
        self.names = [images.names[i] for i in indices]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return self.images.read(self.indices[index], size)


def concatenate(parts: Sequence[Images]) -> Images:
    """Sequences of images, at least one, one after the other."""
    return functools.reduce(Concatenation, parts)


class Concatenation(Images):
    """Two sequences of images, one after the other."""

    def __init__(self, first: Images, second: Images):
        self.first, self.second = first, second
        self.names = [*first.names, *second.names]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        n = len(self.first)
        return self.first.read(index, size) if index < n else self.second.read(index - n, size)


def take_queries(dataset: PlaceDataset, indices: Sequence[int] | np.ndarray) -> PlaceDataset:
    """Some queries of a data set, in the order given, with the whole database.

    Args:
        dataset: where from.
        indices: of the queries.
    """
    return dataclasses.replace(
        dataset,
        queries=Subset(dataset.queries, indices),
        positives=[dataset.positives[q] for q in indices],
        junk=None if dataset.junk is None else [dataset.junk[q] for q in indices],
        own_images=None if dataset.own_images is None else np.asarray(dataset.own_images)[list(indices)],
    )


def hold_out(dataset: PlaceDataset, every: int = 5) -> tuple[PlaceDataset, PlaceDataset]:
    """Splits the queries: every fifth that has positives goes to the second data set. Both keep the whole database.

    Raises:
        ValueError: too few queries to split.
    """
    usable = dataset.answerable()
    held = usable[::every]
    if len(held) == len(usable):
        raise UserError(f"{dataset.spec}: {len(usable)} queries with positives are too few to hold some out")
    return take_queries(dataset, [q for q in usable if q not in set(held)]), take_queries(dataset, held)
