"""Queries that are described by one network and a database by another, whose descriptors are meant to be alike."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset
from tfplaces.describers import Describer, describe_images
from tfplaces.evaluation.scores import Evaluation, check_positives, score
from tfplaces.evaluation.unit_descriptors import UnitDescriptors

# Of networks that know nothing of each other, the cosine of one image's descriptors is that of two images', give or
# take what chance makes of some hundred numbers.
_LEAST_AGREEMENT = 0.1


@dataclasses.dataclass(frozen=True)
class Pairings:
    """The figures of two networks together, and of each alone.

    Attributes:
        together: queries described by the first network, the database by the second.
        first: both described by the first.
        second: both described by the second.
        agreement: the mean cosine of the two descriptors of a database image, -1 to 1.
        chance: the mean cosine of the first's descriptor of an image and the second's of any other, -1 to 1.
        database: what the second network gives the database images, float32 `[database, dim]`.
    """

    together: Evaluation
    first: Evaluation
    second: Evaluation
    agreement: float
    chance: float
    database: np.ndarray = dataclasses.field(repr=False, compare=False)


def check_dimensions(queries_by: Describer, database_by: Describer) -> None:
    """Raises UserError unless the descriptors of two networks have one length."""
    first, second = queries_by.descriptor_dim, database_by.descriptor_dim
    if first != second:
        raise UserError(
            f"the queries' network gives descriptors of {first} numbers and the database's of {second}: they cannot be "
            "compared; the first has to be taught by the second (tfplaces-train --teacher)"
        )


def evaluate_pairings(queries_by: Describer, database_by: Describer, dataset: PlaceDataset) -> Pairings:
    """Describes a data set with two networks, and scores the retrieval of its queries by both and by each alone.

    Where the networks' descriptors of one image are hardly more alike than those of two images, the notes of the
    figures say so.

    Args:
        queries_by: the first network, for example a small one on a phone.
        database_by: the second, for example the large one that has taught the first.
        dataset: is looked at by both, at the input size of each.

    Raises:
        UserError: their descriptors have different lengths, or as in `evaluate`.
    """
    check_positives(dataset)
    check_dimensions(queries_by, database_by)
    first_database, first_queries = _described(queries_by, dataset, "first")
    second_database, second_queries = _described(database_by, dataset, "second")
    together = score(dataset, first_queries, second_database)
    agreement, chance = _agreement(first_database, second_database)
    if agreement - chance < _LEAST_AGREEMENT:
        note = (
            f"the two models hardly agree: their descriptors of one image have a mean cosine of {agreement:.2f}, those "
            f"of two images {chance:.2f}; was the first taught by the second?"
        )
        together = dataclasses.replace(together, notes=(*together.notes, note))
    return Pairings(
        together,
        score(dataset, first_queries, first_database),
        score(dataset, second_queries, second_database),
        agreement,
        chance,
        second_database,
    )


def _described(describer: Describer, dataset: PlaceDataset, which: str) -> tuple[np.ndarray, np.ndarray]:
    database = describe_images(describer, dataset.database, f"database, {which} model")
    return database, describe_images(describer, dataset.queries, f"queries, {which} model")


def _agreement(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The mean cosines of two networks' descriptors of the same images, and of different ones."""
    ours, theirs = (UnitDescriptors(vectors)[:] for vectors in (first, second))
    count = len(ours)
    same = float(np.einsum("ij,ij", ours, theirs, dtype=np.float64))
    every = float(ours.sum(axis=0, dtype=np.float64) @ theirs.sum(axis=0, dtype=np.float64))
    return same / count, (every - same) / max(count * (count - 1), 1)
