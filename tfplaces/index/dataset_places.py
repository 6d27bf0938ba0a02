"""What a data set says of its database images, as places of an index."""

from __future__ import annotations

import re

import numpy as np

from tfplaces.datasets import GroundTruth, IndexLists, PlaceDataset, Subset, concatenate
from tfplaces.datasets.positions import common_zone, metres_to_degrees, trouble_with_degrees
from tfplaces.datasets.utm_names import UtmFields, read_fields
from tfplaces.index.place import Place


def places_of(dataset: PlaceDataset) -> list[Place]:
    """The database images of a data set as places, in their order.

    Positions, headings, groups and times are those of the data set. Where it has none, but the names of its photos are
    `@easting@northing@zone@…`, as the field's data sets write them, they are taken from the names. EXIF is not read,
    unless the data set itself is of the kind `exif`.
    """
    truth, names = dataset.truth, dataset.database.names
    fields = [read_fields(name) for name in names]
    positions = _positions(dataset) if truth.database_positions is not None else _named_positions(fields)
    groups = _groups(dataset, fields)
    headings, times = truth.database_headings, truth.database_times
    places = []
    for position, field in zip(positions, fields, strict=True):
        # A name may say degrees beside metres on a grid that is not known.
        if "latitude" not in position and field and not trouble_with_degrees(field.latitude, field.longitude):
            position |= {"latitude": field.latitude, "longitude": field.longitude}
    for index, (name, field) in enumerate(zip(names, fields, strict=True)):
        heading = float(headings[index]) if headings is not None else field.heading if field else np.nan
        time = _time(times[index]) if times is not None else field.time if field else ""
        places.append(
            Place(
                name,
                **positions[index],
                heading=float(heading) % 360 if np.isfinite(heading) else None,
                group=groups[index] or None,
                time=time or None,
            )
        )
    return places


def _positions(dataset: PlaceDataset) -> list[dict]:
    """What each place's position is, by the names of a `Place`."""
    metres, zone = np.asarray(dataset.truth.database_positions, float), dataset.truth.zone
    degrees = metres_to_degrees(metres, zone)
    on_grid = metres.shape[1] == 2 or degrees is None
    found: list[dict] = [{} for _ in metres]
    for index, (east, north, *_) in enumerate(metres.tolist()):
        if on_grid:
            found[index] |= {"easting": east, "northing": north, "zone": zone}
        if degrees is not None:
            found[index] |= {"latitude": float(degrees[0][index]), "longitude": float(degrees[1][index])}
    return found


def _named_positions(fields: list[UtmFields | None]) -> list[dict]:
    found: list[dict] = [{} for _ in fields]
    for index, field in enumerate(fields):
        if field is None:
            continue
        zone = common_zone(np.array([field.zone]), np.array([field.southern]))
        found[index] = {"easting": field.easting, "northing": field.northing, "zone": zone}
        degrees = metres_to_degrees(np.array([[field.easting, field.northing]]), zone)
        if degrees is not None:
            found[index] |= {"latitude": float(degrees[0][0]), "longitude": float(degrees[1][0])}
    return found


def _groups(dataset: PlaceDataset, fields: list[UtmFields | None]) -> list[str]:
    truth = dataset.truth
    if truth.database_labels is not None:
        names = truth.label_names
        return [str(label) if names is None else names[label] for label in truth.database_labels.tolist()]
    if truth.database_groups is not None:
        return [str(group) for group in np.asarray(truth.database_groups).tolist()]
    return [field.panorama if field else "" for field in fields]


def _time(value: object) -> str:
    """A time as text: dates as ISO 8601 writes them, whole numbers without a point."""
    text = str(value)
    return re.sub(r"\.0$", "", text) if isinstance(value, float | np.floating) else text


def with_queries(dataset: PlaceDataset) -> PlaceDataset:
    """The data set whose database has the queries too, behind the images that it had; it has no queries itself.

    Where the queries are images of the database already, it is the data set as it is.
    """
    truth, queries = dataset.truth, dataset.queries
    if truth.own_images is not None or not len(queries):
        return dataset
    labels = None
    if truth.database_labels is not None and all(len(found) for found in truth.positives):
        of_queries = [truth.database_labels[found[0]] for found in truth.positives]
        labels = np.concatenate([truth.database_labels, of_queries])

    def both(of_database: np.ndarray | None, of_queries: np.ndarray | None) -> np.ndarray | None:
        return None if of_database is None or of_queries is None else np.concatenate([of_database, of_queries])

    positions = both(truth.database_positions, truth.query_positions)
    together = GroundTruth(
        IndexLists.of([]),
        database_labels=labels,
        label_names=truth.label_names,
        database_headings=both(truth.database_headings, truth.query_headings),
        database_times=both(truth.database_times, truth.query_times),
        query_positions=None if positions is None else positions[:0],
        database_positions=positions,
        radius=truth.radius,
        zone=truth.zone,
    )
    images = concatenate([dataset.database, queries])
    return PlaceDataset(dataset.spec, images, Subset(queries, []), together, notes=dataset.notes)
