"""Data sets of photos whose positions are known: what is near shows the same place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.datasets.base import PlaceDataset
from tfplaces.datasets.copies import note_of_copies
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.images import ImageFiles
from tfplaces.datasets.index_lists import IndexLists


@dataclasses.dataclass(frozen=True)
class Located:
    """Photos and where they were taken.

    Attributes:
        root: folder that the names are relative to.
        names: file names.
        positions: metres, float64 `[n, 2]` or `[n, 3]`.
        headings: where the camera looked, degrees clockwise from north, NaN where it is not known, float64 `[n]`.
        groups: what a photo is part of, the name of a panorama or a drive, strings `[n]`; None where each stands alone.
        times: when each was taken, `[n]`, anything that compares; None where it is not known of all.
        zone: the UTM zone of easting and northing, as in `30N`; None where it is not known.
    """

    root: str
    names: Sequence[str]
    positions: np.ndarray
    headings: np.ndarray
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    zone: str | None = None

    def take(self, chosen: np.ndarray) -> Located:
        """Some of the photos, in the order of their numbers."""
        return dataclasses.replace(
            self,
            names=[self.names[i] for i in chosen],
            **{
                name: value[chosen]
                for name in ("positions", "headings", "groups", "times")
                if (value := getattr(self, name)) is not None
            },
        )


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which photos show one place.

    Attributes:
        radius: at most so far apart, metres.
        training_radius: to train towards, at most so far apart, metres.
        max_angle: looking in directions that differ by at most so many degrees; None where it does not matter.
    """

    radius: float
    training_radius: float
    max_angle: float | None = None

    def check(self, spec: str) -> None:
        """Refuses what is out of range."""
        for name in ("radius", "training_radius"):
            if not 0 < getattr(self, name) <= 1e6:
                raise UserError(
                    f"{spec}: {name}={getattr(self, name):g}, but it must be above 0 and at most 1e6 metres"
                )
        if self.max_angle is not None and not 0 <= self.max_angle <= 180:
            raise UserError(f"{spec}: max_angle={self.max_angle:g}, but it must be within 0 and 180 degrees")


def located_dataset(
    spec: str, queries: Located, database: Located | None, rule: Rule, notes: Sequence[str] = (), group: str = "group"
) -> PlaceDataset:
    """A data set of photos whose positions are known.

    Args:
        spec: its name.
        queries: the photos to recognise.
        database: the known places; None to look for each query among the other queries. Those of its own group are
            then neither right nor wrong, and training never takes them for another place.
        rule: what shows one place. Training never takes what is within its radius for another place.
        notes: what is known of the data set already.
        group: what a group is called.

    Raises:
        UserError: the rule is out of range, there are no photos, or it needs headings that some have not.
    """
    rule.check(spec)
    known = queries if database is None else database
    if not len(queries.names) or not len(known.names):
        raise UserError(
            f"{spec}: no {'queries' if not len(queries.names) else 'database images'} with a position there"
        )
    if queries.positions.shape[1] != known.positions.shape[1]:
        raise UserError(f"{spec}: the positions of queries and database images are not of one kind")
    if rule.max_angle is not None:
        for photos in (queries, known):
            blind = np.flatnonzero(~np.isfinite(photos.headings))
            if len(blind):
                raise UserError(
                    f"{spec}: max_angle needs headings, and {len(blind)} of {len(photos.names)} images have none, "
                    f"first: {printable_name(photos.names[blind[0]])}"
                )
    try:
        truth = _truth(queries, database, rule)
    except UserError as error:
        raise UserError(f"{spec}: {error}") from None
    files = ImageFiles(known.root, known.names), ImageFiles(queries.root, queries.names)
    if database is None:
        parts = "" if queries.groups is None else f" of {len(np.unique(queries.groups)):,} {group}s"
        apart = f" that are not of its own {group}" if parts else ""
        counted = f"{len(queries.names):,} images{parts}, each a query among the others{apart}"
    else:
        counted = f"{len(queries.names):,} queries, {len(known.names):,} database images"
    near = f"within {rule.radius:g} m" + ("" if rule.max_angle is None else f" and {rule.max_angle:g} degrees")
    counted = f"{counted}; {len(truth.answerable()):,} of the queries have something to be found {near}"
    copies = () if database is None else note_of_copies(files[1], files[0])
    return PlaceDataset(spec, *files, truth, notes=(counted, *notes, *copies))


def _truth(queries: Located, database: Located | None, rule: Rule) -> GroundTruth:
    known = queries if database is None else database
    groups = np.arange(len(queries.names))
    if queries.groups is not None:
        groups = np.unique(queries.groups, return_inverse=True)[1].ravel()
    near = IndexLists.within(queries.positions, known.positions, rule.radius)

    def wanted(query: np.ndarray, image: np.ndarray) -> np.ndarray:
        kept = np.ones(len(query), bool)
        if database is None:
            kept &= groups[query] != groups[image]
        if rule.max_angle is not None:
            angle = np.abs(queries.headings[query] - known.headings[image]) % 360
            kept &= np.minimum(angle, 360 - angle) <= rule.max_angle
        return kept

    def chosen(lists: IndexLists) -> IndexLists:
        return lists if database is not None and rule.max_angle is None else lists.keep(wanted)

    nearer = None
    if rule.training_radius != rule.radius:
        nearer = chosen(IndexLists.within(queries.positions, known.positions, rule.training_radius))
    return GroundTruth(
        chosen(near),
        training_positives=nearer,
        not_negatives=None if rule.max_angle is None else near,
        junk=IndexLists.by_label(groups, groups) if database is None else None,
        own_images=np.arange(len(queries.names)) if database is None else None,
        query_positions=queries.positions,
        database_positions=known.positions,
        query_headings=queries.headings,
        database_headings=known.headings,
        radius=rule.radius,
        zone=queries.zone if queries.zone == known.zone else None,
        query_times=queries.times,
        database_times=known.times,
        query_sequences=queries.groups,
        database_sequences=None if database is None else database.groups,
    )
