"""How well a describer finds places: mean average precision and recall on a data set."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset
from tfplaces.describers import Describer, describe_images
from tfplaces.evaluation.average_precision import Groups, average_precision, group, recall
from tfplaces.evaluation.search import similarities
from tfplaces.evaluation.unit_descriptors import UnitDescriptors, Vectors

RECALL_AT = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The figures of one describer on one data set.

    Where several database images are equally similar to a query, their order is unknown: each figure is its expectation
    over all orders of them (see `tfplaces.evaluation.average_precision`), not that of the database's order.

    Attributes:
        map: mean average precision by `protocol`, 0 to 100.
        recall: for each N of 1, 5, 10 the percentage of queries with a positive among the N nearest, junk and the
            query's own image not counted.
        protocol: the rule of average precision, a key of `tfplaces.evaluation.average_precision.PROTOCOLS`.
        queries: queries that have positives; the means are over these.
        database: database images.
        skipped_queries: queries without positives, left out.
        notes: what is to be known of the figures, a sentence each: what the data set says of itself, and whether
            descriptors had to be brought to unit length.
        average_precisions: average precision of each query that has positives, in their order, 0 to 100, float64
            `[queries]`.
    """

    map: float
    recall: dict[int, float]
    protocol: str
    queries: int
    database: int
    skipped_queries: int
    notes: tuple[str, ...] = ()
    average_precisions: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The scores as plain JSON types, without the figures of single queries; the keys of `recall` are strings."""
        figures = dataclasses.asdict(self)
        del figures["average_precisions"]
        return {**figures, "recall": {str(n): r for n, r in self.recall.items()}, "notes": list(self.notes)}


def evaluate(describer: Describer, dataset: PlaceDataset) -> Evaluation:
    """Describes a data set and scores the retrieval of its queries.

    Raises:
        UserError: no query has a positive, or the descriptors are none that can be scored, as in `score`.
    """
    check_positives(dataset)
    database = describe_images(describer, dataset.database, "database")
    queries = describe_images(describer, dataset.queries, "queries")
    return score(dataset, queries, database)


def check_positives(dataset: PlaceDataset) -> None:
    """Raises UserError unless some query has a positive."""
    if not dataset.answerable():
        raise UserError(f"{dataset.spec}: no query has a positive in the database, there is nothing to evaluate")


def score(dataset: PlaceDataset, queries: Vectors, database: Vectors) -> Evaluation:
    """Scores descriptors by the cosine of each query with each database image.

    Args:
        dataset: says what is positive.
        queries: floats `[len(dataset.queries), dim]`; brought to unit length where they are not.
        database: floats `[len(dataset.database), dim]`; the same; may be a memory map.

    Raises:
        UserError: no query has a positive; or the descriptors are not of these shapes, some are not finite or zero, or
            those of all database images are equal.
    """
    check_positives(dataset)
    for what, vectors, images in (("queries", queries, dataset.queries), ("database", database, dataset.database)):
        if len(vectors) != len(images):
            raise UserError(f"{dataset.spec}: {len(vectors)} descriptors for its {len(images)} images of the {what}")
    ours = UnitDescriptors(queries, "queries", dataset.queries.names)
    theirs = UnitDescriptors(database, "database", dataset.database.names)
    if theirs.all_equal:
        raise UserError(
            f"{dataset.spec}: the descriptors of all {len(theirs)} database images are equal: the model has collapsed "
            "and tells no places apart"
        )
    precisions, recalls = [], []
    for q, row in enumerate(similarities(ours, theirs)):
        if len(dataset.others(q)):
            junk = np.empty(0, np.int64) if dataset.junk is None else dataset.junk[q]
            listed = _groups(dataset, row, dataset.positives[q], junk)
            precisions.append(0.0 if listed is None else average_precision(listed, dataset.protocol))
            listed = _groups(dataset, row, dataset.others(q), dataset.ignored(q))
            recalls.append([0.0 if listed is None else recall(listed, n) for n in RECALL_AT])
    return Evaluation(
        map=100 * float(np.mean(precisions)),
        recall={n: 100 * float(share) for n, share in zip(RECALL_AT, np.mean(recalls, axis=0), strict=True)},
        protocol=dataset.protocol,
        queries=len(recalls),
        database=len(database),
        skipped_queries=len(queries) - len(recalls),
        notes=(*dataset.notes, *_notes(ours, theirs)),
        average_precisions=100 * np.array(precisions),
    )


def _groups(dataset: PlaceDataset, row: np.ndarray, positives: np.ndarray, skipped: np.ndarray) -> Groups | None:
    """Where positives stand among the database images of a query, those skipped taken out first.

    Of database images that count once, only the nearest stays in the list. None where it is never a positive.

    Args:
        dataset: says which database images count once.
        row: similarities of the query to the database, float32 `[database]`.
        positives, skipped: database indices, `[n]`.
    """
    once = dataset.truth.database_groups
    if once is not None:
        left = np.setdiff1d(np.arange(len(row)), skipped)
        by_group = left[np.lexsort((-row[left], once[left]))]
        nearest = by_group[np.unique(once[by_group], return_index=True)[1]]
        skipped = np.setdiff1d(np.arange(len(row)), nearest)
        positives = np.intersect1d(positives, nearest)
    return group(np.sort(row), row[positives], row[skipped]) if len(positives) else None


def _notes(queries: UnitDescriptors, database: UnitDescriptors) -> list[str]:
    normalized = queries.normalized + database.normalized
    if not normalized:
        return []
    lengths = [*queries.lengths, *database.lengths]
    return [
        f"{normalized} of {len(queries) + len(database)} descriptors were not of unit length and were brought to it: "
        f"their lengths were {min(lengths):.4g} to {max(lengths):.4g}"
    ]
