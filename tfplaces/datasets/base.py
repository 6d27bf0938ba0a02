"""What a data set is to the rest of the library: images read one at a time, and which of them show one place."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.index_lists import IndexLists


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
            UserError: the image cannot be read; the message names the file.
        """

    def stamp(self, index: int) -> list[int | str]:
        """What tells, beside the name and without reading it, whether an image is still the same."""
        return []

    def path(self, index: int) -> str | None:
        """The file that an image is the whole of; None where it is drawn, or a part of a file."""
        return None


@dataclasses.dataclass(frozen=True)
class PlaceDataset:
    """Queries to be found among database images.

    Attributes:
        spec: what the user wrote, for example `folder:photos`.
        database: the known places.
        queries: the images to recognise. Never used to initialise, whiten, calibrate or distil.
        truth: what shows what. Where only the positives are known, a list of database indices for each query will do.
        protocol: the rule of average precision, a key of `tfplaces.evaluation.average_precision.PROTOCOLS`.
        notes: what the user should know about the data set, a sentence each: images that were left out and why,
            queries that are in the database too. The tools print them.

    Raises:
        UserError: the ground truth does not fit the numbers of queries and database images.
    """

    spec: str
    database: Images
    queries: Images
    truth: GroundTruth
    _: dataclasses.KW_ONLY
    protocol: str = "plain"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            if not isinstance(self.truth, GroundTruth):
                object.__setattr__(self, "truth", GroundTruth(IndexLists.of(self.truth)))
            self.truth.check(len(self.queries), len(self.database))
        except UserError as error:
            raise UserError(f"{self.spec}: {error}") from None

    @property
    def positives(self) -> IndexLists:
        """For each query the database indices that count as found, int64 `[n]`, sorted; may be empty."""
        return self.truth.positives

    @property
    def junk(self) -> IndexLists | None:
        """For each query the database indices that are neither right nor wrong; None where there are none."""
        return self.truth.junk

    @property
    def own_images(self) -> np.ndarray | None:
        """The database index of each query's own image, -1 for none, int64 `[len(queries)]`; None where none has."""
        return self.truth.own_images

    @property
    def database_places(self) -> np.ndarray | None:
        """The place of each database image, int64 `[len(database)]`; None where places have no labels."""
        return self.truth.database_labels

    def ignored(self, query: int) -> np.ndarray:
        """Database indices that tell nothing about a query: its junk and its own image; int64 `[n]`, sorted."""
        return self.truth.ignored(query)

    def others(self, query: int) -> np.ndarray:
        """The positives of a query other than its own image: what is to be found; int64 `[n]`, sorted."""
        return self.truth.others(query)

    def answerable(self) -> list[int]:
        """The queries that have something to be found; the others are left out of every figure and of training."""
        return self.truth.answerable()


class Subset(Images):
    """Some images of a sequence, in a given order."""

    def __init__(self, images: Images, indices: Sequence[int] | np.ndarray):
        self.images, self.indices = images, indices
        self.names = [images.names[i] for i in indices]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return self.images.read(self.indices[index], size)

    def stamp(self, index: int) -> list[int | str]:
        return self.images.stamp(self.indices[index])

    def path(self, index: int) -> str | None:
        return self.images.path(self.indices[index])


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

    def stamp(self, index: int) -> list[int | str]:
        n = len(self.first)
        return self.first.stamp(index) if index < n else self.second.stamp(index - n)

    def path(self, index: int) -> str | None:
        n = len(self.first)
        return self.first.path(index) if index < n else self.second.path(index - n)


def take_queries(dataset: PlaceDataset, indices: Sequence[int] | np.ndarray) -> PlaceDataset:
    """Some queries of a data set, in the order given, with the whole database.

    Args:
        dataset: where from.
        indices: indices of the queries.
    """
    return dataclasses.replace(
        dataset, queries=Subset(dataset.queries, indices), truth=dataset.truth.take_queries(indices)
    )
