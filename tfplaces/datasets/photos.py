"""All photos of a data set, queries among them, and what is known of where they were taken."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import Concatenation, Images, PlaceDataset, Subset
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.index_lists import IndexLists


@dataclasses.dataclass(frozen=True)
class Photos:
    """The database images of a data set, then its queries that are not among them.

    Attributes:
        images: all of them.
        truth: what is known of them.
        others: the numbers of those queries, int64.
    """

    images: Images
    truth: GroundTruth
    others: np.ndarray

    @classmethod
    def located(cls, dataset: PlaceDataset, **numbers: tuple[float, float]) -> Photos:
        """Those of a data set with positions; of each number by its name its value and the largest that it may have.

        Raises:
            UserError: images have no positions, or some a heading and others none, or a number is out of range.
        """
        photos = cls.of(dataset)
        photos._check(dataset.spec)
        for name, (value, most) in numbers.items():
            if not 0 < value <= most:
                raise UserError(f"{dataset.spec}: {name}={value:g}, but it must be above 0 and at most {most:g}")
        return photos

    @classmethod
    def of(cls, dataset: PlaceDataset) -> Photos:
        own = dataset.own_images
        others = np.arange(len(dataset.queries)) if own is None else np.flatnonzero(np.asarray(own) < 0)
        images = dataset.database
        if len(others):
            images = Concatenation(images, Subset(dataset.queries, others))
        return cls(images, dataset.truth, others)

    def of_queries(self) -> np.ndarray:
        """The number of each query's image among all, int64 `[queries]`."""
        own = self.truth.own_images
        numbers = np.full(len(self.truth.positives), -1) if own is None else np.array(own, np.int64)
        numbers[self.others] = len(self.images) - len(self.others) + np.arange(len(self.others))
        return numbers

    def join(self, database: np.ndarray | None, queries: np.ndarray | None) -> np.ndarray | None:
        """What is known of database images and of queries, for all images."""
        if database is None or queries is None:
            return None
        return np.concatenate([database, np.asarray(queries)[self.others]])

    @functools.cached_property
    def positions(self) -> np.ndarray | None:
        return self.join(self.truth.database_positions, self.truth.query_positions)

    @functools.cached_property
    def headings(self) -> np.ndarray | None:
        """Degrees, float64 `[images]`; None where no image has one."""
        headings = self.join(self.truth.database_headings, self.truth.query_headings)
        return None if headings is None or not np.isfinite(headings).any() else headings

    def _check(self, spec: str) -> None:
        """Raises UserError unless all images have positions, and either all headings or none."""
        if self.positions is None:
            raise UserError(f"{spec}: places cannot be made of positions, as its images have none")
        if self.headings is not None:
            blind = np.flatnonzero(~np.isfinite(self.headings))
            if len(blind):
                raise UserError(
                    f"{spec}: {len(blind)} of {len(self.images)} images have no heading, while the others have one, "
                    f"first: {printable_name(self.images.names[blind[0]])}; leave them out"
                )

    def near(self, radius: float, angle: float | None = None) -> IndexLists:
        """For each image those at most so far from it whose headings differ by less than the angle, if they matter."""
        assert self.positions is not None
        near = IndexLists.within(self.positions, self.positions, radius)
        headings = self.headings
        if headings is None or angle is None:
            return near

        def looks_alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
            turn = np.abs(headings[one] - headings[other]) % 360
            return np.minimum(turn, 360 - turn) < angle

        return near.keep(looks_alike)
