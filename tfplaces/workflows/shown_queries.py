"""Which queries the page of a run shows, and with which matches: first those that are missed."""

from __future__ import annotations

import numpy as np

from tfplaces.datasets import PlaceDataset
from tfplaces.evaluation import rank, score
from tfplaces.report import Map, Retrieval

# So many queries, so many matches of each, in so many pixels.
_QUERIES, _MATCHES, _SIZE = 8, 5, (120, 160)


def shown_queries(
    dataset: PlaceDataset, queries: np.ndarray, database: np.ndarray
) -> tuple[list[Retrieval], tuple[int, int]]:
    """Queries to show with their best matches: at most six that are missed, and then others, eight in all.

    A query is missed where its best match is another place. Of either kind some are taken that are spread over the
    data set.

    Args:
        dataset: what is searched.
        queries: descriptors, floats `[len(dataset.queries), dim]`.
        database: descriptors, floats `[len(dataset.database), dim]`.

    Returns:
        the queries; and how many are missed, and of how many.
    """
    found = score(dataset, queries, database).of_queries
    wrong = found.first_rank > 1
    hits, misses = np.flatnonzero(~wrong), np.flatnonzero(wrong)
    spare = max(_QUERIES // 4, _QUERIES - len(misses))
    some_hits = _spread(hits, spare)
    chosen = np.concatenate([_spread(misses, _QUERIES - len(some_hits)), some_hits])
    shown = found.queries[chosen]
    retrievals = []
    for q, first_rank, order in zip(
        shown.tolist(), found.first_rank[chosen].tolist(), rank(queries[shown], database), strict=True
    ):
        best = order[~np.isin(order, dataset.ignored(q))][:_MATCHES].tolist()
        retrievals.append(
            Retrieval(
                dataset.queries.read(q, _SIZE),
                dataset.queries.names[q],
                [dataset.database.read(i, _SIZE) for i in best],
                np.isin(best, dataset.positives[q]).tolist(),
                first_rank,
                _map(dataset, q, best),
            )
        )
    return retrievals, (len(misses), len(found.queries))


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    """So many of the indices, or all if there are fewer, from the first to the last."""
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(int)]


def _map(dataset: PlaceDataset, query: int, matches: list[int]) -> Map | None:
    truth = dataset.truth
    if truth.query_positions is None or truth.database_positions is None or truth.radius is None:
        return None
    here = truth.query_positions[query]
    away = truth.database_positions[matches] - here
    return Map(np.linalg.norm(away, axis=1), away if len(here) == 2 else away @ _east_and_north(here), truth.radius)


def _east_and_north(here: np.ndarray) -> np.ndarray:
    """The directions east and north at an earth-centred position, of unit length, `[3, 2]`."""
    up = here / np.linalg.norm(here)
    east = np.array([-up[1], up[0], 0.0])
    # At a pole any direction is as good.
    east = east / np.linalg.norm(east) if np.any(east) else np.array([0.0, 1.0, 0.0])
    return np.stack([east, np.cross(up, east)], axis=1)
