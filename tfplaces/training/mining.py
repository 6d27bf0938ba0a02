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
        self.images = Concatenation(dataset.database, dataset.queries)
        self._seed = seed
        self._pairs = pairs
        self._labelled = dataset.database_places is not None
        self._truth = dataset.truth
        self._database = len(dataset.database)
        self._anchors = self._database + np.array(dataset.truth.trainable(), np.int64)
        same_label = dataset.truth.of_same_label
        if same_label is not None:
            self._anchors = np.concatenate([self._anchors, np.flatnonzero(same_label.lengths > 1)])
        if len(self._anchors) < 2:
            raise UserError(f"{dataset.spec}: fewer than two queries have a positive, there is nothing to train on")

    def __len__(self) -> int:
        """Queries of an epoch."""
        return len(self._anchors)

    def _positives(self, anchor: int) -> np.ndarray:
        """The images that an anchor is drawn towards, sorted."""
        if anchor >= self._database:
            return self._truth.to_train(anchor - self._database)
        assert self._truth.of_same_label is not None  # only then are database images anchors
        place = self._truth.of_same_label[anchor]
        return place[place != anchor]

    def _place(self, anchor: int) -> set[int]:
        """The anchor and all that must not come into its batch as another place; a label stands for all its images."""
        related = np.array([anchor])
        if anchor >= self._database:
            related = self._truth.never_negative(anchor - self._database)
        labels = self._truth.database_labels
        return {anchor, *(related if labels is None else -1 - np.unique(labels[related])).tolist()}

    @property
    def steps(self) -> int:
        """About how many batches a pass over the queries makes, whatever the network.

        A batch takes at most `pairs` queries, at most one of those that show the same image, and at least one other.
        """
        shown = collections.Counter(itertools.chain.from_iterable(map(self._place, self._anchors.tolist())))
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
        queries = rng.permutation(self._anchors)
        for start in range(0, len(queries), QUERIES_PER_CACHE):
            yield list(self._batches(describer, queries[start : start + QUERIES_PER_CACHE], pool, rng))

    def _batches(self, describer: Describer, queries: np.ndarray, pool: int, rng) -> Iterator[np.ndarray]:
        candidates = [rng.permutation(self._positives(q))[:MAX_POSITIVES] for q in queries]
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
                place = self._place(int(queries[k]))
                if not shown & place and len(batch) < self._pairs:
                    batch.append(k)
                    shown |= place
            taken = set(batch)
            left = [k for k in left if k not in taken]
            if len(batch) > 1:
                yield np.array([[queries[k], positives[k]] for k in batch], np.int64)
