"""What a data set is to the rest of the library: images read one at a time, and which of them show one place."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np


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
        protocol: the rule of average precision, a key of `tfplaces.metrics.PROTOCOLS`.
    """

    spec: str
    database: Images
    queries: Images
    positives: Sequence[np.ndarray]
    database_places: np.ndarray | None = None
    protocol: str = "plain"

    def __post_init__(self) -> None:
        if len(self.positives) != len(self.queries):
            raise ValueError(f"{self.spec}: {len(self.queries)} queries, but positives for {len(self.positives)}")


class Subset(Images):
    """Some images of a sequence, in a given order."""

    def __init__(self, images: Images, indices: Sequence[int] | np.ndarray):
        self.images, self.indices = images, indices
        self.names = [images.names[i] for i in indices]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return self.images.read(self.indices[index], size)


class Concatenation(Images):
    """Two sequences of images, one after the other."""

    def __init__(self, first: Images, second: Images):
        self.first, self.second = first, second
        self.names = [*first.names, *second.names]

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        n = len(self.first)
        return self.first.read(index, size) if index < n else self.second.read(index - n, size)


def hold_out(dataset: PlaceDataset, every: int = 5) -> tuple[PlaceDataset, PlaceDataset]:
    """Splits the queries: every fifth that has positives goes to the second data set. Both keep the whole database.

    Raises:
        ValueError: too few queries to split.
    """
    usable = [q for q, positives in enumerate(dataset.positives) if len(positives)]
    held = usable[::every]
    if len(held) == len(usable):
        raise ValueError(f"{dataset.spec}: {len(usable)} queries with positives are too few to hold some out")

    def part(queries: list[int]) -> PlaceDataset:
        positives = [dataset.positives[q] for q in queries]
        return dataclasses.replace(dataset, queries=Subset(dataset.queries, queries), positives=positives)

    return part([q for q in usable if q not in set(held)]), part(held)
