"""NetVLAD's own recipe: training tuples mined with descriptors that are computed anew on a schedule.

Source: Arandjelović et al., CVPR 2016, section 4 and appendix A, and the authors' code, github.com/Relja/netvlad,
trainWeakly.m. A training tuple is a query, the best of its potential positives and its hardest negatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.progress import say_step
from tfplaces.datasets import PlaceDataset
from tfplaces.describers import Describer, KerasDescriber, stream_descriptors
from tfplaces.losses import TupleTripletLoss
from tfplaces.training.augmentation import Augmentation
from tfplaces.training.batches import ImageBatches
from tfplaces.training.mining import Anchors

# Numbers of all descriptors of queries that are held at a time (256 MB), and queries in any case.
_MAX_HELD = 2**26
_MAX_QUERIES = 10_000
# Potential positives of which the best is looked for: more than the 24 views of each panorama near by in Pittsburgh.
_MAX_POSITIVES = 100
# Queries that are compared with all sampled negatives at once.
_COMPARED = 256


class NetVLADBatches(ImageBatches):
    """Batches of training tuples of NetVLAD's recipe.

    Before queries are trained on, the present network describes them, their potential positives, a random sample of the
    database, and the negatives that were hardest for them in the last epoch. Of each query's potential positives the
    nearest is taken. Its negatives are the hardest of sampled and remembered ones together, as far as they violate the
    margin; the hardest, violating or not, are remembered for the next epoch. Nothing is a negative that may show the
    query's place: `GroundTruth.never_negative`, and all images of its label.

    An epoch goes through all queries once, in a random order. Queries without a negative that violates the margin are
    left out, so that batches get fewer tuples; where there are not enough for each batch to have one, such queries fill
    up with negatives that do not violate it, and which cost nothing as long as the network has not moved.

    Unlike in the authors' code what is described does not grow with the data set: the sample is one for all queries
    that are described together, and the database is not described as a whole. Descriptors of so many queries are held
    as fit in 256 MB, and those of the sample; of others only their similarities.

    Targets are those of `TupleTripletLoss`, int64 `[images, 2]`.

    Args:
        model: the network that is trained, from `[batch, height, width, 3]` to descriptors of unit length.
        dataset: what to learn from. Without queries of its own, all images of places with labels are queries.
        loss: the loss that is trained with, whose margin tells which negatives violate it; by default that of the
            authors' code.
        tuples: tuples in a batch at most.
        negatives: negatives of a tuple at most; as many are remembered of each query.
        sampled: database images that are drawn as negatives.
        refresh: for how many queries tuples are chosen with the same descriptors.
        doubled_every: refresh is doubled every so many epochs, as the authors do where they halve the learning rate;
            None for never.
        augmentation: see `ImageBatches`.
        seed: gives all that is drawn.

    Attributes:
        loss: what to compile with.

    Raises:
        UserError: a number is below 1, or no query has anything to be trained towards. While batches are chosen: no
            query has a negative.
    """

    def __init__(
        self,
        model: keras.Model,
        dataset: PlaceDataset,
        *,
        loss: TupleTripletLoss | None = None,
        tuples: int = 4,
        negatives: int = 10,
        sampled: int = 1000,
        refresh: int = 1000,
        doubled_every: int | None = 5,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        numbers = {"tuples": tuples, "refresh": refresh}
        if doubled_every is not None:
            numbers["doubled_every"] = doubled_every
        _check_positive(numbers)
        self.loss = loss or TupleTripletLoss()
        self._miner = TupleMiner(dataset, self.loss, negatives=negatives, sampled=sampled)
        self._describer = KerasDescriber(model)
        self._tuples, self._refresh, self._doubled_every = tuples, refresh, doubled_every
        self._spec = dataset.spec
        steps = -(-len(self._miner) // tuples)
        super().__init__(self._miner.images, self._describer.input_size, steps, augmentation=augmentation, seed=seed)

    def choose(self, epoch: int) -> Iterator[list[np.ndarray]]:
        rng = np.random.default_rng([self._seed, epoch])
        queries = rng.permutation(len(self._miner))
        doublings = 0 if self._doubled_every is None else min(epoch // self._doubled_every, 30)
        refresh = -(-self._refresh * 2**doublings // self._tuples) * self._tuples
        trained = 0
        for start in range(0, len(queries), refresh):
            block = queries[start : start + refresh]
            mined = self._miner.mine(self._describer, block, rng)
            trained += len(mined.violating)
            if start + refresh >= len(queries):
                say_step(
                    f"epoch {epoch + 1}: {trained:,} of {len(queries):,} queries have a negative that violates the "
                    "margin; the others are left out"
                )
            yield self._dealt(mined, -(-len(block) // self._tuples))

    def _dealt(self, mined: Mined, steps: int) -> list[np.ndarray]:
        """The tuples of a block of queries in its batches, as evenly as can be."""
        tuples = np.concatenate([mined.violating, mined.others[: max(0, steps - len(mined.violating))]])
        if not len(tuples):
            raise UserError(f"{self._spec}: its images show one place, there is nothing to tell the queries' from")
        return np.array_split(np.resize(tuples, (max(steps, len(tuples)), tuples.shape[1])), steps)

    def targets(self, batch: np.ndarray, images: np.ndarray) -> np.ndarray:
        tuples, columns = np.nonzero(batch >= 0)
        return np.stack([tuples, np.minimum(columns, 2)], axis=1)

    def state(self) -> dict[str, np.ndarray]:
        return {"remembered": self._miner.remembered}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        remembered, ours = state.get("remembered"), self._miner.remembered
        if remembered is None or remembered.shape != ours.shape or remembered.dtype != ours.dtype:
            raise UserError("it remembers no negatives, or those of other queries")
        if remembered.max(initial=-1) >= self._miner.database:
            raise UserError("a remembered negative is no image of the database")
        ours[:] = remembered


class Mined(NamedTuple):
    """Tuples, int64 `[n, 2 + negatives]`: query, positive, negatives from the hardest on, -1 where there are no more.

    Attributes:
        violating: those of queries with negatives that violate the margin, with these negatives only.
        others: those of queries with others only, with all of them.
    """

    violating: np.ndarray
    others: np.ndarray


class TupleMiner:
    """Finds training tuples in a data set; see `NetVLADBatches`.

    Attributes:
        images: database, then queries; tuples are indices into it.
        database: how many of them are of the database.
        remembered: the hardest negatives of each query when it was mined last, -1 where there are none, int32
            `[queries, negatives]`.
    """

    def __init__(self, dataset: PlaceDataset, loss: TupleTripletLoss, *, negatives: int = 10, sampled: int = 1000):
        _check_positive({"negatives": negatives, "sampled": sampled})
        self._anchors = Anchors(dataset)
        if not len(self._anchors):
            raise UserError(f"{dataset.spec}: no query has a positive, there is nothing to train on")
        self.images, self.database = self._anchors.images, self._anchors.database
        self._loss, self._sampled = loss, min(sampled, self.database)
        self.remembered = np.full((len(self._anchors), negatives), -1, np.int32)

    def __len__(self) -> int:
        """Queries of the data set that have a positive, and database images that serve as queries."""
        return len(self._anchors)

    def mine(self, describer: Describer, queries: np.ndarray, rng: np.random.Generator) -> Mined:
        """Finds the tuples of some queries with the network as it is, and remembers their hardest negatives.

        Args:
            describer: the present network.
            queries: their numbers, 0 to `len(self) - 1`, int64 `[n]`.
            rng: draws positives where a query has more than 100, and the sample of the database.
        """
        held = min(_MAX_QUERIES, max(1, _MAX_HELD // describer.descriptor_dim))
        parts = [self._mine(describer, queries[k : k + held], rng) for k in range(0, len(queries), held)]
        return Mined(*(np.concatenate(tuples) for tuples in zip(*parts, strict=True)))

    def _mine(self, describer: Describer, numbers: np.ndarray, rng: np.random.Generator) -> Mined:
        anchors = self._anchors.indices[numbers]
        sample = np.sort(rng.choice(self.database, self._sampled, replace=False, shuffle=False))
        positives = [rng.permutation(self._anchors.positives(a))[:_MAX_POSITIVES] for a in anchors]
        remembered = [np.setdiff1d(row[row >= 0], sample).astype(np.int64) for row in self.remembered[numbers]]
        near = _Similarities(describer, self._anchors, anchors, sample, [*positives, *remembered])
        tuples = np.full((len(anchors), 2 + self.remembered.shape[1]), -1, np.int64)
        violating, others = np.zeros((2, len(anchors)), bool)
        for k, (anchor, to_sample) in enumerate(zip(anchors.tolist(), near.to_sample(), strict=True)):
            to_positives, to_remembered = near.to_others[k], near.to_others[len(anchors) + k]
            best = np.argmax(to_positives)
            allowed = self._anchors.negatives(anchor, sample)
            candidates = np.concatenate([sample[allowed], remembered[k]])
            similarity = np.concatenate([to_sample[allowed], to_remembered])
            hardest = np.argsort(-similarity, kind="stable")[: self.remembered.shape[1]]
            negatives = candidates[hardest]
            self.remembered[numbers[k]] = -1
            self.remembered[numbers[k], : len(negatives)] = negatives
            violates = self._distance(similarity[hardest]) < self._distance(to_positives[best]) + self._loss.margin
            violating[k], others[k] = violates.any(), len(negatives) and not violates.any()
            if violating[k]:
                negatives = negatives[violates]
            tuples[k, : 2 + len(negatives)] = [anchor, positives[k][best], *negatives]
        return Mined(tuples[violating], tuples[others])

    def _distance(self, similarity: np.ndarray) -> np.ndarray:
        squared = np.maximum(2 - 2 * similarity, 0)
        return squared if self._loss.squared else np.sqrt(squared)


class _Similarities:
    """Scalar products of queries with a sample of images, and with some others of each query's own.

    Args:
        describer: the present network.
        anchors: where images are.
        queries: indices of anchors, int64 `[n]`.
        sample: indices of images, sorted, int64 `[m]`.
        others: indices of images, a multiple of n lists: first one for each query, then a second for each.

    Attributes:
        to_others: the similarities of each query with the images of its lists, as `others`.
    """

    def __init__(
        self, describer: Describer, anchors: Anchors, queries: np.ndarray, sample: np.ndarray, others: list[np.ndarray]
    ):
        photos = anchors.photos(queries)
        held = np.unique(np.concatenate([photos, sample]))
        self._rows, self._sample = np.searchsorted(held, photos), np.searchsorted(held, sample)
        images = np.concatenate(others)
        of_pair = np.repeat(np.resize(self._rows, len(others)), [len(one) for one in others])
        order = np.concatenate([held, np.setdiff1d(images, held)])
        by_image = np.argsort(images, kind="stable")
        ends = [np.searchsorted(images, order, side, sorter=by_image) for side in ("left", "right")]
        pairs = [by_image[begin:end] for begin, end in zip(*ends, strict=True)]
        similarities = np.empty(len(images), np.float32)
        self._held = np.empty((len(held), describer.descriptor_dim), np.float32)
        done = 0
        for found in stream_descriptors(describer, anchors.images, order, "mining"):
            # Of the first ones, which are held, similarities are taken when all of them are there.
            kept = min(len(found), max(0, len(held) - done))
            self._held[done : done + kept] = found[:kept]
            for descriptor, own in zip(found[kept:], pairs[done + kept : done + len(found)], strict=True):
                similarities[own] = self._held[of_pair[own]] @ descriptor
            done += len(found)
        for descriptor, own in zip(self._held, pairs, strict=False):
            similarities[own] = self._held[of_pair[own]] @ descriptor
        self.to_others = np.split(similarities, np.cumsum([len(one) for one in others])[:-1])

    def to_sample(self) -> Iterator[np.ndarray]:
        """For each query its similarities with the sample, float32 `[m]`."""
        sample = self._held[self._sample]
        for start in range(0, len(self._rows), _COMPARED):
            yield from self._held[self._rows[start : start + _COMPARED]] @ sample.T


def _check_positive(numbers: Mapping[str, int]) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"{name}={number}: at least 1")
