"""How well a describer finds places: mean average precision and recall on a data set."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset
from tfplaces.describers import Describer, describe_images
from tfplaces.evaluation.average_precision import PROTOCOLS
from tfplaces.evaluation.bootstrap import mean_intervals
from tfplaces.evaluation.query_scores import RECALL_AT, QueryScores, score_queries
from tfplaces.evaluation.search import similarities
from tfplaces.evaluation.unit_descriptors import UnitDescriptors, Vectors

# A figure's bounds.
Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The figures of one describer on one data set.

    Where several database images are equally similar to a query, their order is unknown: each figure is its expectation
    over all orders of them (see `tfplaces.evaluation.average_precision`), not that of the database's order.

    Attributes:
        map: mean average precision by `protocol`, 0 to 100.
        recall: for each N of 1, 5, 10, 20 and 100 the percentage of queries with a positive among the N nearest, junk
            and the query's own image not counted.
        map_at: mAP@N for each N that the protocol has, 0 to 100.
        precision_at: mP@k for each k that the protocol has, 0 to 100.
        protocol: the rule of average precision, a key of `tfplaces.evaluation.average_precision.PROTOCOLS`.
        queries: queries that have positives; the means are over these.
        database: database images.
        skipped_queries: queries without positives, left out.
        notes: what is to be known of the figures, a sentence each: what the data set says of itself, and whether
            descriptors had to be brought to unit length.
        parts: the figures of some of the queries: by "condition" and by "city", where the ground truth has them, for
            each of these its number of queries, "queries", and the means of the figures of `of_queries`.
        of_queries: the figures of single queries.
        sequences: the sequence of each query that has positives, `[queries]`; None where there are none.
    """

    map: float
    recall: dict[int, float]
    map_at: dict[int, float]
    precision_at: dict[int, float]
    protocol: str
    queries: int
    database: int
    skipped_queries: int
    notes: tuple[str, ...]
    parts: dict[str, dict[str, dict[str, float]]]
    of_queries: QueryScores = dataclasses.field(repr=False, compare=False)
    sequences: np.ndarray | None = dataclasses.field(repr=False, compare=False)

    @property
    def average_precisions(self) -> np.ndarray:
        """Average precision of each query that has positives, in their order, 0 to 100, float64 `[queries]`."""
        return self.of_queries.figures["mAP"]

    def intervals(self, seed: int = 0) -> dict[str, Interval] | None:
        """The 95 % interval of each figure, by a bootstrap over the queries, or over sequences where there are any.

        It tells of the choice of queries alone. The keys are those of `QueryScores.figures`.

        Args:
            seed: gives the draws.

        Returns:
            the lower and the upper bound of each figure; None where there are fewer than two queries or sequences.
        """
        return _named_intervals(self.of_queries.figures, self.sequences, seed)

    def differences(self, other: Evaluation, seed: int = 0) -> dict[str, tuple[float, Interval | None]]:
        """How much higher each figure is than another model's, by a paired bootstrap.

        Queries, or sequences, are drawn anew and both models scored on the same draw, so that what makes a query hard
        for both does not count. A difference whose interval holds 0 may be chance.

        Args:
            other: the other model's figures on the same data set.
            seed: gives the draws.

        Returns:
            for each figure the difference in points and its 95 % interval, which is None where there are fewer than
            two queries or sequences.

        Raises:
            ValueError: the two are not of the same queries.
        """
        ours, theirs = self.of_queries, other.of_queries
        if not np.array_equal(ours.queries, theirs.queries) or ours.figures.keys() != theirs.figures.keys():
            raise ValueError("two evaluations that are not of the same queries by the same protocol")
        values = {name: figure - theirs.figures[name] for name, figure in ours.figures.items()}
        found = _named_intervals(values, self.sequences, seed)
        return {name: (float(np.mean(each)), None if found is None else found[name]) for name, each in values.items()}

    def to_json(self) -> dict[str, Any]:
        """The scores as plain JSON types, without the figures of single queries; numbers as keys are strings."""
        figures = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.compare}
        numbered = {
            name: {str(n): value for n, value in figures[name].items()} for name in ("recall", "map_at", "precision_at")
        }
        return {**figures, **numbered, "notes": list(self.notes)}


def _named_intervals(
    values: dict[str, np.ndarray], sequences: np.ndarray | None, seed: int
) -> dict[str, Interval] | None:
    found = mean_intervals(np.stack(list(values.values()), axis=1), sequences, seed=seed)
    if found is None:
        return None
    return {name: (float(low), float(high)) for name, (low, high) in zip(values, found, strict=True)}


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
    scores = score_queries(dataset, similarities(ours, theirs))
    means = {name: float(np.mean(figure)) for name, figure in scores.figures.items()}
    protocol, truth = PROTOCOLS[dataset.protocol], dataset.truth
    labels = {"condition": truth.query_conditions, "city": truth.query_cities}
    return Evaluation(
        map=means["mAP"],
        recall={n: means[f"recall@{n}"] for n in RECALL_AT},
        map_at={n: means[f"mAP@{n}"] for n in protocol.map_at},
        precision_at={k: means[f"mP@{k}"] for k in protocol.precision_at},
        protocol=dataset.protocol,
        queries=len(scores.queries),
        database=len(database),
        skipped_queries=len(queries) - len(scores.queries),
        notes=(*dataset.notes, *_notes(ours, theirs)),
        parts={by: _parts(scores, np.asarray(of)[scores.queries]) for by, of in labels.items() if of is not None},
        of_queries=scores,
        sequences=None if truth.query_sequences is None else np.asarray(truth.query_sequences)[scores.queries],
    )


def _parts(scores: QueryScores, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """The means of the queries of each label, the labels sorted."""
    return {
        str(label): {
            "queries": int(np.sum(labels == label)),
            **{name: float(np.mean(figure[labels == label])) for name, figure in scores.figures.items()},
        }
        for label in np.unique(labels)
    }


def _notes(queries: UnitDescriptors, database: UnitDescriptors) -> list[str]:
    normalized = queries.normalized + database.normalized
    if not normalized:
        return []
    lengths = [*queries.lengths, *database.lengths]
    return [
        f"{normalized} of {len(queries) + len(database)} descriptors were not of unit length and were brought to it: "
        f"their lengths were {min(lengths):.4g} to {max(lengths):.4g}"
    ]
