"""Learns how sure an index's answers are, from queries whose places are known, and stores it in the index."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset, Subset
from tfplaces.datasets.positions import to_earth_centred
from tfplaces.describers import Describer, describe_images
from tfplaces.evaluation.unit_descriptors import UnitDescriptors
from tfplaces.index import open_index, put_settings
from tfplaces.index.dataset_places import places_of
from tfplaces.index.place import Place
from tfplaces.index.probability import Calibration, fit_calibration, lead
from tfplaces.index.scanning import best_matches
from tfplaces.workflows.index_model import check_model, identify
from tfplaces.workflows.indexing import at_work

# The setting of an index that holds the calibration, and how many matches are looked at for one of another place.
SETTING, LOOKED_AT = "calibration", 50
# Queries that are enough: two weights and a constant are learnt.
_QUERIES = 1000


class TooFewError(UserError):
    """There are too few right or wrong answers to learn from."""


def calibrate_index(
    output: str | os.PathLike, model: str | os.PathLike, describer: Describer, dataset: PlaceDataset, seed: int = 0
) -> Calibration:
    """Fits the probability that a best match is right, and puts it into the index.

    Where the index has all database images of the data set, by their names, the queries are looked for in the index
    itself; else in the database images of the data set, which are described for it.

    Args:
        output: the index.
        model: the file of the model.
        describer: the model.
        dataset: queries whose places are known; a thousand of them are drawn where there are more.
        seed: draws them.

    Raises:
        TooFewError: there are too few right or wrong answers to learn from.
        UserError: the model is not that of the index, there is no room on the disk, or another run is at work on it.
    """
    asked = np.array(dataset.answerable(), np.int64)
    if len(asked) > _QUERIES:
        asked = np.sort(np.random.default_rng(seed).choice(asked, _QUERIES, replace=False))
    with at_work(output):
        with open_index(output) as index:
            check_model(index, identify(model, describer), describer, force=False)
            codec = index.codec
            queries = UnitDescriptors(describe_images(describer, Subset(dataset.queries, asked), "queries"))
            rows = {name: row for row, name in enumerate(index.names())}
            images = dataset.database.names
            if all(name in rows for name in images):
                known = {rows[name]: image for image, name in enumerate(images)}
                blocks, places = index.blocks(), None
            else:
                known = {image: image for image in range(len(images))}
                vectors = UnitDescriptors(describe_images(describer, dataset.database, "its places"))
                blocks, places = iter([(0, codec.encode(vectors[0 : len(vectors)]))]), places_of(dataset)
            found, scores = best_matches(codec, queries[0 : len(queries)], blocks, LOOKED_AT)
            right = np.array([
                known.get(int(of[0]), -1) in dataset.truth.others(int(q)) for of, q in zip(found, asked, strict=True)
            ], bool)  # fmt: skip
            leads = [
                lead_of(index.places(of) if places is None else [places[row] for row in of], score)
                for of, score in zip(found, scores, strict=True)
            ]
        try:
            learnt = fit_calibration(scores[:, :1].ravel(), np.array(leads), right, dataset.spec)
        except UserError as error:
            raise TooFewError(str(error)) from None
        put_settings(output, {SETTING: learnt.to_json()})
    return learnt


def can_calibrate(dataset: PlaceDataset) -> bool:
    """Whether a data set has queries to learn from that are not in its database too."""
    return dataset.own_images is None and len(dataset.answerable()) > 0


def lead_of(places: Sequence[Place], scores: np.ndarray) -> float:
    """By how much the best match is ahead of the best one of another place, as far as the index knows.

    Args:
        places: the matches, best first, at least one.
        scores: of each.
    """
    numbers = {place.group: number for number, place in enumerate(places) if place.group is not None}
    groups = np.array([-1 if place.group is None else numbers[place.group] for place in places])
    in_degrees = places[0].latitude is not None
    pairs = [(place.latitude, place.longitude) if in_degrees else (place.easting, place.northing) for place in places]
    positions = np.array([(np.nan, np.nan) if None in pair else pair for pair in pairs], float)
    if in_degrees:
        known = np.isfinite(positions[:, 0])
        metres = np.full((len(places), 3), np.nan)
        metres[known] = to_earth_centred(positions[known, 0], positions[known, 1])
        positions = metres
    return lead(scores, groups, positions)
