"""The figures of single queries: what the means are over, and what tells where a model fails."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Iterator

import numpy as np

from tfplaces.common.files import write_text
from tfplaces.datasets import PlaceDataset
from tfplaces.evaluation.average_precision import (
    PROTOCOLS,
    Groups,
    average_precision,
    first_rank,
    group,
    precision_at,
    recall,
)

RECALL_AT = (1, 5, 10, 20, 100)


@dataclasses.dataclass(frozen=True)
class QueryScores:
    """The figures of each query that has positives, in the order of the queries.

    Attributes:
        queries: index of each in the data set, int64 `[n]`.
        figures: the figures whose means are a model's, each float64 `[n]`, 0 to 100: "mAP", "recall@N" for each N of
            `RECALL_AT`, and "mAP@N" and "mP@k" where the protocol has them.
        first_rank: 1-based rank of the first positive, junk and the query's own image not counted; its expectation
            where images are equally near, infinite where no positive is in the list; float64 `[n]`.
        top: index of the nearest database image, junk and the query's own image not counted, int64 `[n]`; the first of
            those equally near, and -1 where nothing is left.
        similarity: the cosine of the query and that image, float64 `[n]`; NaN where there is none.
        metres: the distance from the query to it, float64 `[n]`; NaN where positions are not known.
    """

    queries: np.ndarray
    figures: dict[str, np.ndarray]
    first_rank: np.ndarray
    top: np.ndarray
    similarity: np.ndarray
    metres: np.ndarray


def score_queries(dataset: PlaceDataset, similarities: Iterator[np.ndarray]) -> QueryScores:
    """Scores each query that has positives.

    Args:
        dataset: says what is positive.
        similarities: of each query in turn to the database images, the higher the nearer, floats `[database]`.
    """
    queries, rows, first_ranks, top, nearness = [], [], [], [], []
    names, figures_of = _protocol_figures(dataset.protocol)
    ranking = _Ranking(dataset.truth.database_groups)
    for q, row in enumerate(similarities):
        if not len(dataset.others(q)):
            continue
        junk = np.empty(0, np.int64) if dataset.junk is None else dataset.junk[q]
        ignored = dataset.ignored(q)
        ranked = ranking.groups(row, dataset.positives[q], junk)
        others = ranking.groups(row, dataset.others(q), ignored) if len(ignored) > len(junk) else ranked
        queries.append(q)
        recalls = [0.0 if others is None else recall(others, n) for n in RECALL_AT]
        rows.append([*figures_of(ranked), *recalls])
        first_ranks.append(np.inf if others is None else first_rank(others))
        left = row.copy()
        left[ignored] = -np.inf
        best = int(np.argmax(left))
        there = bool(np.isfinite(left[best]))
        top.append(best if there else -1)
        nearness.append(float(left[best]) if there else np.nan)
    table = 100 * np.array(rows, np.float64).reshape(len(rows), -1)
    names = (*names, *(f"recall@{n}" for n in RECALL_AT))
    return QueryScores(
        np.array(queries, np.int64),
        dict(zip(names, table.T, strict=True)),
        np.array(first_ranks),
        np.array(top, np.int64),
        np.array(nearness),
        _metres(dataset, np.array(queries, np.int64), np.array(top, np.int64)),
    )


def write_query_table(path: str | os.PathLike, dataset: PlaceDataset, scores: QueryScores) -> None:
    """Writes the figures of each query that has positives as a csv file, a line each, below a line of headings.

    The columns are the query, the rank of the first positive, average precision (0 to 100), the nearest database
    image, the cosine of the two, the metres between them, and the condition, the city and the sequence of the query;
    what is not known is empty.

    Args:
        path: where to; a file that is there is replaced.
        dataset: what has been scored.
        scores: what `Evaluation.of_queries` holds.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["query", "first_correct_rank", "average_precision", "top_match", "similarity", "metres", "condition", "city",
         "sequence"]
    )  # fmt: skip
    truth = dataset.truth
    for i, q in enumerate(scores.queries.tolist()):
        match = dataset.database.names[scores.top[i]] if scores.top[i] >= 0 else ""
        labels = (truth.query_conditions, truth.query_cities, truth.query_sequences)
        table.writerow(
            [
                dataset.queries.names[q],
                _number(scores.first_rank[i], "{:.6g}"),
                f"{scores.figures['mAP'][i]:.4f}",
                match,
                _number(scores.similarity[i], "{:.6f}"),
                _number(scores.metres[i], "{:.2f}"),
                *("" if label is None else str(label[q]) for label in labels),
            ]
        )
    write_text(path, text.getvalue())


def _number(value: float, form: str) -> str:
    return form.format(value) if np.isfinite(value) else ""


def _protocol_figures(name: str) -> tuple[tuple[str, ...], Callable[[Groups | None], list[float]]]:
    """The names of a protocol's figures, and what gives those of a query; all are 0 where no positive is listed."""
    protocol = PROTOCOLS[name]
    names = (
        "mAP", *(f"mAP@{n}" for n in protocol.map_at), *(f"mP@{k}" for k in protocol.precision_at)
    )  # fmt: skip

    def figures(groups: Groups | None) -> list[float]:
        if groups is None:
            return [0.0] * len(names)
        return [
            *(average_precision(groups, name, n) for n in (None, *protocol.map_at)),
            *(precision_at(groups, k) for k in protocol.precision_at),
        ]

    return names, figures


class _Ranking:
    """Finds where positives stand among the database images, of which those of one group count once.

    Args:
        groups: the group of each database image, int64 `[database]`; None where each counts.
    """

    def __init__(self, groups: np.ndarray | None):
        self._order = None if groups is None else np.argsort(groups, kind="stable")
        if groups is not None:
            _, self._starts, self._sizes = np.unique(groups[self._order], return_index=True, return_counts=True)

    def groups(self, row: np.ndarray, positives: np.ndarray, skipped: np.ndarray) -> Groups | None:
        """The groups of equal score that hold positives, those skipped taken out of the list first.

        Of database images that count once, only the nearest stays in the list, the first of those equally near. None
        where it is never a positive.

        Args:
            row: similarities of the query to the database, float32 `[database]`.
            positives, skipped: database indices, `[n]`, none in both.
        """
        if self._order is not None:
            left = row.copy()
            left[skipped] = -np.inf
            by_group = left[self._order]
            best = np.maximum.reduceat(by_group, self._starts)
            at_best = np.flatnonzero(by_group == np.repeat(best, self._sizes))
            first = np.searchsorted(at_best, self._starts)
            is_positive = np.zeros(len(row), bool)
            is_positive[positives] = True
            found = is_positive[self._order[at_best[first]]]
            # A group of which all images are skipped is not in the list.
            row, positives, skipped = best[best > -np.inf], np.flatnonzero(found[best > -np.inf]), np.empty(0, np.int64)
        return group(row, row[positives], row[skipped]) if len(positives) else None


def _metres(dataset: PlaceDataset, queries: np.ndarray, top: np.ndarray) -> np.ndarray:
    ours, theirs = dataset.truth.query_positions, dataset.truth.database_positions
    if ours is None or theirs is None:
        return np.full(len(queries), np.nan)
    away = np.linalg.norm(ours[queries] - theirs[top], axis=1)
    return np.where(top >= 0, away, np.nan)
