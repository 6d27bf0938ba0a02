"""Splitting the queries of a data set by place, so that no place is on both sides.

A place is whatever hangs together: queries and database images that are linked, directly or through others, by being
positives, by a label, by being one photo, or by positions within the radius (the connected components of that graph).
The frames of a walk may all hang together. Then the walk is cut, and what lies at the cut is on neither side.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets.base import PlaceDataset, Subset, take_queries
from tfplaces.datasets.ground_truth import GroundTruth


def hold_out(dataset: PlaceDataset, every: int = 5) -> tuple[PlaceDataset, PlaceDataset]:
    """Splits a data set into one to train on and one to judge by, which share no place.

    About one query in five goes to the second, by whole places spread over the data set. Queries without a positive go
    to neither. The first data set's database is without the images of the held-out places; the second keeps the whole
    database, where the images of the other places are what its own must be told from.

    Args:
        dataset: what is split.
        every: one query of so many is held out.

    Returns:
        The data set to train on, and the one to judge by. Their notes say if a place was cut.

    Raises:
        UserError: there are too few places.
    """
    split = _split(dataset, every)
    if split is None:
        raise UserError(
            f"{dataset.spec}: too few places to hold some out, its {len(dataset.answerable())} queries with positives "
            "hang together; give a data set to validate on (--val_dataset)"
        )
    dataset = dataclasses.replace(dataset, notes=dataset.notes + split.notes)
    training = take_queries(dataset, split.kept)
    left = ~split.held_images
    training = dataclasses.replace(
        training,
        database=Subset(dataset.database, np.flatnonzero(left)),
        truth=training.truth.take_database(left),
    )
    return training, take_queries(dataset, split.held)


def halve_by_place(dataset: PlaceDataset) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the queries that have positives, which share no place.

    Returns:
        The numbers of the queries in either half, int64, ascending.

    Raises:
        UserError: there are too few places.
    """
    split = _split(dataset, 2)
    if split is None:
        raise UserError(
            f"{dataset.spec}: too few places for two halves, its {len(dataset.answerable())} queries with positives "
            "hang together; name a data set of more places"
        )
    return split.held, split.kept


@dataclasses.dataclass(frozen=True)
class _Split:
    """Queries on either side, int64, ascending; which database images are of held places; what the user should know."""

    kept: np.ndarray
    held: np.ndarray
    held_images: np.ndarray
    notes: tuple[str, ...]


def _split(dataset: PlaceDataset, every: int) -> _Split | None:
    """Holds out about one query in so many; None if nothing would be left to one of the sides."""
    usable = np.asarray(dataset.answerable(), np.int64)
    if len(usable) < 2:
        return None
    links = _Links(dataset.truth, len(dataset.database))
    for held, whole, notes in _choices(dataset.truth, links, usable, every):
        near = links.related(links.of_queries(held)) | whole
        beside = links.related(near)
        kept = usable[~beside[usable]]
        if len(held) and len(kept):
            between = len(usable) - len(held) - len(kept)
            if between:
                notes = (*notes, f"{between} queries at the cut take part on neither side")
            return _Split(kept, np.sort(held), near[links.queries :], notes)
    return None


def _choices(
    truth: GroundTruth, links: _Links, usable: np.ndarray, every: int
) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[str, ...]]]:
    """Ways to hold out some queries, the best first: the queries, all images of whole places among them, and notes."""
    places = links.places[usable]
    numbers, first, sizes = np.unique(places, return_index=True, return_counts=True)
    order = np.argsort(first)
    numbers, sizes = numbers[order], sizes[order]
    target = len(usable) / every
    largest = int(np.argmax(sizes))
    large = (
        f"{sizes[largest]} of {len(usable)} queries are of one place, linked to each other by images that they share"
        if 2 * sizes[largest] > len(usable)
        else ""
    )

    def of_places(chosen: np.ndarray):
        notes = (f"{large}; it was not split",) if large else ()
        return usable[np.isin(places, numbers[chosen])], np.isin(links.places, numbers[chosen]), notes

    spread = np.array(_spread(sizes.tolist(), every), np.int64)
    middling = np.flatnonzero((sizes >= target / 2) & (2 * sizes <= len(usable)))
    if sizes[spread].sum() >= target / 2:
        yield of_places(spread)
    if len(middling):
        yield of_places(middling[[np.argmin(sizes[middling])]])
    # A label is a place whatever its size, and is never cut.
    if truth.database_labels is None:
        stretch = links.walk(usable[places == numbers[largest]])[: int(np.ceil(target))]
        cut = f"{sizes[largest]} of {len(usable)} queries hang together like the frames of a walk, which was cut"
        yield stretch, np.zeros(len(links.places), bool), (cut,)
    yield of_places(spread if len(spread) else np.array([np.argmin(sizes)]))


