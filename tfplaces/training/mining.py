"""Training batches: pairs of images of one place, put together with the places they are most confused with."""

from __future__ import annotations

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
        seed: of the order.

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
        database = len(dataset.database)
        queries = dataset.answerable()
        self._positives = {database + q: dataset.others(q) for q in queries}
        # What must not come in as another place, though it is no positive.
        self._ignored = {database + q: dataset.ignored(q).tolist() for q in queries}
        if self._labelled:
            order = np.argsort(dataset.database_places, kind="stable")
            for place in np.split(order, np.flatnonzero(np.diff(dataset.database_places[order])) + 1):
                if len(place) > 1:
                    self._positives.update({int(image): place[place != image] for image in place})
        if len(self._positives) < 2:
            raise UserError(f"{dataset.spec}: fewer than two queries have a positive, there is nothing to train on")

    def __len__(self) -> int:
        """Queries of an epoch."""
        return len(self._positives)

    def epoch(self, describer: Describer, epoch: int, pool: int) -> Iterator[np.ndarray]:
        """One pass over the queries.

        A batch starts with a random query and takes, of a random pool of others, those nearest to it under the present
        network and not of its place: its hardest negatives. Positives are the nearest of the potential ones, or, where
        places are labelled and all of them are sure, any.

        Args:
            describer: the present network.
            epoch: which pass it is, 0-based; the order depends on it and on the seed.
            pool: queries that a batch is chosen from; the more, the harder.

        Yields:
            int64 `[n, 2]`, query and positive, 2 <= n <= pairs.
        """
        rng = np.random.default_rng([self._seed, epoch])
        queries = rng.permutation(np.array(list(self._positives)))
        for start in range(0, len(queries), QUERIES_PER_CACHE):
            yield from self._batches(describer, queries[start : start + QUERIES_PER_CACHE], pool, rng)

    def _batches(self, describer: Describer, queries: np.ndarray, pool: int, rng) -> Iterator[np.ndarray]:
        candidates = [rng.permutation(self._positives[q])[:MAX_POSITIVES] for q in queries]
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
            batch, shown = [], set()
            for k in (first, *others[np.argsort(-near[first, others], kind="stable")]):
                # Everything of the place: none of it may come in as another place.
                query = int(queries[k])
                place = {query, *self._positives[query].tolist(), *self._ignored.get(query, ())}
                if not shown & place and len(batch) < self._pairs:
                    batch.append(k)
                    shown |= place
            taken = set(batch)
            left = [k for k in left if k not in taken]
            if len(batch) > 1:
                yield np.array([[queries[k], positives[k]] for k in batch], np.int64)
