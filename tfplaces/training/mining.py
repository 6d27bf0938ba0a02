"""Training batches: pairs of images of one place, put together with the places they are most confused with."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import Concatenation, PlaceDataset, Subset
from tfplaces.describers import Describer, describe_images

# Descriptors are computed anew, and batches put together, for this many queries at a time (as in NetVLAD's recipe).
QUERIES_PER_CACHE = 1000
# Potential positives of which the nearest is taken.
MAX_POSITIVES = 10


class Anchors:
    """The images that training starts from, and what is known of each: what it is drawn towards and told from.

    They are the data set's queries that have something to be trained towards, and the database images as well where
    places have labels and another image of theirs is in the database.

    Args:
        dataset: what to learn from.

    Attributes:
        images: database, then queries: what all indices point to.
        indices: the anchors, int64 `[n]`.
        database: how many of the images are of the database.
    """

    def __init__(self, dataset: PlaceDataset):
        self.images = Concatenation(dataset.database, dataset.queries)
        self.database = len(dataset.database)
        self._truth = dataset.truth
        self.indices = self.database + np.array(dataset.truth.trainable(), np.int64)
        same_label = dataset.truth.of_same_label
        if same_label is not None:
            self.indices = np.concatenate([self.indices, np.flatnonzero(same_label.lengths > 1)])

    def __len__(self) -> int:
        return len(self.indices)

    def positives(self, anchor: int) -> np.ndarray:
        """The images that an anchor is drawn towards, int64 `[n]`, sorted."""
        if anchor >= self.database:
            return self._truth.to_train(anchor - self.database)
        assert self._truth.of_same_label is not None  # only then are database images anchors
        place = self._truth.of_same_label[anchor]
        return place[place != anchor]

    def shown(self, anchor: int) -> set[int]:
        """The anchor and all that must not come into its batch as another place.

        What stands for a label, and thereby for all its images, is a number below 0.
        """
        related, labels = self._related(anchor), self._truth.database_labels
        return {anchor, *(related if labels is None else -1 - np.unique(labels[related])).tolist()}

    def negatives(self, anchor: int, candidates: np.ndarray) -> np.ndarray:
        """Which database images surely show another place than an anchor.

        Args:
            anchor: an index.
            candidates: indices of database images, int64 `[n]`.

        Returns:
            a truth value for each candidate, bool `[n]`.
        """
        related, labels = self._related(anchor), self._truth.database_labels
        if labels is None:
            return ~np.isin(candidates, related)
        return ~np.isin(labels[candidates], labels[related])

    def photos(self, anchors: np.ndarray) -> np.ndarray:
        """The database indices of the anchors' own images, or the anchors where they have none: what to describe."""
        own = self._truth.own_images
        if own is None:
            return anchors
        queries = anchors >= self.database
        own = np.where(queries, own[np.where(queries, anchors - self.database, 0)], -1)
        return np.where(own < 0, anchors, own)

    def _related(self, anchor: int) -> np.ndarray:
        """The database images that may show the anchor's place, int64 `[n]`."""
        if anchor >= self.database:
            return self._truth.never_negative(anchor - self.database)
        return np.array([anchor])


class PairMiner:
    """Finds training batches in a data set.

    Queries are the data set's own, and the database images as well where it knows their places. Memory does not grow
    with the data set: descriptors of 1000 queries and their positives are held at a time.

    Args:
        dataset: what to learn from.
        pairs: query and positive pairs in a batch, at least 2.
        seed: seed of the order of the queries.

    Attributes:
        images: database, then queries; batches are indices into it.

    Raises:
        ValueError: pairs below 2, or fewer than two queries with a positive.
    """

    def __init__(self, dataset: PlaceDataset, pairs: int, seed: int = 0):
        if pairs < 2:
            raise UserError(f"pairs={pairs}: at least 2, each other's negatives")
        self._anchors = Anchors(dataset)
        self.images = self._anchors.images
        self._seed = seed
        self._pairs = pairs
        self._labelled = dataset.database_places is not None
        if len(self._anchors) < 2:
            raise UserError(f"{dataset.spec}: fewer than two queries have a positive, there is nothing to train on")

    def __len__(self) -> int:
        """Queries of an epoch."""
        return len(self._anchors)

    @property
    def steps(self) -> int:
        """About how many batches a pass over the queries makes, whatever the network.

        A batch takes at most `pairs` queries, at most one of those that show the same image, and at least one other.
        """
        shown = collections.Counter(
            itertools.chain.from_iterable(map(self._anchors.shown, self._anchors.indices.tolist()))
        )
        largest = max(shown.values())
        return max(-(-len(self) // self._pairs), min(largest, len(self) - largest))

    def epoch(self, describer: Describer, epoch: int, pool: int, again: int = 0) -> Iterator[list[np.ndarray]]:
        """One pass over the queries.

        A batch starts with a random query and takes, of a random pool of others, those nearest to it under the present
        network and not of its place: its hardest negatives. Positives are the nearest of the potential ones, or, where
        places are labelled and all of them are sure, any.

        Args:
            describer: the present network.
            epoch: which pass it is, 0-based; the order depends on it and on the seed.
            pool: queries that a batch is chosen from; the more, the harder.
            again: further passes of the same epoch, in another order.

        Yields:
            the batches of 1000 queries, int64 `[n, 2]` each, query and positive, 2 <= n <= pairs; the network describes
            the images of the next 1000 when those are asked for.
        """
        rng = np.random.default_rng([self._seed, epoch, again])
        queries = rng.permutation(self._anchors.indices)
        for start in range(0, len(queries), QUERIES_PER_CACHE):
            yield list(self._batches(describer, queries[start : start + QUERIES_PER_CACHE], pool, rng))

    def _batches(self, describer: Describer, queries: np.ndarray, pool: int, rng) -> Iterator[np.ndarray]:
        candidates = [rng.permutation(self._anchors.positives(q))[:MAX_POSITIVES] for q in queries]
        needed = np.unique(np.concatenate([queries, *candidates]))
        descriptors = describe_images(describer, Subset(self.images, needed), "mining")
        row = {image: k for k, image in enumerate(needed)}
        described = descriptors[[row[q] for q in queries]]
        positives = [
            c[0] if self._labelled else c[np.argmax(descriptors[[row[i] for i in c]] @ d)]
            for c, d in zip(candidates, described, strict=True)
        ]
        near = described @ described.T
        left = list(range(len(queries)))
        while len(left) > 1:
            first, others = left[0], np.array(left[1:pool])
            batch: list[int] = []
            shown: set[int] = set()
            for k in (first, *others[np.argsort(-near[first, others], kind="stable")]):
                # Everything of the place: none of it may come in as another place.
                place = self._anchors.shown(int(queries[k]))
                if not shown & place and len(batch) < self._pairs:
                    batch.append(k)
                    shown |= place
            taken = set(batch)
            left = [k for k in left if k not in taken]
            if len(batch) > 1:
                yield np.array([[queries[k], positives[k]] for k in batch], np.int64)
