"""How well a describer finds places: mean average precision and recall on a data set."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset
from tfplaces.describers import Describer, describe_images
from tfplaces.evaluation.average_precision import PROTOCOLS
from tfplaces.evaluation.search import rank

RECALL_AT = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The figures of one describer on one data set.

    Attributes:
        map: mean average precision by `protocol`, 0 to 100.
        recall: for each N of 1, 5, 10 the percentage of queries with a positive among the N nearest, junk and the
            query's own image not counted.
        protocol: the rule of average precision, a key of `tfplaces.evaluation.average_precision.PROTOCOLS`.
        queries: queries that have positives; the means are over these.
        database: database images.
        skipped_queries: queries without positives, left out.
    """

    map: float
    recall: dict[int, float]
    protocol: str
    queries: int
    database: int
    skipped_queries: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; the keys of `recall` are strings."""
        return {**dataclasses.asdict(self), "recall": {str(n): r for n, r in self.recall.items()}}


def evaluate(describer: Describer, dataset: PlaceDataset) -> Evaluation:
    """Describes a data set and scores the retrieval of its queries.

    Raises:
        ValueError: no query has a positive.
    """
    check_positives(dataset)
    database = describe_images(describer, dataset.database, "database")
    queries = describe_images(describer, dataset.queries, "queries")
    return score(dataset, queries, database)


def check_positives(dataset: PlaceDataset) -> None:
    """Raises ValueError unless some query has a positive."""
    if not dataset.answerable():
        raise UserError(f"{dataset.spec}: no query has a positive in the database, there is nothing to evaluate")


def score(dataset: PlaceDataset, queries: np.ndarray, database: np.ndarray) -> Evaluation:
    """Scores descriptors.

    Args:
        dataset: says what is positive.
        queries: float32 `[len(dataset.queries), dim]`, L2-normalised.
        database: float32 `[len(dataset.database), dim]`, L2-normalised.

    Raises:
        ValueError: no query has a positive.
    """
    check_positives(dataset)
    precision, first_hit = [], []
    average_precision = PROTOCOLS[dataset.protocol]
    position = np.empty(len(database), np.int64)
    for q, order in enumerate(rank(queries, database)):
        others = dataset.others(q)
        if len(others):
            position[order] = np.arange(len(order))
            junk = [] if dataset.junk is None else position[dataset.junk[q]]
            precision.append(average_precision(_ranks_without(junk, position[dataset.positives[q]])))
            first_hit.append(_ranks_without(position[dataset.ignored(q)], position[others])[0])
    hits = np.array(first_hit)
    return Evaluation(
        map=100 * float(np.mean(precision)),
        recall={n: 100 * float(np.mean(hits < n)) for n in RECALL_AT},
        protocol=dataset.protocol,
        queries=len(hits),
        database=len(database),
        skipped_queries=len(queries) - len(hits),
    )


def _ranks_without(skipped: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The ranks, ascending, once those that are skipped are taken out of the list."""
    ranks = np.sort(ranks)
    return ranks - np.searchsorted(np.sort(skipped), ranks)