def _spread(sizes: Sequence[int], every: int) -> list[int]:
    """Which places to hold out, so that about one query in so many is held, and those spread over all.

    Places of one query give every fifth of them, from the first.
    """
    chosen, seen, held = [], 0, 0
    for place, size in enumerate(sizes):
        seen += size
        if held + size <= -(-seen // every):
            chosen.append(place)
            held += size
    return chosen


class _Links:
    """Which images hang together: queries first, then database images, each tied to knots that stand for a list of
    positives, a label, a photo or a position.

    Attributes:
        queries: the number of queries.
        places: the number of the place of each image, `[queries + database]`.
    """

    def __init__(self, truth: GroundTruth, database: int):
        from scipy import sparse

        self.queries, images = len(truth.positives), len(truth.positives) + database
        tied: list[tuple[np.ndarray, np.ndarray]] = []  # images, and the knots that they are tied to
        knots = 0
        for lists in (truth.positives, truth.training_positives, truth.not_negatives):
            if lists is not None:
                of_values = np.repeat(np.arange(len(lists.offsets) - 1), np.diff(lists.offsets))
                some = np.flatnonzero(lists.lengths)  # queries without any may share the empty list
                tied += [(some, knots + lists.rows[some]), (self.queries + lists.values, knots + of_values)]
                knots += len(lists.offsets) - 1
        if truth.own_images is not None:
            query = np.flatnonzero(truth.own_images >= 0)
            tied += [(query, knots + query), (self.queries + truth.own_images[query], knots + query)]
            knots += self.queries
        if truth.database_labels is not None:
            label = np.unique(truth.database_labels, return_inverse=True)[1].ravel()
            tied.append((self.queries + np.arange(database), knots + label))
            knots += database
        near = np.empty((0, 2), np.int64)
        if truth.radius is not None and truth.query_positions is not None and truth.database_positions is not None:
            from scipy.spatial import cKDTree

            positions = np.concatenate([truth.query_positions, truth.database_positions])
            spots, spot = np.unique(positions, axis=0, return_inverse=True)
            tied.append((np.arange(images), knots + spot.ravel()))
            near = knots + cKDTree(spots).query_pairs(truth.radius, output_type="ndarray")
            knots += len(spots)
        image, knot = (np.concatenate(ends) for ends in zip(*tied, strict=True))
        self._ties = sparse.csr_matrix((np.ones(len(image), np.int64), (image, knot)), (images, knots))
        near = np.concatenate([near, near[:, ::-1], np.repeat(np.arange(knots)[:, None], 2, axis=1)])
        self._near = sparse.csr_matrix((np.ones(len(near), np.int64), (near[:, 0], near[:, 1])), (knots, knots))

    def of_queries(self, queries: np.ndarray) -> np.ndarray:
        """Those queries as truth values of all images."""
        chosen = np.zeros(self._ties.shape[0], bool)
        chosen[queries] = True
        return chosen

    def related(self, chosen: np.ndarray) -> np.ndarray:
        """The images chosen and those that share a knot with one of them or stand within the radius of one."""
        return chosen | (self._ties @ (self._near @ (self._ties.T @ chosen.astype(np.int64))) > 0)

    @functools.cached_property
    def _graph(self):
        from scipy import sparse

        return sparse.bmat([[None, self._ties], [self._ties.T, self._near]], format="csr")

    @functools.cached_property
    def places(self) -> np.ndarray:
        from scipy.sparse.csgraph import connected_components

        return connected_components(self._graph, directed=False)[1][: self._ties.shape[0]]

    def walk(self, queries: np.ndarray) -> np.ndarray:
        """The queries of one place in the order of their distance from one of its ends."""
        from scipy.sparse.csgraph import breadth_first_order

        order = np.array([queries[0]])
        for _ in range(2):  # what is farthest from anywhere is an end
            order = breadth_first_order(self._graph, order[-1], directed=False, return_predecessors=False)
        return order[np.isin(order, queries)]
