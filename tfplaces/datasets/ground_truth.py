"""What is known about a data set: which database images show the place of a query, and whatever else bears on that."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets.index_lists import IndexLists

_PER_QUERY = (
    "training_positives",
    "not_negatives",
    "junk",
    "own_images",
    "query_positions",
    "query_headings",
    "query_times",
    "query_conditions",
    "query_cities",
    "query_sequences",
)
_PER_DATABASE_IMAGE = (
    "database_labels",
    "database_groups",
    "database_positions",
    "database_headings",
    "database_times",
    "database_sequences",
)


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """Which database images show the place of each query, to score by and to train by.

    Only `positives` is needed. Where a data set has labels, `GroundTruth.of_labels` makes lists that share memory.

    Attributes:
        positives: for each query the database images that count as found, to score by.
        training_positives: for each query the database images to train towards, where they are others than
            `positives`. Pittsburgh scores within 25 m and trains within 10 m; TokyoTM leaves out those of the query's
            own time stamp.
        not_negatives: for each query the database images that training must never take as another place, beside all
            that the other attributes name.
        junk: for each query the database images that are neither right nor wrong; a ranking is judged as if they were
            not in it. None of them is positive. Revisited Oxford's hard images are junk by its easy protocol, and the
            images of other cities are junk for MSLS's protocol of one search for each city.
        own_images: where queries are database images too, the database index of each query's own image, or -1, int64
            `[queries]`. Average precision counts it as what it is, positive, junk or neither; recall and training
            leave it out.
        database_labels: the place of each database image, int64 `[database]`. With labels, all images of a place are
            surely positives of each other, and database images are training anchors too.
        database_groups: database images of one group count once in a ranking, by the first of them, int64
            `[database]`. Tokyo 24/7 groups the 12 cut-outs of a panorama.
        query_positions: where each query was taken, in metres, float64 `[queries, d]`: UTM easting and northing (d =
            2), or earth-centred coordinates (d = 3) where a set has latitudes and longitudes and crosses zones.
            Distances are Euclidean.
        database_positions: the same of each database image, float64 `[database, d]`.
        query_headings: where the camera looked, degrees clockwise from north, NaN where it is not known, float64
            `[queries]`.
        database_headings: the same of each database image, float64 `[database]`.
        radius: up to what distance two positions show one place, metres; with positions.
        zone: the UTM zone of easting and northing, its number and the hemisphere N or S, as in `30N`; None where it is
            not known, or positions are of another kind.
        label_names: what the place of each label is called; None where labels are numbers only.
        query_times: when each query was taken, `[queries]`: any numbers or dates that compare, such as years.
        database_times: the same of each database image, `[database]`.
        query_conditions: in what light or weather each query was taken, such as "night", strings `[queries]`; figures
            are given for each condition too.
        query_cities: the city of each query, strings `[queries]`; figures are given for each city too.
        query_sequences: the drive or walk that each query is a frame of, any labels `[queries]`. The frames of one are
            not independent, so intervals are over sequences.
        database_sequences: the same of each database image, `[database]`, with the labels of the queries, so that a
            drive that is in both is known.

    Raises:
        UserError: attributes are not of one length, or positions are not finite or come without a radius.
    """

    positives: IndexLists
    training_positives: IndexLists | None = None
    not_negatives: IndexLists | None = None
    junk: IndexLists | None = None
    own_images: np.ndarray | None = None
    database_labels: np.ndarray | None = None
    database_groups: np.ndarray | None = None
    query_positions: np.ndarray | None = None
    database_positions: np.ndarray | None = None
    query_headings: np.ndarray | None = None
    database_headings: np.ndarray | None = None
    radius: float | None = None
    zone: str | None = None
    label_names: Sequence[str] | None = None
    query_times: np.ndarray | None = None
    database_times: np.ndarray | None = None
    query_conditions: np.ndarray | None = None
    query_cities: np.ndarray | None = None
    query_sequences: np.ndarray | None = None
    database_sequences: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in _PER_QUERY:
            value = getattr(self, name)
            if value is not None and len(value) != len(self.positives):
                raise UserError(f"positives for {len(self.positives)} queries, but {name} for {len(value)}")
        if self.database_labels is not None and len(self.database_labels) and np.min(self.database_labels) < 0:
            raise UserError("a label of a database image is negative; labels are whole numbers from 0")
        positions = [p for p in (self.query_positions, self.database_positions) if p is not None]
        if positions:
            if len(positions) == 1 or self.radius is None:
                raise UserError("positions are given for queries and database images, with a radius, or not at all")
            if {p.ndim for p in positions} != {2} or len({p.shape[1] for p in positions}) != 1:
                raise UserError("positions of queries and database images must have the same two or three coordinates")
            if not all(np.isfinite(p).all() for p in positions):
                raise UserError("a position is not a finite number of metres")

    @classmethod
    def of_labels(cls, query_labels: np.ndarray, database_labels: np.ndarray) -> GroundTruth:
        """The ground truth of places with labels; memory is linear in the number of images.

        Args:
            query_labels: int64 `[queries]`.
            database_labels: int64 `[database]`.
        """
        database_labels = np.asarray(database_labels, np.int64)
        return cls(IndexLists.by_label(query_labels, database_labels), database_labels=database_labels)

    def check(self, queries: int, database: int) -> None:
        """Checks that the numbers of queries and database images fit, and that no index points beyond the database.

        Raises:
            UserError: they do not.
        """
        if len(self.positives) != queries:
            raise UserError(f"{queries} queries, but positives for {len(self.positives)}")
        for name in _PER_DATABASE_IMAGE:
            value = getattr(self, name)
            if value is not None and len(value) != database:
                raise UserError(f"{database} database images, but {name} for {len(value)}")
        for name in ("positives", "training_positives", "not_negatives", "junk", "own_images"):
            value = getattr(self, name)
            indices = value.values if isinstance(value, IndexLists) else value
            if indices is not None and len(indices) and indices.max() >= database:
                raise UserError(f"{name} names database image {indices.max()}, but there are {database}, from 0")

    def ignored(self, query: int) -> np.ndarray:
        """Database images that tell nothing about a query: its junk and its own image; int64 `[n]`, sorted."""
        junk = np.empty(0, np.int64) if self.junk is None else self.junk[query]
        if self.own_images is None or self.own_images[query] < 0:
            return junk
        return np.union1d(junk, self.own_images[query])

    def others(self, query: int) -> np.ndarray:
        """The positives of a query other than its own image: what is to be found; int64 `[n]`, sorted."""
        return self._without_ignored(self.positives, query)

    def to_train(self, query: int) -> np.ndarray:
        """The database images that training draws a query towards, never its own image; int64 `[n]`, sorted."""
        return self._without_ignored(self.training_positives or self.positives, query)

    def never_negative(self, query: int) -> np.ndarray:
        """The database images that training must never take as another place than a query's; int64 `[n]`, sorted."""
        lists = [self.positives, self.training_positives, self.not_negatives]
        return np.unique(np.concatenate([self.ignored(query), *(one[query] for one in lists if one is not None)]))

    def answerable(self) -> list[int]:
        """The queries that have something to be found; the others are left out of every figure and of training."""
        return self._with_any(self.positives)

    def trainable(self) -> list[int]:
        """The queries that have something to be trained towards."""
        return self._with_any(self.training_positives or self.positives)

    @functools.cached_property
    def of_same_label(self) -> IndexLists | None:
        """For each database image those of its label, itself among them; None where there are no labels."""
        labels = self.database_labels
        return None if labels is None else IndexLists.by_label(labels, labels)

    def take_queries(self, queries: Sequence[int] | np.ndarray) -> GroundTruth:
        """What is known about some of the queries, in the order given."""
        queries = np.asarray(queries, np.int64)
        taken: dict[str, Any] = {
            name: value.take(queries) if isinstance(value, IndexLists) else value[queries]
            for name in ("positives", *_PER_QUERY)
            if (value := getattr(self, name)) is not None
        }
        return dataclasses.replace(self, **taken)

    def take_database(self, kept: np.ndarray) -> GroundTruth:
        """What is known once the database has some of its images only; indices count anew.

        Args:
            kept: a truth value for each database image, bool `[database]`.
        """
        numbers = np.where(kept, np.cumsum(kept) - 1, -1)
        taken: dict[str, IndexLists | np.ndarray] = {}
        for name in ("positives", *_PER_QUERY):
            value = getattr(self, name)
            if isinstance(value, IndexLists):
                taken[name] = value.renumber(numbers)
        if self.own_images is not None:
            taken["own_images"] = np.where(self.own_images < 0, -1, numbers[self.own_images])
        taken |= {name: value[kept] for name in _PER_DATABASE_IMAGE if (value := getattr(self, name)) is not None}
        return dataclasses.replace(self, **taken)  # type: ignore[arg-type]

    def _without_ignored(self, lists: IndexLists, query: int) -> np.ndarray:
        ignored = self.ignored(query)
        return np.setdiff1d(lists[query], ignored, assume_unique=True) if len(ignored) else lists[query]

    def _with_any(self, lists: IndexLists) -> list[int]:
        some = np.flatnonzero(lists.lengths).tolist()
        if self.junk is None and self.own_images is None:
            return some
        return [q for q in some if len(self._without_ignored(lists, q))]
