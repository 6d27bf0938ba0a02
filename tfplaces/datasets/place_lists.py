"""Which images of a data set show one place, to draw training batches of places from."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import Concatenation, Images, PlaceDataset, Subset
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.index_lists import IndexLists


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
    photos = _Photos.of(dataset)
    # A query without a positive is of a place that nothing else shows: it has no label.
    of_queries = [labels[positives[0]] if len(positives) else -1 for positives in dataset.positives]
    known = np.concatenate([labels, np.array(of_queries, np.int64)[photos.others]])
    members = IndexLists.by_label(np.unique(labels), known)
    return _made(dataset, photos.images, members)


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
    photos = _Photos.of(dataset)
    photos.check(dataset.spec)
    _check(dataset.spec, "cell", cell, 1e6)
    _check(dataset.spec, "sector", sector, 360)
    _check(dataset.spec, "apart", apart, 1e6)
    if abs(360 / sector - round(360 / sector)) > 1e-9:
        raise UserError(f"{dataset.spec}: sector={sector:g}, but a whole number of sectors must make 360 degrees")
    cells = np.floor(np.asarray(photos.positions) / cell)
    if photos.headings is not None:
        cells = np.column_stack([cells, np.floor(photos.headings % 360 / sector)])
    classes = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    members = IndexLists.by_label(np.unique(classes), classes)
    return _made(dataset, photos.images, members, photos.near(apart, sector), photos.near(cell))


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
    photos = _Photos.of(dataset)
    photos.check(dataset.spec)
    _check(dataset.spec, "radius", radius, 1e6)
    _check(dataset.spec, "angle", angle, 360)
    _check(dataset.spec, "apart", apart, 1e6)
    members = photos.near(radius, angle)
    return _made(dataset, photos.images, members, photos.near(apart, angle), photos.near(radius))


@dataclasses.dataclass(frozen=True)
class _Photos:
    """The database images of a data set, then its queries that are not among them.

    Attributes:
        images: all of them.
        truth: what is known of them.
        others: the numbers of those queries, int64.
    """

    images: Images
    truth: GroundTruth
    others: np.ndarray

    @classmethod
    def of(cls, dataset: PlaceDataset) -> _Photos:
        own = dataset.own_images
        others = np.arange(len(dataset.queries)) if own is None else np.flatnonzero(np.asarray(own) < 0)
        images = dataset.database
        if len(others):
            images = Concatenation(images, Subset(dataset.queries, others))
        return cls(images, dataset.truth, others)

    def join(self, database: np.ndarray | None, queries: np.ndarray | None) -> np.ndarray | None:
        """What is known of database images and of queries, for all images."""
        if database is None or queries is None:
            return None
        return np.concatenate([database, np.asarray(queries)[self.others]])

    @functools.cached_property
    def positions(self) -> np.ndarray | None:
        return self.join(self.truth.database_positions, self.truth.query_positions)

    @functools.cached_property
    def headings(self) -> np.ndarray | None:
        """Degrees, float64 `[images]`; None where no image has one."""
        headings = self.join(self.truth.database_headings, self.truth.query_headings)
        return None if headings is None or not np.isfinite(headings).any() else headings

    def check(self, spec: str) -> None:
        """Raises UserError unless all images have positions, and either all headings or none."""
        if self.positions is None:
            raise UserError(f"{spec}: places cannot be made of positions, as its images have none")
        if self.headings is not None:
            blind = np.flatnonzero(~np.isfinite(self.headings))
            if len(blind):
                raise UserError(
                    f"{spec}: {len(blind)} of {len(self.images)} images have no heading, while the others have one, "
                    f"first: {printable_name(self.images.names[blind[0]])}; leave them out"
                )

    def near(self, radius: float, angle: float | None = None) -> IndexLists:
        """For each image those at most so far from it whose headings differ by less than the angle, if they matter."""
        assert self.positions is not None
        near = IndexLists.within(self.positions, self.positions, radius)
        headings = self.headings
        if headings is None or angle is None:
            return near

        def looks_alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
            turn = np.abs(headings[one] - headings[other]) % 360
            return np.minimum(turn, 360 - turn) < angle

        return near.keep(looks_alike)


def _made(
    dataset: PlaceDataset,
    images: Images,
    members: IndexLists,
    near: IndexLists | None = None,
    at_spot: IndexLists | None = None,
) -> PlaceList:
    """The places of two images or more.

    Args:
        dataset: where they are from.
        images: its images.
        members: images of each place.
        near: images that make places overlap that have them; None where no places do.
        at_spot: images that make places lie beside each other, unless they overlap; with `near`.
    """
    members = members.take(np.flatnonzero(members.lengths > 1))
    if len(members) < 2:
        raise UserError(f"{dataset.spec}: {len(members)} places of two images or more, but training takes at least two")
    overlapping = IndexLists.of([[place] for place in range(len(members))])
    beside = IndexLists.of([[]] * len(members))
    if near is not None and at_spot is not None:
        of_places = _matrix(members, len(images))
        linked, at_one_spot = (of_places @ _matrix(lists, len(images)) @ of_places.T for lists in (near, at_spot))
        # As numbers: subtracting is not defined for truth values.
        others = at_one_spot.astype(np.int8) - at_one_spot.multiply(linked).astype(np.int8)
        others.eliminate_zeros()
        overlapping, beside = _lists(linked), _lists(others)
    return PlaceList(dataset.spec, images, members, overlapping, beside)


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


def _check(spec: str, name: str, value: float, most: float) -> None:
    if not 0 < value <= most:
        raise UserError(f"{spec}: {name}={value:g}, but it must be above 0 and at most {most:g}")
