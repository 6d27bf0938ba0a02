"""Which images of a data set show one place, to draw training batches of places from."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.options import split_options, typed_options
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import Images, PlaceDataset
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.datasets.photos import Photos


@dataclasses.dataclass(frozen=True)
class PlaceList:
    """Places of at least two images each.

    Attributes:
        spec: the data set's name.
        images: what the indices of images point to: the database, then the queries that are not in it.
        members: the images of each place, `[places]`. An image may be in several places.
        overlapping: for each place the places that may show what it shows, itself among them, `[places]`: in a batch
            they would be taken for different places.
        beside: for each place those at the same spot that do not overlap with it, as their images look another way,
            `[places]`. They are what a network easily confuses it with.
    """

    spec: str
    images: Images
    members: IndexLists
    overlapping: IndexLists
    beside: IndexLists

    def __len__(self) -> int:
        return len(self.members)


def labelled_places(dataset: PlaceDataset) -> PlaceList:
    """The places of a data set with labels; none overlap.

    Raises:
        UserError: the data set has no labels, or fewer than two of its places have two images.
    """
    labels = dataset.truth.database_labels
    if labels is None:
        raise UserError(f"{dataset.spec}: its places have no labels; make them of positions")
    photos = Photos.of(dataset)
    # A query without a positive is of a place that nothing else shows: it has no label.
    of_queries = [labels[positives[0]] if len(positives) else -1 for positives in dataset.positives]
    known = np.concatenate([labels, np.array(of_queries, np.int64)[photos.others]])
    members = IndexLists.by_label(np.unique(labels), known)
    members = _of_two(dataset, members)
    alone = IndexLists.of([[place] for place in range(len(members))])
    return PlaceList(dataset.spec, photos.images, members, alone, IndexLists.of([[]] * len(members)))


def grid_places(dataset: PlaceDataset, cell: float = 15, sector: float = 90, apart: float = 50) -> PlaceList:
    """Places of a data set with positions: the cells of a grid, divided into sectors of the heading.

    They are the classes of CosPlace (Berton et al., CVPR 2022): floor(east / cell), floor(north / cell), floor(heading
    / sector). CosPlace divides its classes into groups within which they lie far apart and trains on one group at a
    time; here places that overlap are listed instead, so that batches may be drawn from all of them.

    Args:
        dataset: with positions. Without any heading, a cell is one place.
        cell: width of a cell, metres.
        sector: width of a sector, degrees; it divides 360.
        apart: places overlap if images of both lie at most so far apart, metres, and their headings differ by less than
            a sector.

    Raises:
        UserError: no positions, images without a heading among others that have one, a number out of range, or fewer
            than two places of two images.
    """
    photos = Photos.located(dataset, cell=(cell, 1e6), sector=(sector, 360), apart=(apart, 1e6))
    if abs(360 / sector - round(360 / sector)) > 1e-9:
        raise UserError(f"{dataset.spec}: sector={sector:g}, but a whole number of sectors must make 360 degrees")
    cells = np.floor(np.asarray(photos.positions) / cell)
    if photos.headings is not None:
        cells = np.column_stack([cells, np.floor(photos.headings % 360 / sector)])
    classes = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    members = IndexLists.by_label(np.unique(classes), classes)
    return _made_of_positions(dataset, photos.images, members, photos.near(apart, sector), photos.near(cell))


def nearby_places(dataset: PlaceDataset, radius: float = 12.5, angle: float = 45, apart: float = 50) -> PlaceList:
    """Places of a data set with positions: around each image those that lie near it and look the same way.

    There are as many places as images, so that few images make many different batches; most overlap with some others.

    Args:
        dataset: with positions.
        radius: images of a place lie at most so far from its middle one, metres, and so at most twice as far from each
            other. By default that is 25 m, within which the field's protocols call two images one place.
        angle: and their headings differ from its by less than so many degrees; without any heading all are of it.
        apart: places overlap if images of both lie at most so far apart, metres, and their headings differ by less than
            the angle.

    Raises:
        UserError: no positions, images without a heading among others that have one, a number out of range, or fewer
            than two places of two images.
    """
    photos = Photos.located(dataset, radius=(radius, 1e6), angle=(angle, 360), apart=(apart, 1e6))
    members = photos.near(radius, angle)
    return _made_of_positions(dataset, photos.images, members, photos.near(apart, angle), photos.near(radius))


def truth_places(dataset: PlaceDataset) -> PlaceList:
    """Places of a data set of which nothing is known but its ground truth: each query with its positives is one.

    That the positives of a query show what the query shows is sure, but not that they show the same things as each
    other. Places overlap where an image of one must not be taken as another place than the query of the other.

    Args:
        dataset: with at least two queries that have positives to train towards.

    Raises:
        UserError: there are fewer.
    """
    photos, truth = Photos.of(dataset), dataset.truth
    queries = truth.trainable()
    own = photos.of_queries()[queries].tolist()
    members = _of_two(
        dataset, IndexLists.of([np.append(truth.to_train(q), image) for q, image in zip(queries, own, strict=True)])
    )
    related = IndexLists.of([np.append(truth.never_negative(q), image) for q, image in zip(queries, own, strict=True)])
    barred = _matrix(related, len(photos.images)) @ _matrix(members, len(photos.images)).T
    return PlaceList(
        dataset.spec, photos.images, members, _lists(barred + barred.T), IndexLists.of([[]] * len(members))
    )


# The ways to make places, by what `--places` calls them.
PLACES: dict[str, Callable[..., PlaceList]] = {
    "labels": labelled_places,
    "grid": grid_places,
    "nearby": nearby_places,
    "truth": truth_places,
}


def make_places(dataset: PlaceDataset, spec: str | None = None) -> PlaceList:
    """The places of a data set, made in a way that is named as people write it.

    Args:
        dataset: where they are from.
        spec: `KIND[?key=value&…]`, a key of `PLACES` and the arguments of its function, for example
            `grid?cell=15&sector=30`. None for what the data set allows: labels, else nearby, else truth.

    Raises:
        UserError: the spec is none, or the data set does not have what the way needs.
    """
    if spec is None:
        truth = dataset.truth
        located = truth.database_positions is not None and truth.query_positions is not None
        spec = "labels" if truth.database_labels is not None else "nearby" if located else "truth"
    kind, _, query = spec.partition("?")
    if kind not in PLACES:
        raise UserError(f"places {printable_name(spec)!r} are not known; there are {', '.join(PLACES)}")
    make = PLACES[kind]
    known = list(inspect.signature(make).parameters)[1:]
    return make(dataset, **typed_options(spec, split_options(spec, kind, query, known), make))


def _of_two(dataset: PlaceDataset, members: IndexLists) -> IndexLists:
    """The places of two images or more."""
    members = members.take(np.flatnonzero(members.lengths > 1))
    if len(members) < 2:
        raise UserError(f"{dataset.spec}: {len(members)} places of two images or more, but training takes at least two")
    return members


def _made_of_positions(
    dataset: PlaceDataset, images: Images, members: IndexLists, near: IndexLists, at_spot: IndexLists
) -> PlaceList:
    """The places of two images or more.

    Args:
        dataset: where they are from.
        images: its images.
        members: images of each place.
        near: for each image those that make places overlap that have them.
        at_spot: for each image those that make places lie beside each other, unless they overlap.
    """
    members = _of_two(dataset, members)
    of_places = _matrix(members, len(images))
    linked, at_one_spot = (of_places @ _matrix(lists, len(images)) @ of_places.T for lists in (near, at_spot))
    # As numbers: subtracting is not defined for truth values.
    beside = at_one_spot.astype(np.int8) - at_one_spot.multiply(linked).astype(np.int8)
    beside.eliminate_zeros()
    return PlaceList(dataset.spec, images, members, _lists(linked), _lists(beside))


def _lists(matrix: Any) -> IndexLists:
    """Where the rows of a sparse matrix are not zero."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    return IndexLists(matrix.indices, matrix.indptr)


def _matrix(lists: IndexLists, columns: int) -> Any:
    """A sparse matrix that has ones where the lists point to."""
    from scipy import sparse

    every = lists.keep(lambda row, value: np.ones(len(row), bool))
    shape = (len(lists), columns)
    return sparse.csr_matrix((np.ones(len(every.values), bool), every.values, every.offsets), shape)
